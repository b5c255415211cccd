/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The dirty log, judged by the mirror: a page of a logged slot whose contents changed since it was
 * collected is dirty; and nothing is right after a collection.
 */
#include "sim.h"

#include <string.h>

#define MOST 1024u /* pages */

void sim_log_start(struct sim *sim, uint32_t id, bool split)
{
	struct sim_slot *slot = &sim->slot[id];
	int wanted = !slot->present ? UMBRA_ENOENT : slot->logged ? UMBRA_EEXIST : 0;
	int error;

	sim_op(sim, "log: slot, split", id, split, 0);
	error = umbra_log_start(sim->mmu, id, split ? UMBRA_LOG_SPLIT : 0);
	if (error == UMBRA_ENOMEM && sim->shortage)
		return;
	if (error != wanted)
		sim_fail(sim, "umbra_log_start of slot %u says %d, not %d", id, error, wanted);
	if (error)
		return;
	slot->logged = true;
	memset(sim->changed + slot->first, 0, slot->pages);
	sim_check_revoked(sim, slot->first, slot->pages, true);
}

void sim_log_stop(struct sim *sim, uint32_t id)
{
	struct sim_slot *slot = &sim->slot[id];
	int wanted = slot->present && slot->logged ? 0 : UMBRA_ENOENT;

	sim_op(sim, "log: no more, slot", id, 0, 0);
	if (umbra_log_stop(sim->mmu, id) != wanted)
		sim_fail(sim, "umbra_log_stop of slot %u does not say %d", id, wanted);
	slot->logged = false;
}

static bool is_logged(struct sim *sim, uint64_t gfn)
{
	const struct sim_slot *slot = sim_slot_of(sim, gfn << 12);

	return slot && slot->logged;
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
		bool is_dirty = dirty[i / 64] >> i % 64 & 1, logged = is_logged(sim, first + i);

		if (again[i / 64] >> i % 64 & 1 || (is_dirty && !logged))
			sim_fail(sim, "gfn %#llx is dirty, and nobody wrote it",
				 (unsigned long long)(first + i));
		if (!logged)
			continue;
		if (sim->changed[first + i] && !is_dirty)
			sim_fail(sim, "gfn %#llx was written, and is not dirty",
				 (unsigned long long)(first + i));
		sim->changed[first + i] = 0;
		sim_check_revoked(sim, first + i, 1, true);
	}
}
