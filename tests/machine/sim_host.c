/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * More of what a host does: breaks up large mappings, takes ranges away for a while with one flush
 * for all of them. Judged by what TLBs hold, and by what umbra_rmap_visit() shows.
 */
#include "sim.h"

#include <string.h>

#define RANGES 3u

static bool count_large(void *ctx, const struct umbra_mapping *mapping)
{
	*(uint64_t *)ctx += mapping->level > 1;
	return true;
}

/* Ways to @gfn through large sptes. */
static uint64_t large_ways(struct sim *sim, uint64_t gfn)
{
	uint64_t ways = 0;

	umbra_rmap_visit(sim->mmu, (umbra_gfn){gfn}, count_large, &ways);
	return ways;
}

/* A TLB that maps one of the pages by more than itself. */
static bool is_cached_large(struct sim *sim, uint64_t first, uint64_t pages)
{
	for (unsigned i = 0; i < SIM_CPUS; i++)
		for (unsigned j = 0; j < SIM_TLB; j++) {
			const struct sim_tlb_entry *entry = &sim->cpu[i].tlb[j];

			if (entry->valid && entry->size > 4096 && entry->gfn < first + pages &&
			    entry->gfn + (entry->size >> 12) > first)
				return true;
		}
	return false;
}

static uint64_t small_sptes(struct sim *sim, uint64_t gfn)
{
	uint64_t all = 0;

	umbra_rmap_count(sim->mmu, (umbra_gfn){gfn}, &all);
	return all;
}

void sim_split(struct sim *sim, uint64_t first, uint64_t pages)
{
	uint64_t sptes = UINT64_MAX, was_large = large_ways(sim, first);
	uint64_t before = small_sptes(sim, first);

	sim_op(sim, "split: first, pages", first, pages, 0);
	if (umbra_split(sim->mmu, (umbra_gfn){first}, pages, &sptes) || (was_large && !sptes))
		sim_fail(sim, "split of %#llx, %llu took %llu sptes", (unsigned long long)first,
			 (unsigned long long)pages, (unsigned long long)sptes);
	if (!was_large && small_sptes(sim, first) != before)
		sim_fail(sim, "a split took small mappings of gfn %#llx",
			 (unsigned long long)first);
	for (uint64_t gfn = first; gfn < first + pages; gfn++)
		if (large_ways(sim, gfn))
			sim_fail(sim, "gfn %#llx is mapped large after a split",
				 (unsigned long long)gfn);
	if (is_cached_large(sim, first, pages))
		sim_fail(sim, "a TLB has a large page of gfn %#llx after a split",
			 (unsigned long long)first);
}

/* Ranges here and there; contents move to other frames when all have been flushed. */
void sim_invalidate(struct sim *sim, const uint64_t first[], unsigned ranges)
{
	struct umbra_invalidation held[RANGES];
	uint64_t flushes = sim->flush_calls;

	ranges = ranges < RANGES ? ranges : RANGES;
	for (unsigned i = 0; i < ranges; i++) {
		sim_op(sim, "gather: gfn, of", first[i], ranges, 0);
		if (umbra_invalidate_gather(sim->mmu, (umbra_gfn){first[i]}, 2, &held[i], NULL))
			sim_fail(sim, "umbra_invalidate_gather refuses a range");
	}
	if (sim->flush_calls != flushes)
		sim_fail(sim, "a gathered flush came early");
	if (sim_random(sim, 4))
		umbra_flush(sim->mmu);
	else /* who forgot it: this range's end, and so everybody, */
		umbra_invalidate_end(sim->mmu, &held[--ranges]);
	if (sim->flush_calls > flushes + 1)
		sim_fail(sim, "gathered flushes came one by one");
	for (unsigned i = 0; i < ranges; i++) {
		sim_check_revoked(sim, first[i], 2, false);
		for (uint64_t gfn = first[i]; gfn < first[i] + 2; gfn++)
			if (sim_slot_of(sim, gfn << 12))
				arena_frame_swap(sim->arena, (umbra_gfn){gfn});
	}
	for (unsigned i = 0; i < ranges; i++)
		umbra_invalidate_end(sim->mmu, &held[i]);
}

static bool is_taken(const struct sim *sim, uint32_t id, uint64_t first, uint64_t pages)
{
	for (unsigned i = 0; i < SIM_SLOTS; i++) {
		const struct sim_slot *slot = &sim->slot[i];

		if (i != id && slot->present && first < slot->first + slot->pages &&
		    slot->first < first + pages)
			return true;
	}
	return false;
}

/* The embedder's memory stays where it is: the slot shows other parts of it. */
void sim_slot_move(struct sim *sim, uint32_t id, uint64_t first)
{
	struct sim_slot *slot = &sim->slot[id], old = *slot;
	uint64_t flushes = sim->flush_calls;
	int wanted, error;

	if (slot->present && first + slot->pages > sim->options.gfns)
		return;
	wanted = !slot->present                          ? UMBRA_ENOENT
		 : is_taken(sim, id, first, slot->pages) ? UMBRA_EEXIST
							 : 0;
	sim_op(sim, "slot move: id, first", id, first, slot->pages);
	error = umbra_slot_move(sim->mmu, id, (umbra_gfn){first});
	if (error == UMBRA_ENOMEM && sim->shortage)
		return;
	if (error != wanted)
		sim_fail(sim, "moving slot %u to %#llx says %d, not %d", id,
			 (unsigned long long)first, error, wanted);
	if (error || first == old.first)
		return;
	if (sim->flush_calls > flushes + 1)
		sim_fail(sim, "a slot that moves flushes more than once");
	slot->first = first;
	sim_watch_forget(sim, old.first, old.pages);
	sim_check_revoked(sim, old.first, old.pages, false);
	sim_mirror_forget(sim, old.first, old.pages);
	memmove(sim->changed + first, sim->changed + old.first, old.pages);
	memmove(sim->aimed + first, sim->aimed + old.first, old.pages);
	sim->cover[COVER_SLOT_MOVED]++;
}
