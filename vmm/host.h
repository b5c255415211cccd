/* SPDX-License-Identifier: BSD-2-Clause */
/* What all guests of the machine share: its memory, and the jobs that go over all of it. */
#ifndef VMM_HOST_H
#define VMM_HOST_H

#include <umbra/machine.h>

#include "frames.h"
#include "merge.h"

struct vm;

struct host {
	struct frames frames;
	struct merge merge;
	struct vm *guest[UMBRA_GUESTS_MAX];
	unsigned guests;
};

#endif
