/* SPDX-License-Identifier: BSD-2-Clause */
/* Host operations on a range of gfns, timed, behind the control ports (UMBRA_CTL_RANGE_*). */
#ifndef VMM_RANGE_H
#define VMM_RANGE_H

#include <stdint.h>

struct vm;

struct range_job {
	uint64_t first, pages;
	uint64_t sptes; /* before the last operation */
	uint64_t found; /* pages, by it */
};

/* One of UMBRA_CTL_RANGE_*; its result. UINT32_MAX for anything else. */
uint32_t range_operate(struct vm *vm, uint32_t operation, uint32_t argument);

#endif
