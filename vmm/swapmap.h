/* SPDX-License-Identifier: BSD-2-Clause */
/* Places in the swap file, and what lies there. See swapmap.c. */
#ifndef VMM_SWAPMAP_H
#define VMM_SWAPMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct frames;

#define SWAPMAP_WORD 32u /* places of a word of .used: UMBRA_REQUEST_BYTES */

struct swapmap {
	uint64_t slots;  /* pages that the file has room for; 0: there is none */
	uint32_t *used;  /* a bit for each: taken */
	uint64_t *sums;  /* and what was written there */
	uint64_t at;     /* word of .used where the search for a free one goes on */
	uint64_t *taken; /* how many are: a figure that others read */
};

/* @slots places, of which .taken tells @taken. 0: none. False: no memory. */
bool swapmap_init(struct swapmap *map, struct frames *frames, uint64_t slots, uint64_t *taken);

/*
 * Up to @wanted places that lie side by side, @wanted <= SWAPMAP_WORD, from *@first on. Returns how
 * many; 0: all are taken.
 */
unsigned swapmap_take(struct swapmap *map, unsigned wanted, uint64_t *first);

/* Nobody will want what is in @slot any more. */
void swapmap_forget(struct swapmap *map, uint64_t slot);

/* @page is what @slot gets. Is it what @slot got? */
void swapmap_note(struct swapmap *map, uint64_t slot, const uint64_t *page);
bool swapmap_is_noted(const struct swapmap *map, uint64_t slot, const uint64_t *page);

static inline bool swapmap_is_taken(const struct swapmap *map, uint64_t slot)
{
	return slot < map->slots && map->used[slot / SWAPMAP_WORD] >> slot % SWAPMAP_WORD & 1;
}

/* In the file. */
uint64_t swapmap_offset(uint64_t slot);

#endif
