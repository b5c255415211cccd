/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Faults of another shadow MMU, re-enacted: each left something behind in the reverse map, or in a
 * table, that nobody found again.
 *
 * CVE-2026-53359: a directory's entry changes from a large page to a table and back. What hangs
 * below it afterwards must be of the gfn and of the role that the entry asks for, and what hung
 * there before must be found under the (gfn, level) it was entered with.
 *
 * CVE-2026-23401, -23402: the host itself writes to the guest's tables, and nobody is told. The
 * next fault meets an entry that is present and says something else than the walk does.
 */
#include "wide.h"

#define USER_WRITE (UMBRA_PF_U | UMBRA_PF_W)
#define GVA        0x600000ull
#define PDE_GPA    0x3018ull
#define GFN        0x400ull /* of the large page; and of the table, where they are the same */
#define LARGE      (GFN << 12 | RIGHTS | PTE_PS)
#define TABLE      (GFN << 12 | RIGHTS)
#define OTHER      0x900ull /* what the table maps */

static void change(uint64_t pde, bool told)
{
	if (told)
		wide_write(PDE_GPA, pde);
	else
		wide_poke(PDE_GPA, pde);
}

/* Whatever was unseen until now is told, and all is as it should be. */
static void settle(void)
{
	assert_int_equal(umbra_guest_write(wide.mmu, PDE_GPA & ~0xfffull, 4096), 0);
	assert_int_equal(umbra_guest_write(wide.mmu, GFN << 12, 4096), 0);
	wide_sound();
}

/* Nothing in any table leads to the frames of [@first, @first + @pages). */
static void assert_nothing_left(uint64_t first, uint64_t pages)
{
	for (uint32_t i = 1; i < wide.mmu->chunks.count << TUNING_CHUNK_SHIFT; i++) {
		struct shadow *shadow = shadow_of(wide.mmu, i);

		for (unsigned j = 0; shadow->state == SHADOW_USED && j < PTE_ENTRIES; j++) {
			uint64_t spte = shadow->table[j];
			uint64_t pfn = (spte & PTE_ADDRESS) >> 12;

			if (spte & PTE_P && spte_is_leaf(shadow->role.level, spte))
				assert_false(pfn >= first + PFN_BASE &&
					     pfn < first + pages + PFN_BASE);
		}
	}
}

static void expect(uint64_t gva, uint64_t gfn)
{
	unsigned level;
	uint64_t spte;

	assert_int_equal(wide_fault(gva, USER_WRITE), UMBRA_RESUME);
	spte = wide_leaf(gva, &level);
	assert_true(spte & PTE_P);
	assert_int_equal((spte & PTE_ADDRESS) >> 12 & ~(level_pages(level) - 1),
			 (gfn + PFN_BASE) & ~(level_pages(level) - 1));
}

/*
 * Untold, a fault may lead to where the guest's entry led before, as a processor's caches would, or
 * to where it leads now.
 */
static void large_and_table(bool told, unsigned level)
{
	wide.level = level;
	wide_poke(GFN << 12, OTHER << 12 | RIGHTS); /* its entry 0 as a table */
	wide_map(GVA, LARGE);
	for (unsigned i = 0; i < 3; i++) {
		expect(GVA + 0x7000, GFN + 7);
		expect(GVA, GFN);
		change(TABLE, told);
		wide_drop(GFN, 512); /* so that it faults */
		assert_int_equal(wide_fault(GVA, USER_WRITE), UMBRA_RESUME);
		if (!told)
			settle();
		expect(GVA, OTHER);
		assert_int_equal(wide_count(GFN + 7), 0);
		change(LARGE, told);
		wide_drop(OTHER, 1);
		assert_int_equal(wide_fault(GVA, USER_WRITE), UMBRA_RESUME);
		if (!told)
			settle();
		expect(GVA + 0x7000, GFN + 7);
	}
	settle();
	wide_drop(0, 0x80000);
	assert_nothing_left(0, 0x80000);
	wide_sound();
}

static void test_large_to_table_and_back(void **state)
{
	(void)state;
	large_and_table(true, 1); /* a direct child with small pages */
	umbra_zap_all(wide.mmu);
	large_and_table(true, 2); /* one large leaf */
}

static void test_unseen(void **state)
{
	(void)state;
	large_and_table(false, 1);
	umbra_zap_all(wide.mmu);
	large_and_table(false, 2);
}

/* The same gfn, but rights, memory type or key differ: another child. */
static void test_role_differs(void **state)
{
	static const uint64_t bits[] = {PTE_W, PTE_U, PTE_NX, PTE_PCD, 3ull << KEY_SHIFT};

	(void)state;
	wide.level = 1;
	for (unsigned i = 0; i < 5; i++) {
		union role before;

		wide_map(GVA, LARGE | PTE_A | PTE_D);
		assert_int_equal(wide_fault(GVA, 0), UMBRA_RESUME);
		before = wide_shadow(GVA, 1)->role;
		change((LARGE | PTE_A | PTE_D) ^ bits[i], true);
		assert_null(wide_shadow(GVA, 1));
		assert_int_equal(wide_fault(GVA, 0), UMBRA_RESUME);
		assert_int_not_equal(wide_shadow(GVA, 1)->role.word, before.word);
		assert_true(wide_shadow(GVA, 1)->role.direct);
		wide_sound();
	}
}

/* Map @gva by the table at GFN; its entry is clean, so that a write faults. */
static void map_clean(uint64_t gfn)
{
	wide.level = 1;
	wide_poke(GFN << 12, gfn << 12 | RIGHTS);
	wide_map(GVA, TABLE);
	assert_int_equal(wide_fault(GVA, UMBRA_PF_U), UMBRA_RESUME);
	assert_int_equal(wide_count(gfn), 1);
}

/* -23401: a page becomes MMIO behind our back. */
static void test_leaf_to_note(void **state)
{
	unsigned level;

	(void)state;
	map_clean(OTHER);
	wide_poke(GFN << 12, 0xf0000000 | RIGHTS);
	assert_int_equal(wide_fault(GVA, USER_WRITE), UMBRA_MMIO);
	assert_int_equal(wide_count(OTHER), 0);
	assert_true(is_note(wide_leaf(GVA, &level)));
	wide_sound();
	assert_int_equal(wide_drop(OTHER, 1), 0);
	assert_nothing_left(OTHER, 1);
}

/* And back. */
static void test_note_to_leaf(void **state)
{
	(void)state;
	wide.level = 1;
	wide_poke(GFN << 12, 0xf0000000 | RIGHTS);
	wide_map(GVA, TABLE);
	assert_int_equal(wide_fault(GVA, UMBRA_PF_U), UMBRA_MMIO);
	wide_poke(GFN << 12, OTHER << 12 | RIGHTS);
	assert_int_equal(wide_fault(GVA, USER_WRITE), UMBRA_RESUME);
	assert_int_equal(wide_count(OTHER), 1);
	wide_sound();
	assert_int_equal(wide_drop(OTHER, 1), 1);
}

/* -23402: another page stands there. */
static void test_leaf_to_leaf(void **state)
{
	(void)state;
	map_clean(OTHER);
	wide_poke(GFN << 12, (OTHER + 1) << 12 | RIGHTS);
	assert_int_equal(wide_fault(GVA, USER_WRITE), UMBRA_RESUME);
	assert_int_equal(wide_count(OTHER), 0);
	assert_int_equal(wide_count(OTHER + 1), 1);
	wide_sound();
	assert_nothing_left(OTHER, 1);
}

/* A large leaf, and a table that came unseen: small pages go in, the large one goes out. */
static void test_large_leaf_unseen(void **state)
{
	(void)state;
	wide.level = 2;
	wide_map(GVA, LARGE);
	assert_int_equal(wide_fault(GVA, UMBRA_PF_U), UMBRA_RESUME); /* clean: a write will fault */
	assert_int_equal(wide_large(2), 1);
	wide_poke(0x500000, OTHER << 12 | RIGHTS);
	wide_poke(PDE_GPA, 0x500000 | RIGHTS);
	assert_int_equal(wide_fault(GVA, USER_WRITE), UMBRA_RESUME);
	assert_int_equal(wide_large(2), 0);
	assert_int_equal(wide_count(GFN), 0);
	assert_int_equal(wide_count(OTHER), 1);
	wide_sound();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    WIDE_TEST(test_large_to_table_and_back),
	    WIDE_TEST(test_unseen),
	    WIDE_TEST(test_role_differs),
	    WIDE_TEST(test_leaf_to_note),
	    WIDE_TEST(test_note_to_leaf),
	    WIDE_TEST(test_leaf_to_leaf),
	    WIDE_TEST(test_large_leaf_unseen),
	};

	return cmocka_run_group_tests_name("cve", tests, NULL, NULL);
}
