/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Judges a kernel image by its header (Linux boot protocol, "The Real-Mode Kernel Header"), so that
 * a wrong file is named before a machine is started for it.
 */
#include "kernel.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADER_SIZE    0x268u
#define SETUP_SECTS    0x1f1u
#define SYSSIZE        0x1f4u /* in units of 16 bytes */
#define BOOT_FLAG      0x1feu
#define MAGIC          0x202u
#define PROTOCOL       0x206u
#define KERNEL_VERSION 0x20eu
#define LOADFLAGS      0x211u
#define XLOADFLAGS     0x236u
#define PREF_ADDRESS   0x258u
#define INIT_SIZE      0x260u
#define PROTOCOL_64    0x20cu /* 2.12: xloadflags */
#define LOADED_HIGH    1u
#define KERNEL_64      1u
#define SECTOR         512u

static uint64_t field(const unsigned char *header, unsigned at, unsigned size)
{
	uint64_t value = 0;

	for (unsigned i = size; i-- > 0;)
		value = value << 8 | header[at + i];
	return value;
}

static void read_version(int fd, const unsigned char *header, struct kernel *kernel)
{
	uint64_t at = field(header, KERNEL_VERSION, 2);
	ssize_t got =
	    at ? pread(fd, kernel->version, sizeof(kernel->version) - 1, (off_t)at + SECTOR) : 0;

	kernel->version[got > 0 ? got : 0] = '\0';
	for (char *c = kernel->version; *c; c++)
		if (*c <= ' ' || *c > '~') {
			*c = '\0';
			break;
		}
}

enum status kernel_check(int fd, const char *path, struct kernel *kernel)
{
	unsigned char header[HEADER_SIZE] = {0};
	struct stat file;

	if (fstat(fd, &file) != 0 || !S_ISREG(file.st_mode))
		return complain(STATUS_KERNEL_MISSING,
				"kernel %s: not a regular file; give a bzImage with --kernel",
				path);
	ssize_t got = pread(fd, header, sizeof(header), 0);
	if (got < 0)
		return complain(STATUS_KERNEL_MISSING, "kernel %s: cannot be read", path);
	if (field(header, BOOT_FLAG, 2) != 0xaa55 || memcmp(header + MAGIC, "HdrS", 4) != 0)
		return complain(
		    STATUS_KERNEL_FORMAT,
		    "kernel %s: not a bzImage; Linux makes one as arch/x86/boot/bzImage, "
		    "distributions install one as /boot/vmlinuz",
		    path);
	uint64_t sectors = field(header, SETUP_SECTS, 1);
	uint64_t whole = (1 + (sectors ? sectors : 4)) * SECTOR + field(header, SYSSIZE, 4) * 16;
	if (got < (ssize_t)sizeof(header) || (uint64_t)file.st_size + 15 < whole)
		return complain(
		    STATUS_KERNEL_TRUNCATED,
		    "kernel %s: truncated: %lld bytes, its header promises %llu; copy it again",
		    path, (long long)file.st_size, (unsigned long long)whole);
	if (field(header, PROTOCOL, 2) < PROTOCOL_64 ||
	    !(field(header, LOADFLAGS, 1) & LOADED_HIGH) ||
	    !(field(header, XLOADFLAGS, 2) & KERNEL_64))
		return complain(STATUS_KERNEL_FORMAT,
				"kernel %s: no 64-bit entry point; give a 64-bit (x86_64) bzImage",
				path);
	kernel->needed = field(header, PREF_ADDRESS, 8) + field(header, INIT_SIZE, 4);
	read_version(fd, header, kernel);
	return STATUS_OK;
}
