/* SPDX-License-Identifier: BSD-2-Clause */
/* The process in which libtracecmd runs, for the one that watches it. */
#ifndef IMPORT_CHILD_H
#define IMPORT_CHILD_H

#include "import.h"
#include "layout.h"

#define IMPORT_GATHERED 1024u

/*
 * Memory that both processes have. The child is not trusted with it: the parent looks at numbers
 * only, and ends the texts itself.
 */
struct import_shared {
	/* What did not go through the pipe yet: it is not lost where the child is. */
	uint32_t gathered;
	struct umbra_record records[IMPORT_GATHERED];
	uint64_t events, short_events, missed, bytes;
	uint32_t others_left_out, others_count;
	struct import_other others[IMPORT_OTHERS];
	struct {
		uint64_t first, last; /* offsets of events, as the library counts them */
	} seen[LAYOUT_CPUS];
	uint32_t opened, done;
};

/* Read the trace.dat @file and write records to @to; exits. */
_Noreturn void import_child(int file, int to, bool swap, struct import_shared *shared);

#endif
