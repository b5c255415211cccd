/* SPDX-License-Identifier: BSD-2-Clause */
/* Tests of core/log.c. (tests/machine/sim_log.c has random ones.) */
#include "wide.h"

#define USER_WRITE (UMBRA_PF_U | UMBRA_PF_W)
#define GVA        0x600000ull /* PDE 3 */
#define GFN        0x400ull    /* of 2 MiB page 2 */
#define SLOT       0

static uint64_t collect(uint64_t first, uint64_t pages)
{
	uint64_t dirty = UINT64_MAX;

	assert_int_equal(umbra_log_collect(wide.mmu, (umbra_gfn){first}, pages, &dirty), 0);
	wide_sound();
	return dirty;
}

static unsigned level_at(uint64_t gva)
{
	unsigned level;

	return wide_leaf(gva, &level) & PTE_P ? level : 0;
}

/* Large pages are read as such; a write takes 4 KiB out. */
static void log_large(unsigned flags)
{
	wide_map(GVA, GFN << 12 | RIGHTS | PTE_PS);
	assert_int_equal(wide_fault(GVA, USER_WRITE), UMBRA_RESUME);
	assert_int_equal(level_at(GVA), 2);
	assert_int_equal(umbra_log_start(wide.mmu, SLOT, flags), 0);
	assert_int_equal(level_at(GVA), flags ? 0 : 2);
	assert_int_equal(wide_fault(GVA + 0x1000, UMBRA_PF_U), UMBRA_RESUME);
	assert_int_equal(level_at(GVA), 2);
	assert_int_equal(collect(GFN, 64), 0);
	assert_int_equal(wide_fault(GVA + 0x3000, USER_WRITE), UMBRA_RESUME);
	assert_int_equal(level_at(GVA + 0x3000), 1);
	assert_int_equal(collect(GFN, 64), 1 << 3);
	assert_int_equal(collect(GFN, 64), 0);
	/* It is seen again, and again. */
	assert_int_equal(wide_fault(GVA + 0x3000, USER_WRITE), UMBRA_RESUME);
	assert_int_equal(collect(GFN + 2, 3), 1 << 1);
	assert_int_equal(umbra_log_stop(wide.mmu, SLOT), 0);
	assert_int_equal(wide_fault(GVA + 0x3000, USER_WRITE), UMBRA_RESUME);
	assert_int_equal(collect(GFN, 64), 0);
	assert_int_equal(umbra_log_stop(wide.mmu, SLOT), UMBRA_ENOENT);
	wide_sound();
}

static void test_lazily(void **state)
{
	(void)state;
	log_large(0);
}

static void test_eagerly(void **state)
{
	(void)state;
	log_large(UMBRA_LOG_SPLIT);
}

/* The tables that a walk sets bits in are written, too; and what the embedder tells. */
static void test_tables(void **state)
{
	uint64_t *pde = (uint64_t *)(wide.ram + 0x3000) + 3;

	(void)state;
	wide_map(GVA, GFN << 12 | RIGHTS | PTE_PS);
	assert_true(*pde);
	*pde &= ~PTE_A;
	assert_int_equal(umbra_log_start(wide.mmu, SLOT, 0), 0);
	assert_int_equal(wide_fault(GVA, UMBRA_PF_U), UMBRA_RESUME);
	assert_int_equal(collect(0, 64), 1 << 3);
	assert_int_equal(umbra_guest_write(wide.mmu, 0x21008, 8), 0);
	assert_int_equal(collect(0, 64), 1ull << 0x21);
}

static void test_words(void **state)
{
	uint64_t dirty = 7;

	(void)state;
	wide_map(GVA, GFN << 12 | RIGHTS | PTE_PS);
	assert_int_equal(umbra_log_collect_word(wide.mmu, (umbra_gfn){GFN}, ~0ull, &dirty),
			 UMBRA_ENOENT);
	assert_int_equal(umbra_log_start(wide.mmu, SLOT, 0), 0);
	assert_int_equal(wide_fault(GVA + 0x3000, USER_WRITE), UMBRA_RESUME);
	assert_int_equal(wide_fault(GVA + 0x5000, USER_WRITE), UMBRA_RESUME);
	assert_int_equal(umbra_log_collect_word(wide.mmu, (umbra_gfn){GFN + 1}, ~0ull, &dirty),
			 UMBRA_EINVAL);
	assert_int_equal(dirty, 7);
	assert_int_equal(umbra_log_collect_word(wide.mmu, (umbra_gfn){GFN}, 0xf, &dirty), 0);
	assert_int_equal(dirty, 1 << 3);
	assert_int_equal(umbra_log_collect_word(wide.mmu, (umbra_gfn){GFN}, ~0ull, &dirty), 0);
	assert_int_equal(dirty, 1 << 5);
	wide_sound();
}

static void test_refused(void **state)
{
	uint64_t dirty;

	(void)state;
	assert_int_equal(umbra_log_start(wide.mmu, 77, 0), UMBRA_ENOENT);
	assert_int_equal(umbra_log_start(wide.mmu, SLOT, 2), UMBRA_EINVAL);
	assert_int_equal(umbra_log_start(wide.mmu, SLOT, 0), 0);
	assert_int_equal(umbra_log_start(wide.mmu, SLOT, 0), UMBRA_EEXIST);
	assert_int_equal(umbra_log_collect(wide.mmu, (umbra_gfn){5}, UINT64_MAX, &dirty),
			 UMBRA_EINVAL);
	assert_int_equal(umbra_slot_delete(wide.mmu, SLOT), 0); /* its log goes with it */
	assert_int_equal(umbra_log_stop(wide.mmu, SLOT), UMBRA_ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    WIDE_TEST(test_lazily), WIDE_TEST(test_eagerly), WIDE_TEST(test_tables),
	    WIDE_TEST(test_words),  WIDE_TEST(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
