/* SPDX-License-Identifier: BSD-2-Clause */
/* Preloaded: the disk is full once FULL_DISK bytes were written to files called *.utr. */
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool is_trace(int fd)
{
	char link[64], path[PATH_MAX];
	ssize_t size;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	size = readlink(link, path, sizeof(path));
	return size > 4 && memcmp(path + size - 4, ".utr", 4) == 0;
}

ssize_t write(int fd, const void *bytes, size_t size)
{
	static size_t written;
	const char *room = getenv("FULL_DISK");

	if (room && is_trace(fd)) {
		size_t left = strtoul(room, NULL, 10);

		left -= written < left ? written : left;
		if (!left) {
			errno = ENOSPC;
			return -1;
		}
		if (size > left)
			size = left;
		written += size;
	}
	return syscall(SYS_write, fd, bytes, size);
}
