/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A trace.dat, as trace-cmd writes it of Linux KVM's tracepoints, as records. The library that
 * reads such files does so in a process of its own: what it makes of a bad one ends that process at
 * worst.
 */
#ifndef IMPORT_H
#define IMPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <umbra/trace.h>

#define IMPORT_OTHERS 512u

/* Events of which no record is made. */
struct import_other {
	char name[64];
	uint64_t count;
	bool foreign; /* one would be, but this kernel's lacks a field */
};

struct import_counts {
	uint64_t events; /* all that were read, of whatever kind */
	uint64_t short_events;
	uint64_t
	    lost; /* by the rings' own figures, or where the events have gaps, whatever is more */
	uint64_t bytes, bytes_all; /* of events: read, and in the file; bytes_all is never less */
	uint32_t others_left_out;  /* kinds that are not in the list */
	size_t others_count;
	struct import_other others[IMPORT_OTHERS];
	char kernel[128], clock[32];
};

struct import_options {
	const char *path;
	unsigned timeout; /* seconds that reading may stand still */
	void *ctx;
	/* Records, in the order of time. False: stop; they could not be kept. */
	bool (*sink)(void *ctx, const struct umbra_record *records, size_t count);
	/* Every quarter of a second or oftener. */
	void (*progress)(void *ctx, const struct import_counts *counts);
};

enum import_status {
	IMPORT_OK,
	IMPORT_NOT, /* not there, not a trace.dat, or of a version that is not known: no records */
	IMPORT_DAMAGED, /* or cut: records are what could be saved */
	IMPORT_SINK,    /* the sink said so */
	IMPORT_SYSTEM,  /* no memory, no process */
};

struct import_error {
	char text[512];
};

/* On IMPORT_NOT, IMPORT_DAMAGED and IMPORT_SYSTEM: *@error, a sentence that names the file. */
enum import_status import_read(const struct import_options *options, struct import_counts *counts,
			       struct import_error *error);

#endif
