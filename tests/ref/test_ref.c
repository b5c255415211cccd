/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tests of the reference itself: every case was worked out by hand from the manuals. The
 * guest has 16 pages of memory; PML4 at 1000, PDPT at 2000, PD at 3000, PT at 4000, and the
 * address GVA goes through entries 1, 2, 3, 4 of them to the page at 5000. A PML5 at 6000 leads
 * to that PML4 by entry 7. 32-bit tables: PD at 7000, PT at 8000, entries 3 and 5. PAE: PDPTEs
 * at a020, of which the second leads to the PD at 3000.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "ref.h"

#define GVA ((1ull << 39) | (2ull << 30) | (3ull << 21) | (4ull << 12) | 0x678)
#define PWU (REF_P | REF_W | REF_U)

#define GVA57  ((7ull << 48) | GVA)
#define GVA32  ((3u << 22) | (5u << 12) | 0x678)
#define GVAPAE ((1u << 30) | (3u << 21) | (4u << 12) | 0x678)

static uint64_t memory[16 * 512];
static uint64_t *const pml4e = &memory[0x1008 / 8];
static uint64_t *const pdpte = &memory[0x2010 / 8];
static uint64_t *const pde = &memory[0x3018 / 8];
static uint64_t *const pte = &memory[0x4020 / 8];
static uint64_t *const pml5e = &memory[0x6038 / 8];
static uint64_t *const pde32 = &memory[0x7008 / 8]; /* entry 3: the upper half */
static uint64_t *const pte32 = &memory[0x8010 / 8]; /* entry 5: the upper half */
static uint64_t *const paepdpt = &memory[0xa020 / 8];
static struct ref_cpu cpu;

static const struct ref_access read_s = {false, false, false}, write_s = {true, false, false},
			       fetch_s = {false, false, true}, read_u = {false, true, false},
			       write_u = {true, true, false}, fetch_u = {false, true, true};

static bool read_word(void *ctx, uint64_t gpa, uint64_t *word)
{
	(void)ctx;
	if (gpa >= sizeof(memory))
		return false;
	*word = memory[gpa / 8];
	return true;
}

static struct ref_result walk(uint64_t gva, struct ref_access access)
{
	const struct ref_memory view = {read_word, NULL};

	return ref_walk(&view, &cpu, gva, access);
}

static int setup(void **state)
{
	(void)state;
	memset(memory, 0, sizeof(memory));
	*pml4e = 0x2000 | PWU;
	*pdpte = 0x3000 | PWU;
	*pde = 0x4000 | PWU;
	*pte = 0x5000 | PWU;
	cpu = (struct ref_cpu){
	    .cr0 = REF_CR0_PG | REF_CR0_WP,
	    .cr3 = 0x1018, /* PWT and PCD are no part of the address */
	    .cr4 = REF_CR4_PAE,
	    .efer = REF_EFER_LME | REF_EFER_LMA | REF_EFER_NXE,
	    .maxphyaddr = 40,
	};
	return 0;
}

/* 32-bit paging. */
static int setup_32bit(void **state)
{
	setup(state);
	*pde32 = (0x8000 | PWU) << 32;
	*pte32 = (0x5000 | PWU) << 32;
	cpu.cr3 = 0xfffff00000007018; /* has 32 bits */
	cpu.cr4 = REF_CR4_PSE;
	cpu.efer = 0;
	return 0;
}

static int setup_pae(void **state)
{
	setup(state);
	memset(paepdpt, 0, 32);
	paepdpt[1] = 0x3000 | REF_P;
	cpu.pdpte[1] = 0x3000 | REF_P;
	cpu.cr3 = 0xa038; /* bits 4:0 do not count */
	cpu.efer = REF_EFER_NXE;
	return 0;
}

static int setup_5level(void **state)
{
	setup(state);
	*pml5e = 0x1000 | PWU;
	cpu.cr3 = 0x6000;
	cpu.cr4 |= REF_CR4_LA57;
	return 0;
}

static void assert_fault(uint64_t gva, struct ref_access access, uint32_t code)
{
	struct ref_result result = walk(gva, access);

	assert_int_equal(result.kind, REF_FAULT);
	assert_int_equal(result.error_code, code);
	assert_int_equal(result.updates, 0);
}

static void assert_ok(uint64_t gva, struct ref_access access, uint64_t gpa)
{
	struct ref_result result = walk(gva, access);

	assert_int_equal(result.kind, REF_OK);
	assert_int_equal(result.gpa, gpa);
}

static void test_plain(void **state)
{
	struct ref_result result = walk(GVA, read_u);

	(void)state;
	assert_int_equal(result.kind, REF_OK);
	assert_int_equal(result.gpa, 0x5678);
	assert_int_equal(result.page_size, 4096);
	assert_true(result.writable && result.user && !result.no_execute);
	assert_int_equal(result.depth, 4);
	assert_int_equal(result.path[3].gpa, 0x4020);
}

static void test_accessed_dirty(void **state)
{
	struct ref_result result = walk(GVA, write_u);

	(void)state;
	assert_int_equal(result.updates, 4);
	assert_int_equal(result.update[0].gpa, 0x1008);
	assert_int_equal(result.update[0].set, REF_A);
	assert_int_equal(result.update[3].gpa, 0x4020);
	assert_int_equal(result.update[3].set, REF_A | REF_D);
	*pml4e |= REF_A;
	*pdpte |= REF_A;
	*pde |= REF_A;
	*pte |= REF_A;
	assert_int_equal(walk(GVA, read_u).updates, 0);
	result = walk(GVA, write_u);
	assert_int_equal(result.updates, 1);
	assert_int_equal(result.update[0].gpa, 0x4020);
	*pte |= REF_D;
	assert_int_equal(walk(GVA, write_u).updates, 0);
}

static void test_recursive(void **state)
{
	const uint64_t self = 0xfffffffffffff000ull; /* index 511 on each level */
	struct ref_result result;

	(void)state;
	memory[0x1ff8 / 8] = 0x1000 | PWU;
	result = walk(self | 0x10, write_s);
	assert_int_equal(result.kind, REF_OK);
	assert_int_equal(result.gpa, 0x1010);
	assert_int_equal(result.updates, 1);
	assert_int_equal(result.update[0].gpa, 0x1ff8);
	assert_int_equal(result.update[0].set, REF_A | REF_D);
}

static void test_not_present(void **state)
{
	uint64_t *const entries[] = {pml4e, pdpte, pde, pte};

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		setup(NULL);
		*entries[i] = ~REF_P; /* everything else counts for nothing */
		assert_fault(GVA, read_s, 0);
		assert_fault(GVA, write_s, REF_PF_W);
		assert_fault(GVA, read_u, REF_PF_U);
		assert_fault(GVA, write_u, REF_PF_W | REF_PF_U);
		assert_fault(GVA, fetch_u, REF_PF_I | REF_PF_U);
		cpu.efer &= ~REF_EFER_NXE;
		assert_fault(GVA, fetch_u, REF_PF_U);
		cpu.cr4 |= REF_CR4_SMEP;
		assert_fault(GVA, fetch_u, REF_PF_I | REF_PF_U);
	}
}

static void test_user(void **state)
{
	uint64_t *const entries[] = {pml4e, pdpte, pde, pte};

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		setup(NULL);
		*entries[i] &= ~REF_U;
		assert_fault(GVA, read_u, REF_PF_P | REF_PF_U);
		assert_fault(GVA, fetch_u, REF_PF_P | REF_PF_U | REF_PF_I);
		assert_ok(GVA, read_s, 0x5678);
		assert_ok(GVA, write_s, 0x5678);
		cpu.cr4 |= REF_CR4_SMEP | REF_CR4_SMAP; /* a supervisor page then */
		assert_ok(GVA, write_s, 0x5678);
		assert_ok(GVA, fetch_s, 0x5678);
	}
}

static void test_write(void **state)
{
	uint64_t *const entries[] = {pml4e, pdpte, pde, pte};

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		setup(NULL);
		*entries[i] &= ~REF_W;
		assert_ok(GVA, read_u, 0x5678);
		assert_fault(GVA, write_u, REF_PF_P | REF_PF_U | REF_PF_W);
		assert_fault(GVA, write_s, REF_PF_P | REF_PF_W);
		cpu.cr0 &= ~REF_CR0_WP;
		assert_fault(GVA, write_u, REF_PF_P | REF_PF_U | REF_PF_W);
		assert_ok(GVA, write_s, 0x5678);
		assert_int_equal(walk(GVA, write_s).update[3].set, REF_A | REF_D);
	}
}

static void test_no_execute(void **state)
{
	uint64_t *const entries[] = {pml4e, pdpte, pde, pte};

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		setup(NULL);
		*entries[i] |= REF_NX;
		assert_ok(GVA, write_u, 0x5678);
		assert_fault(GVA, fetch_u, REF_PF_P | REF_PF_U | REF_PF_I);
		assert_fault(GVA, fetch_s, REF_PF_P | REF_PF_I);
		cpu.efer &= ~REF_EFER_NXE; /* now the bit is reserved */
		assert_fault(GVA, read_s, REF_PF_P | REF_PF_RSVD);
		assert_fault(GVA, fetch_s, REF_PF_P | REF_PF_RSVD);
	}
}

static void test_smep_smap(void **state)
{
	(void)state;
	cpu.cr4 |= REF_CR4_SMEP;
	assert_fault(GVA, fetch_s, REF_PF_P | REF_PF_I);
	assert_ok(GVA, fetch_u, 0x5678);
	assert_ok(GVA, write_s, 0x5678);
	cpu.ac = true; /* does not help fetches */
	assert_fault(GVA, fetch_s, REF_PF_P | REF_PF_I);
	cpu.cr4 = REF_CR4_PAE | REF_CR4_SMAP;
	assert_ok(GVA, write_s, 0x5678);
	cpu.ac = false;
	assert_fault(GVA, read_s, REF_PF_P);
	assert_fault(GVA, write_s, REF_PF_P | REF_PF_W);
	assert_ok(GVA, fetch_s, 0x5678);
	assert_ok(GVA, write_u, 0x5678);
	cpu.cr0 &= ~REF_CR0_WP; /* nor does WP = 0 */
	assert_fault(GVA, write_s, REF_PF_P | REF_PF_W);
}

static void test_reserved(void **state)
{
	uint64_t *const entries[] = {pml4e, pdpte, pde, pte};

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		for (unsigned bit = 40; bit <= 51; bit++) {
			setup(NULL);
			*entries[i] |= 1ull << bit;
			*entries[i] &= ~REF_U; /* reserved wins over rights */
			assert_fault(GVA, read_u, REF_PF_P | REF_PF_RSVD | REF_PF_U);
			assert_fault(GVA, write_s, REF_PF_P | REF_PF_RSVD | REF_PF_W);
		}
		for (unsigned bit = 52; bit <= 62; bit++) {
			setup(NULL);
			*entries[i] |= 1ull << bit; /* free for software */
			assert_ok(GVA, write_s, 0x5678);
		}
	}
	setup(NULL);
	*pml4e |= REF_PS;
	assert_fault(GVA, read_s, REF_PF_P | REF_PF_RSVD);
	setup(NULL);
	*pte |= REF_PS; /* the PAT bit here */
	assert_ok(GVA, read_s, 0x5678);
}

static void test_large(void **state)
{
	struct ref_result result;

	(void)state;
	*pde = 0x40200000 | REF_PS | REF_PAT | PWU;
	result = walk(GVA, write_s);
	assert_int_equal(result.kind, REF_OK);
	assert_int_equal(result.gpa, 0x40204678);
	assert_int_equal(result.page_size, 2 << 20);
	assert_int_equal(result.updates, 3);
	assert_int_equal(result.update[2].gpa, 0x3018);
	assert_int_equal(result.update[2].set, REF_A | REF_D);
	for (unsigned bit = 13; bit <= 20; bit++) {
		*pde = 0x40000000 | REF_PS | PWU | 1ull << bit;
		assert_fault(GVA, read_s, REF_PF_P | REF_PF_RSVD);
	}
	*pdpte = 0x80000000 | REF_PS | REF_PAT | PWU;
	result = walk(GVA, fetch_u);
	assert_int_equal(result.kind, REF_OK);
	assert_int_equal(result.gpa, 0x80604678);
	assert_int_equal(result.page_size, 1 << 30);
	for (unsigned bit = 13; bit <= 29; bit++) {
		*pdpte = 0x80000000 | REF_PS | PWU | 1ull << bit;
		assert_fault(GVA, read_s, REF_PF_P | REF_PF_RSVD);
	}
}

static void test_unmapped(void **state)
{
	struct ref_result result;

	(void)state;
	*pde = 0x10000 | PWU;
	result = walk(GVA, read_s);
	assert_int_equal(result.kind, REF_UNMAPPED);
	assert_int_equal(result.gpa, 0x10020);
	*pde = 0x4000 | PWU;
	*pte = 0x10000 | PWU; /* a page outside memory is the caller's affair */
	assert_ok(GVA, read_s, 0x10678);
}

static void test_canonical(void **state)
{
	(void)state;
	assert_int_equal(walk(0x0000800000000000ull, read_s).kind, REF_GP);
	assert_int_equal(walk(0xffff7fffffffffffull, read_s).kind, REF_GP);
	assert_int_equal(walk(0x8000000000000000ull, read_s).kind, REF_GP);
	assert_fault(0xffff800000000000ull, read_s, 0);
	assert_fault(0x00007fffffffffffull, read_s, 0);
}

static void test_paging_off(void **state)
{
	(void)state;
	cpu.cr0 = 0;
	cpu.cr4 |= REF_CR4_SMEP | REF_CR4_SMAP;
	assert_ok(0x5678, fetch_s, 0x5678);
	assert_ok(0xfedcba98, write_u, 0xfedcba98);
	assert_int_equal(walk(0x5678, write_s).updates, 0);
}

/* ---- 32-bit paging: SDM vol. 3 §4.3 */

static void test_32bit(void **state)
{
	struct ref_result result = walk(GVA32, write_u);

	(void)state;
	assert_int_equal(result.kind, REF_OK);
	assert_int_equal(result.gpa, 0x5678);
	assert_int_equal(result.page_size, 4096);
	assert_true(result.writable && result.user && !result.no_execute);
	assert_int_equal(result.depth, 2);
	assert_int_equal(result.path[0].gpa, 0x700c);
	assert_int_equal(result.path[0].word, 0x8007);
	assert_int_equal(result.path[1].gpa, 0x8014);
	assert_int_equal(result.path[1].word, 0x5007);
	assert_int_equal(result.updates, 2);
	assert_int_equal(result.update[0].gpa, 0x7008);
	assert_int_equal(result.update[0].set, 0x2000000000);
	assert_int_equal(result.update[1].gpa, 0x8010);
	assert_int_equal(result.update[1].set, 0x6000000000);
	/* What lies above bit 31 of a linear address is not there; entries 4 and 6 are even. */
	assert_ok(0xabcdef0000000000ull | GVA32, read_u, 0x5678);
	memory[0x7010 / 8] = 0x8000 | PWU | REF_A;
	memory[0x8018 / 8] = 0xfedcb000 | PWU;
	result = walk((4u << 22) | (6u << 12) | 0xabc, write_s);
	assert_int_equal(result.gpa, 0xfedcbabc);
	assert_int_equal(result.updates, 1);
	assert_int_equal(result.update[0].gpa, 0x8018);
	assert_int_equal(result.update[0].set, 0x60);
}

static void test_32bit_faults(void **state)
{
	(void)state;
	cpu.cr4 |= REF_CR4_PKE | REF_CR4_PKS; /* no keys here */
	cpu.pkru = cpu.pkrs = UINT32_MAX;
	cpu.efer = REF_EFER_NXE; /* nor NX */
	assert_ok(GVA32, fetch_u, 0x5678);
	*pte32 &= ~(REF_W << 32);
	assert_fault(GVA32, write_u, REF_PF_P | REF_PF_W | REF_PF_U);
	assert_fault(GVA32, write_s, REF_PF_P | REF_PF_W);
	cpu.cr0 &= ~REF_CR0_WP;
	assert_ok(GVA32, write_s, 0x5678);
	*pde32 &= ~(REF_U << 32);
	assert_fault(GVA32, fetch_u, REF_PF_P | REF_PF_U); /* no I */
	*pde32 |= REF_U << 32;
	cpu.cr4 |= REF_CR4_SMEP | REF_CR4_SMAP;
	assert_fault(GVA32, fetch_s, REF_PF_P | REF_PF_I);
	assert_fault(GVA32, read_s, REF_PF_P);
	*pte32 = 0xfffffffe00000000;
	assert_fault(GVA32, fetch_u, REF_PF_U | REF_PF_I);
	*pde32 = 0xfffffffe00000001;
	assert_fault(GVA32, read_u, REF_PF_U);
}

static void test_32bit_recursive(void **state)
{
	struct ref_result result;

	(void)state;
	memory[0x7ff8 / 8] = (0x7000 | PWU) << 32; /* entry 1023: both words of the walk */
	result = walk(0xfffffffc, write_s);
	assert_int_equal(result.gpa, 0x7ffc);
	assert_int_equal(result.updates, 1);
	assert_int_equal(result.update[0].gpa, 0x7ff8);
	assert_int_equal(result.update[0].set, 0x6000000000);
	/* Entry 1022 leads to the same table, and both halves of one word are due. */
	memory[0x7ff8 / 8] |= 0x7000 | PWU;
	result = walk(0xffbfe004, read_s); /* 1022, then 1022 */
	assert_int_equal(result.updates, 1);
	assert_int_equal(result.update[0].set, 0x20);
	result = walk(0xffbff004, write_s); /* 1022, then 1023 */
	assert_int_equal(result.gpa, 0x7004);
	assert_int_equal(result.updates, 1);
	assert_int_equal(result.update[0].gpa, 0x7ff8);
	assert_int_equal(result.update[0].set, 0x6000000020);
}

/* 4 MiB pages; GVA32 is 0x5678 bytes into its own. */
static void test_32bit_large(void **state)
{
	struct ref_result result;

	(void)state;
	*pde32 = (0x12c00000ull | REF_PS | REF_PAT | PWU) << 32;
	result = walk(GVA32, write_s);
	assert_int_equal(result.kind, REF_OK);
	assert_int_equal(result.gpa, 0x12c05678);
	assert_int_equal(result.page_size, 4 << 20);
	assert_int_equal(result.type, 4);
	assert_int_equal(result.updates, 1);
	assert_int_equal(result.update[0].set, 0x6000000000);
	/* PSE-36: bits 20:13 are address bits 39:32; 21 is reserved. */
	*pde32 = (0x12c00000ull | 0x156000 | REF_PS | PWU) << 32;
	assert_ok(GVA32, read_s, 0xab12c05678);
	cpu.maxphyaddr = 52;
	assert_ok(GVA32, read_s, 0xab12c05678);
	*pde32 |= 0x20000000000000; /* 21 */
	assert_fault(GVA32, read_u, REF_PF_P | REF_PF_RSVD | REF_PF_U);
	cpu.maxphyaddr = 36;
	for (unsigned bit = 13; bit <= 21; bit++) {
		*pde32 = (0x12c00000ull | 1ull << bit | REF_PS | PWU) << 32;
		cpu.no_pse36 = false;
		if (bit >= 17)
			assert_fault(GVA32, read_s, REF_PF_P | REF_PF_RSVD);
		else
			assert_ok(GVA32, read_s, 0x12c05678 + (1ull << (bit + 19)));
		cpu.no_pse36 = true;
		assert_fault(GVA32, read_s, REF_PF_P | REF_PF_RSVD);
	}
	/* Without PSE the bit means nothing, and that is a page table. */
	*pde32 = (0x8000 | REF_PS | PWU) << 32;
	cpu.cr4 = 0;
	assert_ok(GVA32, read_s, 0x5678);
	*pte32 |= REF_PS << 32;
	assert_int_equal(walk(GVA32, read_s).type, 4);
}

/* ---- PAE paging: SDM vol. 3 §4.4 */

static bool load(uint64_t to[4])
{
	const struct ref_memory view = {read_word, NULL};

	return ref_load_pdptes(&view, &cpu, to);
}

static void test_pdptes(void **state)
{
	uint64_t got[4] = {1, 2, 3, 4};

	(void)state;
	paepdpt[0] = 0xfffffffffffffffe; /* not present */
	paepdpt[3] = 0xfffffff000 | 0xe19;
	assert_true(load(got));
	assert_int_equal(got[0], 0xfffffffffffffffe);
	assert_int_equal(got[1], 0x3001);
	assert_int_equal(got[2], 0);
	assert_int_equal(got[3], 0xfffffffe19);
	cpu.cr3 |= 0xf00000000; /* has 32 bits */
	assert_true(load(got));
	for (unsigned bit = 1; bit < 64; bit++) {
		bool bad = bit <= 2 || (bit >= 5 && bit <= 8) || bit >= 40;

		paepdpt[3] = 0x3001 | 1ull << bit;
		got[3] = 77;
		assert_int_equal(load(got), !bad);
		assert_int_equal(got[3], bad ? 77 : paepdpt[3]);
	}
	paepdpt[3] = 1ull << 40 | 1;
	assert_false(load(got));
	cpu.maxphyaddr = 41;
	assert_true(load(got));
	cpu.cr3 = 0x10000; /* no memory */
	assert_false(load(got));
}

static void test_pae(void **state)
{
	struct ref_result result;

	(void)state;
	paepdpt[1] = 0; /* what was loaded counts */
	cpu.pdpte[1] |= REF_PWT;
	result = walk(GVAPAE, write_u);
	assert_int_equal(result.kind, REF_OK);
	assert_int_equal(result.gpa, 0x5678);
	assert_true(result.writable && result.user && !result.no_execute);
	assert_int_equal(result.depth, 2);
	assert_int_equal(result.path[0].gpa, 0x3018);
	assert_int_equal(result.path[1].gpa, 0x4020);
	assert_int_equal(result.updates, 2);
	assert_int_equal(result.update[0].gpa, 0x3018);
	assert_int_equal(result.update[0].set, REF_A);
	assert_int_equal(result.update[1].gpa, 0x4020);
	assert_int_equal(result.update[1].set, REF_A | REF_D);
	assert_ok(0xfff00000ull << 32 | GVAPAE, read_u, 0x5678);
	assert_fault(GVAPAE + (1u << 30), write_u, REF_PF_W | REF_PF_U);
	cpu.pdpte[1] &= ~REF_P;
	assert_fault(GVAPAE, fetch_s, REF_PF_I);
	cpu.efer = 0;
	assert_fault(GVAPAE, fetch_s, 0);
}

static void test_pae_reserved(void **state)
{
	uint64_t *const entries[] = {pde, pte};

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		for (unsigned bit = 40; bit <= 62; bit++) {
			setup_pae(NULL);
			*entries[i] |= 1ull << bit;
			assert_fault(GVAPAE, read_u, REF_PF_P | REF_PF_RSVD | REF_PF_U);
		}
		setup_pae(NULL);
		*entries[i] |= REF_NX;
		assert_ok(GVAPAE, read_s, 0x5678);
		assert_fault(GVAPAE, fetch_s, REF_PF_P | REF_PF_I);
		cpu.efer = 0;
		assert_fault(GVAPAE, read_s, REF_PF_P | REF_PF_RSVD);
		setup_pae(NULL);
		*entries[i] |= REF_G;
		cpu.amd = true;
		assert_ok(GVAPAE, read_s, 0x5678);
	}
	setup_pae(NULL);
	cpu.cr4 |= REF_CR4_PKE | REF_CR4_PKS; /* no keys here */
	cpu.pkru = cpu.pkrs = UINT32_MAX;
	assert_ok(GVAPAE, write_u, 0x5678);
	assert_int_equal(walk(GVAPAE, write_u).key, 0);
}

static void test_pae_large(void **state)
{
	struct ref_result result;

	(void)state;
	*pde = 0x9940200000 | REF_PS | REF_PAT | REF_PCD | PWU;
	result = walk(GVAPAE, write_s);
	assert_int_equal(result.kind, REF_OK);
	assert_int_equal(result.gpa, 0x9940204678);
	assert_int_equal(result.page_size, 2 << 20);
	assert_int_equal(result.type, 6);
	assert_int_equal(result.updates, 1);
	for (unsigned bit = 13; bit <= 20; bit++) {
		*pde = 0x40000000 | REF_PS | PWU | 1ull << bit;
		assert_fault(GVAPAE, read_s, REF_PF_P | REF_PF_RSVD);
	}
}

/* ---- 5 levels: SDM vol. 3 §4.5 */

static void test_5level(void **state)
{
	struct ref_result result = walk(GVA57, write_u);

	(void)state;
	assert_int_equal(result.kind, REF_OK);
	assert_int_equal(result.gpa, 0x5678);
	assert_int_equal(result.depth, 5);
	assert_int_equal(result.path[0].gpa, 0x6038);
	assert_int_equal(result.path[4].gpa, 0x4020);
	assert_int_equal(result.updates, 5);
	assert_int_equal(result.update[0].gpa, 0x6038);
	assert_int_equal(result.update[0].set, REF_A);
	assert_int_equal(result.update[4].set, REF_A | REF_D);
	assert_fault(GVA, read_s, 0);
	*pml5e &= ~REF_W;
	assert_fault(GVA57, write_s, REF_PF_P | REF_PF_W);
	*pml5e |= REF_NX | REF_W;
	assert_fault(GVA57, fetch_s, REF_PF_P | REF_PF_I);
	for (unsigned bit = 40; bit <= 51; bit++) {
		*pml5e = 0x1000 | PWU | 1ull << bit;
		assert_fault(GVA57, read_s, REF_PF_P | REF_PF_RSVD);
	}
	*pml5e = 0x1000 | PWU | REF_PS;
	assert_fault(GVA57, read_s, REF_PF_P | REF_PF_RSVD);
}

static void test_5level_canonical(void **state)
{
	(void)state;
	assert_int_equal(walk(0x0100000000000000ull, read_s).kind, REF_GP);
	assert_int_equal(walk(0xfeffffffffffffffull, read_s).kind, REF_GP);
	assert_int_equal(walk(0x8000000000000000ull, read_s).kind, REF_GP);
	assert_fault(0x00ffffffffffffffull, read_s, 0);
	assert_fault(0xff00000000000000ull, read_s, 0);
	assert_fault(0x0000800000000000ull, read_s, 0);
}

/* Where processors differ. */
static void test_processors(void **state)
{
	uint64_t *const entries[] = {pml5e, pml4e, pdpte};

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		setup_5level(NULL);
		*entries[i] |= REF_G;
		assert_ok(GVA57, read_s, 0x5678);
		cpu.amd = true;
		assert_fault(GVA57, read_s, REF_PF_P | REF_PF_RSVD);
	}
	setup_5level(NULL);
	cpu.amd = true;
	*pde |= REF_G;
	*pte |= REF_G;
	assert_ok(GVA57, read_s, 0x5678);
	*pdpte = 0x80000000 | REF_PS | REF_G | PWU;
	assert_ok(GVA57, read_s, 0x80604678);
	cpu.no_1g = true;
	assert_fault(GVA57, read_s, REF_PF_P | REF_PF_RSVD);
	*pdpte = 0x3000 | PWU;
	assert_ok(GVA57, read_s, 0x5678);
}

/* ---- protection keys: SDM vol. 3 §4.6.2, §4.7 */

static void test_pkru(void **state)
{
	const uint32_t u = REF_PF_P | REF_PF_U, pk = REF_PF_PK;

	(void)state;
	*pte |= 5ull << 59;
	assert_int_equal(walk(GVA, read_u).key, 5);
	cpu.pkru = 1u << 10; /* AD of key 5 */
	assert_ok(GVA, write_u, 0x5678);
	cpu.cr4 |= REF_CR4_PKE;
	assert_fault(GVA, read_u, u | pk);
	assert_fault(GVA, read_s, REF_PF_P | pk);
	assert_fault(GVA, write_u, u | REF_PF_W | pk);
	assert_ok(GVA, fetch_u, 0x5678);
	assert_ok(GVA, fetch_s, 0x5678);
	cpu.cr0 &= ~REF_CR0_WP; /* does not help against AD */
	assert_fault(GVA, write_s, REF_PF_P | REF_PF_W | pk);
	cpu.pkru = 2u << 10; /* WD */
	assert_ok(GVA, read_u, 0x5678);
	assert_fault(GVA, write_u, u | REF_PF_W | pk);
	assert_ok(GVA, write_s, 0x5678);
	cpu.cr0 |= REF_CR0_WP;
	assert_ok(GVA, read_s, 0x5678);
	assert_fault(GVA, write_s, REF_PF_P | REF_PF_W | pk);
	cpu.pkru = ~(3u << 10); /* the other keys */
	assert_ok(GVA, write_u, 0x5678);
	*pte &= ~(15ull << 59);
	assert_fault(GVA, read_u, u | pk); /* key 0 is one like the others */
	/* Not present or reserved: no PK. With other rights lacking: PK. */
	*pte &= ~REF_W;
	assert_fault(GVA, write_u, u | REF_PF_W | pk);
	cpu.cr4 |= REF_CR4_SMAP;
	assert_fault(GVA, read_s, REF_PF_P | pk);
	*pte |= 1ull << 40;
	assert_fault(GVA, read_u, u | REF_PF_RSVD);
	*pte = 0;
	assert_fault(GVA, read_u, REF_PF_U);
}

static void test_pkrs(void **state)
{
	(void)state;
	*pte |= 15ull << 59;
	cpu.cr4 |= REF_CR4_PKS;
	cpu.pkrs = 1u << 30;
	assert_ok(GVA, write_u, 0x5678); /* a user page */
	*pdpte &= ~REF_U;
	assert_fault(GVA, read_s, REF_PF_P | REF_PF_PK);
	assert_fault(GVA, read_u, REF_PF_P | REF_PF_U | REF_PF_PK);
	assert_ok(GVA, fetch_s, 0x5678);
	cpu.pkrs = 2u << 30;
	assert_ok(GVA, read_s, 0x5678);
	assert_fault(GVA, write_s, REF_PF_P | REF_PF_W | REF_PF_PK);
	cpu.cr0 &= ~REF_CR0_WP;
	assert_ok(GVA, write_s, 0x5678);
	assert_int_equal(walk(GVA, write_s).updates, 4);
	cpu.cr0 |= REF_CR0_WP;
	cpu.cr4 ^= REF_CR4_PKS | REF_CR4_PKE;
	cpu.pkru = UINT32_MAX;
	assert_ok(GVA, write_s, 0x5678); /* a supervisor page */
}

/* A large page's key is its own; the entries above have none. */
static void test_keys_large(void **state)
{
	(void)state;
	cpu.cr4 |= REF_CR4_PKE;
	cpu.pkru = ~(3u << 6); /* but key 3 */
	*pml4e |= 1ull << 59;
	*pde = 0x40200000 | REF_PS | PWU | 3ull << 59;
	assert_ok(GVA, write_u, 0x40204678);
	assert_int_equal(walk(GVA, write_u).key, 3);
	*pdpte = 0x80000000 | REF_PS | PWU | 3ull << 59;
	assert_ok(GVA, write_u, 0x80604678);
}

static void test_type(void **state)
{
	(void)state;
	*pml4e |= REF_PWT | REF_PCD;
	assert_int_equal(walk(GVA, read_s).type, 0);
	*pte |= REF_PWT;
	assert_int_equal(walk(GVA, read_s).type, 1);
	*pte |= REF_PCD | REF_PS;
	assert_int_equal(walk(GVA, read_s).type, 7);
	*pdpte = 0x80000000 | REF_PS | REF_PAT | PWU;
	assert_int_equal(walk(GVA, read_s).type, 4);
}

static void test_permitted(void **state)
{
	uint32_t code = 0;

	(void)state;
	cpu.cr4 |= REF_CR4_PKE;
	cpu.pkru = 1u << 4; /* AD of key 2 */
	assert_true(ref_permitted(&cpu, read_u, true, true, false, 1, &code));
	assert_int_equal(code, REF_PF_U);
	assert_false(ref_permitted(&cpu, read_u, true, true, false, 2, &code));
	assert_int_equal(code, REF_PF_U | REF_PF_PK);
	assert_int_equal(ref_code(&cpu, fetch_u), REF_PF_U | REF_PF_I);
	assert_int_equal(ref_code(&cpu, write_s), REF_PF_W);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(test_plain, setup),
	    cmocka_unit_test_setup(test_accessed_dirty, setup),
	    cmocka_unit_test_setup(test_recursive, setup),
	    cmocka_unit_test_setup(test_not_present, setup),
	    cmocka_unit_test_setup(test_user, setup),
	    cmocka_unit_test_setup(test_write, setup),
	    cmocka_unit_test_setup(test_no_execute, setup),
	    cmocka_unit_test_setup(test_smep_smap, setup),
	    cmocka_unit_test_setup(test_reserved, setup),
	    cmocka_unit_test_setup(test_large, setup),
	    cmocka_unit_test_setup(test_unmapped, setup),
	    cmocka_unit_test_setup(test_canonical, setup),
	    cmocka_unit_test_setup(test_paging_off, setup),
	    cmocka_unit_test_setup(test_32bit, setup_32bit),
	    cmocka_unit_test_setup(test_32bit_faults, setup_32bit),
	    cmocka_unit_test_setup(test_32bit_recursive, setup_32bit),
	    cmocka_unit_test_setup(test_32bit_large, setup_32bit),
	    cmocka_unit_test_setup(test_pdptes, setup_pae),
	    cmocka_unit_test_setup(test_pae, setup_pae),
	    cmocka_unit_test_setup(test_pae_reserved, setup_pae),
	    cmocka_unit_test_setup(test_pae_large, setup_pae),
	    cmocka_unit_test_setup(test_5level, setup_5level),
	    cmocka_unit_test_setup(test_5level_canonical, setup_5level),
	    cmocka_unit_test_setup(test_processors, setup_5level),
	    cmocka_unit_test_setup(test_pkru, setup),
	    cmocka_unit_test_setup(test_pkrs, setup),
	    cmocka_unit_test_setup(test_keys_large, setup),
	    cmocka_unit_test_setup(test_type, setup),
	    cmocka_unit_test_setup(test_permitted, setup),
	};

	return cmocka_run_group_tests_name("ref", tests, NULL, NULL);
}
