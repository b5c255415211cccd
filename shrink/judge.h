/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The usual property: a loose replay, with TLBs and audits, finds a violation of one kind. Each
 * replay has a process of its own, for a library that is broken may crash, or never return.
 */
#ifndef SHRINK_JUDGE_H
#define SHRINK_JUDGE_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <umbra/trace.h>
#include <umbra/umbra.h>

#include "shrink.h"

#define JUDGE_SIGNAL 256u /* + the number of the signal that ended the replay */

struct judge {
	struct umbra_config config;
	const volatile sig_atomic_t *stop; /* not 0: give up */

	/* May be NULL. The whole trace is replayed, with so many audits. */
	void (*looking)(void *ctx, size_t audits);
	void *ctx;

	/* What judge_locate() found; 0: nothing. replay_wrong()'s, or JUDGE_SIGNAL and up. */
	unsigned wrong;
	char why[256];
	unsigned limit; /* seconds that a replay may take; 0: any time */
};

/*
 * Replay them all. SHRINK_YES: there is a violation, and judge->wrong is its kind; *@events: the
 * first so many events show it. SHRINK_NO: there is none.
 */
enum shrink_answer judge_locate(struct judge *judge, const struct umbra_record *records,
				size_t count, size_t *events);

/* Is there a violation of that kind? @ctx: the judge. For struct shrink. */
enum shrink_answer judge_test(void *ctx, const struct umbra_record *records, size_t count);

#endif
