/* SPDX-License-Identifier: BSD-2-Clause */
/* Cold pages of guests go to a file of the host's, and come back. See swap.c. */
#ifndef VMM_SWAP_H
#define VMM_SWAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "swapmap.h"

struct host;
struct umbra_swap;
struct vm;

struct swap {
	bool on; /* frames may be fewer than the guests' pages */
	struct swapmap map;
	uint8_t *data; /* of the request */

	uint64_t low,
	    high;       /* with fewer free frames than .low more are made, until there are .high */
	unsigned guest; /* the clock's hand: the next page to be looked at */
	uint64_t page;
	bool making;         /* frames are being made free */
	uint64_t rest_until; /* TSC: nothing could be done, and will not sooner */
	struct umbra_swap *figures;
};

/* The guests are made, not loaded. @slots: of the file; 0: none. False: no memory. */
bool swap_init(struct host *host, uint64_t slots);

/* What every guest needs for that. False: no memory. */
bool swap_guest_init(struct vm *vm);
void swap_guest_forget(struct vm *vm);

/*
 * Page @index of @vm, which is in the file, comes back. It cannot: the guest ends with a message.
 * => outside of the MMU's lock
 */
void swap_in(struct vm *vm, uint64_t index);

/*
 * A frame is wanted and none is free: make some. False: none could be.
 * => outside of the MMU's lock; any page that is not handed out (memory_is_handed) may go
 */
bool swap_make_room(struct host *host);

/* What could not be done at once, for want of room: how to say it. */
const char *swap_excuse(const struct host *host);

/* Swap up to @pages cold pages out. Returns how many frames became free. */
uint64_t swap_reclaim(struct host *host, uint64_t pages);

/* Between two guest entries: see to it that some frames are free. */
void swap_poll(struct host *host, uint64_t now);

/* TSC at which it wants to be called again. */
uint64_t swap_next(const struct host *host, uint64_t now);

/* A page was wanted by its guest, or by somebody in its place: it is not cold. */
static inline void swap_touch(uint64_t *recent, uint64_t index)
{
	if (recent)
		recent[index / 64] |= 1ull << index % 64;
}

/* Bring the figures up to date. */
void swap_figures(struct host *host);

#endif
