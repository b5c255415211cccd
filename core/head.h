/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a chain looks like: the words that rmap.c and sweep.c share. And the short ways of both,
 * inline: for chains of one and two, and for a descriptor that has room.
 *
 * A head is 64 bits:
 *
 *      63   62  61  60   59..30    29..0
 *     lock   0   V   W   handle    handle      none, one or two sptes, no descriptor
 *
 *      63   62  61  60  59  58..31  30..26  25..0
 *     lock   1   V   W   L  length  fill    descriptor      three and more
 *
 * V (volatile): the hardware may still set A or D in one of its sptes, so clearing them takes an
 * exchange; without it, plain stores lose nothing and no spte has to be read. W (writable): one
 * of them may grant writing; without it there is nothing to write-protect. Both are set by the
 * values that sptes are given (rmap_add, rmap_replace), and may stay set for longer than need be.
 *
 * L (lazy): the first two of the only descriptor have their places as if they were inline. Most
 * chains are short, and grow and shrink around two: so the third one in or out need not look at
 * the first two's places.
 *
 * A chain grows and shrinks at its first descriptor only, so all others are full:
 *
 *     head -> [c b a . . . . . . . . .] -> [o n m l k j i h g f e d] -> [t s r q p] -> 0
 *                  ^ the last one in: fill - 1            large            small
 *
 * Of these others each is marked if it may hold a writable spte: as it ceases to be the first, as
 * one comes to it from there, as one of its own becomes writable. Mostly few of a page that many
 * map are, while its writes are logged; a mark costs nothing where sptes are only added and
 * dropped.
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
#define HEAD_LAZY     (1ull << 59)
#define HEAD_FLAGS    (HEAD_VOLATILE | HEAD_WRITABLE)
#define HANDLE_BITS   30
#define HANDLE_MASK   ((1ull << HANDLE_BITS) - 1)
#define DESC_MASK     ((1ull << 26) - 1)
#define FILL_SHIFT    26
#define FILL_MASK     31u
#define FILL_ONE      (1ull << FILL_SHIFT)
#define LENGTH_SHIFT  31
#define LENGTH_MASK   ((1ull << 28) - 1)

/* What a head has to say of an spte of that value. */
static inline uint64_t head_flags(uint64_t spte)
{
	uint64_t no_a = ~spte >> 5, w = spte >> 1, no_d = ~spte >> 6;

	return ((no_a | (w & no_d)) & 1) << 61 | (w & 1) << 60;
}

static inline uint64_t head_inline(handle first, handle second)
{
	return (uint64_t)second << HANDLE_BITS | first;
}

/* @length: descriptors; @fill: handles in the first one, @desc. */
static inline uint64_t head_chain(uint32_t desc, uint64_t length, unsigned fill)
{
	return HEAD_CHAIN | length << LENGTH_SHIFT | (uint64_t)fill << FILL_SHIFT | desc;
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

static inline unsigned head_fill(uint64_t head)
{
	return head >> FILL_SHIFT & FILL_MASK;
}

static inline uint64_t head_length(uint64_t head)
{
	return head >> LENGTH_SHIFT & LENGTH_MASK;
}

/* Whose chain @desc is part of. */
static inline head_ref desc_owner(const struct desc *desc)
{
	return desc->head & ~DESC_MARK;
}

/* The mark of a descriptor behind the first one of @head, as far as the head tells. */
static inline uint32_t mark_of(uint64_t head)
{
	return (uint32_t)(head >> 29) & DESC_MARK;
}

/* Handles that the first descriptor of a chain of @length has room for. */
static inline unsigned first_room(uint64_t length)
{
	return length == 1 ? SMALL_HANDLES : LARGE_HANDLES;
}

/* Sptes of the chain; O(1). */
static inline uint64_t head_count(uint64_t head)
{
	uint64_t length = head_length(head);

	if (head & HEAD_CHAIN)
		return head_fill(head) +
		       (length == 1 ? 0 : (length - 2) * LARGE_HANDLES + SMALL_HANDLES);
	return !!head_first(head) + !!head_second(head);
}

/* The head of @ref's chain. */
static inline uint64_t *head_at(struct umbra_mmu *mmu, head_ref ref)
{
	if (ref & HEAD_PARENTS)
		return &shadow_of(mmu, ref & ~HEAD_PARENTS)->parents;
	return &heads_of(mmu, ref >> 9)[ref & 511];
}

/* @count large descriptors @first to @last, linked, are free. */
static inline void desc_give_large(struct umbra_mmu *mmu, uint32_t first, struct desc *last,
				   uint64_t count)
{
	last->next = mmu->desc_free[DESC_LARGE];
	mmu->desc_free[DESC_LARGE] = first;
	mmu->desc_free_count[DESC_LARGE] += count;
	mmu->stats.descs -= 2 * count;
}

static inline void desc_give_small(struct umbra_mmu *mmu, uint32_t id, struct desc *desc)
{
	desc->next = mmu->desc_free[DESC_SMALL];
	mmu->desc_free[DESC_SMALL] = id;
	mmu->desc_free_count[DESC_SMALL]++;
	mmu->stats.descs--;
}

#define SLOT_BITS 5 /* of a place: which handle of its descriptor */

static inline place place_in(uint32_t desc, unsigned slot)
{
	return PLACE_DESC | desc << SLOT_BITS | slot;
}

/* Of a place in a descriptor: which one. */
static inline uint32_t place_desc(place at)
{
	return (at & ~PLACE_DESC) >> SLOT_BITS;
}

/* Whose chain an spte stands in, whose place is @at. */
static inline head_ref place_owner(struct umbra_mmu *mmu, place at)
{
	return at & PLACE_DESC ? desc_owner(desc_of(mmu, place_desc(at))) : at;
}

void rmap_add_long(struct umbra_mmu *mmu, head_ref ref, handle h, uint64_t flags);
void rmap_remove_long(struct umbra_mmu *mmu, uint64_t *at, handle h, place from);
void sweep_long(struct umbra_mmu *mmu, uint64_t *at, struct sweep *sweep);

/*
 * Note that spte @h, whose value is to be @spte, maps what @ref is the chain of.
 *
 * => O(1), at any length; takes at most one descriptor, which must be in stock
 * => @h is in no chain
 */
__attribute__((always_inline)) static inline void rmap_add(struct umbra_mmu *mmu, head_ref ref,
							   handle h, uint64_t spte)
{
	uint64_t *at = head_at(mmu, ref), head = *at, flags = head_flags(spte);

	if (!(head & HEAD_CHAIN) && !head_second(head)) {
		*at = head | flags | (head_first(head) ? (uint64_t)h << HANDLE_BITS : h);
		*handle_place(mmu, h) = ref;
	} else if (head & HEAD_CHAIN && head_fill(head) < first_room(head_length(head))) {
		desc_of(mmu, head_desc(head))->spte[head_fill(head)] = h;
		*handle_place(mmu, h) = place_in(head_desc(head), head_fill(head));
		*at = (head | flags) + FILL_ONE;
	} else {
		rmap_add_long(mmu, ref, h, flags);
	}
}

/*
 * Forget spte @h, which stands in a chain.
 *
 * => O(1), at any length: the last one in moves to its place
 */
static inline void rmap_remove(struct umbra_mmu *mmu, handle h)
{
	place from = *handle_place(mmu, h);
	uint64_t *at, head;

	if (from & PLACE_DESC) {
		at = head_at(mmu, desc_owner(desc_of(mmu, place_desc(from))));
		rmap_remove_long(mmu, at, h, from);
		return;
	}
	at = head_at(mmu, from);
	head = *at;
	if (head & HEAD_CHAIN) {
		rmap_remove_long(mmu, at, h, from);
		return;
	}
	port_assert(head_first(head) == h || head_second(head) == h);
	if (!head_second(head))
		*at = 0;
	else
		*at = (head & HEAD_FLAGS) |
		      (head_first(head) == h ? head_second(head) : head_first(head));
}

/* What a head tells of its sptes without a look at them. */
static inline uint64_t known_bits(uint64_t head)
{
	return PTE_A | (head & HEAD_WRITABLE ? PTE_D : 0);
}

/* sweep_inline() where a log goes by D bits, which it is told. */
unsigned sweep_inline_logged(struct umbra_mmu *mmu, uint64_t head, uint64_t *bits);

/* Clear the sptes of a chain without descriptors; returns how many. */
static inline __attribute__((always_inline)) unsigned sweep_inline(struct umbra_mmu *mmu,
								   uint64_t head, uint64_t *bits)
{
	handle first = head_first(head), second = head_second(head);
	bool is_volatile = head & HEAD_VOLATILE;

	if (!first)
		return 0;
	if (is_volatile && __builtin_expect(mmu->dirty_slots, 0))
		return sweep_inline_logged(mmu, head, bits);
	if (is_volatile) {
		*bits |= spte_clear(handle_spte(mmu, first));
		if (!second)
			return 1;
		*bits |= spte_clear(handle_spte(mmu, second));
		return 2;
	}
	*bits |= known_bits(head);
	spte_write(handle_spte(mmu, first), 0);
	if (!second)
		return 1;
	spte_write(handle_spte(mmu, second), 0);
	return 2;
}

static inline void sweep_charge(struct sweep *sweep, uint64_t sptes, uint64_t cost)
{
	sweep->sptes += sptes;
	sweep->budget -= cost < sweep->budget ? cost : sweep->budget;
}

/*
 * Clear every spte of a chain and free the chain, or its newer part if the budget ends first:
 * whole descriptors, so up to LARGE_HANDLES - 1 sptes more than the budget.
 *
 * => TLBs may still hold the translations: the caller gathers the flush
 * => O(min(n, budget)); allocates nothing, cannot fail
 * => returns whether the chain is empty now
 */
__attribute__((always_inline)) static inline bool sweep_chain(struct umbra_mmu *mmu, uint64_t *at,
							      struct sweep *sweep)
{
	unsigned swept;

	if (*at & HEAD_CHAIN) {
		sweep_long(mmu, at, sweep);
		return !*at;
	}
	swept = sweep_inline(mmu, *at, &sweep->bits);
	sweep_charge(sweep, swept, swept);
	*at = 0;
	return true;
}

#endif
