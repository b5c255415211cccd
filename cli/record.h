/* SPDX-License-Identifier: BSD-2-Clause */
/* `umbra run --record`: the hypervisor's ring into a trace file. See record.c. */
#ifndef CLI_RECORD_H
#define CLI_RECORD_H

#include <stddef.h>

#include "status.h"

struct ram;
struct recorder;

/* What recording needs to know of the machine; one recorder at a time. */
struct recording {
	struct recorder *recorder; /* NULL: nothing is recorded */
	const struct ram *ram;     /* whose ring it is, once it has begun */
	const char *guest;         /* its kernel's name */
	unsigned long long memory; /* bytes of the guest's */
};

/* Make the trace @path. What stands against it is in @why. */
enum status record_open(struct recording *recording, const char *path, char *why, size_t size);

/* Drain the ring of the machine in @ram from now on, in a thread. Where not, no trace is left. */
enum status record_start(struct recording *recording, const struct ram *ram, char *why,
			 size_t size);

/* The machine has ended, or is to be left, or told to stop: take what is there, close the trace. */
enum status record_close(struct recording *recording);

/* It did not begin after all: no trace is left. */
void record_discard(struct recording *recording);

#endif
