/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Cutting a trace to a small one that still has a property: delta debugging, over events with their
 * inputs and then over single inputs. The property is the caller's; judge.h has the usual one.
 */
#ifndef SHRINK_H
#define SHRINK_H

#include <stdbool.h>
#include <stddef.h>

#include <umbra/trace.h>

enum shrink_answer {
	SHRINK_NO,
	SHRINK_YES,
	SHRINK_STOP, /* do not go on */
};

struct shrink {
	/* Do these records have the property? */
	enum shrink_answer (*test)(void *ctx, const struct umbra_record *records, size_t count);
	void *ctx;

	/* The smallest so far: begins as the whole trace, which has the property. malloc()ed. */
	struct umbra_record *records;
	size_t count;

	struct umbra_record *other; /* a candidate */
	size_t tries;
};

enum shrink_status {
	SHRINK_DONE, /* nothing can be left out any more, neither an event nor an input */
	SHRINK_STOPPED,
	SHRINK_NOMEM,
};

/* How many of them are events. */
size_t shrink_events(const struct umbra_record *records, size_t count);

/* The records up to the end of event number @events (counted from 1); @count: all. */
size_t shrink_prefix(const struct umbra_record *records, size_t count, size_t events);

/* Cut what is behind the event that gives the trace the property, by halves. */
enum shrink_status shrink_cut_end(struct shrink *shrink);

/* Cut all that can be cut. At any time, and on any end, shrink->records has the property. */
enum shrink_status shrink_run(struct shrink *shrink);

#endif
