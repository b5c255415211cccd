/* SPDX-License-Identifier: BSD-2-Clause */
/* What kind of image a guest's kernel is, as far as we judge it. */
#ifndef CLI_KERNEL_H
#define CLI_KERNEL_H

#include <stddef.h>
#include <stdint.h>

#include "status.h"

/* What an image is; the numbers are those of the hypervisor's option format=. */
enum kernel_format {
	KERNEL_AUTO,
	KERNEL_LINUX_16,
	KERNEL_LINUX_32,
	KERNEL_LINUX_64,
	KERNEL_MULTIBOOT,
	KERNEL_FLAT,
};

struct kernel {
	enum kernel_format format; /* never AUTO */
	uint64_t needed;           /* guest memory in bytes that it needs to unpack itself */
	char version[256];         /* "" where the image has none */
};

/*
 * Is the file @fd (called @path in complaints) a whole image of @format, or, if that is
 * KERNEL_AUTO, of one that tells what it is?
 */
enum status kernel_check(int fd, const char *path, enum kernel_format format,
			 struct kernel *kernel);

#endif
