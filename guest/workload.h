/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The workload: many processes share a region of memory and keep writing to it and checking it,
 * while the hypervisor is asked to move, zap and recycle everything under them.
 *
 *     controller (workload.c)                     child 0 .. n-1 (child.c)
 *     sets .order, raises .epoch          ->      sees the epoch, carries the order out,
 *     waits for every .done[c]            <-      sets .done[c] = epoch
 *
 * Between orders a child goes on with rounds of writing and checking (PAUSE: stands still). While
 * the controller waits for others, those who are done work at leisure, so that one processor
 * suffices for all.
 */
#ifndef GUEST_WORKLOAD_H
#define GUEST_WORKLOAD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "pattern.h"

enum order {
	ORDER_TOUCH,  /* read every page of the region, check its constants */
	ORDER_VERIFY, /* check own data, others' data by sample, private data; churn mappings */
	ORDER_PAUSE,  /* no more writes until the next order */
	ORDER_SUM,    /* (after PAUSE) checksum every page, compare with .sums */
	ORDER_STOP,   /* exit */
};

/* Lives in shared memory, like the region. */
struct workload_shared {
	atomic_uint order;
	atomic_uint epoch;
	atomic_uint failures;
	atomic_bool waiting;                  /* the controller waits for .done */
	atomic_ulong rounds;                  /* completed, by all */
	atomic_ulong checks;                  /* words and pages found right */
	atomic_uint done[CHILDREN_MAX];       /* last epoch carried out */
	atomic_ulong started[CHILDREN_MAX];   /* rounds begun */
	atomic_ulong completed[CHILDREN_MAX]; /* rounds finished: their writes must be seen */
	uint64_t sums[];                      /* by page, valid for ORDER_SUM */
};

struct workload {
	struct workload_shared *shared;
	_Atomic uint64_t *region;
	uint64_t pages;
	unsigned children;
	bool others; /* may be asking the hypervisor for disturbances of their own */
};

/* Run it all, words of the kernel command line permitting. True if nothing was found wrong. */
bool workload_run(void);

/* A child's life: returns its exit status. */
int child_run(const struct workload *work, unsigned self);

#endif
