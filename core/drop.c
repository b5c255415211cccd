/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a host does to guest memory: drop every mapping of a range, move a page, zap all.
 *
 * Each operation takes the sptes away by whole chains, gathers, flushes once, and only then
 * hands the frames over. A flush is due even when no spte was found, if a guest changed tables
 * of its own without flushing every vcpu (flush_later).
 *
 * Lock: the MMU's, taken in the umbra_* functions.
 */
#include "mmu.h"

static uint64_t drop_head(struct umbra_mmu *mmu, uint64_t *head)
{
	uint64_t dropped = rmap_drop(mmu, head);

	mmu->stats.sptes -= dropped;
	mmu->stats.sptes_dropped += dropped;
	return dropped;
}

/* Heads of the region whose pages overlap gfns [@first, @end). */
static void drop_region(struct umbra_mmu *mmu, struct region *region, uint64_t first, uint64_t end,
			void *arg)
{
	uint64_t *dropped = arg;
	uint64_t pages = level_pages(region->level);
	uint64_t last = region->base + 512 * pages;
	uint64_t from = first > region->base ? (first - region->base) / pages : 0;
	uint64_t to = end < last ? (end - region->base + pages - 1) / pages : 512;

	for (uint64_t i = from; i < to; i++)
		if (region->head[i])
			*dropped += drop_head(mmu, &region->head[i]);
}

/* Drop gfns [@first, @end), wherever there are slots; gathers. Returns the sptes dropped. */
uint64_t drop_range(struct umbra_mmu *mmu, uint64_t first, uint64_t end, struct flush *flush)
{
	uint64_t dropped = 0;

	for (uint32_t i = 0; i < mmu->slots; i++)
		slot_regions(mmu, &mmu->slot[i], first, end, drop_region, &dropped);
	if (dropped || mmu->tlb_stale)
		flush_all(mmu, flush);
	return dropped;
}

/* Zap the shadow pages of guest tables in gfns [@first, @end): what they hold is void. */
void drop_tables(struct umbra_mmu *mmu, uint64_t first, uint64_t end, struct flush *flush)
{
	for (uint32_t i = 0; i < mmu->chunks.count << TUNING_CHUNK_SHIFT; i++) {
		struct shadow *shadow = shadow_of(mmu, i);

		if (shadow->state == SHADOW_USED && !shadow->role.direct &&
		    shadow->gfn.n >= first && shadow->gfn.n < end)
			shadow_zap(mmu, shadow, flush);
	}
}

int umbra_drop(struct umbra_mmu *mmu, umbra_gfn first, uint64_t pages, uint64_t *sptes)
{
	struct flush flush = {0};
	uint64_t dropped;

	if (first.n + pages < pages)
		return UMBRA_EINVAL;
	port_lock(&mmu->lock);
	dropped = drop_range(mmu, first.n, first.n + pages, &flush);
	flush_commit(mmu, &flush);
	port_unlock(&mmu->lock);
	if (sptes)
		*sptes = dropped;
	return 0;
}

int umbra_remap(struct umbra_mmu *mmu, umbra_gfn gfn, umbra_pfn pfn, uint64_t *sptes)
{
	struct flush flush = {0};
	uint64_t dropped = 0;

	if (!mmu->host.frame_move)
		return UMBRA_EINVAL;
	port_lock(&mmu->lock);
	if (!slot_find(mmu, gfn)) {
		port_unlock(&mmu->lock);
		return UMBRA_ENOENT;
	}
	dropped = drop_range(mmu, gfn.n, gfn.n + 1, &flush);
	flush_commit(mmu, &flush);
	mmu->host.frame_move(mmu->ctx, gfn, pfn);
	mmu->stats.remaps++;
	port_unlock(&mmu->lock);
	if (sptes)
		*sptes = dropped;
	return 0;
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
