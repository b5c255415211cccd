/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Boots from the guest's disk: root= names it (/dev/vda), init= what to run there (what Linux
 * tries by itself, where there is none).
 */
#include "disk.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "words.h"

#define WHERE    "/disk"
#define PATIENCE 100 /* tenths of a second for the disk to appear */

static const char *const own[] = {"/dev", "/proc", "/sys"};

static int mount_root(const char *root)
{
	struct stat there;

	for (int i = 0; i < PATIENCE && stat(root, &there) != 0; i++)
		usleep(100000);
	mkdir(WHERE, 0755);
	if (mount(root, WHERE, "ext4", 0, NULL) == 0)
		return 0;
	/* A disk that is read-only, by --disk-ro. */
	return errno == EACCES || errno == EROFS ? mount(root, WHERE, "ext4", MS_RDONLY, NULL) : -1;
}

static void enter(void)
{
	for (unsigned i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		char there[64];

		snprintf(there, sizeof(there), WHERE "%s", own[i]);
		if (mount(own[i], there, NULL, MS_MOVE, NULL) != 0)
			printf("umbra-init: %s of the disk: %s\n", own[i], strerror(errno));
	}
	if (chdir(WHERE) != 0 || mount(".", "/", NULL, MS_MOVE, NULL) != 0 || chroot(".") != 0 ||
	    chdir("/") != 0)
		printf("umbra-init: cannot enter the disk: %s\n", strerror(errno));
}

void disk_boot(void)
{
	static const char *const usual[] = {"/sbin/init", "/etc/init", "/bin/init", "/bin/sh"};
	char root[128], init[256];

	words_kernel("root", "/dev/vda", root, sizeof(root));
	words_kernel("init", "", init, sizeof(init));
	if (mount_root(root) != 0) {
		printf("umbra-init: cannot mount %s (ext4): %s; name another with --append root=\n",
		       root, strerror(errno));
		return;
	}
	enter();
	if (*init)
		execl(init, init, (char *)NULL);
	for (unsigned i = 0; !*init && i < sizeof(usual) / sizeof(usual[0]); i++)
		execl(usual[i], usual[i], (char *)NULL);
	printf("umbra-init: cannot run %s of %s: %s\n", *init ? init : "any init", root,
	       strerror(errno));
}
