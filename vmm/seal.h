/* SPDX-License-Identifier: BSD-2-Clause */
/* Whether memory that nobody should write was written. See seal.c. */
#ifndef VMM_SEAL_H
#define VMM_SEAL_H

#include <stdint.h>

struct host;

/* From now on what is free bears a seal. */
void seal_begin(struct host *host);

/* The page is free now: seal it. */
void seal_page(uint64_t pfn);

/* Pages whose seal is broken, and the code and constants if they changed (as one page). */
uint64_t seal_broken(const struct host *host);

#endif
