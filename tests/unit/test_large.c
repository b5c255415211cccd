/* SPDX-License-Identifier: BSD-2-Clause */
/* Tests of large leaves: when they are made, what breaks them up, what finds them. */
#include "wide.h"

#define USER_WRITE (UMBRA_PF_U | UMBRA_PF_W)
#define GVA        0x600000ull /* PDE 3 */
#define GFN        0x400ull    /* of 2 MiB page 2 */
#define PDE        (GFN << 12 | RIGHTS | PTE_PS)

static void assert_mapped(uint64_t gva, unsigned level, uint64_t gfn)
{
	unsigned found;
	uint64_t spte = wide_leaf(gva, &found);

	assert_true(spte & PTE_P);
	assert_int_equal(found, level);
	assert_int_equal((spte & PTE_ADDRESS & ~(level_pages(level) * 4096 - 1)) >> 12,
			 (gfn & ~(level_pages(level) - 1)) + PFN_BASE + wide.askew);
	wide_sound();
}

static void assert_not_mapped(uint64_t gva)
{
	unsigned level;

	assert_false(wide_leaf(gva, &level) & PTE_P);
	wide_sound();
}

static void test_two_mib(void **state)
{
	(void)state;
	wide_map(GVA, PDE);
	assert_int_equal(wide_fault(GVA + 0x5000, USER_WRITE), UMBRA_RESUME);
	assert_mapped(GVA, 2, GFN);
	assert_int_equal(wide_large(2), 1);
	assert_int_equal(wide_count(GFN + 511), 1);
	assert_int_equal(wide_count(GFN + 512), 0);
	assert_int_equal(wide_drop(GFN + 77, 1), 1); /* any of its gfns takes it away */
	assert_not_mapped(GVA);
	assert_int_equal(wide_large(2), 0);
}

static void test_one_gib(void **state)
{
	(void)state;
	wide_map(GVA, PDE);
	wide_write(0x2008, 0x40000000 | RIGHTS | PTE_PS);
	assert_int_equal(wide_fault(0x40123456, USER_WRITE), UMBRA_RESUME);
	assert_mapped(0x40000000, 3, 0x40000);
	assert_int_equal(wide_large(3), 1);
	assert_int_equal(wide_drop(0x7ffff, 1), 1);
	assert_int_equal(wide_large(3), 0);
	wide.level = 2; /* the host has no more than that side by side */
	assert_int_equal(wide_fault(0x40123456, USER_WRITE), UMBRA_RESUME);
	assert_mapped(0x40123456, 2, 0x40123);
	assert_not_mapped(0x40323456);
}

/* A large page is used as a whole, and asked once for all of its pages in a range. */
static void test_age(void **state)
{
	uint64_t young[2048 / 64];

	(void)state;
	wide_map(GVA, PDE);
	wide_write(0x2008, 0x40000000 | RIGHTS | PTE_PS);
	assert_int_equal(wide_fault(0x40123456, USER_WRITE), UMBRA_RESUME);
	assert_int_equal(umbra_age(wide.mmu, (umbra_gfn){0x40000 - 8}, 2048, 0, young), 0);
	for (unsigned i = 0; i < 2048; i++)
		assert_int_equal(young[i / 64] >> i % 64 & 1, i >= 8);
	assert_int_equal(umbra_age(wide.mmu, (umbra_gfn){0x7ffff}, 1, 0, young), 0);
	assert_int_equal(young[0], 0);
	assert_mapped(0x40000000, 3, 0x40000);
}

/* As small as the smallest of guest, host, slot and alignment. */
static void test_not_whole(void **state)
{
	(void)state;
	wide_map(GVA, PDE);
	wide.level = 1;
	assert_int_equal(wide_fault(GVA, USER_WRITE), UMBRA_RESUME);
	assert_mapped(GVA, 1, GFN);
	umbra_zap_all(wide.mmu);
	wide.level = 2;
	wide.askew = 8;
	assert_int_equal(wide_fault(GVA, USER_WRITE), UMBRA_RESUME);
	assert_mapped(GVA, 1, GFN);
	umbra_zap_all(wide.mmu);
	wide.askew = 0;
	wide_map(GVA, 0x80000000ull | RIGHTS | PTE_PS); /* half of it lies before the slot */
	assert_int_equal(wide_fault(GVA + 0x100000, USER_WRITE), UMBRA_RESUME);
	assert_mapped(GVA + 0x100000, 1, ODD_SLOT);
	assert_int_equal(wide_fault(GVA, USER_WRITE), UMBRA_MMIO);
	wide_map(GVA, 0x80200000ull | RIGHTS | PTE_PS); /* all of it within */
	assert_int_equal(wide_fault(GVA, USER_WRITE), UMBRA_RESUME);
	assert_mapped(GVA, 2, 0x80200);
	wide_map(GVA, 0x80400000ull | RIGHTS | PTE_PS); /* half of it behind */
	assert_int_equal(wide_fault(GVA, USER_WRITE), UMBRA_RESUME);
	assert_mapped(GVA, 1, 0x80400);
}

/* What a large entry no longer allows is flushed at once, for a 4 MiB one is two of ours. */
static void test_narrowed(void **state)
{
	unsigned flushes;

	(void)state;
	wide_map(GVA, PDE);
	assert_int_equal(wide_fault(GVA, USER_WRITE), UMBRA_RESUME);
	flushes = wide.flushes;
	wide_write(0x3000 + (GVA >> 21 & 511) * 8, PDE & ~(uint64_t)PTE_W);
	assert_int_equal(wide.flushes, flushes + 1);
	assert_int_equal(wide.flushed.pages, 0);
	assert_int_equal(umbra_translate(wide.vcpu, GVA, USER_WRITE).verdict, UMBRA_INJECT);
}

/* A page in it becomes a guest's table: the large leaf goes at once, and is back when that is over.
 */
static void test_table_inside(void **state)
{
	const uint64_t table = (GFN + 9) << 12;
	unsigned flushes;

	(void)state;
	wide_map(GVA, PDE);
	assert_int_equal(wide_fault(GVA, USER_WRITE), UMBRA_RESUME);
	assert_mapped(GVA, 2, GFN);
	wide_poke(table, 0x800000 | RIGHTS);
	wide_write(0x3000, table | RIGHTS); /* PDE 0 */
	flushes = wide.flushes;
	assert_int_equal(wide_fault(0, UMBRA_PF_U), UMBRA_RESUME);
	assert_true(wide.flushes > flushes);
	assert_not_mapped(GVA);
	assert_int_equal(wide_fault(GVA + 0x3000, USER_WRITE), UMBRA_RESUME);
	assert_mapped(GVA + 0x3000, 1, GFN + 3);
	wide_write(0x3000, 0); /* a table no more */
	assert_int_equal(wide_fault(GVA + 0x4000, USER_WRITE), UMBRA_RESUME);
	assert_mapped(GVA + 0x3000, 2, GFN);
	assert_int_equal(wide_count(GFN + 3), 1);
}

/* Two tables in one page, and two roles of one: counted by gfn. */
static void test_tables_counted(void **state)
{
	const uint64_t table = (GFN + 9) << 12;
	struct umbra_paging wp_off = wide_4_levels;

	(void)state;
	wide_map(GVA, PDE);
	for (unsigned i = 0; i < 2; i++)
		wide_write(0x3000 + i * 8, (table + i * 0x1000) | RIGHTS);
	wide_poke(table, 0x800000 | RIGHTS);
	wide_poke(table + 0x1000, 0x800000 | RIGHTS);
	wp_off.cr0 &= ~CR0_WP;
	for (unsigned i = 0; i < 4; i++) {
		if (i == 2)
			assert_int_equal(umbra_vcpu_set_paging(wide.vcpu, &wp_off), 0);
		assert_int_equal(wide_fault((i & 1) << 21, UMBRA_PF_U), UMBRA_RESUME);
	}
	for (unsigned i = 0; i < 2; i++) {
		wide_write(0x3000 + i * 8, 0);
		assert_int_equal(wide_fault(GVA + i * 0x1000, USER_WRITE), UMBRA_RESUME);
		assert_mapped(GVA + i * 0x1000, i ? 2 : 1, GFN + i);
	}
}

/* Where the table that makes it small is made on the very way to it. */
static void test_own_table_inside(void **state)
{
	(void)state;
	wide_poke(0x1000, (GFN << 12) | RIGHTS); /* the PDPT lies in the page */
	wide_poke(GFN << 12, (GFN + 1) << 12 | RIGHTS);
	wide_poke(((GFN + 1) << 12) + 3 * 8, PDE);
	assert_int_equal(wide_fault(GVA + 0x5000, USER_WRITE), UMBRA_RESUME);
	assert_mapped(GVA + 0x5000, 1, GFN + 5);
}

static void test_write_protect(void **state)
{
	uint64_t sptes;
	unsigned level;

	(void)state;
	wide_map(GVA, PDE);
	assert_int_equal(wide_fault(GVA, USER_WRITE), UMBRA_RESUME);
	assert_int_equal(umbra_write_protect(wide.mmu, (umbra_gfn){GFN + 5}, 1, &sptes), 0);
	assert_int_equal(sptes, 1);
	assert_int_equal(wide_leaf(GVA, &level) & (PTE_P | PTE_W), PTE_P);
	wide_sound();
	wide.level = 1;
	assert_int_equal(wide_fault(GVA + 0x5000, USER_WRITE), UMBRA_RESUME);
	assert_mapped(GVA + 0x5000, 1, GFN + 5);
	assert_not_mapped(GVA);
}

/* More sptes than are protected without giving the lock up, in two areas. */
static void test_write_protect_areas(void **state)
{
	uint64_t sptes;
	unsigned level;

	(void)state;
	wide.level = 1;
	wide_map(GVA, PDE | PTE_D);
	wide_map(GVA + (2 << 20), (PDE | PTE_D) + (2 << 20));
	for (unsigned i = 0; i < 12; i++)
		assert_int_equal(wide_fault(GVA + (i % 2) * (2 << 20) + i * 0x1000, USER_WRITE),
				 UMBRA_RESUME);
	wide.flushes = 0;
	assert_int_equal(umbra_write_protect(wide.mmu, (umbra_gfn){0}, 0x80000, &sptes), 0);
	assert_true(sptes >= 12);
	assert_int_equal(wide.flushes, 1);
	for (unsigned i = 0; i < 12; i++)
		assert_false(wide_leaf(GVA + (i % 2) * (2 << 20) + i * 0x1000, &level) & PTE_W);
	wide_sound();
}

/* D clear: read-only until the guest's entry says dirty. */
static void test_dirty(void **state)
{
	unsigned level;

	(void)state;
	wide_map(GVA, PDE);
	assert_int_equal(wide_fault(GVA, UMBRA_PF_U), UMBRA_RESUME);
	assert_int_equal(wide_leaf(GVA, &level) & (PTE_P | PTE_W), PTE_P);
	assert_int_equal(wide_word(0x3018) & (PTE_A | PTE_D), PTE_A);
	assert_int_equal(wide_fault(GVA, USER_WRITE), UMBRA_RESUME);
	assert_mapped(GVA, 2, GFN);
	assert_true(wide_leaf(GVA, &level) & PTE_W);
	assert_int_equal(wide_word(0x3018) & PTE_D, PTE_D);
	wide_write(0x3018, wide_word(0x3018) & ~PTE_D);
	assert_false(wide_leaf(GVA, &level) & PTE_W);
	wide_sound();
}

/* The guest's 4 MiB page is two of ours: a change takes both, whatever address it flushes. */
static void test_four_mib(void **state)
{
	const uint32_t pde = (2u << 22) | RIGHTS | PTE_PS;

	(void)state;
	wide_poke(0x1000, (uint64_t)pde << 32); /* PDE 1 */
	assert_int_equal(umbra_vcpu_set_paging(wide.vcpu, &wide_pse), 0);
	assert_int_equal(wide_fault(0x400000, USER_WRITE), UMBRA_RESUME);
	assert_int_equal(wide_fault(0x600000, USER_WRITE), UMBRA_RESUME);
	assert_mapped(0x400000, 2, 0x800);
	assert_mapped(0x600000, 2, 0xa00);
	assert_int_equal(wide_large(2), 2);
	wide_write(0x1000, (uint64_t)(pde + (1u << 22)) << 32);
	assert_not_mapped(0x400000);
	assert_not_mapped(0x600000);
	assert_int_equal(wide.flushed.pages, 0);
}

/* PAT stands elsewhere in a large entry; keys do not. */
static void test_marks(void **state)
{
	const uint64_t pat_large = 1ull << 12, key = 9ull << KEY_SHIFT;
	unsigned level;

	(void)state;
	wide_map(GVA, PDE | pat_large | PTE_PWT | key);
	assert_int_equal(wide_fault(GVA, USER_WRITE), UMBRA_RESUME);
	assert_int_equal(wide_leaf(GVA, &level) & (pat_large | PTE_PWT | PTE_PCD | PTE_KEY),
			 pat_large | PTE_PWT | key);
	umbra_zap_all(wide.mmu);
	wide.level = 1;
	assert_int_equal(wide_fault(GVA, USER_WRITE), UMBRA_RESUME);
	assert_int_equal(wide_leaf(GVA, &level) & PTE_MARKS, PTE_PAT | PTE_PWT | key);
	assert_int_equal(level, 1);
	wide_write(0x3018, wide_word(0x3018) ^ PTE_PCD);
	assert_not_mapped(GVA);
}

/* Paging off, and nested: direct tables are large too. */
static void test_direct(void **state)
{
	(void)state;
	assert_int_equal(umbra_vcpu_set_paging(wide.vcpu, &wide_off), 0);
	assert_int_equal(wide_fault(0x40200000, USER_WRITE), UMBRA_RESUME);
	assert_mapped(0x40200000, 2, 0x40200); /* a PAE root has no 1 GiB pages */
}

static void test_nested(void **state)
{
	struct umbra_root root;

	(void)state;
	assert_int_equal(umbra_vcpu_root(wide.vcpu, &root), 0);
	assert_int_equal(root.levels, 4);
	assert_int_equal(wide_fault(0x40200000, USER_WRITE), UMBRA_RESUME);
	assert_mapped(0x40200000, 3, 0x40000);
	assert_int_equal(wide_fault(0x2fffffff, UMBRA_PF_U | UMBRA_PF_I), UMBRA_RESUME);
	assert_mapped(0x2fffffff, 3, 0);
	assert_int_equal(wide_fault(0xf0000000, USER_WRITE), UMBRA_MMIO);
	assert_int_equal(wide_fault(1ull << 52, USER_WRITE), UMBRA_MMIO);
	assert_int_equal(umbra_fault(wide.vcpu, 0x123456789abcull, 0).gpa, 0x123456789abcull);
	assert_int_equal(wide_drop(0, 0x80000), 2);
	assert_int_equal(wide.flushed.pages, 0);
	wide.level = 1;
	assert_int_equal(wide_fault(0x40200000, USER_WRITE), UMBRA_RESUME);
	assert_mapped(0x40200000, 1, 0x40200);
	assert_int_equal(wide_count(0x40200), 1);
	/* The guest's registers and tables are the hardware's business. */
	assert_int_equal(umbra_vcpu_set_paging(wide.vcpu, &wide_pae), 0);
	wide_write(0x1000, 0xff);
	assert_mapped(0x40200000, 1, 0x40200);
}

/* Whose instructions are emulated under nested paging: translated by its own tables, faults too. */
static void test_nested_translate(void **state)
{
	struct umbra_answer answer;

	(void)state;
	assert_int_equal(umbra_vcpu_set_paging(wide.vcpu, &wide_4_levels), 0);
	wide_poke(0x1000, 0x2007);
	wide_poke(0x2000, 0x3007);
	wide_poke(0x3000, 0x4007);
	wide_poke(0x4008, 0x40005005);
	answer = umbra_translate(wide.vcpu, 0x1234, UMBRA_PF_U);
	assert_int_equal(answer.verdict, UMBRA_RESUME);
	assert_int_equal(answer.gpa, 0x40005234);
	assert_int_equal(wide_word(0x4008), 0x40005025);
	answer = umbra_translate(wide.vcpu, 0x1234, USER_WRITE);
	assert_int_equal(answer.verdict, UMBRA_INJECT);
	assert_int_equal(answer.error_code, UMBRA_PF_P | USER_WRITE);
	assert_int_equal(umbra_translate(wide.vcpu, 0x2234, 0).verdict, UMBRA_INJECT);
	assert_int_equal(umbra_vcpu_set_paging(wide.vcpu, &wide_off), 0);
	assert_int_equal(umbra_translate(wide.vcpu, 0x1234, 0).gpa, 0x1234);
	/* Where the hardware walks, PDPTEs are table entries like others, and may have A. */
	assert_int_equal(umbra_vcpu_set_paging(wide.vcpu, &wide_pae), 0);
	wide_poke(0x1000, 0x2021);
	wide_poke(0x1018, 0x2021);
	wide_poke(0x2000, 0x4007);
	assert_int_equal(umbra_vcpu_set_paging(wide.vcpu, &wide_pae), 0);
	assert_int_equal(umbra_translate(wide.vcpu, 0xc0001234, 0).gpa, 0x40005234);
	assert_int_equal(umbra_vcpu_set_paging(wide.vcpu, &wide_off), 0);
	/* Nor does the guest's write protection, or its keys, concern a nested fault. */
	umbra_vcpu_set_keys(wide.vcpu, ~0u, ~0u);
	assert_int_equal(wide_fault(0x1000, USER_WRITE), UMBRA_RESUME);
}

/* What is large goes, here and nowhere else; what is small stays. */
static void test_split(void **state)
{
	uint64_t sptes = 77;

	(void)state;
	wide_map(0x600000, 0x400 << 12 | RIGHTS | PTE_PS);
	wide_write(0x3000 + 8 * 4, 0x600 << 12 | RIGHTS | PTE_PS);
	assert_int_equal(wide_fault(0x600000, USER_WRITE), UMBRA_RESUME);
	assert_int_equal(wide_fault(0x800000, USER_WRITE), UMBRA_RESUME);
	wide.flushes = 0;
	assert_int_equal(umbra_split(wide.mmu, (umbra_gfn){1}, UINT64_MAX, &sptes), UMBRA_EINVAL);
	assert_int_equal(sptes, 77);
	assert_int_equal(umbra_split(wide.mmu, (umbra_gfn){0x5ff}, 1, &sptes), 0);
	assert_int_equal(sptes, 1);
	assert_int_equal(wide.flushes, 1);
	assert_int_equal(wide_count(0x400), 0);
	assert_mapped(0x800000, 2, 0x600);
	wide.level = 1;
	assert_int_equal(wide_fault(0x600000, USER_WRITE), UMBRA_RESUME);
	assert_mapped(0x600000, 1, 0x400);
	assert_int_equal(umbra_split(wide.mmu, (umbra_gfn){0}, 1ull << 40, &sptes), 0);
	assert_int_equal(sptes, 1);
	assert_mapped(0x600000, 1, 0x400);
	assert_int_equal(wide_count(0x600), 0);
	wide_sound();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    WIDE_TEST(test_two_mib),
	    WIDE_TEST(test_one_gib),
	    WIDE_TEST(test_age),
	    WIDE_TEST(test_not_whole),
	    WIDE_TEST(test_narrowed),
	    WIDE_TEST(test_table_inside),
	    WIDE_TEST(test_tables_counted),
	    WIDE_TEST(test_own_table_inside),
	    WIDE_TEST(test_write_protect),
	    WIDE_TEST(test_write_protect_areas),
	    WIDE_TEST(test_dirty),
	    WIDE_TEST(test_four_mib),
	    WIDE_TEST(test_marks),
	    WIDE_TEST(test_direct),
	    WIDE_TEST(test_split),
	    cmocka_unit_test_setup_teardown(test_nested, wide_setup_nested, wide_teardown),
	    cmocka_unit_test_setup_teardown(test_nested_translate, wide_setup_nested,
					    wide_teardown),
	};

	return cmocka_run_group_tests_name("large", tests, NULL, NULL);
}
