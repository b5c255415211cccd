/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a chain looks like: the words that rmap.c and sweep.c share, and nobody else.
 *
 * A head is 64 bits:
 *
 *      63   62  61  60   59..30    29..0
 *     lock   0   V   W   handle    handle      none, one or two sptes, no descriptor
 *
 *      63   62  61  60   59..27    26..0
 *     lock   1   V   W   count     descriptor  three and more; count O(1)
 *
 * V (volatile): the hardware may still set A or D in one of its sptes, so clearing them takes an
 * exchange; without it, plain stores lose nothing and no spte has to be read. W (writable): one
 * of them may grant writing; without it there is nothing to write-protect. Both are set by the
 * values that sptes are given (rmap_add, rmap_note), and may stay set for longer than need be.
 *
 * A chain grows and shrinks at its first descriptor only, so all others are full:
 *
 *     head -> [c b a . .] -> [h g f e d] -> [m l k j i] -> 0
 *                  ^ the last one in: (count - 1) % TUNING_DESC_HANDLES
 *
 * The heads' lock bit is reserved for one lock per chain and is clear today.
 */
#ifndef UMBRA_HEAD_H
#define UMBRA_HEAD_H

#include "mmu.h"

#define HEAD_LOCK     (1ull << 63)
#define HEAD_CHAIN    (1ull << 62)
#define HEAD_VOLATILE (1ull << 61)
#define HEAD_WRITABLE (1ull << 60)
#define HEAD_FLAGS    (HEAD_VOLATILE | HEAD_WRITABLE)
#define HANDLE_BITS   30
#define HANDLE_MASK   ((1ull << HANDLE_BITS) - 1)
#define DESC_MASK     ((1ull << 27) - 1)
#define COUNT_SHIFT   27
#define COUNT_MASK    ((1ull << 33) - 1)

/* What a head has to say of an spte of that value. */
static inline uint64_t head_flags(uint64_t spte)
{
	return (spte_is_volatile(spte) ? HEAD_VOLATILE : 0) | (spte & PTE_W ? HEAD_WRITABLE : 0);
}

static inline uint64_t head_inline(handle first, handle second)
{
	return (uint64_t)second << HANDLE_BITS | first;
}

static inline uint64_t head_chain(uint32_t desc, uint64_t count)
{
	return HEAD_CHAIN | count << COUNT_SHIFT | desc;
}

static inline uint32_t head_desc(uint64_t head)
{
	return head & DESC_MASK;
}

static inline handle head_first(uint64_t head)
{
	return head & HANDLE_MASK;
}

static inline handle head_second(uint64_t head)
{
	return head >> HANDLE_BITS & HANDLE_MASK;
}

/* Sptes of the chain; O(1). */
static inline uint64_t head_count(uint64_t head)
{
	if (head & HEAD_CHAIN)
		return head >> COUNT_SHIFT & COUNT_MASK;
	return !!head_first(head) + !!head_second(head);
}

/* Handles in the first descriptor of a chain of @count. */
static inline unsigned fill_of(uint64_t count)
{
	return (unsigned)((count - 1) % TUNING_DESC_HANDLES) + 1;
}

/* Descriptors of a chain of @count, which is more than two. */
static inline uint64_t descs_of(uint64_t count)
{
	return (count + TUNING_DESC_HANDLES - 1) / TUNING_DESC_HANDLES;
}

/* Descriptors @first to @last, linked, @count of them, are free. */
static inline void desc_give(struct umbra_mmu *mmu, uint32_t first, struct desc *last,
			     uint64_t count)
{
	last->next = mmu->desc_free;
	mmu->desc_free = first;
	mmu->desc_free_count += count;
	mmu->stats.descs -= count;
}

#endif
