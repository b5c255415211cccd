/* SPDX-License-Identifier: BSD-2-Clause */
/* Tests of core/track.c and sync.c: who may write a guest table when, and that what was written
 * counts. */
#include "fixture.h"

#define USER_WRITE (UMBRA_PF_U | UMBRA_PF_W)
#define WINDOW     (DATA | 0xf000) /* where entry 15 of table 4 maps table 4 itself */

static void touch(uint64_t gva, uint32_t code)
{
	assert_int_equal(fault(gva, code), UMBRA_RESUME);
	assert_sound();
}

static struct umbra_stats stats(void)
{
	struct umbra_stats stats;

	umbra_stats_get(fix.mmu, &stats);
	return stats;
}

static void load(uint64_t cr3)
{
	struct umbra_paging paging = long_mode_on;

	paging.cr3 = cr3;
	assert_int_equal(umbra_vcpu_set_paging(fix.vcpu, &paging), 0);
	assert_sound();
}

static bool is_unsync(void)
{
	return shadow_first_of(fix.mmu, (umbra_gfn){4})->unsync;
}

/* Table 4 is shadowed, can be reached at WINDOW, and its first write has let it go unsync. */
static void make_unsync(void)
{
	*guest_entry(4, 15) = 0x4000 | RIGHTS;
	touch(DATA, USER_WRITE);
	touch(WINDOW, UMBRA_PF_U);
	assert_int_equal(spte_at(WINDOW) & PTE_W, 0);
	touch(WINDOW, USER_WRITE);
	assert_int_equal(spte_at(WINDOW) & PTE_W, PTE_W);
	assert_true(is_unsync());
}

/* Whoever mapped a page writable loses W when it becomes a table, after a flush. */
static void test_protected_when_shadowed(void **state)
{
	unsigned flushes;

	(void)state;
	*guest_entry(4, 1) = 0x6000 | RIGHTS;
	touch(DATA | 0x1000, USER_WRITE);
	*guest_entry(5, 1) = 0x6000 | RIGHTS;
	*guest_entry(6, 0) = (FIRST + 9) << 12 | RIGHTS;
	flushes = fix.flushes;
	touch(OTHER | 0x200000, UMBRA_PF_U);
	assert_int_equal(spte_at(DATA | 0x1000) & (PTE_P | PTE_W), PTE_P);
	assert_true(fix.flushes > flushes);
	assert_int_equal(fix.flushed.vcpus, 1);
	assert_int_equal(fix.flushed.pages, 0);
}

/* The last level is written without exits; a CR3 load makes it count. */
static void test_cr3_load_syncs(void **state)
{
	(void)state;
	for (unsigned i = 1; i < 5; i++)
		touch(DATA + i * 0x1000, USER_WRITE);
	make_unsync();
	*guest_entry(4, 0) = 0;
	*guest_entry(4, 1) = (FIRST + 7) << 12 | RIGHTS | PTE_A | PTE_D;
	*guest_entry(4, 2) &= ~PTE_W;
	*guest_entry(4, 3) &= ~PTE_U;
	*guest_entry(4, 4) |= PTE_NX;
	load(0x1000);
	assert_int_equal(spte_at(DATA), 0);
	assert_int_equal(spte_at(DATA | 0x1000), 0);
	assert_int_equal(spte_at(DATA | 0x2000) & (PTE_P | PTE_W), PTE_P);
	assert_int_equal(spte_at(DATA | 0x3000), 0);
	assert_int_equal(spte_at(DATA | 0x4000), 0);
	assert_int_equal(fault(DATA, UMBRA_PF_U), UMBRA_INJECT);
	touch(DATA | 0x1000, USER_WRITE);
	assert_int_equal(fault(DATA | 0x2000, USER_WRITE), UMBRA_INJECT);
}

/* An entry that loses D must fault on its next write, or the guest would lose that D. */
static void test_clean_again(void **state)
{
	(void)state;
	make_unsync();
	*guest_entry(4, 0) &= ~PTE_D;
	load(0x1000);
	assert_int_equal(spte_at(DATA) & (PTE_P | PTE_W), PTE_P);
	touch(DATA, USER_WRITE);
	assert_int_equal(*guest_entry(4, 0) & PTE_D, PTE_D);
}

/* INVLPG makes one entry count, and no other. */
static void test_invlpg(void **state)
{
	(void)state;
	touch(DATA | 0x1000, USER_WRITE);
	make_unsync();
	*guest_entry(4, 0) = 0;
	*guest_entry(4, 1) = 0;
	umbra_invlpg(fix.vcpu, DATA | 0x123);
	assert_sound();
	assert_int_equal(spte_at(DATA), 0);
	assert_int_equal(spte_at(DATA | 0x1000) & PTE_P, PTE_P);
	assert_int_equal(fix.flushed.pages, 1);
	assert_int_equal(fix.flushed.gva, DATA);
	umbra_invlpg(fix.vcpu, OTHER); /* where nothing is */
	umbra_invlpg(fix.vcpu, 0x7fff00000000);
	assert_sound();
	assert_int_equal(spte_at(DATA | 0x1000) & PTE_P, PTE_P);
}

/* A table found unchanged is write-protected again; a changed one is left alone. */
static void test_protected_again(void **state)
{
	(void)state;
	make_unsync();
	for (unsigned i = 0; i < 3; i++) {
		*guest_entry(4, 1) ^= 1ull << 9;
		touch(DATA | 0x1000, UMBRA_PF_U);
		*guest_entry(4, 1) ^= PTE_U; /* a finding, each time */
		load(0x1000);
		*guest_entry(4, 1) ^= PTE_U;
		assert_true(is_unsync());
		assert_int_equal(spte_at(WINDOW) & PTE_W, PTE_W);
	}
	for (unsigned i = 0; i < TUNING_CLEAN_SYNCS; i++) {
		load(0x1000);
		assert_true(is_unsync());
	}
	touch(DATA | 0x1000, UMBRA_PF_U);
	*guest_entry(4, 1) ^= PTE_U; /* a finding starts the count again */
	load(0x1000);
	*guest_entry(4, 1) ^= PTE_U;
	for (unsigned i = 0; i < TUNING_CLEAN_SYNCS; i++) {
		load(0x1000);
		assert_true(is_unsync());
	}
	load(0x1000);
	assert_false(is_unsync());
	assert_int_equal(spte_at(WINDOW) & PTE_W, 0);
	assert_int_equal(stats().shadow_pages_unsync, 0);
	touch(WINDOW, USER_WRITE);
	assert_true(is_unsync());
}

static void clear_last(void)
{
	*guest_entry(4, 1) = 0;
	fix.on_flush = NULL;
}

/* What is written until the protection is flushed is seen, by the fault that asked for it too. */
static void test_changed_before_protection(void **state)
{
	(void)state;
	make_unsync();
	for (unsigned i = 0; i < TUNING_CLEAN_SYNCS; i++)
		load(0x1000);
	fix.on_flush = clear_last;
	assert_int_equal(fault(OTHER | 0x1000, UMBRA_PF_U), UMBRA_INJECT);
	assert_null(fix.on_flush);
	assert_sound();
}

/* Linked anew, an unsync table counts as it is now. */
static void test_linked_anew(void **state)
{
	(void)state;
	touch(DATA | 0x1000, USER_WRITE);
	make_unsync();
	*guest_entry(4, 1) = 0;
	touch(OTHER, UMBRA_PF_U);
	assert_int_equal(spte_at(OTHER | 0x1000), 0);
	assert_int_equal(fault(OTHER | 0x1000, UMBRA_PF_U), UMBRA_INJECT);
}

/* Only what can be reached from the loaded root is looked at. */
static void test_other_root(void **state)
{
	uint64_t syncs;

	(void)state;
	make_unsync();
	*guest_entry(6, 0) = 0x7000 | RIGHTS;
	*guest_entry(7, 0) = 0x8000 | RIGHTS;
	*guest_entry(8, 0) = 0x9000 | RIGHTS;
	*guest_entry(9, 0) = FIRST << 12 | RIGHTS;
	load(0x6000);
	touch(0, UMBRA_PF_U);
	syncs = stats().syncs;
	load(0x6000);
	assert_int_equal(stats().syncs, syncs);
	load(0x1000);
	assert_int_equal(stats().syncs, syncs + 1);
}

/* A table with many parents is looked at whatever is loaded: too often is right, too rarely not. */
static void test_many_parents(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		*guest_entry(3, 8 + i) = 0x4000 | RIGHTS;
		touch(0x1000000 + i * 0x200000, UMBRA_PF_U);
	}
	make_unsync();
	*guest_entry(4, 0) = 0;
	load(0x1000);
	assert_int_equal(spte_at(DATA), 0);
	assert_int_equal(spte_at(0x1600000), 0);
}

/* All shadow pages of a table go unsync together, and are synchronised together. */
static void test_two_roles(void **state)
{
	(void)state;
	*guest_entry(5, 0) &= ~PTE_W;
	*guest_entry(4, 0) |= PTE_A | PTE_D;
	touch(OTHER, UMBRA_PF_U);
	make_unsync();
	assert_ptr_not_equal(shadow_at_level(DATA, 1), shadow_at_level(OTHER, 1));
	assert_int_equal(stats().shadow_pages_unsync, 2);
	*guest_entry(4, 0) = 0;
	load(0x1000);
	assert_int_equal(spte_at(DATA), 0);
	assert_int_equal(spte_at(OTHER), 0);
}

/* A shadow page that goes while it is unsync is no longer waited for. */
static void test_unsync_zapped(void **state)
{
	(void)state;
	make_unsync();
	assert_int_equal(umbra_unprotect(fix.mmu, (umbra_gfn){4}), 1);
	assert_sound();
	assert_int_equal(stats().shadow_pages_unsync, 0);
	make_unsync();
	umbra_zap_all(fix.mmu);
	assert_sound();
	assert_int_equal(stats().shadow_pages_unsync, 0);
	load(0x1000);
}

/* Upper tables are never unsync: not even one that is a last-level table elsewhere. */
static void test_upper(void **state)
{
	(void)state;
	*guest_entry(4, 1) = 0x5000 | RIGHTS;
	touch(OTHER, UMBRA_PF_U); /* 5 is a PD there, */
	*guest_entry(3, 3) = 0x5000 | RIGHTS;
	touch(0x600000, UMBRA_PF_U); /* and a last-level table here */
	assert_int_equal(fault(DATA | 0x1000, USER_WRITE), UMBRA_EMULATE);
	assert_sound();
	assert_int_equal(stats().unsyncs, 0);
}

/* A write to an upper entry: its link is cut, and the tree below goes if nobody else has it. */
static void test_upper_written(void **state)
{
	(void)state;
	touch(DATA, UMBRA_PF_U);
	touch(OTHER, UMBRA_PF_U);
	guest_write(3, 2, *guest_entry(3, 2) | 1ull << 9); /* nothing that counts */
	assert_sound();
	assert_non_null(shadow_at_level(DATA, 1));
	touch(DATA, UMBRA_PF_U);
	guest_write(3, 2, *guest_entry(3, 2) & ~PTE_W);
	assert_sound();
	assert_null(shadow_at_level(DATA, 1));
	assert_non_null(shadow_at_level(OTHER, 1));
	guest_write(2, 1, 0);
	assert_sound();
	assert_null(shadow_first_of(fix.mmu, (umbra_gfn){5}));
	assert_null(shadow_first_of(fix.mmu, (umbra_gfn){4}));
}

/* Which entries a write touches: from its first byte to its last. */
static void test_extent(void **state)
{
	static const struct {
		unsigned at, length, first, last;
	} writes[] = {{0, 1, 0, 0}, {7, 1, 0, 0},  {7, 2, 0, 1},
		      {8, 8, 1, 1}, {15, 1, 1, 1}, {12, 16, 1, 3}};

	(void)state;
	for (unsigned i = 0; i < sizeof(writes) / sizeof(writes[0]); i++) {
		for (unsigned j = 0; j < 4; j++) {
			*guest_entry(4, j) = (FIRST + j) << 12 | RIGHTS | PTE_A;
			touch(DATA + j * 0x1000, UMBRA_PF_U);
		}
		for (unsigned j = 0; j < 4; j++)
			*guest_entry(4, j) = 0;
		assert_int_equal(
		    umbra_guest_write(fix.mmu, 0x4000 + writes[i].at, writes[i].length), 0);
		for (unsigned j = 0; j < 4; j++)
			assert_int_equal(!spte_at(DATA + j * 0x1000),
					 j >= writes[i].first && j <= writes[i].last);
		assert_int_equal(umbra_guest_write(fix.mmu, 0x4000, 32), 0);
		assert_sound();
		umbra_zap_all(fix.mmu);
	}
}

static void test_write_arguments(void **state)
{
	(void)state;
	touch(DATA, UMBRA_PF_U);
	*guest_entry(4, 0) = 0;
	assert_int_equal(umbra_guest_write(fix.mmu, 0x4001, 4096), UMBRA_EINVAL);
	assert_int_equal(umbra_guest_write(fix.mmu, 0x4000, 4097), UMBRA_EINVAL);
	assert_int_equal(umbra_guest_write(fix.mmu, 0x4fff, SIZE_MAX), UMBRA_EINVAL);
	assert_int_equal(umbra_guest_write(fix.mmu, 0x4000, 0), 0);
	assert_int_not_equal(spte_at(DATA), 0);
	assert_int_equal(umbra_guest_write(fix.mmu, 0x4000, 4096), 0);
	assert_int_equal(spte_at(DATA), 0);
	assert_sound();
	assert_int_equal(umbra_guest_write(fix.mmu, UINT64_MAX & ~7ull, 8), 0); /* no memory */
	assert_int_equal(stats().guest_writes, 1);
}

/* A table that nothing leads to is given up at its first write. */
static void test_orphan(void **state)
{
	struct flush flush = {0};

	(void)state;
	touch(DATA, UMBRA_PF_U);
	shadow_unlink(fix.mmu, shadow_at_level(DATA, 2), 2, &flush);
	flush_commit(fix.mmu, &flush);
	assert_non_null(shadow_first_of(fix.mmu, (umbra_gfn){4}));
	guest_write(4, 100, 0);
	assert_sound();
	assert_null(shadow_first_of(fix.mmu, (umbra_gfn){4}));
	assert_int_equal(stats().shadow_flooded, 1);
}

/* Written TUNING_FLOOD_WRITES times and not walked in between: no table any more. */
static void test_flood(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 3; round++) {
		touch(DATA + round * 0x1000, UMBRA_PF_U);
		for (unsigned i = 1; i < TUNING_FLOOD_WRITES; i++)
			guest_write(4, 100 + i, 0);
		assert_sound();
		assert_non_null(shadow_at_level(DATA, 1));
	}
	guest_write(4, 100, 0);
	assert_sound();
	assert_null(shadow_at_level(DATA, 1));
	assert_int_equal(stats().shadow_flooded, 1);
	touch(DATA, UMBRA_PF_U);
	for (unsigned i = 0; i < TUNING_FLOOD_WRITES; i++)
		guest_write(3, 100, 0);
	assert_sound();
	assert_null(shadow_first_of(fix.mmu, (umbra_gfn){3}));
	assert_null(shadow_first_of(fix.mmu, (umbra_gfn){4})); /* nor what only it led to */
}

/* A guest may write a table that is not shadowed any more. */
static void test_unprotect(void **state)
{
	(void)state;
	*guest_entry(4, 1) = 0x5000 | RIGHTS;
	touch(OTHER, UMBRA_PF_U);
	touch(DATA | 0x1000, UMBRA_PF_U);
	assert_int_equal(fault(DATA | 0x1000, USER_WRITE), UMBRA_EMULATE);
	assert_int_equal(umbra_unprotect(fix.mmu, (umbra_gfn){5}), 1);
	assert_sound();
	assert_int_equal(umbra_unprotect(fix.mmu, (umbra_gfn){5}), 0);
	touch(DATA | 0x1000, USER_WRITE);
	*guest_entry(5, 0) = 0;
	assert_int_equal(fault(OTHER, UMBRA_PF_U), UMBRA_INJECT);
	*guest_entry(5, 0) = 0x4000 | PTE_P | PTE_U;
	touch(OTHER, UMBRA_PF_U); /* one more shadow page of table 4, with less rights */
	assert_int_equal(umbra_unprotect(fix.mmu, (umbra_gfn){4}), 2);
	assert_sound();
	assert_int_equal(umbra_unprotect(fix.mmu, (umbra_gfn){FIRST}), 0);
	assert_int_equal(umbra_unprotect(fix.mmu, (umbra_gfn){UINT64_MAX}), 0);
}

/*
 * A table of 8-byte entries that is one of 4-byte entries too: accessed and dirty bits of the upper
 * half are address bits to the other one.
 */
static void test_two_formats(void **state)
{
	const struct umbra_paging legacy = {.cr0 = 1ull << 31 | 1ull << 16, .cr3 = 0x6000};
	const uint64_t gva = DATA | 3 << 12;

	(void)state;
	*guest_entry(4, 3) = RIGHTS << 32 | FIRST << 12 | RIGHTS;
	*guest_entry(6, 0) = 0x4000 | RIGHTS;
	assert_int_equal(fault(gva, UMBRA_PF_U), UMBRA_MMIO);
	assert_true(is_note(spte_at(gva)));
	assert_int_equal(umbra_vcpu_set_paging(fix.vcpu, &legacy), 0);
	assert_int_equal(fault(7 << 12, UMBRA_PF_U | UMBRA_PF_W), UMBRA_RESUME);
	assert_int_equal(*guest_entry(4, 3) >> 32, RIGHTS | PTE_A | PTE_D);
	assert_sound();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    FIXTURE_TEST(test_protected_when_shadowed),
	    FIXTURE_TEST(test_cr3_load_syncs),
	    FIXTURE_TEST(test_clean_again),
	    FIXTURE_TEST(test_invlpg),
	    FIXTURE_TEST(test_protected_again),
	    FIXTURE_TEST(test_changed_before_protection),
	    FIXTURE_TEST(test_linked_anew),
	    FIXTURE_TEST(test_other_root),
	    FIXTURE_TEST(test_many_parents),
	    FIXTURE_TEST(test_two_roles),
	    FIXTURE_TEST(test_unsync_zapped),
	    FIXTURE_TEST(test_upper),
	    FIXTURE_TEST(test_upper_written),
	    FIXTURE_TEST(test_extent),
	    FIXTURE_TEST(test_write_arguments),
	    FIXTURE_TEST(test_orphan),
	    FIXTURE_TEST(test_flood),
	    FIXTURE_TEST(test_unprotect),
	    FIXTURE_TEST(test_two_formats),
	};

	return cmocka_run_group_tests_name("track", tests, NULL, NULL);
}
