/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What each word of the shared region must hold. Nothing is remembered: every value follows from
 * the page, the word and how many rounds its owner has completed, so that any process can check
 * any word, and a write that went to a frame which is no longer the page's is seen by everyone.
 *
 *     page p:  | word 0 | word 1 | ... | word n-1 | word n .. word 511 |
 *                child 0  child 1        child n-1   constant for ever
 *
 * In round r (1, 2, ...) child c writes its word of every page p with (p + c + r) % STRIDE == 0.
 */
#ifndef GUEST_PATTERN_H
#define GUEST_PATTERN_H

#include <stdint.h>

#define PAGE_WORDS     512u
#define PATTERN_STRIDE 256u
#define CHILDREN_MAX   510u

static inline uint64_t pattern_mix(uint64_t x)
{
	x = (x ^ (x >> 31)) * 0x9d3f7a2b5c81e64dull;
	x = (x ^ (x >> 27)) * 0xb5a40f6d2e93c187ull;
	return x ^ (x >> 33);
}

/* The value of @word of @page, written in @round (0: at the start, and constant words). */
static inline uint64_t pattern_word(uint64_t page, uint64_t word, uint64_t round)
{
	return pattern_mix(round << 40 ^ page << 12 ^ word);
}

/* The first round of child @child that writes @page: 1..STRIDE. */
static inline uint64_t pattern_first(uint64_t page, uint64_t child)
{
	return PATTERN_STRIDE - (page + child) % PATTERN_STRIDE;
}

/* The last round <= @rounds in which @child wrote @page; 0: not yet. */
static inline uint64_t pattern_last(uint64_t page, uint64_t child, uint64_t rounds)
{
	uint64_t first = pattern_first(page, child);

	return rounds < first ? 0 : rounds - (rounds - first) % PATTERN_STRIDE;
}

#endif
