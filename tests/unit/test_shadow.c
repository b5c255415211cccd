/* SPDX-License-Identifier: BSD-2-Clause */
/* Tests of core/shadow.c: keys, links, taking down by page and by tree, the clock of reclaim. */
#include "fixture.h"

#define USER_WRITE (UMBRA_PF_U | UMBRA_PF_W)
#define CR0_WP     (1ull << 16)

static void touch(uint64_t gva)
{
	assert_int_equal(fault(gva, UMBRA_PF_U), UMBRA_RESUME);
	assert_sound();
}

/* As an operation does: take down, flush, and let the audit look. */
static void commit(struct flush *flush)
{
	flush_commit(fix.mmu, flush);
	assert_sound();
}

static uint64_t used(void)
{
	struct umbra_stats stats;

	umbra_stats_get(fix.mmu, &stats);
	return stats.shadow_pages;
}

/* One table reached on two ways with equal rights has one shadow page, with two parents. */
static void test_shared(void **state)
{
	(void)state;
	touch(DATA);
	touch(OTHER);
	assert_ptr_equal(shadow_at_level(DATA, 1), shadow_at_level(OTHER, 1));
	assert_ptr_not_equal(shadow_at_level(DATA, 2), shadow_at_level(OTHER, 2));
	assert_int_equal(rmap_count(shadow_at_level(DATA, 1)->parents), 2);
	assert_int_equal(used(), 5);
}

/* Whatever changes what a page means makes it another page. */
static void test_roles(void **state)
{
	struct umbra_paging paging = long_mode_on;
	struct shadow *first, *second;

	(void)state;
	*guest_entry(2, 1) &= ~PTE_W; /* OTHER: read-only from the second level on */
	touch(DATA);
	touch(OTHER);
	first = shadow_at_level(DATA, 1);
	second = shadow_at_level(OTHER, 1);
	assert_ptr_not_equal(first, second);
	assert_int_equal(second->role.access, ACCESS_U | ACCESS_X);
	assert_ptr_equal(shadow_find(fix.mmu, first->gfn, first->role), first);
	assert_ptr_equal(shadow_find(fix.mmu, first->gfn, second->role), second);
	paging.cr0 &= ~CR0_WP;
	assert_int_equal(umbra_vcpu_set_paging(fix.vcpu, &paging), 0);
	touch(DATA);
	assert_ptr_not_equal(shadow_at_level(DATA, 1), first);
	assert_int_equal(used(), 10);
}

/* "Who shadows this gfn" names every shadow page of a table once, and no direct page. */
static void test_shadows_of(void **state)
{
	unsigned found = 0;

	(void)state;
	*guest_entry(2, 1) &= ~PTE_W;
	*guest_entry(3, 0) = PTE_PS | RIGHTS; /* a direct page of gfns 0.. */
	touch(DATA);
	touch(OTHER);
	touch(FIRST << 12);
	for_each_shadow_of (fix.mmu, (umbra_gfn){4}, shadow) {
		assert_int_equal(shadow->gfn.n, 4);
		found++;
	}
	assert_int_equal(found, 2);
	assert_true(shadow_at_level(FIRST << 12, 1)->role.direct);
	assert_null(shadow_first_of(fix.mmu, (umbra_gfn){0}));
	assert_null(shadow_first_of(fix.mmu, (umbra_gfn){FIRST}));
}

/* Walk caches may hold a link that was cut. */
static void test_unlink(void **state)
{
	struct flush flush = {0};
	struct shadow *child;

	(void)state;
	touch(DATA);
	child = shadow_at_level(DATA, 1);
	assert_ptr_equal(shadow_unlink(fix.mmu, shadow_at_level(DATA, 2), 2, &flush), child);
	assert_int_equal(flush.vcpus, 1);
	assert_int_equal(flush.pages, 0);
	commit(&flush);
	assert_int_equal(child->state, SHADOW_USED);
	touch(DATA);
	assert_ptr_equal(shadow_at_level(DATA, 1), child); /* found again */
}

/* One page goes: no parent leads there, nothing it mapped is left; its neighbours stay. */
static void test_zap(void **state)
{
	struct flush flush = {0};
	uint64_t count;

	(void)state;
	touch(DATA);
	touch(DATA | 0x1000);
	touch(OTHER);
	shadow_zap(fix.mmu, shadow_at_level(DATA, 1), &flush);
	commit(&flush);
	assert_null(shadow_at_level(DATA, 1));
	assert_null(shadow_at_level(OTHER, 1));
	assert_non_null(shadow_at_level(OTHER, 2));
	assert_int_equal(used(), 4);
	assert_int_equal(umbra_rmap_count(fix.mmu, (umbra_gfn){FIRST}, &count), 0);
	assert_int_equal(count, 0);
	touch(OTHER); /* and everything comes back */
	touch(DATA | 0x1000);
	assert_int_equal(used(), 5);
}

/* A page's children stay for a later parent; with its tree they go, where nobody else leads. */
static void test_zap_tree(void **state)
{
	struct flush flush = {0};

	(void)state;
	touch(DATA);
	shadow_zap(fix.mmu, shadow_at_level(DATA, 2), &flush);
	commit(&flush);
	assert_int_equal(used(), 3);
	touch(DATA);
	touch(OTHER);
	shadow_zap_tree(fix.mmu, shadow_at_level(DATA, 2), &flush);
	commit(&flush);
	assert_int_equal(used(), 4); /* table 4 serves OTHER */
	assert_int_equal(spte_at(OTHER) & PTE_P, PTE_P);
	shadow_zap_tree(fix.mmu, shadow_at_level(OTHER, 3), &flush);
	commit(&flush);
	assert_int_equal(used(), 1); /* the root */
}

/* A root that goes is nobody's root any more, and is made anew when it is asked for. */
static void test_zap_root(void **state)
{
	struct flush flush = {0};
	struct umbra_root root;

	(void)state;
	touch(DATA);
	shadow_zap(fix.mmu, shadow_at_level(DATA, 4), &flush);
	commit(&flush);
	assert_int_equal(fix.vcpu->root[0], 0);
	assert_int_equal(umbra_vcpu_root(fix.vcpu, &root), 0);
	assert_int_equal(root.hpa, shadow_at_level(DATA, 4)->hpa);
	touch(DATA);
	assert_int_equal(used(), 4);
}

/* A zapped page is not used for anything else until its flush. */
static void test_pending(void **state)
{
	struct flush flush = {0};
	struct shadow *shadow;
	uint32_t free;

	(void)state;
	touch(DATA);
	free = fix.mmu->shadow_free_count;
	shadow = shadow_at_level(DATA, 1);
	shadow_zap(fix.mmu, shadow, &flush);
	assert_int_equal(shadow->state, SHADOW_PENDING);
	assert_int_equal(fix.mmu->shadow_free_count, free);
	assert_sound();
	commit(&flush);
	assert_int_equal(shadow->state, SHADOW_FREE);
	assert_int_equal(fix.mmu->shadow_free_count, free + 1);
}

/* Zap all: nothing is left, in one flush, and what comes back holds nothing of before. */
static void test_zap_all(void **state)
{
	unsigned flushes;

	(void)state;
	for (unsigned i = 0; i < 16; i++)
		touch(DATA + i * 0x1000);
	touch(OTHER);
	flushes = fix.flushes;
	umbra_zap_all(fix.mmu);
	assert_int_equal(fix.flushes, flushes + 1);
	assert_int_equal(used(), 0);
	assert_sound();
	touch(OTHER | 0x3000);
	assert_int_equal(used(), 4);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(!!spte_at(OTHER + i * 0x1000), i == 3);
}

/* Table 6 in place of 4 at OTHER: two ways with nothing in common below the second level. */
static void part(void)
{
	*guest_entry(5, 0) = 0x6000 | RIGHTS;
	*guest_entry(6, 0) = FIRST << 12 | RIGHTS;
	touch(DATA);
	touch(OTHER);
	assert_int_equal(used(), 6);
}

static void reclaim(uint64_t target)
{
	struct flush flush = {0};

	shadow_reclaim(fix.mmu, target, &flush);
	commit(&flush);
}

static void nobody_walked(void)
{
	for (uint32_t i = 0; i < fix.mmu->chunks.count << TUNING_CHUNK_SHIFT; i++) {
		struct shadow *shadow = shadow_of(fix.mmu, i);

		shadow->referenced = false;
		if (shadow->state == SHADOW_USED)
			rmap_age(fix.mmu, &shadow->parents, UINT32_MAX);
	}
}

/* The hardware's A bits, and the faults', tell who is in use. */
static void test_reclaim_idle(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		uint64_t busy = i ? DATA : OTHER, idle = i ? OTHER : DATA;

		part();
		nobody_walked();
		for (unsigned level = 2; level <= 4; level++)
			shadow_at_level(busy, level)->table[gva_index(busy, level)] |= PTE_A;
		reclaim(5);
		assert_int_equal(used(), 5);
		assert_int_equal(spte_at(busy) & PTE_P, PTE_P);
		assert_int_equal(spte_at(idle), 0);
		umbra_zap_all(fix.mmu);

		part();
		nobody_walked();
		for (unsigned level = 1; level <= 4; level++)
			shadow_at_level(busy, level)->referenced = true;
		reclaim(5);
		assert_int_equal(spte_at(busy) & PTE_P, PTE_P);
		assert_int_equal(spte_at(idle), 0);
		umbra_zap_all(fix.mmu);
	}
}

/* However busy all are, the target is reached; but a vcpu's root stays. */
static void test_reclaim_busy(void **state)
{
	struct umbra_stats stats;

	(void)state;
	part();
	reclaim(6);
	assert_int_equal(used(), 6);
	reclaim(3);
	assert_int_equal(used(), 3);
	reclaim(0);
	assert_int_equal(used(), 1);
	assert_int_not_equal(fix.vcpu->root[0], 0);
	umbra_stats_get(fix.mmu, &stats);
	assert_int_equal(stats.shadow_reclaimed, 5);
	assert_int_equal(stats.shadow_pages_peak, 6);
	touch(DATA);
	touch(OTHER);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    FIXTURE_TEST(test_shared),       FIXTURE_TEST(test_roles),
	    FIXTURE_TEST(test_shadows_of),   FIXTURE_TEST(test_unlink),
	    FIXTURE_TEST(test_zap),          FIXTURE_TEST(test_zap_tree),
	    FIXTURE_TEST(test_zap_root),     FIXTURE_TEST(test_pending),
	    FIXTURE_TEST(test_zap_all),      FIXTURE_TEST(test_reclaim_idle),
	    FIXTURE_TEST(test_reclaim_busy),
	};

	return cmocka_run_group_tests_name("shadow", tests, NULL, NULL);
}
