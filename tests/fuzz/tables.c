/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * See tables.h.
 */
#include "tables.h"

#include <string.h>

#define PWUA (REF_P | REF_W | REF_U | REF_A)

#define CR4_PSE   (1ull << 4)
#define CR4_LA57  (1ull << 12)
#define CR4_PCIDE (1ull << 17)
#define CR4_PKE   (1ull << 22)
#define CR4_PKS   (1ull << 24)
#define CR3_KEEP  (1ull << 63)
#define PTE_G     (1ull << 8)

#define STORES_MAX 16u /* without a flush, see tables_calm() */

static const struct table {
	uint8_t gfn, level;
	uint8_t width; /* of an entry; 4: 32-bit paging */
} tables[] = {
    {8, 1, 8},  {9, 1, 8},  {10, 1, 8}, {11, 1, 8}, {6, 2, 8},  {7, 2, 8},  {4, 3, 8},
    {5, 3, 8},  {2, 4, 8},  {3, 4, 8},  {1, 5, 8},  {12, 0, 8}, {15, 1, 4}, {16, 1, 4},
    {13, 2, 4}, {14, 2, 4}, {36, 1, 8}, {37, 2, 8}, {48, 1, 8}, {49, 2, 8}, {50, 4, 8},
};

#define TABLES (sizeof(tables) / sizeof(tables[0]))

static const uint16_t indices[] = {0, 1, 2, 3, 256, 511};
static const uint16_t indices_32[] = {0, 1, 2, 3, 512, 1023};

#define INDICES (sizeof(indices) / sizeof(indices[0]))

/* ------------------------------------------------------------------ in place */

/* What entry @i of @table is before the input has its say. */
static uint64_t first_entry(const struct table *table, unsigned i)
{
	static const uint8_t below[] = {0, 0, 8, 6, 4, 2};
	static const uint8_t pages[] = {17, 4, 32, 50, 20, 40};
	unsigned odd = i & 1;

	if (table->width == 4) {
		if (table->level == 2 && i == 4)
			return REF_PS | PWUA;
		if (table->level == 2)
			return (15ull + odd) << 12 | PWUA;
		return (uint64_t)(i == 5 ? 13 : pages[i] + table->gfn % 2) << 12 | PWUA;
	}
	switch (table->level) {
	case 1:
		if (i == 5)
			return (uint64_t)table->gfn << 12 | (PWUA & ~REF_U);
		return (uint64_t)(pages[i] + table->gfn % 4) << 12 | PWUA | (i == 4 ? REF_NX : 0);
	case 2:
		if (i == 4)
			return REF_PS | PWUA;
		return (8ull + i % 4) << 12 | PWUA;
	case 3:
		if (i == 3)
			return REF_PS | PWUA;
		break;
	default:
		break;
	}
	if (i == 5 && table->level == 4) /* the table maps itself */
		return (uint64_t)table->gfn << 12 | (PWUA & ~REF_U);
	return (uint64_t)(below[table->level] + odd) << 12 | PWUA;
}

/* Straight into arena and mirror: no one has looked yet. */
static void put(struct sim *sim, uint64_t gpa, uint64_t word, size_t width)
{
	unsigned char *page = arena_page(sim->arena, (umbra_gfn){gpa >> 12});

	memcpy(page + (gpa & 0xfff), &word, width);
	memcpy((unsigned char *)sim->mirror + gpa, &word, width);
}

static void put_pdptes(struct sim *sim, uint64_t gpa)
{
	for (unsigned n = 0; n < 8; n++) {
		for (unsigned i = 0; i < 4; i++) {
			uint64_t pdpte = (6ull + ((i + n) & 1)) << 12 | REF_P;

			if (n == 4)
				pdpte |= REF_W; /* reserved here */
			if (n == 5 && i == 1)
				pdpte = 0;
			put(sim, gpa + n * 32 + i * 8, pdpte, 8);
		}
	}
}

static void put_all(struct sim *sim)
{
	for (unsigned t = 0; t < TABLES; t++) {
		const struct table *table = &tables[t];
		uint64_t gpa = (uint64_t)table->gfn << 12;

		if (!table->level) {
			put_pdptes(sim, gpa);
			continue;
		}
		for (unsigned i = 0; i < INDICES; i++) {
			unsigned index = table->width == 4 ? indices_32[i] : indices[i];

			put(sim, gpa + index * table->width, first_entry(table, i), table->width);
		}
	}
}

int tables_plug(struct sim *sim, uint64_t first, uint64_t pages, uint32_t flags)
{
	return sim_slot_add(sim, TABLES_PLUGGED, first, pages, flags);
}

struct sim *tables_create(struct input *input, const char *name)
{
	static const uint8_t widths[] = {40, 36, 32, 48};
	uint8_t cpu = input_u8(input), size = input_u8(input);
	const struct sim_options options = {
	    .name = name,
	    .seed = size,
	    .gfns = TABLES_BIG + 512,
	    .config = {.shadow_quota = UMBRA_QUOTA_MIN + (size >> 4) * 8u,
		       .prefetch = size & 15,
		       .maxphyaddr = widths[cpu & 3],
		       .nested = (cpu & 0x60) == 0x60 ? 4 + (size & 1) : 0,
		       .cpu = cpu >> 2 & 7},
	    .large = cpu & 0x20 ? 100 : 0,
	    .abort_on_violation = true,
	};
	struct sim *sim = sim_create(&options);
	struct umbra_paging paging;

	put_all(sim);
	if (sim_slot_add(sim, TABLES_LOW, 0, 32, 0) ||
	    sim_slot_add(sim, TABLES_ROM, 32, 8, UMBRA_SLOT_READONLY) ||
	    tables_plug(sim, 48, 16, 0) || sim_slot_add(sim, TABLES_LARGE, TABLES_BIG, 512, 0))
		sim_fail(sim, "slots");
	for (unsigned i = 0; i < SIM_CPUS; i++) {
		if (i == 0 || !(cpu & 0x80)) /* else threads of one address space */
			paging = tables_paging(input);
		sim_paging_set(&sim->cpu[i], &paging);
	}
	return sim;
}

/* ------------------------------------------------------------------ registers */

enum mode {
	MODE_OFF,
	MODE_32BIT,
	MODE_32BIT_PSE,
	MODE_PAE,
	MODE_4LEVEL,
	MODE_5LEVEL,
	MODE_RAW,
};

static uint64_t root_of(enum mode mode, unsigned n)
{
	static const uint8_t roots_4[] = {2, 3, 2, 50, 6, 3, 40, 63};
	static const uint8_t roots_5[] = {1, 1, 1, 2, 1, 50, 1, 41};
	static const uint8_t roots_32[] = {13, 14, 13, 14, 13, 16, 12, 41};

	switch (mode) {
	case MODE_32BIT:
	case MODE_32BIT_PSE:
		return (uint64_t)roots_32[n] << 12;
	case MODE_PAE:
		return 12ull << 12 | n << 5;
	case MODE_5LEVEL:
		return (uint64_t)roots_5[n] << 12;
	default:
		return (uint64_t)roots_4[n] << 12;
	}
}

struct umbra_paging tables_paging(struct input *input)
{
	static const uint8_t modes[] = {MODE_4LEVEL, MODE_PAE,    MODE_32BIT_PSE, MODE_5LEVEL,
					MODE_32BIT,  MODE_4LEVEL, MODE_OFF,       MODE_RAW};
	uint8_t how = input_u8(input), more = input_u8(input);
	enum mode mode = modes[how & 7];
	bool is_long = mode == MODE_4LEVEL || mode == MODE_5LEVEL;
	struct umbra_paging paging = {.cr0 = REF_CR0_PG | 1, .cr3 = root_of(mode, more & 7)};

	paging.cr0 |= how & 8 ? 0 : REF_CR0_WP;
	paging.efer |= how & 16 ? 0 : REF_EFER_NXE;
	paging.cr4 |= how & 32 ? REF_CR4_SMEP : 0;
	paging.cr4 |= how & 64 ? REF_CR4_SMAP : 0;
	paging.cr4 |= how & 128 ? REF_CR4_PGE : 0;
	paging.cr4 |= more & 8 ? CR4_PKE : 0;
	paging.cr4 |= more & 16 ? CR4_PKS : 0;
	if (mode == MODE_OFF)
		paging.cr0 &= ~REF_CR0_PG;
	if (mode != MODE_OFF && mode != MODE_32BIT && mode != MODE_32BIT_PSE)
		paging.cr4 |= REF_CR4_PAE;
	if (mode == MODE_32BIT_PSE)
		paging.cr4 |= CR4_PSE;
	if (mode == MODE_5LEVEL)
		paging.cr4 |= CR4_LA57;
	if (is_long) {
		paging.efer |= REF_EFER_LME | REF_EFER_LMA;
		if (more & 32) /* with a PCID of 0 to 3 */
			paging.cr4 |= CR4_PCIDE;
		paging.cr3 |= more >> 6;
		if (more & 32 && more & 4)
			paging.cr3 |= CR3_KEEP;
	}
	if (mode == MODE_RAW) { /* bits that contradict one another, mostly */
		paging.efer |= more & 32 ? REF_EFER_LME : 0;
		paging.efer |= more & 64 ? REF_EFER_LMA : 0;
		paging.cr4 ^= more & 128 ? REF_CR4_PAE : 0;
		paging.cr4 |= more & 1 ? CR4_LA57 : 0;
		paging.cr4 |= more & 2 ? CR4_PCIDE : 0;
		paging.cr3 &= more & 32 ? ~0ull : 0xffffffff;
	}
	return paging;
}

/* ------------------------------------------------------------------ addresses */

uint64_t tables_gva(struct input *input, const struct sim_cpu *cpu)
{
	static const uint8_t pick[] = {0, 1, 0, 1, 2, 3, 4, 5};
	unsigned which = input_u16(input), offset = input_u8(input);
	uint64_t gva = 0;

	if (which == 0xffff) { /* any */
		gva = input_u64(input);
	} else if (!(cpu->paging.cr0 & REF_CR0_PG)) {
		gva = (uint64_t)(which & 127) << 12;
	} else if (!(cpu->paging.cr4 & REF_CR4_PAE)) {
		gva = (uint64_t)indices_32[pick[which >> 3 & 7]] << 22 |
		      (uint64_t)indices_32[pick[which & 7]] << 12;
	} else {
		for (unsigned level = 0; level < 5; level++)
			gva |= (uint64_t)indices[pick[which >> 3 * level & 7]] << (12 + 9 * level);
	}
	/* Most offsets are those of entries that count: the page may be a table. */
	gva |= offset & 0x80 ? (offset & 0x7f) << 5 : indices[offset % INDICES] * 8u;
	if (cpu->sim->options.config.nested)
		gva &= 0x3ff7ff;
	return sim_fit(cpu, gva);
}

struct ref_access tables_access(struct input *input, struct sim_cpu *cpu)
{
	uint8_t kind = input_u8(input);

	cpu->ac = kind & 16;
	return (struct ref_access){
	    .write = kind & 1 && (kind & 12) != 12,
	    .user = kind & 2,
	    .fetch = (kind & 12) == 12,
	};
}

void tables_keys(struct input *input, struct sim_cpu *cpu)
{
	uint8_t user = input_u8(input), supervisor = input_u8(input);

	/* Keys 0, 1, 15 and another. */
	sim_keys_set(cpu, (user & 15u) | (user >> 4 & 3u) << 30 | (user >> 6 & 3u) << 12,
		     (supervisor & 15u) | (supervisor >> 4 & 3u) << 30 |
			 (supervisor >> 6 & 3u) << 12);
}

void tables_invpcid(struct input *input, struct sim_cpu *cpu)
{
	uint8_t how = input_u8(input);
	unsigned pcid = how & 0x80 ? (how & 0x7f) << 7 : how >> 2 & 3;

	sim_invpcid(cpu, (enum umbra_invpcid)(how & 3), pcid, tables_gva(input, cpu));
}

uint64_t tables_gfn(struct input *input)
{
	uint8_t which = input_u8(input);

	if (which >= 0xf0)
		return TABLES_BIG + (which & 15) * 37u % 512;
	return which & 0x80 ? which & 63 : tables[which % TABLES].gfn;
}

/* ------------------------------------------------------------------ entries */

uint64_t tables_entry(struct input *input, struct sim *sim, uint64_t gpa)
{
	static const uint64_t wild[] = {0xfeed,     1ull << 19, 1ull << 20, 1ull << 23,
					1ull << 24, 1ull << 28, 1ull << 39, 0xffffffffff};
	uint8_t how = input_u8(input), flags, target;
	uint64_t entry = PWUA;

	if ((how & 7) == 7)
		return input_u64(input);
	if ((how & 7) == 6)
		return sim_word(sim, gpa & ~7ull) ^ 1ull << (input_u8(input) & 63);
	flags = input_u8(input);
	target = input_u8(input);
	entry ^= flags & 1 ? REF_P : 0;
	entry ^= flags & 2 ? REF_W : 0;
	entry ^= flags & 4 ? REF_U : 0;
	entry ^= flags & 8 ? REF_A : 0;
	entry ^= flags & 16 ? REF_D : 0;
	entry ^= flags & 32 ? REF_PS : 0;
	entry ^= flags & 64 ? REF_NX : 0;
	entry ^= flags & 128 ? PTE_G : 0;
	if ((how & 7) == 5)
		entry |= (uint64_t)(how >> 3) << 58; /* a protection key */
	else
		entry |= (how >> 3 & 3) << 3 | (how & 32 ? REF_PAT : 0); /* a memory type */
	if (target < 0x80)
		entry |= (target & 64 ? tables[target % TABLES].gfn : (uint64_t)target) << 12;
	else if (target < 0xc0)
		entry |= (uint64_t)(target & 3) << 21;
	else if (target < 0xe0)
		entry |= (uint64_t)(target & 3) << 30;
	else
		entry |= wild[target & 7] << 12;
	return entry;
}

uint64_t tables_place(struct input *input, size_t *size)
{
	const struct table *table = &tables[input_u8(input) % TABLES];
	uint8_t which = input_u8(input);
	unsigned index = which & 0x80 ? (which & 0x7f) * 4u : indices[which % INDICES];

	if (!table->level)
		index = which & 31;
	else if (table->width == 4)
		index = which & 0x80 ? (which & 0x7f) * 8u : indices_32[which % INDICES];
	*size = table->width;
	return (uint64_t)table->gfn << 12 | (uint64_t)index * table->width;
}

void tables_patch(struct input *input, struct sim *sim)
{
	size_t size;
	uint64_t gpa = tables_place(input, &size);
	uint64_t entry = tables_entry(input, sim, gpa);

	sim_op(sim, "patch: gpa, entry, size", gpa, entry, size);
	sim_device_write(sim, gpa, &entry, size);
}

void tables_calm(struct sim *sim, unsigned *stores)
{
	if (++*stores < STORES_MAX)
		return;
	*stores = 0;
	for (unsigned i = 0; i < SIM_CPUS; i++) {
		struct umbra_paging paging = sim->cpu[i].paging;

		sim_paging_set(&sim->cpu[i], &paging);
	}
}
