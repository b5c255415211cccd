/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The right to write, or the D bit, taken from every spte of a range; and how an operation gets
 * through a chain of any length without holding the lock for longer than TUNING_BUDGET sptes take.
 *
 * A chain is gone through from its newest descriptor to its oldest (rmap_bits.c, piece_next), while
 * its page is held: faults there come again, so nothing is added. What others remove meanwhile
 * shortens the chain at its newest end, and moves sptes from there into gaps further back: some are
 * met twice, none is missed, and how many descriptors are left from the oldest one on tells where
 * to go on.
 *
 * After each such chain, slots may have come and gone: who walks over a range starts again from the
 * gfn that it has come to.
 *
 * Lock: the MMU's, taken in umbra_write_protect().
 */
#include "head.h"

#define AREA      512u /* gfns */
#define AREA_COST 64u  /* of its heads, in sptes */

/*
 * @some, which has come to @piece of the chain of the page of @level around @gfn, sees the rest of
 * it.
 *
 * => the lock is given up meanwhile: slots and heads may have gone; TLBs may hold what @some
 * changed
 */
void chain_finish(struct umbra_mmu *mmu, uint64_t gfn, unsigned level, struct rmap_piece *piece,
		  chain_some *some, void *arg)
{
	uint64_t pages = level_pages(level), first = gfn & ~(pages - 1);
	struct held held = {.first = first, .end = first + pages};

	drop_begin_hold(mmu, &held);
	do {
		uint64_t more = TUNING_BUDGET, *head;
		struct slot *slot;

		flush_later(mmu);
		port_unlock(&mmu->lock);
		port_lock(&mmu->lock);
		slot = slot_find(mmu, (umbra_gfn){gfn});
		head = slot ? slot_head_find(mmu, slot, (umbra_gfn){gfn}, level) : NULL;
		if (!head || some(mmu, head, piece, &more, arg))
			break;
	} while (true);
	drop_release(mmu, &held);
}

static bool protect_chain(struct umbra_mmu *mmu, uint64_t *head, struct rmap_piece *piece,
			  uint64_t *budget, void *arg)
{
	struct protect *protect = arg;

	return rmap_protect_some(mmu, head, piece, budget, protect->level == 1 && protect->dirty,
				 &protect->changed);
}

/* The page of .level around @gfn. => returns whether the lock was given up */
static bool protect_page(struct umbra_mmu *mmu, uint64_t *head, uint64_t gfn,
			 struct protect *protect)
{
	struct rmap_piece piece = {0};

	if (protect_chain(mmu, head, &piece, &protect->budget, protect))
		return false;
	chain_finish(mmu, gfn, protect->level, &piece, protect_chain, protect);
	return true;
}

/* The area of *@gfn as far as @end; *@gfn moves on. => returns whether the lock was given up */
static bool protect_area(struct umbra_mmu *mmu, struct slot *slot, uint64_t *gfn, uint64_t end,
			 struct protect *protect)
{
	uint64_t *heads;

	for (protect->level = LEVELS; protect->level > 1; protect->level--) {
		uint64_t *head = slot_head_find(mmu, slot, (umbra_gfn){*gfn}, protect->level);

		if (head && *head && protect_page(mmu, head, *gfn, protect))
			return true;
	}
	heads = slot_head_find(mmu, slot, (umbra_gfn){*gfn / AREA * AREA}, 1);
	if (!heads)
		*gfn = end;
	while (*gfn < end && protect->budget) {
		uint64_t at = (*gfn)++, *head = &heads[at % AREA];

		if (*head && protect_page(mmu, head, at, protect))
			return true;
	}
	protect->budget -= AREA_COST < protect->budget ? AREA_COST : protect->budget;
	return false;
}

/*
 * Take W (or D, struct protect) from [*@first, @end), wherever there are slots, until the budget
 * ends.
 *
 * => nobody may grant it anew meanwhile: the range is held, or who grants it marks the page
 * => returns whether all is done; *@first moves on. .changed grows by those that had it
 */
bool protect_range(struct umbra_mmu *mmu, uint64_t *first, uint64_t end, struct protect *protect)
{
	protect->budget = TUNING_BUDGET;
	for (uint32_t i = 0; i < mmu->slots; i++) {
		struct slot *slot = &mmu->slot[i];
		uint64_t slot_end = slot->first + slot->pages;
		uint64_t to = slot_end < end ? slot_end : end;

		if (slot_end <= *first || slot->first >= end)
			continue;
		*first = slot->first > *first ? slot->first : *first;
		while ((*first = slot_skip_unused(slot, *first, to, 1)) < to) {
			uint64_t area_end = (*first / AREA + 1) * AREA;

			if (!protect->budget ||
			    protect_area(mmu, slot, first, area_end < to ? area_end : to, protect))
				return false;
		}
	}
	return true;
}

/*
 * The same to the end, the range held, the lock given up now and then. => held when this returns,
 * as is @held, which others see; gathers
 */
void protect_hold(struct umbra_mmu *mmu, struct held *held, struct protect *protect,
		  struct flush *flush)
{
	uint64_t next = held->first;

	drop_begin_hold(mmu, held);
	while (!protect_range(mmu, &next, held->end, protect)) {
		flush_later(mmu);
		port_unlock(&mmu->lock);
		port_lock(&mmu->lock);
	}
	if (protect->changed || mmu->tlb_stale)
		flush_all(mmu, flush);
}

int umbra_write_protect(struct umbra_mmu *mmu, umbra_gfn first, uint64_t pages, uint64_t *sptes)
{
	struct held held = {.first = first.n, .end = first.n + pages};
	struct protect protect = {0};
	struct flush flush = {0};

	if (held.end < first.n)
		return UMBRA_EINVAL;
	port_lock(&mmu->lock);
	protect_hold(mmu, &held, &protect, &flush);
	flush_commit(mmu, &flush);
	drop_release(mmu, &held);
	port_unlock(&mmu->lock);
	if (sptes)
		*sptes = protect.changed;
	return 0;
}
