/* SPDX-License-Identifier: BSD-2-Clause */
/* Tests of the PDPTEs of PAE paging: when they are read, which are refused, what roots they make.
 */
#include <string.h>

#include "wide.h"

#define USER_WRITE (UMBRA_PF_U | UMBRA_PF_W)
#define PAGE(i)    (0x900000ull + ((uint64_t)(i) << 21))

static int load(struct umbra_paging paging)
{
	return umbra_vcpu_set_paging(wide.vcpu, &paging);
}

/* PDPTE i leads to a directory whose entry 0 is the large page PAGE(i). */
static void put(uint64_t table)
{
	for (unsigned i = 0; i < 4; i++) {
		wide_write(table + i * 8, (0x10000 + i * 0x1000) | PTE_P);
		wide_write(0x10000 + i * 0x1000, (PAGE(i) & ~0x1fffffull) | RIGHTS | PTE_PS);
	}
}

static bool reaches(unsigned gib, unsigned page)
{
	struct umbra_answer answer = umbra_fault(wide.vcpu, (uint64_t)gib << 30, USER_WRITE);

	wide_sound();
	if (answer.verdict != UMBRA_RESUME)
		return false;
	return umbra_translate(wide.vcpu, (uint64_t)gib << 30, 0).gpa ==
	       (PAGE(page) & ~0x1fffffull);
}

static int setup(void **state)
{
	wide_setup(state);
	put(0x1000);
	assert_int_equal(load(wide_pae), 0);
	return 0;
}

static void test_four(void **state)
{
	struct umbra_root root;

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		assert_true(reaches(i, i));
	assert_int_equal(umbra_vcpu_root(wide.vcpu, &root), 0);
	assert_int_equal(root.levels, 3);
	assert_true(root.hpa < 1ull << 32);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(((uint64_t *)(uintptr_t)root.hpa)[i],
				 shadow_of(wide.mmu, wide.vcpu->root[i])->hpa | PTE_P);
}

/* They are, with a CR3 load, whatever else has changed that paging does not depend on. */
static void test_other_bits(void **state)
{
	struct umbra_paging paging = wide_pae;

	(void)state;
	put(0x2000);
	wide_write(0x2000, 0x11000 | PTE_P);
	paging.cr3 = 0x2000;
	paging.cr0 |= 1u << 3; /* TS */
	paging.cr4 |= 1u << 9; /* OSFXSR */
	paging.efer |= 1;      /* SCE */
	assert_int_equal(load(paging), 0);
	assert_true(reaches(0, 1));
}

/* In memory they may change as they like. */
static void test_not_read(void **state)
{
	struct umbra_paging paging = wide_pae;

	(void)state;
	assert_true(reaches(1, 1));
	wide_write(0x1008, 0x13000 | PTE_P);
	assert_true(reaches(1, 1));
	umbra_zap_all(wide.mmu);
	assert_true(reaches(1, 1));
	paging.cr0 &= ~CR0_WP;
	assert_int_equal(load(paging), 0);
	assert_true(reaches(1, 1));
	paging.efer &= ~EFER_NXE;
	assert_int_equal(load(paging), 0);
	assert_true(reaches(1, 1));
	paging.cr4 |= CR4_SMAP;
	assert_int_equal(load(paging), 0);
	assert_int_equal(umbra_translate(wide.vcpu, 1u << 30, UMBRA_PF_U).gpa,
			 PAGE(1) & ~0x1fffffull);
}

/* Each of what makes a processor read them. */
static void test_read(void **state)
{
	const struct umbra_paging pae = wide_pae;
	struct umbra_paging change[] = {pae, pae, pae, pae, pae};

	(void)state;
	change[1].cr4 |= CR4_PGE;
	change[2].cr4 |= CR4_PSE;
	change[3].cr4 |= CR4_SMEP;
	change[4].cr0 &= ~CR0_PG;
	for (unsigned i = 0; i < 5; i++) {
		put(0x1000);
		assert_int_equal(load(pae), 0);
		assert_true(reaches(1, 1));
		wide_write(0x1008, 0x13000 | PTE_P);
		assert_int_equal(load(change[i]), 0);
		if (i == 4)
			assert_int_equal(load(pae), 0);
		assert_true(reaches(1, 3));
	}
}

/* From 32-bit paging, by CR4.PAE. */
static void test_from_32_bit(void **state)
{
	(void)state;
	wide_write(0x1008, 0x13000 | PTE_P);
	assert_int_equal(load(wide_pse), 0);
	assert_int_equal(load(wide_pae), 0);
	assert_true(reaches(1, 3));
}

/* 32 bytes anywhere below 4 GiB. */
static void test_in_the_middle(void **state)
{
	struct umbra_paging paging = wide_pae;

	(void)state;
	paging.cr3 = 0x1fe0 | 0x18; /* PWT and PCD mean nothing here */
	put(0x1fe0);
	wide_poke(0x1000, 0xff);
	assert_int_equal(load(paging), 0);
	assert_true(reaches(3, 3));
}

static void test_reserved(void **state)
{
	static const uint64_t bad[] = {PTE_W,      PTE_U,      1ull << 5,  1ull << 6,
				       1ull << 7,  PTE_G,      1ull << 40, 1ull << 51,
				       1ull << 52, 1ull << 62, PTE_NX};
	static const uint64_t good[] = {PTE_PWT, PTE_PCD, 7ull << 9, 1ull << 39};
	const struct umbra_paging before = wide.vcpu->paging;

	(void)state;
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		put(0x1000);
		wide_poke(0x1018, 0x13000 | PTE_P | bad[i]);
		assert_int_equal(load(wide_pae), UMBRA_EPDPTE);
		assert_memory_equal(&wide.vcpu->paging, &before, sizeof(before));
		assert_true(reaches(3, 3));         /* as it was */
		wide_poke(0x1018, bad[i] & ~PTE_P); /* absent ones may hold anything */
		assert_int_equal(load(wide_pae), 0);
		assert_false(reaches(3, 3));
		put(0x1000);
		assert_int_equal(load(wide_pae), 0);
	}
	for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		wide_poke(0x1018, 0x13000 | PTE_P | good[i]);
		assert_int_equal(load(wide_pae), 0);
	}
}

/* Where no memory is, all ones are read. */
static void test_nowhere(void **state)
{
	struct umbra_paging paging = wide_pae;

	(void)state;
	paging.cr3 = 0xf0000000;
	assert_int_equal(load(paging), UMBRA_EPDPTE);
	assert_true(reaches(2, 2));
}

static void test_absent(void **state)
{
	struct umbra_answer answer;

	(void)state;
	wide_poke(0x1010, 0x12000);
	assert_int_equal(load(wide_pae), 0);
	answer = umbra_fault(wide.vcpu, 2ull << 30, USER_WRITE);
	assert_int_equal(answer.verdict, UMBRA_INJECT);
	assert_int_equal(answer.error_code, USER_WRITE);
	assert_int_equal(wide.vcpu->root[2], 0);
	assert_true(reaches(3, 3));
	assert_int_equal(wide_word(0x1018) & PTE_A, 0); /* they have no A bit */
}

/* Two PDPTEs that are alike share a root, also when it goes. */
static void test_alike(void **state)
{
	(void)state;
	wide_poke(0x1008, 0x10000 | PTE_P);
	assert_int_equal(load(wide_pae), 0);
	assert_true(reaches(0, 0));
	assert_true(reaches(1, 0));
	assert_int_equal(wide.vcpu->root[0], wide.vcpu->root[1]);
	assert_true(umbra_unprotect(wide.mmu, (umbra_gfn){0x10}) > 0);
	assert_int_equal(wide.vcpu->root[0], 0);
	assert_int_equal(wide.vcpu->root[1], 0);
	wide_sound();
	assert_true(reaches(1, 0));
}

#define PDPTE_TEST(test) cmocka_unit_test_setup_teardown(test, setup, wide_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    PDPTE_TEST(test_four),    PDPTE_TEST(test_other_bits),    PDPTE_TEST(test_not_read),
	    PDPTE_TEST(test_read),    PDPTE_TEST(test_from_32_bit),   PDPTE_TEST(test_reserved),
	    PDPTE_TEST(test_nowhere), PDPTE_TEST(test_in_the_middle), PDPTE_TEST(test_absent),
	    PDPTE_TEST(test_alike),
	};

	return cmocka_run_group_tests_name("pdpte", tests, NULL, NULL);
}
