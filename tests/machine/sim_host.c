/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a host does: takes pages away, moves and gathers them, breaks up large mappings, takes
 * ranges away for a while with one flush for all of them. Judged by what TLBs hold, and by what
 * umbra_rmap_visit() shows.
 */
#include "sim.h"

#include <string.h>

#define RANGES 3u

/* Nothing may map the range now, nor count as mapping it. */
static void check_dropped(struct sim *sim, uint64_t first, uint64_t pages)
{
	sim_check_revoked(sim, first, pages, false);
	for (uint64_t gfn = first; gfn < first + pages; gfn++) {
		uint64_t left = 0;
		int error = umbra_rmap_count(sim->mmu, (umbra_gfn){gfn}, &left);

		if (error != (sim_slot_of(sim, gfn << 12) ? 0 : UMBRA_ENOENT) || left)
			sim_fail(sim, "gfn %#llx: %llu sptes after a drop, error %d",
				 (unsigned long long)gfn, (unsigned long long)left, error);
	}
}

void sim_drop(struct sim *sim, uint64_t first, uint64_t pages, enum sim_drop how)
{
	struct umbra_dropped dropped;
	uint64_t before = 0;

	sim_op(sim, "drop: first, pages, how", first, pages, how);
	for (uint64_t gfn = first; gfn < first + pages; gfn++) {
		uint64_t sptes = 0;

		umbra_rmap_count(sim->mmu, (umbra_gfn){gfn}, &sptes);
		before += sptes;
	}
	/* A large spte counts once, though it maps many of the gfns. */
	if (umbra_drop(sim->mmu, (umbra_gfn){first}, pages, &dropped) ||
	    ((sim->options.large || sim->options.huge) && pages > 1
		 ? dropped.sptes > before || !dropped.sptes != !before
		 : dropped.sptes != before))
		sim_fail(sim, "drop took %llu of %llu sptes", (unsigned long long)dropped.sptes,
			 (unsigned long long)before);
	check_dropped(sim, first, pages);
	for (uint64_t gfn = first; gfn < first + pages; gfn++) {
		if (!sim_slot_of(sim, gfn << 12))
			continue;
		if (how == SIM_SWAP) {
			arena_frame_swap(sim->arena, (umbra_gfn){gfn});
		} else if (how == SIM_DISCARD) {
			static const unsigned char zero[4096];

			/* To the guest that is a write of zeros, by the host. */
			sim_store(sim, gfn << 12, zero, sizeof(zero));
			if (umbra_guest_write(sim->mmu, gfn << 12, sizeof(zero)))
				sim_fail(sim, "umbra_guest_write refuses a page");
			umbra_drop(sim->mmu, (umbra_gfn){gfn}, 1, NULL);
			arena_frame_discard(sim->arena, (umbra_gfn){gfn});
		}
	}
}

void sim_remap(struct sim *sim, uint64_t gfn)
{
	struct umbra_dropped dropped;
	uint64_t before = 0;
	struct umbra_frame to = {.writable = true};
	umbra_pfn now;
	int error;

	sim_op(sim, "remap: gfn", gfn, 0, 0);
	if (arena_frame_reserve(sim->arena, &to.pfn))
		return;
	umbra_rmap_count(sim->mmu, (umbra_gfn){gfn}, &before);
	error = umbra_remap(sim->mmu, (umbra_gfn){gfn}, &to, &dropped);
	if (error != (sim_slot_of(sim, gfn << 12) ? 0 : UMBRA_ENOENT))
		sim_fail(sim, "remap of gfn %#llx: %d", (unsigned long long)gfn, error);
	if (error) {
		arena_frame_release(sim->arena, to.pfn);
		return;
	}
	if (dropped.sptes != before || !arena_frame_of(sim->arena, (umbra_gfn){gfn}, &now) ||
	    now.n != to.pfn.n)
		sim_fail(sim, "remap of gfn %#llx dropped %llu of %llu, or did not move it",
			 (unsigned long long)gfn, (unsigned long long)dropped.sptes,
			 (unsigned long long)before);
	check_dropped(sim, gfn, 1);
}

void sim_write_protect(struct sim *sim, uint64_t first, uint64_t pages)
{
	uint64_t sptes = UINT64_MAX;

	sim_op(sim, "write protect: first, pages", first, pages, 0);
	if (umbra_write_protect(sim->mmu, (umbra_gfn){first}, pages, &sptes) || sptes == UINT64_MAX)
		sim_fail(sim, "umbra_write_protect refuses %#llx, %llu", (unsigned long long)first,
			 (unsigned long long)pages);
	sim_check_revoked(sim, first, pages, true);
	for (uint64_t gfn = first; gfn < first + pages; gfn++)
		if (sim_slot_of(sim, gfn << 12))
			arena_frame_protect(sim->arena, (umbra_gfn){gfn});
}

void sim_gather(struct sim *sim, uint64_t gfn)
{
	gfn -= gfn % 512;
	if (gfn + 512 > sim->options.gfns)
		return;
	sim_drop(sim, gfn, 512, SIM_KEEP);
	sim_op(sim, "gather: first", gfn, 0, 0);
	arena_area_gather(sim->arena, (umbra_gfn){gfn});
}

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
