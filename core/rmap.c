/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The reverse map: which sptes map this gfn, and which entries lead to this shadow page.
 * Both are chains of spte handles. This file adds, removes and walks; sweep.c clears whole
 * chains; head.h draws them.
 *
 * Each spte has a place, kept beside its table, that says where its handle stands, and each
 * descriptor names its head. So remove searches nothing: it moves the last one in to the gap.
 * And the key is never worked out a second time: what was added under (gfn, level) is removed
 * from exactly there, because the place leads there and nothing else does.
 *
 * Places of sptes that are not present mean nothing; drop leaves them as they are.
 *
 * Lock: the MMU's.
 */
#include "head.h"

#define SLOT_BITS 4 /* of a place: which handle of its descriptor */

/* => O(1) */
uint64_t rmap_count(uint64_t head)
{
	return head_count(head);
}

uint64_t *rmap_head_of(struct umbra_mmu *mmu, head_ref ref)
{
	if (ref & HEAD_PARENTS)
		return &shadow_of(mmu, ref & ~HEAD_PARENTS)->parents;
	return &heads_of(mmu, ref >> 9)[ref & 511];
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

static void desc_put(struct umbra_mmu *mmu, uint32_t id, unsigned slot, handle h)
{
	desc_of(mmu, id)->spte[slot] = h;
	*handle_place(mmu, h) = PLACE_DESC | id << SLOT_BITS | slot;
}

/*
 * Note that spte @h, whose value is to be @spte, maps what @ref is the chain of.
 *
 * => O(1), at any length; takes at most one descriptor, which must be in stock
 * => @h is in no chain
 */
void rmap_add(struct umbra_mmu *mmu, head_ref ref, handle h, uint64_t spte)
{
	uint64_t *head = rmap_head_of(mmu, ref);
	uint64_t count = rmap_count(*head), flags = (*head & HEAD_FLAGS) | head_flags(spte);
	uint32_t id;

	if (count < 2) {
		*head = flags | (count ? head_inline(head_first(*head), h) : head_inline(h, 0));
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
	*head = flags | head_chain(id, count + 1);
}

/* Spte @h, which stands in a chain, is to be given the value @spte. */
void rmap_note(struct umbra_mmu *mmu, handle h, uint64_t spte)
{
	*rmap_head_of(mmu, rmap_owner(mmu, h)) |= head_flags(spte);
}

static void remove_inline(uint64_t *head, handle h)
{
	handle other = head_first(*head) == h ? head_second(*head) : head_first(*head);

	port_assert(head_first(*head) == h || head_second(*head) == h);
	*head = other ? (*head & HEAD_FLAGS) | head_inline(other, 0) : 0;
}

/* Two are left, both in the first descriptor: back to the head. */
static void make_inline(struct umbra_mmu *mmu, uint64_t *head)
{
	uint32_t id = head_desc(*head);
	struct desc *desc = desc_of(mmu, id);

	*handle_place(mmu, desc->spte[0]) = desc->head;
	*handle_place(mmu, desc->spte[1]) = desc->head;
	*head = (*head & HEAD_FLAGS) | head_inline(desc->spte[0], desc->spte[1]);
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
		remove_inline(head, h);
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
	*head = (*head & HEAD_FLAGS) | head_chain(first, count - 1);
	if (count - 1 == 2)
		make_inline(mmu, head);
}

/*
 * Take the W bit from every spte of a chain.
 *
 * => returns how many had it: if any, vcpus must be flushed before the protection holds
 * => O(n), O(1) if none was made writable since the last time
 */
uint64_t rmap_write_protect(struct umbra_mmu *mmu, uint64_t *head)
{
	struct rmap_cursor cursor;
	uint64_t changed = 0;

	if (!(*head & HEAD_WRITABLE))
		return 0;
	rmap_for_each(mmu, *head, &cursor, h)
	{
		uint64_t *spte = handle_spte(mmu, h);
		uint64_t value = spte_read(spte);

		if (!(value & PTE_W))
			continue;
		spte_write(spte, value & ~PTE_W);
		changed++;
	}
	*head &= ~HEAD_WRITABLE;
	return changed;
}

/*
 * Whether the hardware used one of the first @limit sptes of a chain since it was last asked;
 * asking clears their A bits.
 *
 * => TLBs and walk caches are not flushed for this: what they keep using may look idle
 */
bool rmap_age(struct umbra_mmu *mmu, uint64_t *head, unsigned limit)
{
	struct rmap_cursor cursor;
	bool used = false;

	rmap_for_each(mmu, *head, &cursor, h)
	{
		_Atomic uint64_t *spte = (_Atomic uint64_t *)handle_spte(mmu, h);

		if (!limit--)
			break;
		*head |= HEAD_VOLATILE;
		used |= !!(atomic_fetch_and(spte, ~PTE_A) & PTE_A);
	}
	return used;
}

/* Free a chain and leave its sptes as they are: their tables are going as a whole. */
void rmap_forget(struct umbra_mmu *mmu, uint64_t *head)
{
	uint64_t count = rmap_count(*head);

	if (*head & HEAD_CHAIN) {
		struct desc *desc = desc_of(mmu, head_desc(*head));

		while (desc->next)
			desc = desc_of(mmu, desc->next);
		desc_give(mmu, head_desc(*head), desc, descs_of(count));
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

/* Whether a head tells what it must of an spte with that value in its chain. */
bool rmap_covers(uint64_t head, uint64_t spte)
{
	return !(head_flags(spte) & ~head);
}

static const char *descs_check(struct umbra_mmu *mmu, head_ref ref, uint64_t head, uint64_t *descs)
{
	uint64_t left = head_count(head);
	unsigned fill = fill_of(left);

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

/*
 * For audits: what is wrong with the chain of @ref, or NULL; *@descs grows by its descriptors.
 */
const char *rmap_check(struct umbra_mmu *mmu, head_ref ref, uint64_t *descs)
{
	uint64_t head = *rmap_head_of(mmu, ref);
	handle both[2] = {head_first(head), head_second(head)};

	if (head & HEAD_CHAIN) {
		if (head_count(head) < 3)
			return "a chain of two or less has a descriptor";
		return descs_check(mmu, ref, head, descs);
	}
	if (head & HEAD_LOCK || (!both[0] && head))
		return "a head has bits that mean nothing";
	for (unsigned i = 0; i < head_count(head); i++)
		if (*handle_place(mmu, both[i]) != ref)
			return "an inline spte's place is not its head";
	return NULL;
}
