/* SPDX-License-Identifier: BSD-2-Clause */
/* The Linux boot protocol's header, as far as we judge it. */
#ifndef CLI_KERNEL_H
#define CLI_KERNEL_H

#include <stddef.h>
#include <stdint.h>

#include "status.h"

struct kernel {
	uint64_t needed;   /* guest memory in bytes that it needs to unpack itself */
	char version[256]; /* "" where the image has none */
};

/* Is the file @fd (called @path in complaints) a whole 64-bit bzImage? */
enum status kernel_check(int fd, const char *path, struct kernel *kernel);

#endif
