/* SPDX-License-Identifier: BSD-2-Clause */
/* What all guests of the machine share: its memory, and the jobs that go over all of it. */
#ifndef VMM_HOST_H
#define VMM_HOST_H

#include <stdbool.h>
#include <stdint.h>
#include <umbra/machine.h>

#include "compact.h"
#include "frames.h"
#include "merge.h"
#include "swap.h"

struct vm;

struct host {
	struct frames frames;
	struct merge merge;
	struct compact compact;
	struct swap swap;
	struct vm *guest[UMBRA_GUESTS_MAX]; /* by number; those that have ended too, which have no
					       memory any more: no entries, .mmu is NULL */
	unsigned guests;
	unsigned turn;              /* schedule.c: the number of who runs, or ran last */
	bool runs;                  /* schedule.c: the guests do */
	const struct vm *open_line; /* serial.c: whose unfinished line the console shows, or NULL */
	uint64_t image_sum;         /* seal.c */
};

#endif
