/* SPDX-License-Identifier: BSD-2-Clause */
/* Tests of core/mmu.c: making and unmaking, the quota, counters. */
#include "fixture.h"

#define USER_WRITE (UMBRA_PF_U | UMBRA_PF_W)

static int create(const struct umbra_host *host, const struct umbra_config *config)
{
	struct umbra_mmu *mmu = NULL;
	int error = umbra_mmu_create(host, &fix.failing, config, &mmu);

	assert_int_equal(!mmu, error != 0);
	if (mmu)
		umbra_mmu_destroy(mmu);
	return error;
}

static void test_config(void **state)
{
	static const struct {
		struct umbra_config config;
		int result;
	} configs[] = {
	    {{.shadow_quota = UMBRA_QUOTA_MIN, .maxphyaddr = 32}, 0},
	    {{.shadow_quota = 1024, .maxphyaddr = 52, .prefetch = 64}, 0},
	    {{.shadow_quota = UMBRA_QUOTA_MIN - 1, .maxphyaddr = 40}, UMBRA_EINVAL},
	    {{.shadow_quota = UMBRA_QUOTA_MAX + 1, .maxphyaddr = 40}, UMBRA_EINVAL},
	    {{.shadow_quota = 1024, .maxphyaddr = 31}, UMBRA_EINVAL},
	    {{.shadow_quota = 1024, .maxphyaddr = 53}, UMBRA_EINVAL},
	    {{.shadow_quota = 1024, .maxphyaddr = 40, .prefetch = 65}, UMBRA_EINVAL},
	    {{.shadow_quota = 1024, .maxphyaddr = 40, .without = UMBRA_WITHOUT_UNSYNC}, 0},
	    {{.shadow_quota = 1024, .maxphyaddr = 40, .without = 4}, UMBRA_EINVAL},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(configs) / sizeof(configs[0]); i++)
		assert_int_equal(create(&fix.host, &configs[i].config), configs[i].result);
}

/* Each function of the host is needed, but for frame_move. */
static void test_host(void **state)
{
	const struct umbra_config config = {.shadow_quota = 64, .maxphyaddr = 40};
	struct umbra_host host;

	(void)state;
#define without(function)     \
	host = fix.host;      \
	host.function = NULL; \
	assert_int_equal(create(&host, &config), UMBRA_EINVAL)
	without(alloc);
	without(free);
	without(frame_get);
	without(frame_va);
	without(flush);
#undef without
	host = fix.host;
	host.frame_move = NULL;
	assert_int_equal(create(&host, &config), 0);
}

/* Each allocation of a new MMU fails once. */
static void test_no_memory(void **state)
{
	const struct umbra_config config = {.shadow_quota = 64, .maxphyaddr = 40};
	uint64_t before = arena_in_use(fix.arena);
	unsigned at;

	(void)state;
	for (at = 1;; at++) {
		failing_rule_set(&fix.failing.alloc, at, 0, UMBRA_ENOMEM);
		if (!create(&fix.host, &config))
			break;
		assert_int_equal(arena_in_use(fix.arena), before);
	}
	assert_true(at > 1);
	assert_int_equal(arena_in_use(fix.arena), before);
}

static uint64_t used(void)
{
	struct umbra_stats stats;

	umbra_stats_get(fix.mmu, &stats);
	return stats.shadow_pages;
}

/* PML4s at gfns 18.. over the fixture's tables: roots to fill a quota with. */
static void fill(unsigned roots)
{
	for (unsigned i = 0; i < roots; i++) {
		struct umbra_paging paging = long_mode_on;

		*guest_entry(18 + i, 0) |= 0x2000 | RIGHTS;
		paging.cr3 = (18 + i) << 12;
		assert_int_equal(umbra_vcpu_set_paging(fix.vcpu, &paging), 0);
		assert_int_equal(fault(DATA, UMBRA_PF_U), UMBRA_RESUME);
	}
	assert_sound();
}

static void test_quota_range(void **state)
{
	(void)state;
	assert_int_equal(umbra_quota_set(fix.mmu, UMBRA_QUOTA_MIN - 1), UMBRA_EINVAL);
	assert_int_equal(umbra_quota_set(fix.mmu, UMBRA_QUOTA_MAX + 1), UMBRA_EINVAL);
	assert_int_equal(umbra_quota_set(fix.mmu, 0), UMBRA_EINVAL);
	assert_int_equal(umbra_quota_set(fix.mmu, UMBRA_QUOTA_MIN), 0);
	assert_sound();
}

/* A lower quota holds when the function returns, after one flush; the root in use stays. */
static void test_quota_lowered(void **state)
{
	unsigned flushes;

	(void)state;
	assert_int_equal(umbra_quota_set(fix.mmu, 1000), 0);
	fill(60);
	assert_true(used() > UMBRA_QUOTA_MIN);
	flushes = fix.flushes;
	assert_int_equal(umbra_quota_set(fix.mmu, UMBRA_QUOTA_MIN), 0);
	assert_int_equal(fix.flushes, flushes + 1);
	assert_int_equal(used(), UMBRA_QUOTA_MIN);
	assert_int_not_equal(fix.vcpu->root[0], 0);
	assert_sound();
	assert_int_equal(umbra_quota_set(fix.mmu, UMBRA_QUOTA_MIN), 0);
	assert_int_equal(fix.flushes, flushes + 1); /* nothing to do */
	assert_int_equal(fault(DATA, USER_WRITE), UMBRA_RESUME);
}

/* A higher quota comes with a hash to match, without which nothing changes. */
static void test_quota_raised(void **state)
{
	struct umbra_paging wp_off = long_mode_on;
	const uint32_t raised = 6400;
	uint64_t spte;

	(void)state;
	fill(40);
	wp_off.cr0 &= ~(1ull << 16); /* the same tables in another role, in the same buckets */
	assert_int_equal(umbra_vcpu_set_paging(fix.vcpu, &wp_off), 0);
	assert_int_equal(fault(DATA, UMBRA_PF_U), UMBRA_RESUME);
	spte = spte_at(DATA);
	failing_rule_set(&fix.failing.alloc, 1, 0, UMBRA_ENOMEM);
	assert_int_equal(umbra_quota_set(fix.mmu, raised), UMBRA_ENOMEM);
	assert_int_equal(fix.mmu->config.shadow_quota, 64);
	assert_sound();
	assert_int_equal(umbra_quota_set(fix.mmu, raised), 0);
	assert_sound();
	assert_int_equal(spte_at(DATA), spte);
	assert_true(fix.mmu->hash_mask + 1ull >= TUNING_HASH_SIZE(raised));
	fill(60);
	failing_rule_set(&fix.failing.alloc, 0, 1, UMBRA_ENOMEM); /* needed no more */
	assert_int_equal(umbra_quota_set(fix.mmu, UMBRA_QUOTA_MIN), 0);
	assert_int_equal(umbra_quota_set(fix.mmu, raised), 0);
	assert_sound();
	failing_rule_set(&fix.failing.alloc, 0, 0, 0);
	assert_int_equal(umbra_quota_set(fix.mmu, 2 * raised), 0);
	assert_sound();
}

static uint64_t count(uint64_t gfn)
{
	uint64_t sptes = 99;

	assert_int_equal(umbra_rmap_count(fix.mmu, (umbra_gfn){gfn}, &sptes), 0);
	return sptes;
}

static void test_rmap_count(void **state)
{
	uint64_t sptes = 99;

	(void)state;
	assert_int_equal(count(FIRST), 0);
	for (unsigned i = 0; i < 9; i++) {
		*guest_entry(4, i) = FIRST << 12 | RIGHTS;
		assert_int_equal(fault(DATA + i * 0x1000, USER_WRITE), UMBRA_RESUME);
		assert_int_equal(count(FIRST), i + 1);
	}
	assert_int_equal(count(FIRST + 1), 0);
	assert_int_equal(umbra_rmap_count(fix.mmu, (umbra_gfn){GFNS}, &sptes), UMBRA_ENOENT);
	assert_int_equal(sptes, 99);
}

static void test_stats(void **state)
{
	struct umbra_stats stats;

	(void)state;
	for (unsigned i = 0; i < 5; i++) /* chains of 5, 1, 1, 1 */
		*guest_entry(4, i) = FIRST << 12 | RIGHTS;
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(fault(DATA + i * 0x1000, USER_WRITE), UMBRA_RESUME);
	assert_int_equal(fault(0x200000, 0), UMBRA_INJECT);
	guest_write(4, 9, 0x999000 | RIGHTS);
	assert_int_equal(fault(DATA | 0x9000, 0), UMBRA_MMIO);
	assert_int_equal(drop(FIRST + 7, 1), 1);
	umbra_stats_get(fix.mmu, &stats);
	assert_int_equal(stats.faults, 10);
	assert_int_equal(stats.verdicts[UMBRA_RESUME], 8);
	assert_int_equal(stats.verdicts[UMBRA_INJECT], 1);
	assert_int_equal(stats.verdicts[UMBRA_MMIO], 1);
	assert_int_equal(stats.shadow_pages, 4);
	assert_int_equal(stats.shadow_created, 4);
	assert_int_equal(stats.sptes, 7);
	assert_int_equal(stats.sptes_added, 8);
	assert_int_equal(stats.sptes_dropped, 1);
	assert_int_equal(stats.longest_chain, 5);
	assert_int_equal(stats.guest_writes, 1);
	assert_int_equal(stats.root_loads, 1);
	assert_int_equal(stats.rmap_histogram[0], 2);
	assert_int_equal(stats.rmap_histogram[1], 0);
	assert_int_equal(stats.rmap_histogram[2], 1);
}

/* A frame has to be one that an entry can name: 52 bits of address. */
static void test_remap_arguments(void **state)
{
	static const struct umbra_frame bad[] = {
	    {.pfn = {1ull << 40}},
	    {.pfn = {UINT64_MAX}},
	    {.pfn = {1}, .level = 2},
	    {.pfn = {0}, .level = 3},
	};
	struct umbra_frame to = {.writable = true};

	(void)state;
	assert_int_equal(fault(DATA, USER_WRITE), UMBRA_RESUME);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(umbra_remap(fix.mmu, (umbra_gfn){FIRST}, &bad[i], NULL),
				 UMBRA_EINVAL);
	assert_int_equal(fix.failing.moves, 0);
	assert_int_equal(spte_at(DATA) & PTE_P, PTE_P);
	assert_int_equal(arena_frame_reserve(fix.arena, &to.pfn), 0);
	assert_int_equal(umbra_remap(fix.mmu, (umbra_gfn){GFNS}, &to, NULL), UMBRA_ENOENT);
	assert_int_equal(umbra_remap(fix.mmu, (umbra_gfn){FIRST}, &to, NULL), 0);
	assert_sound();
	assert_int_equal(spte_at(DATA), 0);
	assert_int_equal(fault(DATA, USER_WRITE), UMBRA_RESUME);
	assert_int_equal((spte_at(DATA) & PTE_ADDRESS) >> 12, to.pfn.n);
}

static void test_audit(void **state)
{
	struct umbra_audit report;

	(void)state;
	assert_int_equal(fault(DATA, USER_WRITE), UMBRA_RESUME);
	*guest_entry(4, 0) = 0; /* and nobody says so */
	assert_true(umbra_audit(fix.mmu, &report) > 0);
	assert_int_equal(umbra_audit(fix.mmu, &report), report.violations);
	assert_int_equal(report.invariant, 2);
	assert_true(report.checks > 0);
	assert_int_equal(umbra_guest_write(fix.mmu, 0x4000, 8), 0);
	assert_sound();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    FIXTURE_TEST(test_config),          FIXTURE_TEST(test_host),
	    FIXTURE_TEST(test_no_memory),       FIXTURE_TEST(test_quota_range),
	    FIXTURE_TEST(test_quota_lowered),   FIXTURE_TEST(test_quota_raised),
	    FIXTURE_TEST(test_rmap_count),      FIXTURE_TEST(test_stats),
	    FIXTURE_TEST(test_remap_arguments), FIXTURE_TEST(test_audit),
	};

	return cmocka_run_group_tests_name("mmu", tests, NULL, NULL);
}
