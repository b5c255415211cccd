/* SPDX-License-Identifier: BSD-2-Clause */
/* Tests of core/age.c. (tests/machine/sim_age.c has random ones.) */
#include "fixture.h"

#define USER UMBRA_PF_U

static uint64_t age(uint64_t first, uint64_t pages, unsigned flags)
{
	uint64_t young = UINT64_MAX;

	assert_int_equal(umbra_age(fix.mmu, (umbra_gfn){first}, pages, flags, &young), 0);
	return young;
}

static void hardware_uses(uint64_t gva)
{
	struct shadow *shadow = shadow_at_level(gva, 1);

	shadow->table[gva >> 12 & 511] |= PTE_A;
}

static void test_used_once(void **state)
{
	unsigned flushes;

	(void)state;
	assert_int_equal(age(FIRST, 16, 0), 0);
	assert_int_equal(fault(DATA + 0x3000, USER), UMBRA_RESUME);
	flushes = fix.flushes;
	assert_int_equal(age(FIRST, 16, UMBRA_AGE_TEST), 1 << 3);
	assert_int_equal(age(FIRST, 16, UMBRA_AGE_TEST), 1 << 3);
	assert_int_equal(age(FIRST, 16, 0), 1 << 3);
	assert_int_equal(age(FIRST, 16, UMBRA_AGE_TEST), 0);
	assert_int_equal(age(FIRST, 16, 0), 0);
	assert_int_equal(fix.flushes, flushes);
	assert_true(spte_at(DATA + 0x3000) & PTE_P); /* it is mapped all the while */
	hardware_uses(DATA + 0x3000);
	assert_int_equal(age(FIRST + 3, 1, 0), 1);
	assert_sound();
}

/* One of several sptes is enough. */
static void test_any_of_many(void **state)
{
	(void)state;
	guest_write(1, 1, 0x2000 | RIGHTS);
	guest_write(2, 3, 0x3000 | (RIGHTS & ~PTE_W)); /* other rights: another shadow page */
	assert_int_equal(fault(DATA, USER), UMBRA_RESUME);
	assert_int_equal(fault(3ull << 30 | DATA, USER), UMBRA_RESUME);
	assert_int_equal(age(FIRST, 1, 0), 1);
	assert_int_equal(age(FIRST, 1, 0), 0);
	hardware_uses(3ull << 30 | DATA);
	assert_int_equal(age(FIRST, 1, UMBRA_AGE_TEST), 1);
	assert_int_equal(age(FIRST, 1, 0), 1);
	assert_int_equal(age(FIRST, 1, 0), 0);
	/* A drop tells of a bit that came in between. */
	hardware_uses(DATA);
	assert_int_equal(drop(FIRST, 1), 2);
	assert_sound();
}

static void test_range(void **state)
{
	uint64_t young[4] = {1, 1, 1, 1};

	(void)state;
	assert_int_equal(fault(DATA, USER), UMBRA_RESUME);
	assert_int_equal(fault(DATA + 0xf000, USER), UMBRA_RESUME);
	/* Beyond the slot too. */
	assert_int_equal(umbra_age(fix.mmu, (umbra_gfn){FIRST - 1}, GFNS + 60, 0, young), 0);
	assert_int_equal(young[0], 1ull << 1 | 1ull << 16);
	assert_int_equal(young[1] | young[2], 0);
	assert_int_equal(umbra_age(fix.mmu, (umbra_gfn){1}, UINT64_MAX, 0, young), UMBRA_EINVAL);
	assert_int_equal(umbra_age(fix.mmu, (umbra_gfn){1}, 1, 2, young), UMBRA_EINVAL);
	assert_int_equal(age(FIRST, 0, 0), UINT64_MAX); /* not a word is touched */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    FIXTURE_TEST(test_used_once),
	    FIXTURE_TEST(test_any_of_many),
	    FIXTURE_TEST(test_range),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
