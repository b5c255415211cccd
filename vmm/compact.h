/* SPDX-License-Identifier: BSD-2-Clause */
/* Compaction: free blocks of 2 MiB, and guests' memory in them. See compact.c. */
#ifndef VMM_COMPACT_H
#define VMM_COMPACT_H

#include <stdbool.h>
#include <stdint.h>

struct host;
struct vm;

/* Of the whole machine. */
struct compact {
	uint64_t rate;   /* frames moved a second; 0: off */
	uint64_t due;    /* TSC of the next piece */
	bool builds;     /* .block is being emptied: what is free of it is ours */
	uint64_t block;  /* its number: pfn / FRAMES_BLOCK */
	uint64_t avoid;  /* the number, plus 1, of one that could not be emptied */
	unsigned at;     /* of its frames: the next to be emptied */
	unsigned guest;  /* whose 2 MiB are to be collapsed, */
	uint64_t window; /*   and which: a number of that guest's (window_gfn) */
};

/*
 * Move @rate frames a second to build free blocks from now on, and collapse guests' memory into
 * them; 0: no more. UMBRA_EINVAL: more than UMBRA_COMPACT_RATE_MAX. UMBRA_ENOMEM.
 */
int compact_set(struct host *host, uint64_t rate, uint64_t now);

/* A piece of work, if it is due. Between guest entries. */
void compact_poll(struct host *host, uint64_t tsc_hz, uint64_t now);

/*
 * Collapse what can be of the aligned 2 MiB in @pages pages from @gfn on, at once. How many pages
 * moved. UMBRA_ENOMEM: no block of free frames can be had for one of them.
 */
int compact_range(struct vm *vm, uint64_t gfn, uint64_t pages, uint64_t *moved);

/* Do the 2 MiB around page @index lie side by side? */
/* The frames of a block that is not whole yet go back. */
void compact_give_up(struct host *host);

bool compact_is_large(const struct vm *vm, uint32_t index);

/* They do, now that page @index, the last of them, has come there. */
void compact_done(struct vm *vm, uint32_t index);

/* What is behind page @index changes: they do not any more. Its mappings must have been dropped. */
void compact_broken(struct vm *vm, uint32_t index);

/* @vm has no pages any more. */
void compact_forget(struct vm *vm);

#endif
