/* SPDX-License-Identifier: BSD-2-Clause */
/* Same-page merging, within and across guests. See merge.c. */
#ifndef VMM_MERGE_H
#define VMM_MERGE_H

#include <stdbool.h>
#include <stdint.h>

struct host;
struct vm;

/* Contents with this sum are to be found there; .at is 0 where nothing is. */
struct merge_place {
	uint32_t sum;
	uint32_t at;
};

/* Of the whole machine. */
struct merge {
	uint64_t rate; /* pages looked at a second; 0: off */
	uint64_t due;  /* TSC of the next piece */
	uint64_t seed; /* of the sums */
	unsigned guest;
	uint32_t page;              /* of .guest: the next one to look at */
	struct merge_place *shared; /* at: a frame's number */
	struct merge_place *single; /* at: a page that nobody shared with (place_of) */
	uint32_t places;            /* in each, a power of two */
	uint32_t victim;
};

/* Of each page of a guest; NULL before merging was first asked for. */
struct merge_pages {
	uint32_t *sum; /* when it was looked at last; 0: never */
	uint8_t *rest; /* so many times it is passed over, since it was written while shared */
};

/*
 * Look at @rate pages a second from now on, 0: no more (what is shared stays so until it is
 * written). UMBRA_EINVAL: more than UMBRA_MERGE_RATE_MAX. UMBRA_ENOMEM: for the tables.
 */
int merge_set(struct host *host, uint64_t rate, uint64_t now);

/* A piece of work, if it is due. Between guest entries. */
void merge_poll(struct host *host, uint64_t tsc_hz, uint64_t now);

/*
 * Have equal ones of the @pages pages from @gfn on share frames, at once. How many do now that did
 * not before. UMBRA_ENOMEM.
 */
int merge_range(struct vm *vm, uint64_t gfn, uint64_t pages, uint64_t *merged);

/* @vm has no pages any more. */
void merge_forget(struct vm *vm);

/* Page @index of @vm was shared, and has a frame of its own again. */
void merge_broken(struct vm *vm, uint32_t index);

#endif
