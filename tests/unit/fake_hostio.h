/* SPDX-License-Identifier: BSD-2-Clause */
/* A swap file in memory, in place of vmm/hostio.c. */
#ifndef FAKE_HOSTIO_H
#define FAKE_HOSTIO_H

#include <stdbool.h>
#include <stdint.h>

#define FAKE_FILE_BYTES (4u << 20)

extern struct fake_file {
	uint8_t bytes[FAKE_FILE_BYTES];
	bool no_reads, no_writes; /* they fail */
	unsigned reads, writes;   /* requests */
} fake_file;

#endif
