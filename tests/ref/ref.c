/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The reference walker. One function per question that the manual answers; nothing is cached
 * and nothing is clever. See ref.h.
 */
#include "ref.h"

#include <string.h>

static bool is_canonical(uint64_t gva)
{
	uint64_t top = gva >> 47;

	return top == 0 || top == 0x1ffff;
}

/* APM vol. 2 §5.3.3, §5.3.4: which bits of an entry at @level (4 = PML4E) must be zero? */
static uint64_t reserved_bits(const struct ref_cpu *cpu, int level, bool leaf)
{
	uint64_t reserved = 0;

	for (unsigned bit = cpu->maxphyaddr; bit <= 51; bit++)
		reserved |= 1ull << bit;
	if (!(cpu->efer & REF_EFER_NXE))
		reserved |= REF_NX;
	if (level == 4)
		reserved |= REF_PS;
	if (level == 3 && leaf)
		reserved |= 0x3fffe000ull; /* 29:13 */
	if (level == 2 && leaf)
		reserved |= 0x1fe000ull; /* 20:13 */
	return reserved;
}

static bool is_leaf(int level, uint64_t entry)
{
	if (level == 1)
		return true;
	if (level == 4)
		return false;
	return entry & REF_PS;
}

bool ref_permitted(const struct ref_cpu *cpu, struct ref_access access, bool writable, bool user,
		   bool no_execute, uint32_t *code)
{
	bool smep = cpu->cr4 & REF_CR4_SMEP;
	bool smap = cpu->cr4 & REF_CR4_SMAP;
	bool nxe = cpu->efer & REF_EFER_NXE;
	bool wp = cpu->cr0 & REF_CR0_WP;

	/* §8.4.2: I is set for a fetch, provided that NXE or SMEP is on. */
	*code = 0;
	if (access.write)
		*code |= REF_PF_W;
	if (access.user)
		*code |= REF_PF_U;
	if (access.fetch && (nxe || smep))
		*code |= REF_PF_I;

	/* §5.6.1: user code reaches user pages only. */
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

/* Note that @set is due in the word at @gpa; one note per word, as tables may be recursive. */
static void add_update(struct ref_result *result, uint64_t gpa, uint64_t word, uint64_t set)
{
	if ((word & set) == set)
		return;
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
static uint64_t offset_mask(int level)
{
	if (level == 3)
		return (1ull << 30) - 1;
	if (level == 2)
		return (1ull << 21) - 1;
	return (1ull << 12) - 1;
}

static struct ref_result walk_long_mode(const struct ref_memory *memory, const struct ref_cpu *cpu,
					uint64_t gva, struct ref_access access)
{
	struct ref_result result = {.kind = REF_FAULT, .writable = true, .user = true};
	uint64_t table = cpu->cr3 & REF_ADDR;
	uint32_t code;
	int level = 4;
	uint64_t word;

	(void)ref_permitted(cpu, access, true, true, false, &code);
	for (;; level--) {
		uint64_t index = (gva >> (12 + 9 * (level - 1))) & 511;
		uint64_t gpa = table + index * 8;

		if (!memory->read(memory->ctx, gpa, &word)) {
			result.kind = REF_UNMAPPED;
			result.gpa = gpa;
			return result;
		}
		result.path[result.depth].gpa = gpa;
		result.path[result.depth].word = word;
		result.depth++;
		if (!(word & REF_P)) {
			result.error_code = code;
			return result;
		}
		if (word & reserved_bits(cpu, level, is_leaf(level, word))) {
			result.error_code = code | REF_PF_RSVD | REF_PF_P;
			return result;
		}
		result.writable = result.writable && (word & REF_W);
		result.user = result.user && (word & REF_U);
		result.no_execute = result.no_execute || (word & REF_NX);
		if (is_leaf(level, word))
			break;
		table = word & REF_ADDR;
	}

	if (!ref_permitted(cpu, access, result.writable, result.user, result.no_execute, &code)) {
		result.error_code = code | REF_PF_P;
		return result;
	}
	for (unsigned i = 0; i < result.depth; i++) {
		bool last = i == result.depth - 1;
		uint64_t set = last && access.write ? REF_A | REF_D : REF_A;

		add_update(&result, result.path[i].gpa, result.path[i].word, set);
	}
	result.kind = REF_OK;
	result.page_size = offset_mask(level) + 1;
	result.gpa = (word & REF_ADDR & ~offset_mask(level)) | (gva & offset_mask(level));
	return result;
}

struct ref_result ref_walk(const struct ref_memory *memory, const struct ref_cpu *cpu, uint64_t gva,
			   struct ref_access access)
{
	struct ref_result result;

	if (cpu->cr0 & REF_CR0_PG) {
		if (is_canonical(gva))
			return walk_long_mode(memory, cpu, gva, access);
		memset(&result, 0, sizeof(result));
		result.kind = REF_GP;
		return result;
	}
	/* Without paging, linear addresses have 32 bits and are physical ones. */
	memset(&result, 0, sizeof(result));
	result.kind = REF_OK;
	result.gpa = gva & 0xffffffffu;
	result.page_size = 4096;
	result.writable = true;
	result.user = true;
	return result;
}
