/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Places in the swap file, 4 KiB each. Owns, for swap.c:
 *
 *   used   bits, 32 to a word: what one request carries, so that pages that go together lie
 *          together, and come back together if they are wanted together
 *   sums   64 bits for each place, of the page. What comes back is compared: a guest whose page is
 *          not what it was is stopped
 *
 * => outside of the MMU's lock
 */
#include "swapmap.h"
#include "frames.h"

#include <umbra/machine.h>

#define PAGE_WORDS (UMBRA_PAGE_SIZE / sizeof(uint64_t))

_Static_assert(SWAPMAP_WORD *UMBRA_PAGE_SIZE == UMBRA_REQUEST_BYTES,
	       "a word of slots is a request");

/* Any change of one word changes it: each step can be undone. */
static uint64_t sum_of(const uint64_t *page)
{
	uint64_t a = 1, b = 2;

	for (unsigned i = 0; i < PAGE_WORDS; i += 2) {
		a = (a ^ page[i]) * 0xd1342543de82ef95ull;
		b = (b ^ page[i + 1]) * 0xaf251af3b0f025b5ull;
		a ^= a >> 29;
		b ^= b >> 31;
	}
	return a ^ (b << 32 | b >> 32);
}

uint64_t swapmap_offset(uint64_t slot)
{
	return UMBRA_SWAP_FIRST + slot * UMBRA_PAGE_SIZE;
}

/* Up to @wanted of word @word's places that follow each other; 0: none is free. */
static unsigned take_of_word(struct swapmap *map, uint64_t word, unsigned wanted, uint64_t *first)
{
	unsigned begin = 0, count = 0;

	while (begin < SWAPMAP_WORD && map->used[word] >> begin & 1)
		begin++;
	while (count < wanted && begin + count < SWAPMAP_WORD &&
	       !(map->used[word] >> (begin + count) & 1))
		map->used[word] |= 1u << (begin + count++);
	*first = word * SWAPMAP_WORD + begin;
	return count;
}

/* In a word that is free as a whole, if there is one. */
unsigned swapmap_take(struct swapmap *map, unsigned wanted, uint64_t *first)
{
	uint64_t words = map->slots / SWAPMAP_WORD, any = words;

	if (*map->taken == map->slots)
		return 0;
	for (uint64_t i = 0; i < words; i++) {
		uint64_t word = (map->at + i) % words;

		if (any == words && map->used[word] != UINT32_MAX)
			any = word;
		if (map->used[word])
			continue;
		any = word;
		break;
	}
	wanted = take_of_word(map, any, wanted, first);
	map->at = any;
	*map->taken += wanted;
	return wanted;
}

void swapmap_forget(struct swapmap *map, uint64_t slot)
{
	map->used[slot / SWAPMAP_WORD] &= ~(1u << slot % SWAPMAP_WORD);
	--*map->taken;
}

void swapmap_note(struct swapmap *map, uint64_t slot, const uint64_t *page)
{
	map->sums[slot] = sum_of(page);
}

bool swapmap_is_noted(const struct swapmap *map, uint64_t slot, const uint64_t *page)
{
	return sum_of(page) == map->sums[slot];
}

bool swapmap_init(struct swapmap *map, struct frames *frames, uint64_t slots, uint64_t *taken)
{
	map->slots = slots / SWAPMAP_WORD * SWAPMAP_WORD;
	map->taken = taken;
	if (!map->slots)
		return true;
	map->used = pool_alloc(frames, map->slots / SWAPMAP_WORD * sizeof(map->used[0]));
	map->sums = pool_alloc(frames, map->slots * sizeof(map->sums[0]));
	return map->used && map->sums;
}
