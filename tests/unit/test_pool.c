/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tests of core/pool.c: memory that runs out at every allocation, quotas, everything given back.
 * The fixture's teardown sees to it that nothing leaks.
 */
#include "fixture.h"

#define USER_WRITE (UMBRA_PF_U | UMBRA_PF_W)
#define SPACES     12u /* address spaces that build_spaces() makes: PML4s at gfns 40.. */
#define SPACE      40u

static void load(unsigned space)
{
	struct umbra_paging paging = long_mode_on;

	paging.cr3 = (SPACE + space) << 12;
	assert_int_equal(umbra_vcpu_set_paging(fix.vcpu, &paging), 0);
}

/* Address spaces of their own roots, which share what is below. */
static void build_spaces(void)
{
	for (unsigned i = 0; i < SPACES; i++)
		*guest_entry(SPACE + i, 0) = 0x2000 | RIGHTS;
}

static uint64_t used(void)
{
	struct umbra_stats stats;

	umbra_stats_get(fix.mmu, &stats);
	return stats.shadow_pages;
}

/*
 * Everything that allocates, with retries: returns how often memory was short. What fails must
 * say so, be sound, and work when it is tried again.
 */
static unsigned scenario(void)
{
	const struct umbra_slot slot = {.id = 1, .first = {GFNS}, .pages = 1 << 20};
	struct umbra_vcpu *vcpu = NULL;
	struct umbra_root root = {.hpa = 1};
	unsigned shortages = 0;
	int error;

	while ((error = umbra_slot_add(fix.mmu, &slot))) {
		assert_int_equal(error, UMBRA_ENOMEM);
		assert_sound();
		shortages++;
	}
	while ((error = umbra_vcpu_create(fix.mmu, 1, &vcpu))) {
		assert_int_equal(error, UMBRA_ENOMEM);
		assert_null(vcpu);
		assert_sound();
		shortages++;
	}
	while ((error = umbra_vcpu_root(vcpu, &root))) {
		assert_int_equal(error, UMBRA_ENOMEM);
		assert_int_equal(root.hpa, 1);
		assert_sound();
		shortages++;
	}
	for (unsigned i = 0; i < SPACES; i++) {
		load(i);
		for (unsigned j = 0; j < 16; j++)
			while ((error = (int)fault(DATA + j * 0x1000, USER_WRITE))) {
				assert_int_equal(error, UMBRA_NOMEM);
				assert_sound();
				shortages++;
			}
		while (fault(OTHER, USER_WRITE))
			shortages++;
		assert_sound();
	}
	umbra_vcpu_destroy(vcpu);
	assert_int_equal(umbra_slot_delete(fix.mmu, 1), 0);
	assert_sound();
	return shortages;
}

static void restart(void)
{
	fixture_teardown(NULL);
	fixture_setup(NULL);
	build_spaces();
}

/* The first allocation fails, then the second, ... until there is no such allocation. */
static void test_each_allocation(void **state)
{
	unsigned at = 1;

	(void)state;
	build_spaces();
	for (;; at++) {
		failing_rule_set(&fix.failing.alloc, at, 0, UMBRA_ENOMEM);
		scenario();
		if (!fix.failing.alloc.fired)
			break;
		restart();
	}
	assert_true(at > 10);
}

/* Every fifth allocation fails, every sixth, ... (some steps need four in a row) */
static void test_every_nth(void **state)
{
	(void)state;
	build_spaces();
	for (unsigned every = 5; every < 12; every++) {
		failing_rule_set(&fix.failing.alloc, 0, every, UMBRA_ENOMEM);
		assert_true(scenario() > 0);
		restart();
	}
}

/* With none at all the answer is NOMEM, nothing is lost, and later it goes on. */
static void test_none(void **state)
{
	struct umbra_root root = {.hpa = 1};

	(void)state;
	failing_rule_set(&fix.failing.alloc, 0, 1, UMBRA_ENOMEM);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(fault(DATA, USER_WRITE), UMBRA_NOMEM);
		assert_int_equal(umbra_vcpu_root(fix.vcpu, &root), UMBRA_ENOMEM);
		assert_int_equal(root.hpa, 1);
		assert_sound();
	}
	failing_rule_set(&fix.failing.alloc, 0, 0, 0);
	assert_int_equal(fault(DATA, USER_WRITE), UMBRA_RESUME);
}

/* Below the quota too, a host without memory is answered by reuse of what there is. */
static void test_reuse(void **state)
{
	(void)state;
	build_spaces();
	load(0);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(fault(DATA + i * 0x1000, USER_WRITE), UMBRA_RESUME);
	failing_rule_set(&fix.failing.alloc, 0, 1, UMBRA_ENOMEM);
	for (unsigned i = 0; i < 5 * SPACES; i++) {
		load(i % SPACES);
		assert_int_equal(fault(DATA + i % 16 * 0x1000, USER_WRITE), UMBRA_RESUME);
		assert_sound();
	}
	assert_int_not_equal(fix.failing.alloc.fired, 0);
}

/* 20 PML4s, PDPTs and PDs above table 4, which maps gfns 0.. at 0. */
static void build_towers(void)
{
	for (unsigned i = 0; i < 20; i++) {
		*guest_entry(16 + i, 0) = (36 + i) << 12 | RIGHTS;
		*guest_entry(36 + i, 0) = (56 + i) << 12 | RIGHTS;
		*guest_entry(56 + i, 0) = 0x4000 | RIGHTS;
		*guest_entry(4, i) = i << 12 | RIGHTS;
	}
}

static void climb_towers(uint64_t quota)
{
	for (unsigned i = 0; i < 64; i++) {
		struct umbra_paging paging = long_mode_on;

		paging.cr3 = (16 + i % 20) << 12;
		assert_int_equal(umbra_vcpu_set_paging(fix.vcpu, &paging), 0);
		assert_int_equal(fault(0x5000, UMBRA_PF_U), UMBRA_RESUME);
		assert_true(used() <= quota);
		assert_sound();
	}
}

/* However many tables the guest uses, no more shadow pages than the quota stand. */
static void test_quota(void **state)
{
	const uint32_t quota = UMBRA_QUOTA_MIN;
	struct umbra_stats stats;
	uint64_t allocs;

	(void)state;
	build_towers();
	assert_int_equal(umbra_quota_set(fix.mmu, quota), 0);
	climb_towers(quota);
	umbra_stats_get(fix.mmu, &stats);
	assert_true(stats.shadow_pages_peak <= quota);
	assert_true(stats.shadow_pages_peak > quota / 2);
	assert_true(stats.shadow_reclaimed > 0);
	allocs = fix.failing.allocs;
	climb_towers(quota);
	assert_int_equal(fix.failing.allocs, allocs); /* nor does memory for them grow */
}

/* The same where shadow pages are left over from a time of plenty. */
static void test_quota_after_plenty(void **state)
{
	(void)state;
	build_towers();
	assert_int_equal(umbra_quota_set(fix.mmu, 1000), 0);
	climb_towers(1000);
	assert_true(used() > UMBRA_QUOTA_MIN);
	assert_int_equal(umbra_quota_set(fix.mmu, UMBRA_QUOTA_MIN), 0);
	climb_towers(UMBRA_QUOTA_MIN);
}

/* Long chains take descriptors, and give them back for the next ones. */
static void test_descriptors(void **state)
{
	uint64_t in_use = 0;

	(void)state;
	build_spaces();
	for (unsigned round = 0; round < 4; round++) {
		for (unsigned i = 0; i < 512; i++)
			guest_write(4, i, FIRST << 12 | RIGHTS);
		for (unsigned i = 0; i < 512; i++)
			assert_int_equal(fault(DATA + i * 0x1000, USER_WRITE), UMBRA_RESUME);
		assert_sound();
		umbra_zap_all(fix.mmu);
		assert_sound();
		if (round == 0)
			in_use = arena_in_use(fix.arena);
		assert_int_equal(arena_in_use(fix.arena), in_use);
	}
}

#define PATHS 12u /* pages that one instruction may touch, see UMBRA_QUOTA_MIN */

/* Tables of their own, of each level, for each page. */
static void build_paths(void)
{
	for (unsigned i = 0; i < PATHS; i++) {
		*guest_entry(1, i + 1) = (2 + i) << 12 | RIGHTS;
		*guest_entry(2 + i, 0) = (2 + PATHS + i) << 12 | RIGHTS;
		*guest_entry(2 + PATHS + i, 0) = (2 + 2 * PATHS + i) << 12 | RIGHTS;
		*guest_entry(2 + 2 * PATHS + i, 0) = (2 + 3 * PATHS + i) << 12 | RIGHTS;
	}
}

/* Run it from the start: true if it got through, else one fault was handled. */
static bool instruction(void)
{
	for (unsigned i = 0; i < 2 * PATHS; i++) { /* reads all, then writes all */
		uint64_t gva = (i % PATHS + 1ull) << 39, spte = spte_at(gva);

		if (spte & PTE_P && (i < PATHS || spte & PTE_W))
			continue;
		assert_int_equal(fault(gva, i < PATHS ? 0 : UMBRA_PF_W), UMBRA_RESUME);
		assert_sound();
		return false;
	}
	return true;
}

/* The smallest quota lets the longest instruction through, whatever stood there before. */
static void test_quota_suffices(void **state)
{
	struct umbra_root root;

	(void)state;
	build_paths();
	for (unsigned i = 0; i < 10; i++)
		*guest_entry(51 + i, 0) = *guest_entry(1, i + 1);
	assert_int_equal(umbra_quota_set(fix.mmu, UMBRA_QUOTA_MIN), 0);
	for (unsigned round = 0; round < 10; round++) {
		struct umbra_paging paging = long_mode_on;
		unsigned faults = 0;

		paging.cr3 = (51 + round) << 12;
		assert_int_equal(umbra_vcpu_set_paging(fix.vcpu, &paging), 0);
		assert_int_equal(fault(0, 0), UMBRA_RESUME);
		assert_int_equal(umbra_vcpu_set_paging(fix.vcpu, &long_mode_on), 0);
		assert_int_equal(umbra_vcpu_root(fix.vcpu, &root), 0);
		while (!instruction())
			assert_true(++faults < 200);
	}
}

/* One fault and its prefetch can make 64 chains outgrow their heads. */
static void test_prefetch(void **state)
{
	(void)state;
	fix.mmu->config.prefetch = 63;
	for (unsigned table = 8; table < 12; table++) {
		*guest_entry(3, table) = table << 12 | RIGHTS;
		for (unsigned i = 0; i < 64; i++)
			*guest_entry(table, i) = i << 12 | PTE_P | PTE_U | PTE_A;
	}
	for (unsigned i = 0; i < 64; i++)
		arena_page(fix.arena, (umbra_gfn){i});
	for (unsigned table = 8; table < 12; table++) {
		for (unsigned i = 0; i < 64 && table == 8; i++) /* prefetch wants heads there */
			assert_int_equal(fault(table << 21 | i << 12, UMBRA_PF_U), UMBRA_RESUME);
		assert_int_equal(fault(table << 21, UMBRA_PF_U), UMBRA_RESUME);
		assert_sound();
		for (unsigned i = 0; i < 64; i++)
			assert_int_equal(spte_at(table << 21 | i << 12) & PTE_P, PTE_P);
	}
}

/* A chain of thousands: more blocks of descriptors than one page of pointers names. */
static void test_long_chain(void **state)
{
	const unsigned tables = 24;

	(void)state;
	for (unsigned table = 0; table < tables; table++) {
		*guest_entry(3, 32 + table) = (32 + table) << 12 | RIGHTS;
		for (unsigned i = 0; i < PTE_ENTRIES; i++)
			*guest_entry(32 + table, i) = FIRST << 12 | RIGHTS;
	}
	for (unsigned table = 0; table < tables; table++)
		for (unsigned i = 0; i < PTE_ENTRIES; i++)
			assert_int_equal(fault((32 + table) << 21 | i << 12, UMBRA_PF_U),
					 UMBRA_RESUME);
	assert_sound();
	assert_int_equal(drop(FIRST, 1), tables * PTE_ENTRIES);
}

/* What is in stock is used before more is asked for. */
static void test_stock(void **state)
{
	uint64_t allocs;

	(void)state;
	assert_int_equal(fault(DATA, USER_WRITE), UMBRA_RESUME);
	assert_int_equal(fault(OTHER, USER_WRITE), UMBRA_RESUME);
	allocs = fix.failing.allocs;
	for (unsigned i = 0; i < 50; i++) {
		umbra_zap_all(fix.mmu);
		assert_int_equal(fault(DATA, USER_WRITE), UMBRA_RESUME);
		assert_int_equal(fault(OTHER, USER_WRITE), UMBRA_RESUME);
	}
	assert_int_equal(fix.failing.allocs, allocs);
	assert_sound();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    FIXTURE_TEST(test_each_allocation),
	    FIXTURE_TEST(test_every_nth),
	    FIXTURE_TEST(test_none),
	    FIXTURE_TEST(test_reuse),
	    FIXTURE_TEST(test_quota),
	    FIXTURE_TEST(test_quota_after_plenty),
	    FIXTURE_TEST(test_quota_suffices),
	    FIXTURE_TEST(test_prefetch),
	    FIXTURE_TEST(test_long_chain),
	    FIXTURE_TEST(test_descriptors),
	    FIXTURE_TEST(test_stock),
	};

	return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
