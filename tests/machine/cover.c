/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Features, their names, and what is known of them at the end. See cover.h.
 */
#include <stdio.h>

#include "sim.h"

static const char *const names[COVER_FEATURES] = {
    [COVER_WALK_2M] = "2M leaves walked",
    [COVER_WALK_1G] = "1G leaves walked",
    [COVER_STORE_LARGE] = "stores through large leaves",
    [COVER_WHOLE_4M] = "4M pages by 2M leaves",
    [COVER_DIRECT] = "large pages by small leaves",
    [COVER_MADE_2M] = "2M leaves made",
    [COVER_MADE_1G] = "1G leaves made",
    [COVER_BROKEN_BY_ACCESS] = "large leaves broken by accesses",
    [COVER_BROKEN_BY_WRITE] = "large leaves broken by writes of tables",
    [COVER_BROKEN_BY_HOST] = "large leaves broken by the host",
    [COVER_BROKEN_1G] = "1G leaves broken",
    [COVER_NOTED] = "notes of MMIO used",
    [COVER_ROOT_OFF] = "roots without paging",
    [COVER_ROOT_32BIT] = "32-bit roots",
    [COVER_ROOT_PSE] = "32-bit roots with PSE",
    [COVER_ROOT_PAE] = "PAE roots",
    [COVER_ROOT_4LEVEL] = "4-level roots",
    [COVER_ROOT_5LEVEL] = "5-level roots",
    [COVER_ROOT_LA57_LEGACY] = "roots with LA57 outside of long mode",
    [COVER_ROOT_KEPT] = "roots kept",
    [COVER_PDPTES_GOOD] = "PDPTEs good",
    [COVER_PDPTES_BAD] = "PDPTEs bad",
    [COVER_INVLPG] = "INVLPGs",
    [COVER_INVPCID_ADDRESS] = "INVPCIDs of an address",
    [COVER_INVPCID_PCID] = "of a PCID",
    [COVER_INVPCID_ALL_GLOBAL] = "of all",
    [COVER_INVPCID_ALL] = "of all but global pages",
    [COVER_RESERVED_BIT] = "#PF by reserved bits",
    [COVER_KEY_REFUSED] = "by protection keys",
    [COVER_SMEP_REFUSED] = "by SMEP",
    [COVER_SMAP_REFUSED] = "by SMAP",
    [COVER_UNSYNC] = "tables gone unsync",
    [COVER_SYNC] = "synchronised",
    [COVER_FLOODED] = "flooded",
    [COVER_RECLAIMED] = "reclaimed",
    [COVER_PREFETCHED] = "prefetched",
    [COVER_ADDED] = "sptes added",
    [COVER_REMOVED] = "removed",
    [COVER_DROPPED] = "dropped",
    [COVER_OWN_TABLE] = "writes through the table written",
    [COVER_EMULATED_PAGE] = "writes emulated for WP = 0",
    [COVER_REMAPPED] = "pages moved",
    [COVER_STALE] = "stale accesses",
    [COVER_NESTED] = "steps with nested paging",
    [COVER_TABLE_MOVED] = "tables moved",
    [COVER_TABLE_INSIDE] = "tables moved into large pages",
    [COVER_PDE_TO_TABLE] = "large entries made tables",
    [COVER_PDE_TO_LARGE] = "tables made large entries",
    [COVER_BOOT_STAGE] = "stages of booting",
    [COVER_SLOT_CUT] = "slots that end in large pages",
    [COVER_GATHERED] = "areas gathered",
    [COVER_SLOT_MOVED] = "slots moved",
    [COVER_LOG_W] = "logs by write protection",
    [COVER_LOG_D] = "logs by D bits",
    [COVER_TOUCHED] = "watched pages touched",
};

void cover_pass(struct sim *sim, struct ref_access access, uint64_t size, uint64_t page_size)
{
	if (size > 4096 && access.write)
		sim->cover[COVER_STORE_LARGE]++;
	if (size > 4096 && page_size == 4u << 20)
		sim->cover[COVER_WHOLE_4M]++;
	if (size == 4096 && page_size > 4096)
		sim->cover[COVER_DIRECT]++;
}

void cover_paging(struct sim *sim, const struct umbra_paging *paging)
{
	enum cover feature = COVER_ROOT_4LEVEL;

	if (!(paging->efer & REF_EFER_LMA) && paging->cr4 & REF_CR4_LA57)
		sim->cover[COVER_ROOT_LA57_LEGACY]++;
	if (!(paging->cr0 & REF_CR0_PG))
		feature = COVER_ROOT_OFF;
	else if (!(paging->cr4 & REF_CR4_PAE))
		feature = paging->cr4 & REF_CR4_PSE ? COVER_ROOT_PSE : COVER_ROOT_32BIT;
	else if (!(paging->efer & REF_EFER_LMA))
		feature = COVER_ROOT_PAE;
	else if (paging->cr4 & REF_CR4_LA57)
		feature = COVER_ROOT_5LEVEL;
	sim->cover[feature]++;
}

void cover_step(struct sim *sim, enum cover_step step)
{
	static const enum cover broken[] = {COVER_BROKEN_BY_ACCESS, COVER_BROKEN_BY_WRITE,
					    COVER_BROKEN_BY_HOST};
	struct umbra_stats stats;

	umbra_stats_get(sim->mmu, &stats);
	for (unsigned i = 0; i < 2; i++) {
		uint64_t now = stats.sptes_large[i], before = sim->large_leaves[i];

		if (now > before)
			sim->cover[i ? COVER_MADE_1G : COVER_MADE_2M] += now - before;
		if (now < before && step < COVER_STEP_OTHER)
			sim->cover[broken[step]] += before - now;
		if (now < before && i)
			sim->cover[COVER_BROKEN_1G] += before - now;
		sim->large_leaves[i] = now;
	}
}

void cover_end(struct sim *sim)
{
	struct umbra_stats stats;

	umbra_stats_get(sim->mmu, &stats);
	sim->cover[COVER_NOTED] = stats.mmio_cached;
	sim->cover[COVER_ROOT_KEPT] = stats.root_kept;
	sim->cover[COVER_INVLPG] = stats.invlpgs;
	sim->cover[COVER_UNSYNC] = stats.unsyncs;
	sim->cover[COVER_SYNC] = stats.syncs;
	sim->cover[COVER_FLOODED] = stats.shadow_flooded;
	sim->cover[COVER_RECLAIMED] = stats.shadow_reclaimed;
	sim->cover[COVER_PREFETCHED] = stats.prefetched;
	sim->cover[COVER_ADDED] = stats.sptes_added;
	sim->cover[COVER_REMOVED] = stats.sptes_removed;
	sim->cover[COVER_DROPPED] = stats.sptes_dropped;
	sim->cover[COVER_REMAPPED] = stats.remaps;
	sim->cover[COVER_STALE] = sim->count.stale;
	sim->cover[COVER_NESTED] = sim->options.config.nested ? sim->step : 0;
}

unsigned cover_print(const uint64_t total[COVER_FEATURES])
{
	unsigned missing = 0;

	for (unsigned i = 0; i < COVER_FEATURES; i++) {
		printf("%s%s %llu", i ? ", " : "covered: ", names[i], (unsigned long long)total[i]);
		missing += !total[i];
	}
	printf("\n");
	return missing;
}
