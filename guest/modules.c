/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Loads the modules that the `umbra` command appended to the initramfs (scripts/fetch-kernel
 * numbers them). One that its kernel does not want is named and left out.
 */
#include "modules.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DIRECTORY "/lib/modules"

static int is_module(const struct dirent *entry)
{
	return strstr(entry->d_name, ".ko") != NULL;
}

void modules_load(void)
{
	struct dirent **entries;
	int count = scandir(DIRECTORY, &entries, is_module, alphasort);

	for (int i = 0; i < count; i++) {
		char path[sizeof(DIRECTORY) + 1 + sizeof(entries[i]->d_name)];
		int fd;

		snprintf(path, sizeof(path), DIRECTORY "/%s", entries[i]->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) != 0 && errno != EEXIST))
			printf("umbra-init: cannot load %s: %s\n", path, strerror(errno));
		if (fd >= 0)
			close(fd);
		free(entries[i]);
	}
	if (count >= 0)
		free(entries);
}
