/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which pages were used: the accessed bits of all sptes of a gfn, found by its chains.
 *
 * Sptes are made with A set (spte.h), so a chain whose head does not say "volatile" was used since,
 * and no spte of it has to be read to know that. Asking clears the bits, and then the head says so.
 *
 * A range is gone through in areas of 2 MiB; the lock is given up between them, and after
 * TUNING_BUDGET sptes. What a large leaf says is kept until the range has left it, for asking
 * clears it for all of its pages.
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
	uint64_t budget;
	uint64_t *young;
	uint64_t base;   /* gfn of bit 0 of .young */
	bool used;       /* the chain at hand was, */
	unsigned taking; /*   of that level */
};

static bool age_some(struct umbra_mmu *mmu, uint64_t *head, struct rmap_piece *piece,
		     uint64_t *budget, void *arg)
{
	struct aging *a = arg;

	return rmap_age_some(mmu, head, piece, budget, a->test, &a->used);
}

/* Without accessed bits: what is mapped was used. */
static bool take_some(struct umbra_mmu *mmu, uint64_t *head, struct rmap_piece *piece,
		      uint64_t *budget, void *arg)
{
	struct aging *a = arg;
	struct sweep sweep = {.budget = *budget};
	bool done;

	(void)piece; /* what is left of the chain is what it has not seen */
	a->used = true;
	if (a->test)
		return true;
	done = sweep_chain(mmu, head, &sweep);
	*budget = sweep.budget;
	mmu->stats.sptes_large[0] -= a->taking == 2 ? sweep.sptes : 0;
	mmu->stats.sptes_large[1] -= a->taking == 3 ? sweep.sptes : 0;
	drop_count(mmu, sweep.sptes);
	flush_all(mmu, &a->flush);
	return done;
}

/*
 * Was the page of @level around @gfn used? => returns whether the lock was given up; the answer is
 * in .used
 */
static bool chain_age(struct aging *a, uint64_t *head, uint64_t gfn, unsigned level)
{
	bool without = a->mmu->config.without & UMBRA_WITHOUT_ACCESSED;
	chain_some *some = without ? take_some : age_some;
	struct rmap_piece piece = {0};

	a->used = false;
	a->taking = level;
	if (!head || !*head || some(a->mmu, head, &piece, &a->budget, a))
		return false;
	chain_finish(a->mmu, gfn, level, &piece, some, a);
	return true;
}

/* Was a large page around @gfn used? => *@young; returns as chain_age() */
static bool large_age(struct aging *a, struct slot *slot, uint64_t gfn, bool *young)
{
	*young = false;
	for (unsigned level = 2; level <= LEVELS; level++) {
		struct large *large = &a->large[level];
		uint64_t first = gfn & ~(level_pages(level) - 1);
		bool gave_up = false;

		if (!large->known || large->first != first) {
			gave_up = chain_age(
			    a, slot_head_find(a->mmu, slot, (umbra_gfn){gfn}, level), gfn, level);
			*large = (struct large){.first = first, .known = true, .young = a->used};
		}
		if (gave_up)
			return true;
		*young |= large->young;
	}
	return false;
}

static void set_young(struct aging *a, uint64_t gfn)
{
	a->young[(gfn - a->base) / 64] |= 1ull << (gfn - a->base) % 64;
}

/* From gfn @gfn of a slot on, as far as @end and its area go; returns where it gave up the lock. */
static uint64_t area_age(struct aging *a, struct slot *slot, uint64_t gfn, uint64_t end)
{
	uint64_t *heads;
	bool large;

	if (large_age(a, slot, gfn, &large))
		return gfn;
	heads = slot_head_find(a->mmu, slot, (umbra_gfn){gfn / AREA * AREA}, 1);
	for (; gfn < end && a->budget; gfn++) {
		bool gave_up = chain_age(a, heads ? &heads[gfn % AREA] : NULL, gfn, 1);

		if (large || a->used)
			set_young(a, gfn);
		if (gave_up)
			return gfn + 1;
	}
	return gfn;
}

/* As much of [@gfn, @end), in an area, as the budget pays; wherever there are slots. */
static uint64_t piece_age(struct aging *a, uint64_t gfn, uint64_t end)
{
	a->budget = TUNING_BUDGET;
	for (uint32_t i = 0; i < a->mmu->slots; i++) {
		struct slot *slot = &a->mmu->slot[i];
		uint64_t slot_end = slot->first + slot->pages, to = end < slot_end ? end : slot_end;

		if (slot_end <= gfn || slot->first >= end)
			continue;
		gfn = gfn > slot->first ? gfn : slot->first;
		gfn = area_age(a, slot, gfn, to);
		if (gfn < to || !a->budget)
			return gfn;
	}
	return end;
}

int umbra_age(struct umbra_mmu *mmu, umbra_gfn first, uint64_t pages, unsigned flags,
	      uint64_t *young)
{
	struct aging aging = {
	    .mmu = mmu, .test = flags & UMBRA_AGE_TEST, .young = young, .base = first.n};
	uint64_t gfn = first.n, end = first.n + pages;

	if (end < first.n || flags & ~(unsigned)UMBRA_AGE_TEST)
		return UMBRA_EINVAL;
	memset(young, 0, (pages + 63) / 64 * sizeof(*young));
	while (gfn < end) {
		uint64_t next = (gfn / AREA + 1) * AREA;

		port_lock(&mmu->lock);
		gfn = piece_age(&aging, gfn, next < end ? next : end);
		flush_commit(mmu, &aging.flush);
		port_unlock(&mmu->lock);
	}
	return 0;
}
