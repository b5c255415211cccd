/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The reference walker. One function per question that the manuals answer; nothing is cached
 * and nothing is clever. See ref.h.
 */
#include "ref.h"

#include <string.h>

enum mode {
	MODE_OFF,
	MODE_32BIT,
	MODE_PAE,
	MODE_4LEVEL,
	MODE_5LEVEL,
};

/* SDM vol. 3 §4.1.1. */
static enum mode mode_of(const struct ref_cpu *cpu)
{
	if (!(cpu->cr0 & REF_CR0_PG))
		return MODE_OFF;
	if (!(cpu->cr4 & REF_CR4_PAE))
		return MODE_32BIT;
	if (!(cpu->efer & REF_EFER_LMA))
		return MODE_PAE;
	return cpu->cr4 & REF_CR4_LA57 ? MODE_5LEVEL : MODE_4LEVEL;
}

static bool is_long_mode(enum mode mode)
{
	return mode == MODE_4LEVEL || mode == MODE_5LEVEL;
}

/* §4.5.1: bits 63:47, or 63:56 with 5 levels, are the same. */
static bool is_canonical(enum mode mode, uint64_t gva)
{
	if (mode == MODE_5LEVEL)
		return gva >> 56 == 0 || gva >> 56 == 0xff;
	return gva >> 47 == 0 || gva >> 47 == 0x1ffff;
}

/* Bits @high to @low. */
static uint64_t bits(unsigned high, unsigned low)
{
	uint64_t mask = 0;

	if (high < low)
		return 0;
	mask = high == 63 ? UINT64_MAX : (1ull << (high + 1)) - 1;
	return mask & ~((1ull << low) - 1);
}

/* Is an entry at @level (1 = page table) a page? */
static bool is_leaf(const struct ref_cpu *cpu, enum mode mode, int level, uint64_t entry)
{
	if (level == 1)
		return true;
	if (level > 3)
		return false;
	if (mode == MODE_32BIT && !(cpu->cr4 & REF_CR4_PSE))
		return false;
	return entry & REF_PS;
}

/* SDM vol. 3 tables 4-4 to 4-6: the bits of a 4-byte entry that must be zero. */
static uint64_t reserved_32bit(const struct ref_cpu *cpu, int level, bool leaf)
{
	unsigned width = cpu->maxphyaddr < 40 ? cpu->maxphyaddr : 40;

	if (level == 1 || !leaf)
		return 0;
	if (cpu->no_pse36)
		width = 32;
	return bits(21, width - 19);
}

/* Tables 4-9 to 4-11 (PAE), 4-14 to 4-20; APM vol. 2 §5.3.3: those of an 8-byte entry. */
static uint64_t reserved_64bit(const struct ref_cpu *cpu, enum mode mode, int level, bool leaf)
{
	uint64_t reserved = bits(51, cpu->maxphyaddr);

	if (mode == MODE_PAE)
		reserved |= bits(62, 52);
	if (!(cpu->efer & REF_EFER_NXE))
		reserved |= REF_NX;
	if (level >= 4 || (level == 3 && cpu->no_1g))
		reserved |= REF_PS;
	if (cpu->amd && (level >= 4 || (level == 3 && !leaf)))
		reserved |= REF_G;
	if (level == 3 && leaf)
		reserved |= bits(29, 13);
	if (level == 2 && leaf)
		reserved |= bits(20, 13);
	return reserved;
}

uint32_t ref_code(const struct ref_cpu *cpu, struct ref_access access)
{
	bool nxe = (cpu->efer & REF_EFER_NXE) && (cpu->cr4 & REF_CR4_PAE);
	bool smep = cpu->cr4 & REF_CR4_SMEP;
	uint32_t code = 0;

	if (access.write)
		code |= REF_PF_W;
	if (access.user)
		code |= REF_PF_U;
	/* SDM vol. 3 §4.7: I is set for a fetch, provided that NX or SMEP is on. */
	if (access.fetch && (nxe || smep))
		code |= REF_PF_I;
	return code;
}

/* SDM vol. 3 §4.6.2: does the protection key of a page forbid this? */
static bool key_forbids(const struct ref_cpu *cpu, struct ref_access access, bool user,
			unsigned key)
{
	bool wp = cpu->cr0 & REF_CR0_WP;
	uint32_t rights;

	if (!(cpu->efer & REF_EFER_LMA))
		return false;
	if (!(cpu->cr4 & (user ? REF_CR4_PKE : REF_CR4_PKS)))
		return false;
	if (access.fetch)
		return false;
	rights = (user ? cpu->pkru : cpu->pkrs) >> (2 * key) & 3;
	if (rights & 1) /* AD */
		return true;
	if (rights & 2) /* WD */
		return access.write && (access.user || wp);
	return false;
}

bool ref_permitted(const struct ref_cpu *cpu, struct ref_access access, bool writable, bool user,
		   bool no_execute, unsigned key, uint32_t *code)
{
	bool smep = cpu->cr4 & REF_CR4_SMEP;
	bool smap = cpu->cr4 & REF_CR4_SMAP;
	bool nxe = cpu->efer & REF_EFER_NXE;
	bool wp = cpu->cr0 & REF_CR0_WP;

	*code = ref_code(cpu, access);
	if (key_forbids(cpu, access, user, key)) {
		*code |= REF_PF_PK;
		return false;
	}
	/* APM vol. 2 §5.6.1: user code reaches user pages only. */
	if (access.user && !user)
		return false;
	/* §5.6.2: user writes need W; supervisor writes need it if CR0.WP is set. */
	if (access.write && !writable && (access.user || wp))
		return false;
	/* §5.6.3: no-execute. */
	if (access.fetch && no_execute && nxe)
		return false;
	/* §5.6.5: SMEP. */
	if (access.fetch && !access.user && user && smep)
		return false;
	/* §5.6.6: SMAP; not for fetches. */
	if (!access.fetch && !access.user && user && smap && !cpu->ac)
		return false;
	return true;
}

bool ref_load_pdptes(const struct ref_memory *memory, const struct ref_cpu *cpu, uint64_t pdpte[4])
{
	uint64_t table = cpu->cr3 & bits(31, 5);
	uint64_t loaded[4];

	/* SDM vol. 3 §4.4.1, table 4-8. */
	for (unsigned i = 0; i < 4; i++) {
		if (!memory->read(memory->ctx, table + i * 8, &loaded[i]))
			loaded[i] = UINT64_MAX;
		if (loaded[i] & REF_P &&
		    loaded[i] & (bits(2, 1) | bits(8, 5) | bits(63, cpu->maxphyaddr)))
			return false;
	}
	memcpy(pdpte, loaded, sizeof(loaded));
	return true;
}

/* Note that @set is due in the entry at @gpa; one note per word, as tables may be recursive. */
static void add_update(struct ref_result *result, uint64_t gpa, uint64_t entry, uint64_t set)
{
	if ((entry & set) == set)
		return;
	if (gpa & 4) /* the upper one of two 4-byte entries */
		set <<= 32;
	gpa &= ~7ull;
	for (unsigned i = 0; i < result->updates; i++) {
		if (result->update[i].gpa == gpa) {
			result->update[i].set |= set;
			return;
		}
	}
	result->update[result->updates].gpa = gpa;
	result->update[result->updates].set = set;
	result->updates++;
}

/* Bits of the linear address that a page at @level leaves untranslated. */
static uint64_t offset_mask(enum mode mode, int level)
{
	return bits(mode == MODE_32BIT ? 10 * level + 1 : 9 * level + 2, 0);
}

/* Where a walk begins: the table and its level. false: a PDPTE of PAE paging is not present. */
static bool first_table(const struct ref_cpu *cpu, enum mode mode, uint64_t gva, uint64_t *table,
			int *level)
{
	uint64_t pdpte;

	switch (mode) {
	case MODE_32BIT:
		*table = cpu->cr3 & bits(31, 12);
		*level = 2;
		return true;
	case MODE_PAE:
		pdpte = cpu->pdpte[gva >> 30];
		*table = pdpte & REF_ADDR;
		*level = 2;
		return pdpte & REF_P;
	case MODE_4LEVEL:
		*table = cpu->cr3 & REF_ADDR;
		*level = 4;
		return true;
	default:
		*table = cpu->cr3 & REF_ADDR;
		*level = 5;
		return true;
	}
}

/* Read the entry for @gva from the table at @level. false: there is no memory. */
static bool read_entry(const struct ref_memory *memory, enum mode mode, uint64_t table, int level,
		       uint64_t gva, uint64_t *gpa, uint64_t *entry)
{
	uint64_t word;

	if (mode != MODE_32BIT) {
		*gpa = table + (gva >> (12 + 9 * (level - 1)) & 511) * 8;
		return memory->read(memory->ctx, *gpa, entry);
	}
	*gpa = table + (gva >> (12 + 10 * (level - 1)) & 1023) * 4;
	if (!memory->read(memory->ctx, *gpa & ~7ull, &word))
		return false;
	*entry = *gpa & 4 ? word >> 32 : word & 0xffffffff;
	return true;
}

/* The address that the leaf at @level gives to @gva. */
static uint64_t leaf_address(enum mode mode, int level, uint64_t leaf, uint64_t gva)
{
	uint64_t offset = offset_mask(mode, level);

	/* Table 4-4: bits 20:13 of a 4 MiB page's entry are address bits 39:32. */
	if (mode == MODE_32BIT && level == 2)
		return (leaf & bits(31, 22)) | (leaf & bits(20, 13)) << 19 | (gva & offset);
	return (leaf & REF_ADDR & ~offset) | (gva & offset);
}

/* §4.9.2: the bits that select a memory type. */
static uint8_t leaf_type(int level, uint64_t leaf)
{
	bool pat = leaf & (level == 1 ? REF_PS : REF_PAT);

	return (uint8_t)(pat << 2 | !!(leaf & REF_PCD) << 1 | !!(leaf & REF_PWT));
}

static struct ref_result walk(const struct ref_memory *memory, const struct ref_cpu *cpu,
			      enum mode mode, uint64_t gva, struct ref_access access)
{
	struct ref_result result = {.kind = REF_FAULT, .writable = true, .user = true};
	uint32_t code = ref_code(cpu, access);
	uint64_t table, gpa, entry;
	int level;

	if (!first_table(cpu, mode, gva, &table, &level)) {
		result.error_code = code;
		return result;
	}
	for (;; level--) {
		bool leaf;

		if (!read_entry(memory, mode, table, level, gva, &gpa, &entry)) {
			result.kind = REF_UNMAPPED;
			result.gpa = gpa;
			return result;
		}
		result.path[result.depth].gpa = gpa;
		result.path[result.depth].word = entry;
		result.depth++;
		if (!(entry & REF_P)) {
			result.error_code = code;
			return result;
		}
		leaf = is_leaf(cpu, mode, level, entry);
		if (entry & (mode == MODE_32BIT ? reserved_32bit(cpu, level, leaf)
						: reserved_64bit(cpu, mode, level, leaf))) {
			result.error_code = code | REF_PF_RSVD | REF_PF_P;
			return result;
		}
		result.writable = result.writable && (entry & REF_W);
		result.user = result.user && (entry & REF_U);
		result.no_execute = result.no_execute || (entry & REF_NX);
		if (leaf)
			break;
		table = entry & REF_ADDR;
	}

	if (is_long_mode(mode))
		result.key = entry >> 59 & 15;
	if (!ref_permitted(cpu, access, result.writable, result.user, result.no_execute, result.key,
			   &code)) {
		result.error_code = code | REF_PF_P;
		return result;
	}
	for (unsigned i = 0; i < result.depth; i++) {
		bool last = i == result.depth - 1;
		uint64_t set = last && access.write ? REF_A | REF_D : REF_A;

		add_update(&result, result.path[i].gpa, result.path[i].word, set);
	}
	result.kind = REF_OK;
	result.page_size = offset_mask(mode, level) + 1;
	result.type = leaf_type(level, entry);
	result.gpa = leaf_address(mode, level, entry, gva);
	return result;
}

struct ref_result ref_walk(const struct ref_memory *memory, const struct ref_cpu *cpu, uint64_t gva,
			   struct ref_access access)
{
	enum mode mode = mode_of(cpu);
	struct ref_result result;

	if (!is_long_mode(mode))
		gva &= 0xffffffff;
	if (mode != MODE_OFF && (!is_long_mode(mode) || is_canonical(mode, gva)))
		return walk(memory, cpu, mode, gva, access);
	memset(&result, 0, sizeof(result));
	if (mode != MODE_OFF) {
		result.kind = REF_GP;
		return result;
	}
	/* Without paging, linear addresses are physical ones. */
	result.kind = REF_OK;
	result.gpa = gva;
	result.page_size = 4096;
	result.writable = true;
	result.user = true;
	return result;
}
