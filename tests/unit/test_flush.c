/* SPDX-License-Identifier: BSD-2-Clause */
/* Tests of core/flush.c: whom the host is told to flush, when, and what waits for it. */
#include "fixture.h"

#define USER_WRITE (UMBRA_PF_U | UMBRA_PF_W)

static void touch(uint64_t gva)
{
	assert_int_equal(fault(gva, USER_WRITE), UMBRA_RESUME);
	assert_sound();
}

static struct umbra_vcpu *vcpu_add(uint32_t number)
{
	struct umbra_vcpu *vcpu;

	assert_int_equal(umbra_vcpu_create(fix.mmu, number, &vcpu), 0);
	return vcpu;
}

static void assert_flushed(uint64_t vcpus, uint64_t gva, uint64_t pages)
{
	assert_int_equal(fix.flushed.vcpus, vcpus);
	assert_int_equal(fix.flushed.gva, gva);
	assert_int_equal(fix.flushed.pages, pages);
}

/* One operation, one flush, however much it took away; none for nothing. */
static void test_once(void **state)
{
	struct umbra_stats stats;
	unsigned flushes;

	(void)state;
	vcpu_add(63);
	vcpu_add(5);
	for (unsigned i = 0; i < 8; i++)
		touch(DATA + i * 0x1000);
	touch(OTHER);
	flushes = fix.flushes;
	assert_int_equal(drop(FIRST, 8), 8);
	assert_int_equal(fix.flushes, flushes + 1);
	assert_flushed(1ull << 63 | 1 << 5 | 1, 0, 0);
	assert_int_equal(drop(FIRST, 8), 0);
	assert_int_equal(fix.flushes, flushes + 1);
	umbra_stats_get(fix.mmu, &stats);
	assert_int_equal(stats.flushes, fix.flushes);
}

/* INVLPG: that vcpu, that page; a CR3 load: that vcpu, everything. */
static void test_own(void **state)
{
	struct umbra_vcpu *vcpu = vcpu_add(9);

	(void)state;
	umbra_invlpg(vcpu, 0x7123);
	assert_flushed(1 << 9, 0x7000, 1);
	umbra_invlpg(fix.vcpu, 0xffffffffffffffff);
	assert_flushed(1, 0xfffffffffffff000, 1);
	assert_int_equal(umbra_vcpu_set_paging(vcpu, &long_mode_on), 0);
	assert_flushed(1 << 9, 0, 0);
}

/* What a guest took away itself may be in TLBs yet: a drop that finds nothing flushes for it. */
static void test_later(void **state)
{
	unsigned flushes;

	(void)state;
	touch(DATA);
	guest_write(4, 0, 0);
	assert_int_equal(spte_at(DATA), 0);
	flushes = fix.flushes;
	assert_int_equal(drop(FIRST, 1), 0);
	assert_int_equal(fix.flushes, flushes + 1);
	assert_flushed(1, 0, 0);
	drop(FIRST, 1);
	assert_int_equal(fix.flushes, flushes + 1);
}

/* That debt is each vcpu's own: paid by a flush of everything, not of a page. */
static void test_later_each(void **state)
{
	struct umbra_vcpu *vcpu = vcpu_add(1);
	unsigned flushes;

	(void)state;
	touch(DATA);
	guest_write(4, 0, 0);
	umbra_invlpg(fix.vcpu, DATA);
	umbra_invlpg(vcpu, DATA);
	flushes = fix.flushes;
	drop(FIRST, 1);
	assert_int_equal(fix.flushes, flushes + 1);

	guest_write(4, 1, (FIRST + 1) << 12 | RIGHTS);
	touch(DATA | 0x1000);
	guest_write(4, 1, 0);
	assert_int_equal(umbra_vcpu_set_paging(fix.vcpu, &long_mode_on), 0);
	flushes = fix.flushes;
	drop(FIRST, 1);
	assert_int_equal(fix.flushes, flushes + 1); /* for vcpu 1 */

	guest_write(4, 2, (FIRST + 2) << 12 | RIGHTS);
	touch(DATA | 0x2000);
	guest_write(4, 2, 0);
	assert_int_equal(umbra_vcpu_set_paging(fix.vcpu, &long_mode_on), 0);
	assert_int_equal(umbra_vcpu_set_paging(vcpu, &long_mode_on), 0);
	flushes = fix.flushes;
	drop(FIRST, 1);
	assert_int_equal(fix.flushes, flushes);
}

/* A vcpu that is gone owes nothing and is not named. */
static void test_gone(void **state)
{
	struct umbra_vcpu *vcpu = vcpu_add(1);
	unsigned flushes;

	(void)state;
	touch(DATA);
	guest_write(4, 0, 0);
	assert_int_equal(umbra_vcpu_set_paging(fix.vcpu, &long_mode_on), 0);
	umbra_vcpu_destroy(vcpu);
	flushes = fix.flushes;
	drop(FIRST, 1);
	assert_int_equal(fix.flushes, flushes);
	umbra_zap_all(fix.mmu);
	assert_flushed(1, 0, 0);
}

/* A page of one vcpu and another flush together are everything. */
static void test_gathering(void **state)
{
	struct umbra_vcpu *vcpu = vcpu_add(1);
	struct flush flush = {0};

	(void)state;
	flush_page(fix.vcpu, &flush, 0x5678);
	flush_page(vcpu, &flush, 0x5678);
	assert_true(flush_commit(fix.mmu, &flush));
	assert_flushed(3, 0, 0);
	assert_false(flush_commit(fix.mmu, &flush));
	flush_page(fix.vcpu, &flush, 0x1000);
	flush_all(fix.mmu, &flush);
	flush_commit(fix.mmu, &flush);
	assert_flushed(3, 0, 0);
	flush_vcpu(vcpu, &flush);
	flush_page(fix.vcpu, &flush, 0x1000);
	flush_commit(fix.mmu, &flush);
	assert_flushed(3, 0, 0);
	flush_page(fix.vcpu, &flush, 0x1000);
	flush_vcpu(fix.vcpu, &flush);
	flush_commit(fix.mmu, &flush);
	assert_flushed(1, 0, 0);
	flush.vcpus = UINT64_MAX; /* whoever is there */
	flush_commit(fix.mmu, &flush);
	assert_flushed(3, 0, 0);
}

/* Zapped pages are free after a flush of everything on every vcpu, and after nothing less. */
static void test_pending(void **state)
{
	struct umbra_vcpu *vcpu = vcpu_add(1);
	struct flush flush = {0}, other = {0};

	(void)state;
	touch(DATA);
	shadow_zap(fix.mmu, shadow_at_level(DATA, 1), &flush);
	assert_int_equal(fix.mmu->shadow_pending_count, 1);
	flush_vcpu(vcpu, &other);
	flush_commit(fix.mmu, &other);
	flush_page(vcpu, &other, DATA);
	flush_commit(fix.mmu, &other);
	other = (struct flush){.vcpus = 3, .gva = DATA, .pages = 1};
	flush_commit(fix.mmu, &other);
	assert_int_equal(fix.mmu->shadow_pending_count, 1);
	assert_sound();
	flush_commit(fix.mmu, &flush);
	assert_int_equal(fix.mmu->shadow_pending_count, 0);
	assert_sound();
}

/* Without vcpus nobody is called, and nothing waits. */
static void test_nobody(void **state)
{
	unsigned flushes;

	(void)state;
	touch(DATA);
	umbra_vcpu_destroy(fix.vcpu);
	flushes = fix.flushes;
	assert_int_equal(drop(0, GFNS), 1);
	umbra_zap_all(fix.mmu);
	assert_int_equal(fix.flushes, flushes);
	assert_int_equal(fix.mmu->shadow_pending_count, 0);
	assert_sound();
	fix.vcpu = vcpu_add(0);
	assert_int_equal(umbra_vcpu_set_paging(fix.vcpu, &long_mode_on), 0);
	touch(DATA);
}

/* The flush comes after the last spte is gone, or a TLB could take it up again. */
static void is_gone(void)
{
	assert_int_equal(spte_at(DATA), 0);
	fix.on_flush = NULL;
}

static void test_order(void **state)
{
	(void)state;
	touch(DATA);
	fix.on_flush = is_gone;
	assert_int_equal(drop(FIRST, 1), 1);
	assert_null(fix.on_flush);
}

/* A page that becomes a table is flushed even if its W went without one: TLBs may have it. */
static void test_later_protects(void **state)
{
	unsigned flushes;

	(void)state;
	*guest_entry(4, 1) = 0x6000 | RIGHTS;
	touch(DATA | 0x1000);
	guest_write(4, 1, 0); /* no spte is left, but the TLB's translation is */
	*guest_entry(5, 1) = 0x6000 | RIGHTS;
	*guest_entry(6, 0) = FIRST << 12 | RIGHTS;
	flushes = fix.flushes;
	touch(OTHER | 0x200000);
	assert_true(fix.flushes > flushes);
	assert_flushed(1, 0, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    FIXTURE_TEST(test_once),    FIXTURE_TEST(test_own),
	    FIXTURE_TEST(test_later),   FIXTURE_TEST(test_later_each),
	    FIXTURE_TEST(test_gone),    FIXTURE_TEST(test_gathering),
	    FIXTURE_TEST(test_pending), FIXTURE_TEST(test_nobody),
	    FIXTURE_TEST(test_order),   FIXTURE_TEST(test_later_protects),
	};

	return cmocka_run_group_tests_name("flush", tests, NULL, NULL);
}
