/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The reverse map: which sptes map this gfn, and which entries lead to this shadow page.
 * Both are chains of spte handles; this file owns heads, descriptors and places.
 *
 * A head is 64 bits:
 *
 *      63   62   61..31    30..0
 *     lock   0   handle    handle      none, one or two sptes, no descriptor
 *
 *      63   62   61..27    26..0
 *     lock   1   count     descriptor  three and more; count O(1)
 *
 * A chain grows and shrinks at its first descriptor only, so all others are full:
 *
 *     head -> [c b a . .] -> [h g f e d] -> [m l k j i] -> 0
 *                  ^ the last one in: (count - 1) % TUNING_DESC_HANDLES
 *
 * Each spte has a place, kept beside its table, that says where its handle stands, and each
 * descriptor names its head. So remove searches nothing: it moves the last one in to the gap.
 * And the key is never worked out a second time: what was added under (gfn, level) is removed
 * from exactly there, because the place leads there and nothing else does.
 *
 * Places of sptes that are not present mean nothing; drop leaves them as they are.
 *
 * Lock: the MMU's. The heads' lock bit is reserved for one lock per chain and is clear today.
 */
#include "mmu.h"

#define HEAD_LOCK   (1ull << 63)
#define HEAD_CHAIN  (1ull << 62)
#define HANDLE_MASK ((1ull << 31) - 1)
#define DESC_MASK   ((1ull << 27) - 1)
#define COUNT_SHIFT 27
#define COUNT_MASK  ((1ull << 35) - 1)
#define SLOT_BITS   4

static uint64_t head_inline(handle first, handle second)
{
	return (uint64_t)second << 31 | first;
}

static uint64_t head_chain(uint32_t desc, uint64_t count)
{
	return HEAD_CHAIN | count << COUNT_SHIFT | desc;
}

static uint32_t head_desc(uint64_t head)
{
	return head & DESC_MASK;
}

static handle head_first(uint64_t head)
{
	return head & HANDLE_MASK;
}

static handle head_second(uint64_t head)
{
	return head >> 31 & HANDLE_MASK;
}

/* Handles in the first descriptor of a chain of @count. */
static unsigned fill_of(uint64_t count)
{
	return (unsigned)((count - 1) % TUNING_DESC_HANDLES) + 1;
}

/* => O(1) */
uint64_t rmap_count(uint64_t head)
{
	if (head & HEAD_CHAIN)
		return head >> COUNT_SHIFT & COUNT_MASK;
	return !!head_first(head) + !!head_second(head);
}

uint64_t *rmap_head_of(struct umbra_mmu *mmu, head_ref ref)
{
	if (ref & HEAD_PARENTS)
		return &shadow_of(mmu, ref & ~HEAD_PARENTS)->parents;
	return &region_of(mmu, ref >> 9)->head[ref & 511];
}

/* Whose chain a present spte stands in. */
head_ref rmap_owner(struct umbra_mmu *mmu, handle h)
{
	place at = *handle_place(mmu, h);

	return at & PLACE_DESC ? desc_of(mmu, (at & ~PLACE_DESC) >> SLOT_BITS)->head : at;
}

/* The gfn that a present leaf was added under: of its first 4K page. */
umbra_gfn rmap_gfn(struct umbra_mmu *mmu, handle h)
{
	head_ref ref = rmap_owner(mmu, h);
	struct region *region = region_of(mmu, ref >> 9);

	return (umbra_gfn){region->base + (ref & 511) * level_pages(region->level)};
}

/* => the pool has one: pool_lock() saw to it */
static uint32_t desc_take(struct umbra_mmu *mmu, head_ref owner, uint32_t next)
{
	uint32_t id = mmu->desc_free;
	struct desc *desc = desc_of(mmu, id);

	port_assert(id);
	mmu->desc_free = desc->next;
	mmu->desc_free_count--;
	mmu->stats.descs++;
	desc->head = owner;
	desc->next = next;
	return id;
}

static void desc_give(struct umbra_mmu *mmu, uint32_t first, struct desc *last, uint64_t count)
{
	last->next = mmu->desc_free;
	mmu->desc_free = first;
	mmu->desc_free_count += count;
	mmu->stats.descs -= count;
}

static void desc_put(struct umbra_mmu *mmu, uint32_t id, unsigned slot, handle h)
{
	desc_of(mmu, id)->spte[slot] = h;
	*handle_place(mmu, h) = PLACE_DESC | id << SLOT_BITS | slot;
}

/*
 * Note that spte @h maps what @ref is the chain of.
 *
 * => O(1), at any length; takes at most one descriptor, which must be in stock
 * => @h is in no chain
 */
void rmap_add(struct umbra_mmu *mmu, head_ref ref, handle h)
{
	uint64_t *head = rmap_head_of(mmu, ref);
	uint64_t count = rmap_count(*head);
	uint32_t id;

	if (count < 2) {
		*head = count ? head_inline(head_first(*head), h) : head_inline(h, 0);
		*handle_place(mmu, h) = ref;
		return;
	}
	if (count == 2) {
		id = desc_take(mmu, ref, 0);
		desc_put(mmu, id, 0, head_first(*head));
		desc_put(mmu, id, 1, head_second(*head));
	} else {
		id = head_desc(*head);
		if (fill_of(count) == TUNING_DESC_HANDLES)
			id = desc_take(mmu, ref, id);
	}
	desc_put(mmu, id, fill_of(count + 1) - 1, h);
	*head = head_chain(id, count + 1);
}

static void remove_inline(struct umbra_mmu *mmu, uint64_t *head, handle h)
{
	handle other = head_first(*head) == h ? head_second(*head) : head_first(*head);

	port_assert(head_first(*head) == h || head_second(*head) == h);
	(void)mmu;
	*head = head_inline(other, 0);
}

/* Two are left, both in the first descriptor: back to the head. */
static void make_inline(struct umbra_mmu *mmu, uint64_t *head)
{
	uint32_t id = head_desc(*head);
	struct desc *desc = desc_of(mmu, id);

	*handle_place(mmu, desc->spte[0]) = desc->head;
	*handle_place(mmu, desc->spte[1]) = desc->head;
	*head = head_inline(desc->spte[0], desc->spte[1]);
	desc_give(mmu, id, desc, 1);
}

/*
 * Forget spte @h, which stands in a chain.
 *
 * => O(1), at any length: the last one in moves to its place
 */
void rmap_remove(struct umbra_mmu *mmu, handle h)
{
	place at = *handle_place(mmu, h);
	uint64_t *head = rmap_head_of(mmu, rmap_owner(mmu, h));
	uint64_t count = rmap_count(*head);
	uint32_t first;
	unsigned last;

	if (!(at & PLACE_DESC)) {
		remove_inline(mmu, head, h);
		return;
	}
	first = head_desc(*head);
	last = fill_of(count) - 1;
	desc_put(mmu, (at & ~PLACE_DESC) >> SLOT_BITS, at & ((1u << SLOT_BITS) - 1),
		 desc_of(mmu, first)->spte[last]);
	if (!last) {
		struct desc *empty = desc_of(mmu, first);
		uint32_t next = empty->next;

		desc_give(mmu, first, empty, 1);
		first = next;
	}
	*head = head_chain(first, count - 1);
	if (count - 1 == 2)
		make_inline(mmu, head);
}

static void clear_handles(struct umbra_mmu *mmu, const handle *spte, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		__builtin_prefetch(handle_spte(mmu, spte[i]), 1);
	for (unsigned i = 0; i < count; i++)
		spte_clear(handle_spte(mmu, spte[i]));
}

/*
 * Clear every spte of a chain and free the chain whole, in one pass.
 *
 * => TLBs may still hold the translations: the caller gathers the flush
 * => O(n); allocates nothing, cannot fail
 * => returns the sptes cleared
 */
uint64_t rmap_drop(struct umbra_mmu *mmu, uint64_t *head)
{
	uint64_t count = rmap_count(*head);
	uint32_t first = head_desc(*head);
	unsigned fill = fill_of(count);
	struct desc *desc = NULL;

	if (!(*head & HEAD_CHAIN)) {
		for (; rmap_count(*head); *head = head_inline(head_second(*head), 0))
			spte_clear(handle_spte(mmu, head_first(*head)));
		return count;
	}
	for (uint32_t id = first; id; id = desc->next) {
		desc = desc_of(mmu, id);
		__builtin_prefetch(desc_of(mmu, desc->next));
		clear_handles(mmu, desc->spte, fill);
		fill = TUNING_DESC_HANDLES;
	}
	desc_give(mmu, first, desc, (count + TUNING_DESC_HANDLES - 1) / TUNING_DESC_HANDLES);
	*head = 0;
	return count;
}

/* Free a chain and leave its sptes as they are: their tables are going as a whole. */
void rmap_forget(struct umbra_mmu *mmu, uint64_t *head)
{
	uint64_t count = rmap_count(*head);

	if (*head & HEAD_CHAIN) {
		struct desc *desc = desc_of(mmu, head_desc(*head));

		while (desc->next)
			desc = desc_of(mmu, desc->next);
		desc_give(mmu, head_desc(*head), desc,
			  (count + TUNING_DESC_HANDLES - 1) / TUNING_DESC_HANDLES);
	}
	*head = 0;
}

handle rmap_first(struct umbra_mmu *mmu, uint64_t head, struct rmap_cursor *cursor)
{
	if (head & HEAD_CHAIN) {
		cursor->desc = desc_of(mmu, head_desc(head));
		cursor->left = fill_of(rmap_count(head));
	} else {
		cursor->desc = NULL;
		cursor->left = (uint32_t)rmap_count(head);
		cursor->inline_spte[0] = head_first(head);
		cursor->inline_spte[1] = head_second(head);
	}
	return rmap_next(mmu, cursor);
}

handle rmap_next(struct umbra_mmu *mmu, struct rmap_cursor *cursor)
{
	if (!cursor->left) {
		if (!cursor->desc || !cursor->desc->next)
			return 0;
		cursor->desc = desc_of(mmu, cursor->desc->next);
		cursor->left = TUNING_DESC_HANDLES;
	}
	cursor->left--;
	return cursor->desc ? cursor->desc->spte[cursor->left] : cursor->inline_spte[cursor->left];
}

/*
 * For audits: what is wrong with the chain of @ref, or NULL; *@descs grows by its descriptors.
 */
const char *rmap_check(struct umbra_mmu *mmu, head_ref ref, uint64_t *descs)
{
	uint64_t head = *rmap_head_of(mmu, ref), left = rmap_count(head);
	handle both[2] = {head_first(head), head_second(head)};
	unsigned fill;

	if (!(head & HEAD_CHAIN)) {
		if (head & HEAD_LOCK || (!both[0] && both[1]))
			return "a head has bits that mean nothing";
		for (unsigned i = 0; i < left; i++)
			if (*handle_place(mmu, both[i]) != ref)
				return "an inline spte's place is not its head";
		return NULL;
	}
	if (left < 3)
		return "a chain of two or less has a descriptor";
	fill = fill_of(left);
	for (uint32_t id = head_desc(head); id; id = desc_of(mmu, id)->next) {
		struct desc *desc = desc_of(mmu, id);

		if (desc->head != ref)
			return "a descriptor names another head";
		if (left < fill)
			return "a chain is longer than its count";
		for (unsigned i = 0; i < fill; i++)
			if (*handle_place(mmu, desc->spte[i]) != (PLACE_DESC | id << SLOT_BITS | i))
				return "an spte's place is not where its handle stands";
		left -= fill;
		fill = TUNING_DESC_HANDLES;
		++*descs;
	}
	return left ? "a chain is shorter than its count" : NULL;
}
