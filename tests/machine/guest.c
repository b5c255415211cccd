/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The random guest's choices. See guest.h.
 */
#include "guest.h"

#include <string.h>

struct table {
	uint64_t gfn;
	unsigned kind;
};

static const struct table at_first[] = {
    {0x01, GUEST_PML4},  {0x02, GUEST_PML4},  {0x03, GUEST_PML4},   {0x303, GUEST_PML4},
    {0x04, GUEST_PDPT},  {0x05, GUEST_PDPT},  {0x06, GUEST_PDPT},   {0x302, GUEST_PDPT},
    {0x08, GUEST_PD},    {0x09, GUEST_PD},    {0x0a, GUEST_PD},     {0x0b, GUEST_PD},
    {0x1f1, GUEST_PD},   {0x241, GUEST_PD},   {0x301, GUEST_PD},    {0x10, GUEST_PT},
    {0x11, GUEST_PT},    {0x12, GUEST_PT},    {0x13, GUEST_PT},     {0x14, GUEST_PT},
    {0x15, GUEST_PT},    {0x16, GUEST_PT},    {0x200, GUEST_PT},    {0x1ff, GUEST_PT},
    {0x240, GUEST_PT},   {0x300, GUEST_PT},   {0x304, GUEST_PT},    {0x805, GUEST_PT},
    {0x18, GUEST_PML5},  {0x19, GUEST_PML5},  {0x1a, GUEST_PDPTES}, {0x1b, GUEST_PDPTES},
    {0x1c, GUEST_PD32},  {0x1d, GUEST_PD32},  {0x201, GUEST_PD32},  {0x28, GUEST_PT32},
    {0x29, GUEST_PT32},  {0x2a, GUEST_PT32},  {0x2b, GUEST_PT32},   {0x202, GUEST_PT32},
    {0x242, GUEST_PT32}, {0x305, GUEST_PT32}, {0x806, GUEST_PT32},
};

#define TABLES (sizeof(at_first) / sizeof(at_first[0]))

static struct table tables[TABLES];

static bool percent(struct sim *sim, unsigned chance)
{
	return sim_random(sim, 100) < chance;
}

static bool has_giga(const struct sim *sim)
{
	return sim->options.gfns >= GUEST_HUGE_GFNS;
}

void guest_slots_add(struct sim *sim)
{
	memcpy(tables, at_first, sizeof(tables));
	if (sim_slot_add(sim, GUEST_LOW, 0, 0xc0, 0) ||
	    sim_slot_add(sim, GUEST_CROSS, 0x1f0, 0x40, 0) ||
	    sim_slot_add(sim, GUEST_ROM, 0x240, 0x20, UMBRA_SLOT_READONLY) ||
	    sim_slot_add(sim, GUEST_PLUGGED, 0x300, 0x40, 0) ||
	    sim_slot_add(sim, GUEST_BIG, 0x5f0, 0x410, 0) ||
	    sim_slot_add(sim, GUEST_TOP, 0xa00, 0x210, 0) ||
	    (has_giga(sim) && sim_slot_add(sim, GUEST_GIGA, GUEST_HUGE, 1u << 18, 0)))
		sim_fail(sim, "slots");
}

unsigned guest_level(uint64_t gfn)
{
	for (unsigned i = 0; i < TABLES; i++)
		if (tables[i].gfn == gfn)
			return tables[i].kind;
	return GUEST_NO_TABLE;
}

unsigned guest_kind(struct sim *sim, const struct guest_taste *taste)
{
	return GUEST_PT + (unsigned)sim_random(sim, taste->modes ? GUEST_KINDS - 1 : GUEST_PML4);
}

uint64_t guest_table(struct sim *sim, unsigned kind)
{
	for (;;) {
		uint64_t i = sim_random(sim, TABLES);

		if (tables[i].kind == kind)
			return tables[i].gfn;
	}
}

unsigned guest_index(struct sim *sim)
{
	static const unsigned index[] = {0, 1, 2, 256, 511};

	return index[sim_random(sim, 5)];
}

/* The fewer on top, the more sharing below. */
static uint64_t upper_index(struct sim *sim)
{
	return sim_random(sim, 3) ? sim_random(sim, 2) : guest_index(sim);
}

uint64_t guest_gva(struct sim *sim)
{
	uint64_t gva = 0;

	gva |= upper_index(sim) << 48;
	gva |= upper_index(sim) << 39;
	gva |= upper_index(sim) << 30;
	gva |= (uint64_t)guest_index(sim) << 21;
	gva |= (uint64_t)guest_index(sim) << 12;
	gva |= percent(sim, 70) ? guest_index(sim) * 8 : sim_random(sim, 512) * 8;
	return gva & 1ull << 56 ? gva | 0xff00000000000000ull : gva;
}

uint64_t guest_page(struct sim *sim, const struct guest_taste *taste)
{
	if (percent(sim, taste->wild))
		return sim_random(sim, 2) ? sim_random(sim, GUEST_GFNS)
					  : sim_random(sim, 1ull << 40);
	switch (sim_random(sim, 7)) {
	case 0:
	case 1:
		return tables[sim_random(sim, TABLES)].gfn;
	case 2:
	case 3:
		return 0x40 + sim_random(sim, 4);
	case 4:
		return 0x1f0 + sim_random(sim, 0x70);
	case 5:
		if (has_giga(sim) && sim_random(sim, 3) == 0)
			return GUEST_HUGE + (sim_random(sim, 2) ? sim_random(sim, 8)
								: sim_random(sim, 1u << 18));
		return sim_random(sim, 2) ? 0x800 + sim_random(sim, 8)
					  : 0x5f0 + sim_random(sim, 0x620);
	default:
		return sim_random(sim, 2) ? 0x20 + sim_random(sim, 0xa0)
					  : 0x300 + sim_random(sim, 0x40);
	}
}

static uint64_t not_present(struct sim *sim)
{
	return sim_random(sim, 2) ? 0 : sim_random(sim, UINT64_MAX) & ~REF_P;
}

/* What entries of all formats have. Upper levels mostly grant everything, or hardly anything would
 * pass below.
 */
static uint64_t rights(struct sim *sim, bool leaf)
{
	uint64_t entry = REF_P;

	entry |= percent(sim, leaf ? 75 : 95) ? REF_W : 0;
	entry |= percent(sim, leaf ? 75 : 93) ? REF_U : 0;
	entry |= percent(sim, 60) ? REF_A : 0;
	entry |= percent(sim, leaf ? 50 : 10) ? REF_D : 0;
	entry |= percent(sim, 10) ? REF_PWT : 0;
	entry |= percent(sim, 10) ? REF_PCD : 0;
	entry |= leaf && percent(sim, 20) ? REF_G : 0;
	entry |= sim_random(sim, 8) << 9;
	return entry;
}

/* Which 2 MiB a large page maps: mostly those of GUEST_BIG, of which the middle one has tables. */
static uint64_t large_area(struct sim *sim)
{
	static const uint8_t areas[] = {0, 1, 2, 3, 3, 4, 5, 5, 5, 6};

	if (has_giga(sim) && sim_random(sim, 4) == 0)
		return (GUEST_HUGE >> 9) +
		       (sim_random(sim, 4) ? sim_random(sim, 3) : sim_random(sim, 512));
	return areas[sim_random(sim, sizeof(areas))];
}

/* One entry of 4 bytes. */
static uint64_t entry_32bit(struct sim *sim, const struct guest_taste *taste, unsigned kind)
{
	bool leaf = kind == GUEST_PT32;
	uint64_t entry;

	if (percent(sim, taste->absent))
		return not_present(sim) & 0xffffffff;
	if (percent(sim, taste->wild) && percent(sim, 10))
		return sim_random(sim, 1ull << 32);
	if (percent(sim, taste->wild))
		kind = sim_random(sim, 2) ? GUEST_PT32 : GUEST_PD32;
	if (kind == GUEST_PT32) {
		entry = guest_page(sim, taste) << 12;
		entry |= percent(sim, 10) ? REF_PS : 0; /* PAT */
	} else if (percent(sim, taste->large)) {
		leaf = true;
		entry = REF_PS | large_area(sim) >> 1 << 22;
		entry |= percent(sim, 20) ? REF_PAT : 0;
		if (percent(sim, taste->wild))
			entry |= sim_random(sim, 1u << 10) << 12;
	} else {
		entry = guest_table(sim, GUEST_PT32) << 12;
	}
	entry |= rights(sim, leaf);
	if (percent(sim, taste->wild))
		entry |= 1ull << (3 + sim_random(sim, 29));
	return entry & 0xffffffff;
}

/* One PDPTE of PAE paging; a bad one spoils all four. */
static uint64_t entry_pdpte(struct sim *sim, const struct guest_taste *taste)
{
	uint64_t entry = guest_table(sim, GUEST_PD) << 12 | REF_P;

	if (percent(sim, taste->absent))
		return not_present(sim);
	entry |= sim_random(sim, 4) << 3 | sim_random(sim, 8) << 9;
	if (percent(sim, taste->wild) && percent(sim, 30))
		entry |= 1ull << sim_random(sim, 64);
	return entry;
}

uint64_t guest_entry(struct sim *sim, const struct guest_taste *taste, unsigned kind)
{
	bool leaf = kind == GUEST_PT;
	uint64_t entry;

	if (kind == GUEST_PT32 || kind == GUEST_PD32)
		return entry_32bit(sim, taste, kind) | entry_32bit(sim, taste, kind) << 32;
	if (kind == GUEST_PDPTES)
		return entry_pdpte(sim, taste);
	if (percent(sim, taste->absent))
		return not_present(sim);
	if (percent(sim, taste->wild) && percent(sim, 10))
		return sim_random(sim, UINT64_MAX);
	if (percent(sim, taste->wild))
		kind = GUEST_PT + (unsigned)sim_random(sim, GUEST_PML5);
	if ((kind == GUEST_PD || kind == GUEST_PDPT) && percent(sim, taste->large)) {
		leaf = true;
		entry = REF_PS;
		if (kind == GUEST_PD)
			entry |= large_area(sim) << 21;
		else if (has_giga(sim) && sim_random(sim, 8))
			entry |= (uint64_t)GUEST_HUGE << 12;
		if (percent(sim, 20))
			entry |= REF_PAT;
		if (percent(sim, taste->wild))
			entry |= sim_random(sim, 1u << 18) << 12;
	} else if (kind == GUEST_PT) {
		entry = guest_page(sim, taste) << 12;
		if (percent(sim, 10))
			entry |= REF_PS; /* PAT */
	} else {
		/* Rarely a table maps itself, or another one of its kind. */
		entry = guest_table(sim, percent(sim, 4) ? kind : kind - 1) << 12;
	}
	entry |= rights(sim, leaf);
	entry |= percent(sim, leaf ? 20 : 3) ? REF_NX : 0;
	entry |= leaf && percent(sim, taste->keys) ? sim_random(sim, 16) << 59 : 0;
	if (percent(sim, taste->wild))
		entry |= 1ull << (3 + sim_random(sim, 61));
	return entry;
}

/* Does guest_gva() come to that word of a table? */
static bool is_used(unsigned kind, unsigned word)
{
	unsigned index = word;

	switch (kind) {
	case GUEST_PDPTES: /* at the offsets that guest_cr3() chooses */
		return word < 4 || (word >= 8 && word < 12);
	case GUEST_PD32: /* made of gva bits 31:22 */
		index = word % 128 * 4;
		return index == 0 || index == 256 || index == 508;
	case GUEST_PT32: /* gva bits 21:12 */
		index = word % 256 * 2;
		return index <= 2 || index == 256 || index == 510;
	default:
		return index < 3 || index == 256 || index == 511;
	}
}

void guest_populate(struct sim *sim, const struct guest_taste *taste)
{
	for (unsigned i = 0; i < TABLES; i++) {
		for (unsigned word = 0; word < 512; word++) {
			uint64_t entry = guest_entry(sim, taste, tables[i].kind);

			if (is_used(tables[i].kind, word) || percent(sim, 10))
				sim_device_write(sim, tables[i].gfn << 12 | word * 8, &entry, 8);
		}
	}
}

/* ------------------------------------------------------------------ tables that change places */

static bool is_half_sized(unsigned kind)
{
	return kind == GUEST_PT32 || kind == GUEST_PD32;
}

/* One entry of 4 bytes, or 8, of @word: *@shift says where it stands. */
static uint64_t part_of(unsigned kind, uint64_t word, unsigned part)
{
	return is_half_sized(kind) ? word >> 32 * part & 0xffffffff : word;
}

/* Let most entries that lead to @from lead to @to. */
static void redirect(struct sim *sim, uint64_t from, uint64_t to)
{
	for (unsigned i = 0; i < TABLES; i++) {
		unsigned parts = is_half_sized(tables[i].kind) ? 2 : 1;

		for (unsigned word = 0; word < 512; word++) {
			uint64_t gpa = tables[i].gfn << 12 | word * 8;
			uint64_t old = sim_word(sim, gpa), new = old;

			for (unsigned part = 0; part < parts; part++) {
				uint64_t entry = part_of(tables[i].kind, old, part);

				if (entry & REF_P && (entry & REF_ADDR) >> 12 == from &&
				    sim_random(sim, 8))
					new ^= ((from ^ to) << 12) << 32 * part;
			}
			if (new != old && sim_slot_of(sim, gpa))
				sim_device_write(sim, gpa, &new, 8);
		}
	}
}

/* Tables that are in the big areas come out again, or no large page would ever be mapped whole. */
static unsigned table_to_move(struct sim *sim)
{
	unsigned i = (unsigned)sim_random(sim, TABLES);

	for (unsigned try = 0; try < TABLES && sim_random(sim, 64); try++, i = (i + 1) % TABLES)
		if (tables[i].gfn >= 0x600 && at_first[i].gfn < 0x600)
			break;
	return i;
}

static uint64_t place_for_table(struct sim *sim, unsigned i)
{
	static const uint64_t areas[] = {0x600, 0x600, 0x800, 0xa00, 0xa00, GUEST_HUGE};

	if (tables[i].gfn != at_first[i].gfn || sim_random(sim, 3) == 0)
		return sim_random(sim, 3) ? at_first[i].gfn : 0x20 + sim_random(sim, 8);
	return areas[sim_random(sim, has_giga(sim) ? 6 : 5)] + sim_random(sim, 8);
}

/* Does some TLB hold a large page around @gfn? */
static bool is_inside(const struct sim *sim, uint64_t gfn)
{
	for (unsigned i = 0; i < SIM_CPUS; i++)
		for (unsigned j = 0; j < SIM_TLB; j++) {
			const struct sim_tlb_entry *entry = &sim->cpu[i].tlb[j];

			if (entry->valid && entry->size > 4096 &&
			    gfn - entry->gfn < entry->size >> 12)
				return true;
		}
	return false;
}

void guest_table_move(struct sim *sim)
{
	unsigned i = table_to_move(sim);
	uint64_t from = tables[i].gfn, to = place_for_table(sim, i), data[512];

	if (guest_level(to) || !sim_slot_of(sim, from << 12) || !sim_slot_of(sim, to << 12))
		return;
	sim_op(sim, "table moves: kind, from, to", tables[i].kind, from, to);
	sim->cover[COVER_TABLE_MOVED]++;
	sim->cover[COVER_TABLE_INSIDE] += is_inside(sim, to);
	memcpy(data, &sim->mirror[from * 512], sizeof(data));
	sim_device_write(sim, to << 12, data, sizeof(data));
	tables[i].gfn = to;
	redirect(sim, from, to);
	for (unsigned j = 0; j < SIM_CPUS; j++) {
		struct umbra_paging paging = sim->cpu[j].paging;

		if ((paging.cr3 & REF_ADDR) >> 12 != from || sim_random(sim, 4) == 0)
			continue;
		paging.cr3 ^= (from ^ to) << 12;
		sim_paging_set(&sim->cpu[j], &paging);
	}
	if (sim_random(sim, 3) == 0)
		return;
	for (unsigned j = 0; j < 512; j++)
		data[j] = j % 2 ? sim_random(sim, UINT64_MAX) : 0;
	sim_device_write(sim, from << 12, data, sizeof(data));
}

/* Some word that guest_gva() comes to. */
static unsigned used_word(struct sim *sim, unsigned kind)
{
	for (;;) {
		unsigned word = (unsigned)sim_random(sim, 512);

		if (is_used(kind, word))
			return word;
	}
}

/* The table at @gfn maps what a large page from @first on does, as 4 KiB pages. */
static void fill_alike(struct sim *sim, uint64_t gfn, unsigned kind, uint64_t first)
{
	for (unsigned word = 0; word < 512; word++) {
		uint64_t entry = (first + word) << 12 | rights(sim, true);

		if (!is_used(kind, word) && sim_random(sim, 16))
			continue;
		if (kind == GUEST_PT32) {
			entry = (first + word * 2) << 12 | (rights(sim, true) & 0xfff);
			entry |= ((first + word * 2 + 1) << 12 | (rights(sim, true) & 0xfff)) << 32;
		}
		sim_device_write(sim, gfn << 12 | word * 8, &entry, 8);
	}
}

void guest_pde_turn(struct sim *sim, const struct guest_taste *taste)
{
	bool half = taste->modes && sim_random(sim, 3) == 0;
	unsigned kind = half ? GUEST_PD32 : GUEST_PD, below = half ? GUEST_PT32 : GUEST_PT;
	uint64_t table = guest_table(sim, below), first, old, new;
	uint64_t pages = half ? 1024 : 512;
	uint64_t gpa = guest_table(sim, kind) << 12 | used_word(sim, kind) * 8;

	if (!sim_slot_of(sim, gpa) || !sim_slot_of(sim, table << 12))
		return;
	old = part_of(kind, sim_word(sim, gpa), 0);
	if (old & REF_P && old & REF_PS) {
		first = ((old & REF_ADDR) >> 12) & ~(pages - 1);
		fill_alike(sim, table, below, first);
		new = table << 12 | rights(sim, false);
		sim->cover[COVER_PDE_TO_TABLE]++;
	} else {
		if (old & REF_P && sim_slot_of(sim, old & REF_ADDR))
			table = (old & REF_ADDR) >> 12;
		first = part_of(below, sim_word(sim, table << 12), 0);
		first = ((first & REF_ADDR) >> 12) & ~(pages - 1);
		if (sim_random(sim, 2) || first >= sim->options.gfns) {
			first = (large_area(sim) << 9) & ~(pages - 1);
			fill_alike(sim, table, below, first);
		}
		new = first << 12 | REF_PS | rights(sim, true);
		sim->cover[COVER_PDE_TO_LARGE]++;
	}
	sim_op(sim, "entry turns: gpa, old, new", gpa, old, new);
	if (half)
		new = (new & 0xffffffff) | (sim_word(sim, gpa) & ~0xffffffffull);
	sim_device_write(sim, gpa, &new, 8);
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

static enum guest_mode choose_mode(struct sim *sim, const struct guest_taste *taste)
{
	if (!taste->modes)
		return percent(sim, 5) ? GUEST_OFF : GUEST_4LEVEL;
	for (;;) {
		enum guest_mode mode = (enum guest_mode)sim_random(sim, GUEST_MODES);

		if (mode == GUEST_OFF && taste->modes != 1 && percent(sim, 70))
			continue;
		if (taste->modes >> mode & 1)
			return mode;
	}
}

static enum guest_mode mode_of(const struct umbra_paging *paging)
{
	if (!(paging->cr0 & REF_CR0_PG))
		return GUEST_OFF;
	if (!(paging->cr4 & REF_CR4_PAE))
		return paging->cr4 & REF_CR4_PSE ? GUEST_PSE : GUEST_32BIT;
	if (!(paging->efer & REF_EFER_LMA))
		return GUEST_PAE;
	return paging->cr4 & REF_CR4_LA57 ? GUEST_5LEVEL : GUEST_4LEVEL;
}

uint64_t guest_cr3(struct sim *sim, const struct guest_taste *taste,
		   const struct umbra_paging *paging)
{
	static const unsigned roots[] = {GUEST_PML4,   GUEST_PD32, GUEST_PD32,
					 GUEST_PDPTES, GUEST_PML4, GUEST_PML5};
	enum guest_mode mode = mode_of(paging);
	bool wild = percent(sim, taste->wild);
	uint64_t cr3 = guest_table(sim, wild ? GUEST_PD : roots[mode]) << 12;

	if (wild && percent(sim, 10))
		cr3 = sim_random(sim, 1ull << 32) & ~0xfffull;
	if (mode == GUEST_PAE)
		return cr3 | (percent(sim, 30) ? 0x40 : 0) | sim_random(sim, 4) << 3;
	if (!(paging->cr4 & REF_CR4_PCIDE))
		return cr3 | sim_random(sim, 4) << 3;
	return cr3 | sim_random(sim, SIM_PCIDS) | (sim_random(sim, 2) ? 1ull << 63 : 0);
}

struct umbra_paging guest_paging(struct sim *sim, const struct guest_taste *taste)
{
	return guest_paging_in(sim, taste, choose_mode(sim, taste));
}

struct umbra_paging guest_paging_in(struct sim *sim, const struct guest_taste *taste,
				    enum guest_mode mode)
{
	struct umbra_paging paging = guest_long_mode(0);

	if (percent(sim, 25))
		paging.cr0 &= ~REF_CR0_WP;
	paging.cr4 |= percent(sim, 30) ? REF_CR4_SMEP : 0;
	paging.cr4 |= percent(sim, 30) ? REF_CR4_SMAP : 0;
	paging.cr4 |= percent(sim, 50) ? REF_CR4_PGE : 0;
	paging.cr4 |= percent(sim, 30) ? REF_CR4_PSE : 0;
	if (percent(sim, 20))
		paging.efer &= ~REF_EFER_NXE;
	if (taste->modes) { /* bits that mean something in long mode only */
		paging.cr4 |= percent(sim, 40) ? REF_CR4_PKE : 0;
		paging.cr4 |= percent(sim, 25) ? REF_CR4_PKS : 0;
		paging.cr4 |= mode < GUEST_4LEVEL && percent(sim, 30) ? REF_CR4_LA57 : 0;
	}
	switch (mode) {
	case GUEST_OFF:
		paging.cr0 &= ~REF_CR0_PG;
		paging.efer &= ~REF_EFER_LMA;
		break;
	case GUEST_32BIT:
	case GUEST_PSE:
		paging.cr4 &= ~(REF_CR4_PAE | REF_CR4_PSE);
		paging.cr4 |= mode == GUEST_PSE ? REF_CR4_PSE : 0;
		paging.efer &= ~(REF_EFER_LME | REF_EFER_LMA);
		break;
	case GUEST_PAE:
		paging.efer &= ~(REF_EFER_LME | REF_EFER_LMA);
		break;
	default:
		paging.cr4 |= mode == GUEST_5LEVEL ? REF_CR4_LA57 : 0;
		paging.cr4 |= taste->modes && percent(sim, 50) ? REF_CR4_PCIDE : 0;
		break;
	}
	paging.cr3 = guest_cr3(sim, taste, &paging) & ~(1ull << 63);
	return paging;
}

uint32_t guest_keys(struct sim *sim)
{
	uint32_t keys = (uint32_t)sim_random(sim, UINT32_MAX);

	if (percent(sim, 40))
		return 0;
	keys &= (uint32_t)sim_random(sim, UINT32_MAX);
	return percent(sim, 70) ? keys & ~3u : keys; /* most pages have key 0 */
}
