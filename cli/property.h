/* SPDX-License-Identifier: BSD-2-Clause */
/* The property that a command judges: umbra shrink --property CMD. */
#ifndef CLI_PROPERTY_H
#define CLI_PROPERTY_H

#include <signal.h>

#include "shrink.h"
#include "status.h"
#include "trace.h"

struct property {
	const char *command; /* for /bin/sh; $1: a trace */
	struct trace_header header;
	const volatile sig_atomic_t *stop;

	int file; /* the candidate, which has no name of its own */
	char path[64];
	enum status trouble; /* why property_test() said SHRINK_STOP, if nobody stopped it */
};

/* False after a complaint. */
bool property_init(struct property *property);

/* Can the command be run, and does the whole trace have the property? STATUS_OK, or a complaint. */
enum status property_try(struct property *property, const struct umbra_record *records,
			 size_t count);

/* For struct shrink; @ctx: the property. */
enum shrink_answer property_test(void *ctx, const struct umbra_record *records, size_t count);

void property_end(struct property *property);

#endif
