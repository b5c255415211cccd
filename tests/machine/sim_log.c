/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The dirty log, judged by the mirror: a page of a logged slot whose contents changed since it was
 * collected is dirty; nothing is right after a collection; and what is dirty was written, or
 * somebody set out to (sim->aimed: a processor's store, though it wrote what stood there or met a
 * fault, a device's, a bit that the walker sets).
 */
#include "sim.h"

#include <string.h>

#define MOST 1024u /* pages */

/* The next write to the pages will be seen: no TLB lets one pass, or lets it pass without setting
 * D. */
static void check_seen(struct sim *sim, const struct sim_slot *slot, uint64_t first, uint64_t pages)
{
	if (!slot->by_d) {
		sim_check_revoked(sim, first, pages, true);
		return;
	}
	for (unsigned i = 0; i < SIM_CPUS; i++)
		for (unsigned j = 0; j < SIM_TLB; j++) {
			const struct sim_tlb_entry *entry = &sim->cpu[i].tlb[j];

			if (entry->valid && entry->writable && entry->dirty &&
			    entry->gfn < first + pages && entry->gfn + (entry->size >> 12) > first)
				sim_fail(sim, "cpu %u's TLB writes to gfn %#llx without setting D",
					 i, (unsigned long long)entry->gfn);
		}
}

void sim_log_start(struct sim *sim, uint32_t id, unsigned flags)
{
	struct sim_slot *slot = &sim->slot[id];
	int wanted = !slot->present ? UMBRA_ENOENT : slot->logged ? UMBRA_EEXIST : 0;
	int error;

	if (flags & ~(unsigned)(UMBRA_LOG_SPLIT | UMBRA_LOG_DIRTY_BITS))
		wanted = UMBRA_EINVAL;
	if (flags & UMBRA_LOG_DIRTY_BITS && sim->options.config.without & UMBRA_WITHOUT_ACCESSED)
		wanted = UMBRA_EINVAL;
	sim_op(sim, "log: slot, flags", id, flags, 0);
	error = umbra_log_start(sim->mmu, id, flags);
	if (error == UMBRA_ENOMEM && sim->shortage)
		return;
	if (error != wanted)
		sim_fail(sim, "umbra_log_start of slot %u says %d, not %d", id, error, wanted);
	if (error)
		return;
	slot->logged = true;
	slot->by_d = flags & UMBRA_LOG_DIRTY_BITS;
	memset(sim->changed + slot->first, 0, slot->pages);
	memset(sim->aimed + slot->first, 0, slot->pages);
	check_seen(sim, slot, slot->first, slot->pages);
	sim->cover[slot->by_d ? COVER_LOG_D : COVER_LOG_W]++;
}

void sim_log_stop(struct sim *sim, uint32_t id)
{
	struct sim_slot *slot = &sim->slot[id];
	int wanted = slot->present && slot->logged ? 0 : UMBRA_ENOENT;

	sim_op(sim, "log: no more, slot", id, 0, 0);
	if (umbra_log_stop(sim->mmu, id) != wanted)
		sim_fail(sim, "umbra_log_stop of slot %u does not say %d", id, wanted);
	slot->logged = slot->by_d = false;
}

void sim_log_collect(struct sim *sim, uint64_t first, uint64_t pages)
{
	uint64_t dirty[MOST / 64], again[MOST / 64];

	pages = pages < MOST ? pages : MOST;
	sim_op(sim, "collect: first, pages", first, pages, 0);
	if (umbra_log_collect(sim->mmu, (umbra_gfn){first}, pages, dirty) ||
	    umbra_log_collect(sim->mmu, (umbra_gfn){first}, pages, again))
		sim_fail(sim, "umbra_log_collect refuses %#llx, %llu", (unsigned long long)first,
			 (unsigned long long)pages);
	for (uint64_t i = 0; i < pages; i++) {
		const struct sim_slot *slot = sim_slot_of(sim, (first + i) << 12);
		bool is_dirty = dirty[i / 64] >> i % 64 & 1, logged = slot && slot->logged;

		if (again[i / 64] >> i % 64 & 1 || (is_dirty && !(logged && sim->aimed[first + i])))
			sim_fail(sim, "gfn %#llx is dirty, and nobody wrote it",
				 (unsigned long long)(first + i));
		if (!logged)
			continue;
		if (sim->changed[first + i] && !is_dirty)
			sim_fail(sim, "gfn %#llx was written, and is not dirty",
				 (unsigned long long)(first + i));
		sim->changed[first + i] = sim->aimed[first + i] = 0;
		check_seen(sim, slot, first + i, 1);
	}
}
