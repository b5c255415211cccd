/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tests of the reference itself: every case was worked out by hand from the manual. The
 * guest has 16 pages of memory; PML4 at 1000, PDPT at 2000, PD at 3000, PT at 4000, and the
 * address GVA goes through entries 1, 2, 3, 4 of them to the page at 5000.
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

static uint64_t memory[16 * 512];
static uint64_t *const pml4e = &memory[0x1008 / 8];
static uint64_t *const pdpte = &memory[0x2010 / 8];
static uint64_t *const pde = &memory[0x3018 / 8];
static uint64_t *const pte = &memory[0x4020 / 8];
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
	};

	return cmocka_run_group_tests_name("ref", tests, NULL, NULL);
}
