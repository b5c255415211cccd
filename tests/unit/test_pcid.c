/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tests of core/pcid.c: what a guest with PCIDs may find as it left it, and what it must not. Two
 * address spaces, A and B, share all below their PML4s; a change in the last-level table is seen in
 * one of them when its entry is compared.
 */
#include "wide.h"

#define USER_WRITE (UMBRA_PF_U | UMBRA_PF_W)
#define GVA        0x600000ull /* PDE 3, table 4: page 0x900; GVA + 0x1000: the table itself */
#define TABLE      0x4000ull
#define A          0x1000ull
#define B          0x5000ull
#define PCID_A     1u
#define PCID_B     2u

static uint64_t kept(void)
{
	struct umbra_stats stats;

	umbra_stats_get(wide.mmu, &stats);
	return stats.root_kept;
}

static struct umbra_paging with(uint64_t cr3)
{
	struct umbra_paging paging = wide_4_levels;

	paging.cr4 |= CR4_PCIDE;
	paging.cr3 = cr3;
	return paging;
}

static void load(uint64_t cr3)
{
	struct umbra_paging paging = with(cr3);

	assert_int_equal(umbra_vcpu_set_paging(wide.vcpu, &paging), 0);
	wide_sound();
}

static bool is_mapped(void)
{
	unsigned level;

	return wide_leaf(GVA, &level) & PTE_P;
}

/* In A, with GVA mapped, the table unsync, and A known under its PCID. */
static int setup(void **state)
{
	wide_setup(state);
	wide.level = 1;
	wide_poke(TABLE, 0x900000 | RIGHTS);
	wide_poke(TABLE + 8, TABLE | RIGHTS);
	wide_map(GVA, TABLE | RIGHTS);
	wide_poke(B, 0x2000 | RIGHTS | PTE_A);
	load(B | PCID_B);
	load(A | PCID_A);
	assert_int_equal(wide_fault(GVA + 0x1000, USER_WRITE), UMBRA_RESUME);
	assert_int_equal(wide_fault(GVA, USER_WRITE), UMBRA_RESUME);
	assert_int_equal(kept(), 0);
	return 0;
}

/* The guest takes GVA away by a store that nobody sees. */
static void take_away(void)
{
	wide_poke(TABLE, 0);
	assert_true(is_mapped());
}

static void test_kept(void **state)
{
	(void)state;
	take_away();
	load(A | PCID_A | CR3_KEEP);
	assert_int_equal(kept(), 1);
	assert_true(is_mapped());
	load(A | PCID_A);
	assert_false(is_mapped());
}

/* Another PCID has not seen it yet: nothing stale may begin there. */
static void test_other_pcid(void **state)
{
	(void)state;
	take_away();
	load(A | 3 | CR3_KEEP);
	assert_int_equal(kept(), 0);
	assert_false(is_mapped());
}

/* Nor under a root that the PCID was not used with. */
static void test_other_root(void **state)
{
	(void)state;
	take_away();
	load(B | PCID_A | CR3_KEEP);
	assert_int_equal(kept(), 0);
	assert_false(is_mapped());
}

/* A load without the bit flushes its own PCID, for all roots. */
static void test_flush_one(void **state)
{
	(void)state;
	load(B | PCID_A | CR3_KEEP);
	load(A | PCID_A);
	take_away();
	load(B | PCID_A | CR3_KEEP);
	assert_int_equal(kept(), 0);
	assert_false(is_mapped());
}

/* INVLPG goes through roots that are not loaded: for global pages of every PCID. */
static void test_invlpg(void **state)
{
	(void)state;
	wide_poke(B, 0x6000 | RIGHTS | PTE_A); /* B has tables of its own */
	umbra_guest_write(wide.mmu, B, 8);
	load(B | PCID_B | CR3_KEEP);
	wide_poke(TABLE, 0);
	umbra_invlpg(wide.vcpu, GVA);
	load(A | PCID_A | CR3_KEEP);
	assert_true(kept() > 0);
	assert_false(is_mapped());
}

static void test_invpcid_address(void **state)
{
	(void)state;
	take_away();
	assert_int_equal(umbra_invpcid(wide.vcpu, UMBRA_INVPCID_ADDRESS, PCID_B, GVA), 0);
	assert_int_equal(umbra_invpcid(wide.vcpu, UMBRA_INVPCID_ADDRESS, PCID_A, GVA + 0x2000), 0);
	assert_int_equal(umbra_invpcid(wide.vcpu, UMBRA_INVPCID_ADDRESS, PCID_A, GVA), 0);
	assert_false(is_mapped());
	assert_int_equal(wide.flushed.gva, GVA);
	assert_int_equal(wide.flushed.pages, 1);
}

/* From B, for an address of A's PCID. */
static void test_invpcid_address_elsewhere(void **state)
{
	(void)state;
	wide_poke(B, 0x6000 | RIGHTS | PTE_A);
	umbra_guest_write(wide.mmu, B, 8);
	load(B | PCID_B);
	wide_poke(TABLE, 0);
	assert_int_equal(umbra_invpcid(wide.vcpu, UMBRA_INVPCID_ADDRESS, PCID_A, GVA), 0);
	load(A | PCID_A | CR3_KEEP);
	assert_int_equal(kept(), 1);
	assert_false(is_mapped());
}

static void invpcid_here(enum umbra_invpcid type)
{
	take_away();
	assert_int_equal(umbra_invpcid(wide.vcpu, type, PCID_A, 0), 0);
	assert_false(is_mapped());
	assert_int_equal(wide.flushed.pages, 0);
	wide_sound();
}

static void invpcid_elsewhere(enum umbra_invpcid type)
{
	load(B | PCID_B | CR3_KEEP);
	wide_poke(TABLE, 0);
	assert_int_equal(umbra_invpcid(wide.vcpu, type, PCID_A, 0), 0);
	load(A | PCID_A | CR3_KEEP);
	assert_false(is_mapped());
}

static void test_invpcid_one(void **state)
{
	(void)state;
	invpcid_here(UMBRA_INVPCID_PCID);
}

static void test_invpcid_one_elsewhere(void **state)
{
	(void)state;
	invpcid_elsewhere(UMBRA_INVPCID_PCID);
	assert_int_equal(kept(), 1); /* B's */
}

static void test_invpcid_all(void **state)
{
	(void)state;
	invpcid_here(UMBRA_INVPCID_ALL);
}

static void test_invpcid_all_global(void **state)
{
	(void)state;
	invpcid_here(UMBRA_INVPCID_ALL_GLOBAL);
}

static void test_invpcid_all_elsewhere(void **state)
{
	(void)state;
	invpcid_elsewhere(UMBRA_INVPCID_ALL);
}

/* What makes INVPCID raise #GP. */
static void test_invpcid_arguments(void **state)
{
	(void)state;
	assert_int_equal(umbra_invpcid(wide.vcpu, (enum umbra_invpcid)4, 0, 0), UMBRA_EINVAL);
	for (unsigned type = 0; type < 4; type++)
		assert_int_equal(umbra_invpcid(wide.vcpu, (enum umbra_invpcid)type, 4096, 0),
				 UMBRA_EINVAL);
	assert_int_equal(umbra_invpcid(wide.vcpu, UMBRA_INVPCID_ADDRESS, 0, 1ull << 47),
			 UMBRA_EINVAL);
	assert_int_equal(umbra_invpcid(wide.vcpu, UMBRA_INVPCID_PCID, 4095, 1ull << 47), 0);
	assert_int_equal(umbra_vcpu_set_paging(wide.vcpu, &wide_4_levels), 0);
	assert_int_equal(umbra_invpcid(wide.vcpu, UMBRA_INVPCID_ADDRESS, 1, 0), UMBRA_EINVAL);
	assert_int_equal(umbra_invpcid(wide.vcpu, UMBRA_INVPCID_PCID, 1, 0), UMBRA_EINVAL);
	assert_int_equal(umbra_invpcid(wide.vcpu, UMBRA_INVPCID_PCID, 0, 0), 0);
	assert_int_equal(umbra_invpcid(wide.vcpu, UMBRA_INVPCID_ALL, 1, 0), 0);
}

/* Any other register than CR3 is written: everything is forgotten. */
static void test_registers(void **state)
{
	static const uint64_t cr4[] = {CR4_PGE, CR4_SMEP, CR4_PKE};

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		struct umbra_paging paging = with(B | PCID_B | CR3_KEEP);
		uint64_t before;

		load(A | PCID_A);
		wide_poke(TABLE, 0x900000 | RIGHTS);
		assert_int_equal(wide_fault(GVA, USER_WRITE), UMBRA_RESUME);
		before = kept();
		wide_poke(TABLE, 0);
		paging.cr4 ^= cr4[i];
		assert_int_equal(umbra_vcpu_set_paging(wide.vcpu, &paging), 0);
		load(A | PCID_A | CR3_KEEP);
		assert_int_equal(kept(), before);
		assert_false(is_mapped());
	}
}

/* More roots than the list holds: the oldest is forgotten, and that is no harm. */
static void test_many(void **state)
{
	uint64_t before;

	(void)state;
	for (unsigned i = 0; i < KNOWN_ROOTS; i++)
		load(B | (10 + i));
	before = kept();
	wide_poke(TABLE, 0);
	load(A | PCID_A | CR3_KEEP);
	assert_int_equal(kept(), before);
	assert_false(is_mapped());
	load(B | (9 + KNOWN_ROOTS) | CR3_KEEP);
	assert_int_equal(kept(), before + 1);
}

/* Bit 63 is no part of the address, and not kept. */
static void test_address(void **state)
{
	struct umbra_root before, after;

	(void)state;
	assert_int_equal(umbra_vcpu_root(wide.vcpu, &before), 0);
	load(A | PCID_A | CR3_KEEP);
	assert_int_equal(umbra_vcpu_root(wide.vcpu, &after), 0);
	assert_int_equal(before.hpa, after.hpa);
	assert_int_equal(wide.vcpu->paging.cr3, A | PCID_A);
}

#define PCID_TEST(test) cmocka_unit_test_setup_teardown(test, setup, wide_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    PCID_TEST(test_kept),
	    PCID_TEST(test_other_pcid),
	    PCID_TEST(test_other_root),
	    PCID_TEST(test_flush_one),
	    PCID_TEST(test_invlpg),
	    PCID_TEST(test_invpcid_address),
	    PCID_TEST(test_invpcid_address_elsewhere),
	    PCID_TEST(test_invpcid_one),
	    PCID_TEST(test_invpcid_one_elsewhere),
	    PCID_TEST(test_invpcid_all),
	    PCID_TEST(test_invpcid_all_global),
	    PCID_TEST(test_invpcid_all_elsewhere),
	    PCID_TEST(test_invpcid_arguments),
	    PCID_TEST(test_registers),
	    PCID_TEST(test_many),
	    PCID_TEST(test_address),
	};

	return cmocka_run_group_tests_name("pcid", tests, NULL, NULL);
}
