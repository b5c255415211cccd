/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a host does to guest memory: drop every mapping of a range, or the large ones, move pages,
 * zap all.
 *
 * Each operation takes the sptes away by whole chains, gathers, flushes once, and only then
 * hands the frames over. A flush is due even when no spte was found, if a guest changed tables
 * of its own without flushing every vcpu (flush_later).
 *
 * The lock is given up after every TUNING_BUDGET sptes, however long a chain or a range is. A
 * range is *held* meanwhile: faults there are told to come again, so what was taken away stays
 * away until the operation ends.
 *
 * A range is gone through in areas of 2 MiB: the chains of the 1 GiB and 2 MiB pages around it,
 * then 512 heads of 4K pages in one go. Areas that were never mapped are skipped, 2 GiB at a time
 * where a directory's leaf is missing. So a gfn is all that has to be remembered to go on.
 *
 * Lock: the MMU's, taken in the umbra_* functions.
 */
#include "head.h"

#define AREA 512u /* gfns: what a region of 4K heads covers */

/*
 * Sweep the chains of the 1 GiB and the 2 MiB page around @gfn. => the caller gathers the flush,
 * and counts what sweep->sptes grew by; returns whether all is done
 */
bool drop_large(struct umbra_mmu *mmu, struct slot *slot, uint64_t gfn, struct sweep *sweep)
{
	for (unsigned level = LEVELS; level > 1; level--) {
		uint64_t *head = slot_head_find(mmu, slot, (umbra_gfn){gfn}, level);
		uint64_t before = sweep->sptes;
		bool done;

		if (!head || !*head)
			continue;
		done = sweep->budget && sweep_chain(mmu, head, sweep);
		mmu->stats.sptes_large[level - 2] -= sweep->sptes - before;
		if (!done)
			return false;
	}
	return true;
}

/* @sptes were swept. */
void drop_count(struct umbra_mmu *mmu, uint64_t sptes)
{
	mmu->stats.sptes -= sptes;
	mmu->stats.sptes_dropped += sptes;
}

/* Sweep the area of @gfn up to @end, which lies in it; returns where it stopped. */
static uint64_t drop_area(struct umbra_mmu *mmu, struct slot *slot, uint64_t gfn, uint64_t end,
			  struct sweep *sweep)
{
	uint64_t base = gfn / AREA * AREA, *heads;

	if (!drop_large(mmu, slot, gfn, sweep))
		return gfn;
	if (sweep->large_only) {
		sweep_charge(sweep, 0, 1);
		return end;
	}
	heads = slot_head_find(mmu, slot, (umbra_gfn){base}, 1);
	if (!heads)
		return end;
	return base + sweep_heads(mmu, heads, gfn - base, end - base, sweep);
}

static bool drop_slot(struct umbra_mmu *mmu, struct slot *slot, uint64_t *first, uint64_t end,
		      struct sweep *sweep)
{
	unsigned least = sweep->large_only ? 2 : 1;

	while ((*first = slot_skip_unused(slot, *first, end, least)) < end) {
		uint64_t area_end = (*first / AREA + 1) * AREA;

		if (!sweep->budget)
			return false;
		*first = drop_area(mmu, slot, *first, area_end < end ? area_end : end, sweep);
	}
	return true;
}

/*
 * Drop gfns [*@first, @end), wherever there are slots, until @sweep's budget ends; gathers.
 *
 * => returns whether all is done; *@first moves on to what is left
 */
bool drop_range(struct umbra_mmu *mmu, uint64_t *first, uint64_t end, struct sweep *sweep,
		struct flush *flush)
{
	uint64_t before = sweep->sptes;
	bool done = true;

	for (uint32_t i = 0; i < mmu->slots && done; i++) {
		struct slot *slot = &mmu->slot[i];
		uint64_t slot_end = slot->first + slot->pages;

		if (slot_end <= *first || slot->first >= end)
			continue;
		*first = slot->first > *first ? slot->first : *first;
		done = drop_slot(mmu, slot, first, slot_end < end ? slot_end : end, sweep);
	}
	if (done)
		*first = end;
	drop_count(mmu, sweep->sptes - before);
	if (sweep->sptes != before || mmu->tlb_stale)
		flush_all(mmu, flush);
	return done;
}

/* Faults there are told to come again until drop_release(). */
void drop_begin_hold(struct umbra_mmu *mmu, struct held *held)
{
	held->next = mmu->held;
	mmu->held = held;
}

/* => the lock is held again when this returns */
void drop_hold(struct umbra_mmu *mmu, struct held *held, struct sweep *total, struct flush *flush)
{
	uint64_t first = held->first;

	drop_begin_hold(mmu, held);
	for (;;) {
		struct sweep sweep = {.budget = TUNING_BUDGET, .large_only = total->large_only};
		bool done = drop_range(mmu, &first, held->end, &sweep, flush);

		total->sptes += sweep.sptes;
		total->bits |= sweep.bits;
		if (done)
			return;
		/* TLBs hold what the reverse map forgot, until our flush. */
		flush_later(mmu);
		port_unlock(&mmu->lock);
		port_lock(&mmu->lock); /* behind who waited for it */
	}
}

void drop_release(struct umbra_mmu *mmu, const struct held *held)
{
	struct held **at = &mmu->held;

	while (*at != held)
		at = &(*at)->next;
	*at = held->next;
}

/* Whether an operation is taking some of the @pages gfns from @first on away. */
bool drop_is_held(const struct umbra_mmu *mmu, uint64_t first, uint64_t pages)
{
	for (const struct held *held = mmu->held; held; held = held->next)
		if (first + pages > held->first && first < held->end)
			return true;
	return false;
}

static void report(struct umbra_dropped *dropped, const struct sweep *sweep)
{
	if (dropped)
		*dropped = (struct umbra_dropped){
		    .sptes = sweep->sptes,
		    .accessed = !!(sweep->bits & PTE_A),
		    .dirty = !!(sweep->bits & PTE_D),
		};
}

int umbra_drop(struct umbra_mmu *mmu, umbra_gfn first, uint64_t pages,
	       struct umbra_dropped *dropped)
{
	struct held held = {.first = first.n, .end = first.n + pages};
	struct sweep sweep = {0};
	struct flush flush = {0};

	if (held.end < first.n)
		return UMBRA_EINVAL;
	port_lock(&mmu->lock);
	drop_hold(mmu, &held, &sweep, &flush);
	flush_commit(mmu, &flush);
	drop_release(mmu, &held);
	port_unlock(&mmu->lock);
	report(dropped, &sweep);
	return 0;
}

int umbra_drop_some(struct umbra_mmu *mmu, struct umbra_range *range, uint64_t budget,
		    struct umbra_dropped *dropped)
{
	uint64_t first = range->first.n, end = first + range->pages;
	struct sweep sweep = {.budget = budget};
	struct flush flush = {0};

	if (end < first || !budget)
		return UMBRA_EINVAL;
	port_lock(&mmu->lock);
	drop_range(mmu, &first, end, &sweep, &flush);
	flush_commit(mmu, &flush);
	port_unlock(&mmu->lock);
	*range = (struct umbra_range){.first = {first}, .pages = end - first};
	report(dropped, &sweep);
	return 0;
}

int umbra_split(struct umbra_mmu *mmu, umbra_gfn first, uint64_t pages, uint64_t *sptes)
{
	struct held held = {.first = first.n, .end = first.n + pages};
	struct sweep sweep = {.large_only = true};
	struct flush flush = {0};

	if (held.end < first.n)
		return UMBRA_EINVAL;
	port_lock(&mmu->lock);
	drop_hold(mmu, &held, &sweep, &flush);
	flush_commit(mmu, &flush);
	drop_release(mmu, &held);
	port_unlock(&mmu->lock);
	if (sptes)
		*sptes = sweep.sptes;
	return 0;
}

#define MOVE_PIECE 16u /* pages that are moved before the lock is given up */

/*
 * The host takes the pages of @held over, one by one. => returns whether it took all: the slot may
 * have gone while the lock was given up
 */
static bool move_frames(struct umbra_mmu *mmu, const struct held *held,
			const struct umbra_frame *to)
{
	struct umbra_frame frame = *to;

	for (uint64_t gfn = held->first; gfn < held->end; gfn++, frame.pfn.n++) {
		if (gfn > held->first && (gfn - held->first) % MOVE_PIECE == 0) {
			port_unlock(&mmu->lock);
			port_lock(&mmu->lock);
		}
		if (!slot_find(mmu, (umbra_gfn){gfn}))
			return false;
		mmu->host.frame_move(mmu->ctx, (umbra_gfn){gfn}, &frame);
	}
	return true;
}

int umbra_remap(struct umbra_mmu *mmu, umbra_gfn gfn, const struct umbra_frame *to,
		struct umbra_dropped *dropped)
{
	uint64_t pages = to->level == 2 ? level_pages(2) : 1;
	struct held held = {.first = gfn.n, .end = gfn.n + pages};
	struct sweep sweep = {0};
	struct flush flush = {0};
	struct slot *slot;
	bool moved;

	if (!mmu->host.frame_move || to->level > 2 || (gfn.n | to->pfn.n) & (pages - 1) ||
	    to->pfn.n >> (52 - UMBRA_PAGE_SHIFT))
		return UMBRA_EINVAL;
	port_lock(&mmu->lock);
	slot = slot_find(mmu, gfn);
	if (!slot || slot_find(mmu, (umbra_gfn){held.end - 1}) != slot) {
		port_unlock(&mmu->lock);
		return UMBRA_ENOENT;
	}
	drop_hold(mmu, &held, &sweep, &flush);
	flush_commit(mmu, &flush);
	moved = move_frames(mmu, &held, to);
	mmu->stats.remaps += moved;
	drop_release(mmu, &held);
	port_unlock(&mmu->lock);
	if (!moved)
		return UMBRA_ENOENT;
	report(dropped, &sweep);
	return 0;
}

/* Take the range away until umbra_invalidate_end(); @gather: without the flush. */
static int invalidate(struct umbra_mmu *mmu, umbra_gfn first, uint64_t pages,
		      struct umbra_invalidation *invalidation, struct umbra_dropped *dropped,
		      bool gather)
{
	struct held *held = (struct held *)invalidation;
	struct sweep sweep = {0};
	struct flush flush = {0};

	_Static_assert(sizeof(*held) <= sizeof(*invalidation), "struct umbra_invalidation");
	if (first.n + pages < first.n)
		return UMBRA_EINVAL;
	*held = (struct held){.first = first.n, .end = first.n + pages};
	port_lock(&mmu->lock);
	drop_hold(mmu, held, &sweep, &flush);
	if (!gather)
		flush_commit(mmu, &flush);
	else if (flush.vcpus)
		flush_later(mmu);
	held->flushes = gather && flush.vcpus ? mmu->whole_flushes : UINT64_MAX;
	port_unlock(&mmu->lock);
	report(dropped, &sweep);
	return 0;
}

int umbra_invalidate_begin(struct umbra_mmu *mmu, umbra_gfn first, uint64_t pages,
			   struct umbra_invalidation *invalidation, struct umbra_dropped *dropped)
{
	return invalidate(mmu, first, pages, invalidation, dropped, false);
}

int umbra_invalidate_gather(struct umbra_mmu *mmu, umbra_gfn first, uint64_t pages,
			    struct umbra_invalidation *invalidation, struct umbra_dropped *dropped)
{
	return invalidate(mmu, first, pages, invalidation, dropped, true);
}

/* What TLBs may still hold of what was taken away goes. => lock held */
static void flush_stale(struct umbra_mmu *mmu)
{
	struct flush flush = {0};

	if (!mmu->tlb_stale)
		return;
	flush_all(mmu, &flush);
	flush_commit(mmu, &flush);
}

void umbra_flush(struct umbra_mmu *mmu)
{
	port_lock(&mmu->lock);
	flush_stale(mmu);
	port_unlock(&mmu->lock);
}

void umbra_invalidate_end(struct umbra_mmu *mmu, struct umbra_invalidation *invalidation)
{
	struct held *held = (struct held *)invalidation;

	port_lock(&mmu->lock);
	if (held->flushes == mmu->whole_flushes)
		flush_stale(mmu);
	drop_release(mmu, held);
	port_unlock(&mmu->lock);
}

void umbra_zap_all(struct umbra_mmu *mmu)
{
	struct flush flush = {0};

	port_lock(&mmu->lock);
	mmu->stats.zap_alls++;
	shadow_zap_all(mmu, &flush);
	flush_commit(mmu, &flush);
	port_unlock(&mmu->lock);
}
