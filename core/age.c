/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which pages were used: the accessed bits of all sptes of a gfn, found by its chains.
 *
 * Sptes are made with A set (spte.h), so a chain whose head does not say "volatile" was used since,
 * and no spte of it has to be read to know that. Asking clears the bits, and then the head says so.
 *
 * A range is gone through in areas of 2 MiB; the lock is given up between them. What a large leaf
 * says is kept until the range has left it, for asking clears it for all of its pages.
 *
 * Lock: the MMU's, taken in umbra_age().
 */
#include "head.h"

#define AREA 512u

/* What the large page of a level around the area at hand said. */
struct large {
	uint64_t first; /* its first gfn */
	bool known, young;
};

struct aging {
	struct umbra_mmu *mmu;
	struct flush flush;
	bool test;
	struct large large[LEVELS + 1];
	uint64_t *young;
	uint64_t base; /* gfn of bit 0 of .young */
};

/* Without accessed bits: what is mapped was used. */
static bool take_away(struct aging *a, uint64_t *head, unsigned level)
{
	struct sweep sweep = SWEEP_ALL;

	if (!*head || a->test)
		return *head != 0;
	sweep_chain(a->mmu, head, &sweep);
	if (level > 1)
		a->mmu->stats.sptes_large[level - 2] -= sweep.sptes;
	drop_count(a->mmu, sweep.sptes);
	flush_all(a->mmu, &a->flush);
	return true;
}

static bool chain_age(struct aging *a, uint64_t *head, unsigned level)
{
	if (!head || !*head)
		return false;
	if (a->mmu->config.without & UMBRA_WITHOUT_ACCESSED)
		return take_away(a, head, level);
	if (a->test)
		return rmap_is_young(a->mmu, *head);
	return rmap_age(a->mmu, head, ~0u);
}

/* Was a large page around @gfn used? */
static bool large_age(struct aging *a, struct slot *slot, uint64_t gfn)
{
	bool young = false;

	for (unsigned level = 2; level <= LEVELS; level++) {
		struct large *large = &a->large[level];
		uint64_t first = gfn & ~(level_pages(level) - 1);

		if (!large->known || large->first != first)
			*large = (struct large){
			    .first = first,
			    .known = true,
			    .young = chain_age(
				a, slot_head_find(a->mmu, slot, (umbra_gfn){gfn}, level), level),
			};
		young |= large->young;
	}
	return young;
}

static void set_young(struct aging *a, uint64_t gfn)
{
	a->young[(gfn - a->base) / 64] |= 1ull << (gfn - a->base) % 64;
}

/* gfns [@gfn, @end) of one area of a slot. */
static void area_age(struct aging *a, struct slot *slot, uint64_t gfn, uint64_t end)
{
	bool large = large_age(a, slot, gfn);
	uint64_t *heads = slot_head_find(a->mmu, slot, (umbra_gfn){gfn / AREA * AREA}, 1);

	for (; gfn < end; gfn++) {
		bool small = heads && chain_age(a, &heads[gfn % AREA], 1);

		if (large || small)
			set_young(a, gfn);
	}
}

/* The area of @gfn, as far as @end; wherever there are slots. */
static void piece_age(struct aging *a, uint64_t gfn, uint64_t end)
{
	for (uint32_t i = 0; i < a->mmu->slots; i++) {
		struct slot *slot = &a->mmu->slot[i];
		uint64_t slot_end = slot->first + slot->pages;
		uint64_t from = gfn > slot->first ? gfn : slot->first;
		uint64_t to = end < slot_end ? end : slot_end;

		if (from < to)
			area_age(a, slot, from, to);
	}
}

int umbra_age(struct umbra_mmu *mmu, umbra_gfn first, uint64_t pages, unsigned flags,
	      uint64_t *young)
{
	struct aging aging = {
	    .mmu = mmu, .test = flags & UMBRA_AGE_TEST, .young = young, .base = first.n};
	uint64_t end = first.n + pages;

	if (end < first.n || flags & ~(unsigned)UMBRA_AGE_TEST)
		return UMBRA_EINVAL;
	memset(young, 0, (pages + 63) / 64 * sizeof(*young));
	for (uint64_t gfn = first.n, next; gfn < end; gfn = next) {
		next = (gfn / AREA + 1) * AREA;
		next = next < end ? next : end;
		port_lock(&mmu->lock);
		piece_age(&aging, gfn, next);
		flush_commit(mmu, &aging.flush);
		port_unlock(&mmu->lock);
	}
	return 0;
}
