/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The random guest's choices. See guest.h.
 */
#include "guest.h"

static const struct {
	uint64_t gfn;
	unsigned level;
} tables[] = {
    {0x01, 4},  {0x02, 4},  {0x03, 4},  {0x303, 4}, {0x04, 3},  {0x05, 3},  {0x06, 3},
    {0x302, 3}, {0x08, 2},  {0x09, 2},  {0x0a, 2},  {0x0b, 2},  {0x1f1, 2}, {0x241, 2},
    {0x301, 2}, {0x10, 1},  {0x11, 1},  {0x12, 1},  {0x13, 1},  {0x14, 1},  {0x15, 1},
    {0x16, 1},  {0x200, 1}, {0x1ff, 1}, {0x240, 1}, {0x300, 1}, {0x304, 1},
};

#define TABLES (sizeof(tables) / sizeof(tables[0]))

static bool percent(struct sim *sim, unsigned chance)
{
	return sim_random(sim, 100) < chance;
}

void guest_slots_add(struct sim *sim)
{
	if (sim_slot_add(sim, GUEST_LOW, 0, 0xc0, 0) ||
	    sim_slot_add(sim, GUEST_CROSS, 0x1f0, 0x40, 0) ||
	    sim_slot_add(sim, GUEST_ROM, 0x240, 0x20, UMBRA_SLOT_READONLY) ||
	    sim_slot_add(sim, GUEST_PLUGGED, 0x300, 0x40, 0))
		sim_fail(sim, "slots");
}

unsigned guest_level(uint64_t gfn)
{
	for (unsigned i = 0; i < TABLES; i++)
		if (tables[i].gfn == gfn)
			return tables[i].level;
	return 0;
}

uint64_t guest_table(struct sim *sim, unsigned level)
{
	for (;;) {
		uint64_t i = sim_random(sim, TABLES);

		if (tables[i].level == level)
			return tables[i].gfn;
	}
}

unsigned guest_index(struct sim *sim)
{
	static const unsigned index[] = {0, 1, 2, 256, 511};

	return index[sim_random(sim, 5)];
}

uint64_t guest_gva(struct sim *sim)
{
	uint64_t gva = 0;

	/* The fewer on top, the more sharing below. */
	gva |= (uint64_t)(sim_random(sim, 3) ? sim_random(sim, 2) : guest_index(sim)) << 39;
	gva |= (uint64_t)(sim_random(sim, 3) ? sim_random(sim, 2) : guest_index(sim)) << 30;
	gva |= (uint64_t)guest_index(sim) << 21;
	gva |= (uint64_t)guest_index(sim) << 12;
	gva |= percent(sim, 70) ? guest_index(sim) * 8 : sim_random(sim, 512) * 8;
	return gva & 1ull << 47 ? gva | 0xffff000000000000ull : gva;
}

/* A gfn for a page: often a table or one of a few much-shared ones. */
static uint64_t page_gfn(struct sim *sim, const struct guest_taste *taste)
{
	if (percent(sim, taste->wild))
		return sim_random(sim, 2) ? sim_random(sim, GUEST_GFNS)
					  : sim_random(sim, 1ull << 40);
	switch (sim_random(sim, 6)) {
	case 0:
	case 1:
		return tables[sim_random(sim, TABLES)].gfn;
	case 2:
	case 3:
		return 0x40 + sim_random(sim, 4);
	case 4:
		return 0x1f0 + sim_random(sim, 0x70);
	default:
		return sim_random(sim, 2) ? 0x20 + sim_random(sim, 0xa0)
					  : 0x300 + sim_random(sim, 0x40);
	}
}

uint64_t guest_entry(struct sim *sim, const struct guest_taste *taste, unsigned level)
{
	bool leaf = level == 1;
	uint64_t entry;

	if (percent(sim, taste->absent))
		return sim_random(sim, 2) ? 0 : sim_random(sim, UINT64_MAX) & ~REF_P;
	if (percent(sim, taste->wild) && percent(sim, 10))
		return sim_random(sim, UINT64_MAX);
	if (percent(sim, taste->wild))
		level = 1 + (unsigned)sim_random(sim, 4);
	if ((level == 2 || level == 3) && percent(sim, taste->large)) {
		leaf = true;
		entry = REF_PS | (level == 2 ? sim_random(sim, 3) << 21 : 0);
		if (percent(sim, 20))
			entry |= REF_PAT;
		if (percent(sim, taste->wild))
			entry |= sim_random(sim, 1u << 18) << 12;
	} else if (level == 1) {
		entry = page_gfn(sim, taste) << 12;
		if (percent(sim, 10))
			entry |= REF_PS; /* PAT */
	} else {
		entry = guest_table(sim, level - 1) << 12;
	}
	entry |= REF_P;
	/* Upper levels mostly grant everything, or hardly anything would pass below. */
	entry |= percent(sim, leaf ? 75 : 95) ? REF_W : 0;
	entry |= percent(sim, leaf ? 75 : 93) ? REF_U : 0;
	entry |= percent(sim, 60) ? REF_A : 0;
	entry |= percent(sim, leaf ? 50 : 10) ? REF_D : 0;
	entry |= percent(sim, leaf ? 20 : 3) ? REF_NX : 0;
	entry |= sim_random(sim, 8) << 9;
	if (percent(sim, taste->wild))
		entry |= 1ull << (3 + sim_random(sim, 61));
	return entry;
}

void guest_populate(struct sim *sim, const struct guest_taste *taste)
{
	for (unsigned i = 0; i < TABLES; i++) {
		for (unsigned index = 0; index < 512; index++) {
			uint64_t entry = guest_entry(sim, taste, tables[i].level);
			bool used = index < 3 || index == 256 || index == 511;

			if (used || percent(sim, 10))
				sim_device_write(sim, tables[i].gfn << 12 | index * 8, &entry, 8);
		}
	}
}

struct umbra_paging guest_long_mode(uint64_t cr3)
{
	return (struct umbra_paging){
	    .cr0 = REF_CR0_PG | REF_CR0_WP | 1,
	    .cr3 = cr3,
	    .cr4 = REF_CR4_PAE,
	    .efer = REF_EFER_LME | REF_EFER_LMA | REF_EFER_NXE,
	};
}

struct umbra_paging guest_paging(struct sim *sim, const struct guest_taste *taste)
{
	uint64_t root = guest_table(sim, percent(sim, taste->wild) ? 2 : 4);
	struct umbra_paging paging = guest_long_mode(root << 12);

	if (percent(sim, taste->wild) && percent(sim, 10))
		paging.cr3 = sim_random(sim, 1ull << 32) & ~0xfffull;
	paging.cr3 |= sim_random(sim, 4) << 3;
	if (percent(sim, 25))
		paging.cr0 &= ~REF_CR0_WP;
	paging.cr4 |= percent(sim, 30) ? REF_CR4_SMEP : 0;
	paging.cr4 |= percent(sim, 30) ? REF_CR4_SMAP : 0;
	paging.cr4 |= percent(sim, 50) ? REF_CR4_PGE : 0;
	if (percent(sim, 20))
		paging.efer &= ~REF_EFER_NXE;
	if (percent(sim, 5)) {
		paging.cr0 &= ~REF_CR0_PG;
		paging.efer &= ~REF_EFER_LMA;
	}
	return paging;
}
