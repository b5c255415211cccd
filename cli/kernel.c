/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Judges a guest's image by its header (Linux boot protocol, "The Real-Mode Kernel Header";
 * Multiboot Specification §3.1), so that a wrong file is named before a machine is started for it.
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
#define PROTOCOL_LEAST 0x206u

#define MULTIBOOT_SEARCH 8192u
#define MULTIBOOT_MAGIC  0x1badb002u
#define FLAT_MAX         (0x90000 - 0x7c00)

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

/* Multiboot Specification §3.1: a magic number, flags and a checksum, 4-byte aligned. */
static bool is_multiboot(int fd)
{
	unsigned char bytes[MULTIBOOT_SEARCH];
	ssize_t got = pread(fd, bytes, sizeof(bytes), 0);

	for (ssize_t at = 0; at + 12 <= got; at += 4)
		if (field(bytes, (unsigned)at, 4) == MULTIBOOT_MAGIC &&
		    !(uint32_t)(MULTIBOOT_MAGIC + field(bytes, (unsigned)at + 4, 4) +
				field(bytes, (unsigned)at + 8, 4)))
			return true;
	return false;
}

static enum status check_linux(int fd, const char *path, off_t size, const unsigned char *header,
			       enum kernel_format format, struct kernel *kernel)
{
	uint64_t sectors = field(header, SETUP_SECTS, 1);
	uint64_t whole = (1 + (sectors ? sectors : 4)) * SECTOR + field(header, SYSSIZE, 4) * 16;
	bool wide =
	    field(header, PROTOCOL, 2) >= PROTOCOL_64 && field(header, XLOADFLAGS, 2) & KERNEL_64;

	if (size < (off_t)HEADER_SIZE || (uint64_t)size + 15 < whole)
		return complain(
		    STATUS_KERNEL_TRUNCATED,
		    "kernel %s: truncated: %lld bytes, its header promises %llu; copy it again",
		    path, (long long)size, (unsigned long long)whole);
	if (field(header, PROTOCOL, 2) < PROTOCOL_LEAST ||
	    !(field(header, LOADFLAGS, 1) & LOADED_HIGH))
		return complain(
		    STATUS_KERNEL_FORMAT,
		    "kernel %s: its boot protocol is older than 2.06, or it is a zImage; "
		    "give a bzImage of Linux 2.6.22 or later",
		    path);
	if (format == KERNEL_LINUX_64 && !wide)
		return complain(STATUS_KERNEL_FORMAT,
				"kernel %s: no 64-bit entry point; leave --format out, or give a "
				"64-bit (x86_64) bzImage",
				path);
	kernel->format = format != KERNEL_AUTO ? format : wide ? KERNEL_LINUX_64 : KERNEL_LINUX_32;
	kernel->needed = field(header, PREF_ADDRESS, 8) + field(header, INIT_SIZE, 4);
	read_version(fd, header, kernel);
	return STATUS_OK;
}

enum status kernel_check(int fd, const char *path, enum kernel_format format, struct kernel *kernel)
{
	unsigned char header[HEADER_SIZE] = {0};
	struct stat file;

	*kernel = (struct kernel){.format = format};
	if (fstat(fd, &file) != 0 || !S_ISREG(file.st_mode))
		return complain(STATUS_KERNEL_MISSING,
				"kernel %s: not a regular file; give an image with --kernel", path);
	if (pread(fd, header, sizeof(header), 0) < 0)
		return complain(STATUS_KERNEL_MISSING, "kernel %s: cannot be read", path);
	if (format == KERNEL_FLAT) {
		if (file.st_size > 0 && file.st_size <= FLAT_MAX)
			return STATUS_OK;
		return complain(
		    STATUS_KERNEL_FORMAT,
		    "kernel %s: %lld bytes; a flat image has 1 to %d, since it is loaded "
		    "at 0x7c00",
		    path, (long long)file.st_size, FLAT_MAX);
	}
	if (format != KERNEL_MULTIBOOT && field(header, BOOT_FLAG, 2) == 0xaa55 &&
	    memcmp(header + MAGIC, "HdrS", 4) == 0)
		return check_linux(fd, path, file.st_size, header, format, kernel);
	if ((format == KERNEL_AUTO || format == KERNEL_MULTIBOOT) && is_multiboot(fd)) {
		kernel->format = KERNEL_MULTIBOOT;
		return STATUS_OK;
	}
	if (format == KERNEL_MULTIBOOT)
		return complain(STATUS_KERNEL_FORMAT,
				"kernel %s: no Multiboot 1 header in its first 8 KiB", path);
	return complain(STATUS_KERNEL_FORMAT,
			"kernel %s: not a bzImage%s; Linux makes one as arch/x86/boot/bzImage, "
			"distributions install one as /boot/vmlinuz. (A boot sector or the like: "
			"--format flat)",
			path, format == KERNEL_AUTO ? ", nor a Multiboot 1 image" : "");
}
