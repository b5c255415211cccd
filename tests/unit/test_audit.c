/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tests of core/audit.c: break one thing in a healthy MMU, and the audit must name the invariant
 * that is broken; mend it, and the audit must be content again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "guest.h"
#include "vcpu.h"

#define GVA 0x3000ull
#define PWU (REF_P | REF_W | REF_U)

static struct sim *sim;
static struct shadow *level[5]; /* the shadow pages above GVA */

static void put(uint64_t gpa, uint64_t entry)
{
	sim_device_write(sim, gpa, &entry, sizeof(entry));
}

static void touch(uint64_t gva, bool write)
{
	uint64_t word = 7;
	uint32_t code;

	assert_int_equal(
	    sim_access(&sim->cpu[0], gva, (struct ref_access){.write = write}, &word, &code),
	    SIM_DONE);
}

/* 1 -> 4 -> 8 -> 0x10; pages 0x40..0x47 at 0..7, the PT itself at 8, a read-only page at 9. */
static int setup(void **state)
{
	const struct sim_options options = {
	    .name = "audit",
	    .gfns = GUEST_GFNS,
	    .config = {.shadow_quota = 64, .prefetch = 0, .maxphyaddr = 40},
	};
	const struct umbra_paging paging = guest_long_mode(0x1000);

	(void)state;
	sim = sim_create(&options);
	guest_slots_add(sim);
	put(0x1000, 0x4000 | PWU);
	put(0x4000, 0x8000 | PWU);
	put(0x8000, 0x10000 | PWU);
	for (uint64_t i = 0; i < 8; i++)
		put(0x10000 + i * 8, (0x40 + i) << 12 | PWU);
	put(0x10040, 0x10000 | PWU | REF_A | REF_D);
	put(0x10048, 0x48000 | REF_P);
	sim_paging_set(&sim->cpu[0], &paging);
	for (uint64_t i = 0; i < 10; i++)
		touch(i << 12, i < 8);
	level[4] = shadow_of(sim->mmu, sim->cpu[0].vcpu->root[0]);
	for (unsigned i = 4; i > 1; i--)
		level[i - 1] = shadow_child(sim->mmu, level[i], 0);
	sim_check_audit(sim);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	sim_check_audit(sim);
	sim_destroy(sim);
	return 0;
}

static void assert_broken(unsigned invariant)
{
	struct umbra_audit report;

	assert_true(umbra_audit(sim->mmu, &report) > 0);
	assert_int_equal(report.invariant, invariant);
	assert_non_null(report.what);
}

/* Put @value where @word is, for one audit. */
#define broken(word, value, invariant)          \
	do {                                    \
		__typeof__(word) kept = (word); \
		(word) = (value);               \
		assert_broken(invariant);       \
		(word) = kept;                  \
		sim_check_audit(sim);           \
	} while (0)

static int (*frame_get)(void *ctx, umbra_gfn gfn, enum umbra_want want, struct umbra_frame *frame);
static uint64_t absent;

static int frame_get_but_one(void *ctx, umbra_gfn gfn, enum umbra_want want,
			     struct umbra_frame *frame)
{
	return gfn.n == absent ? UMBRA_ENOENT : frame_get(ctx, gfn, want, frame);
}

/* A guest table that the host swapped out cannot be compared, and is no violation. */
static void test_absent_table(void **state)
{
	static const uint64_t table[] = {0x1, 0x4, 0x8, 0x10};

	(void)state;
	frame_get = sim->mmu->host.frame_get;
	for (unsigned i = 0; i < 4; i++) {
		absent = table[i];
		assert_int_equal(umbra_drop(sim->mmu, (umbra_gfn){absent}, 1, NULL), 0);
		sim->mmu->host.frame_get = frame_get_but_one;
		sim_check_audit(sim);
		sim->mmu->host.frame_get = frame_get;
	}
}

static void test_lost_leaf(void **state)
{
	(void)state;
	broken(level[1]->table[3], 0, 1);
}

static void test_rubbish(void **state)
{
	(void)state;
	broken(level[1]->table[100], 0x1000, 1); /* not present, not 0 */
}

static void test_frame(void **state)
{
	umbra_pfn other;

	(void)state;
	assert_true(arena_frame_of(sim->arena, (umbra_gfn){0x44}, &other));
	broken(level[1]->table[3], (level[1]->table[3] & ~REF_ADDR) | other.n << 12, 2);
	broken(level[1]->table[3], level[1]->table[3] ^ 1ull << 40, 2);
}

static void test_rights(void **state)
{
	(void)state;
	broken(level[1]->table[9], level[1]->table[9] | REF_W | REF_D, 2);
	broken(level[1]->table[9], level[1]->table[9] | REF_U, 2);
	broken(level[1]->table[3], level[1]->table[3] & ~REF_D, 2);
}

static void test_tracked(void **state)
{
	(void)state;
	assert_false(level[1]->unsync);
	broken(level[1]->table[8], level[1]->table[8] | REF_W | REF_D, 3);
}

static void test_guest_changed(void **state)
{
	uint64_t *entries = arena_page(sim->arena, (umbra_gfn){0x10});
	uint64_t *upper = arena_page(sim->arena, (umbra_gfn){8});

	(void)state;
	broken(entries[3], 0, 2);
	broken(entries[3], entries[4], 2);
	broken(entries[3], entries[3] & ~REF_W, 2);
	broken(upper[0], 0, 5);
	broken(upper[0], upper[0] & ~REF_W, 5);
	broken(upper[0], upper[0] + 0x1000, 5);
}

static void test_links(void **state)
{
	(void)state;
	broken(level[2]->table[0], level[3]->hpa | PWU | REF_A, 5);
	broken(level[2]->table[0], 0, 1);
	broken(level[2]->gfn.n, 9, 5);
	broken(level[2]->role.word, level[2]->role.word ^ 1u << 3, 5);
}

static void test_places(void **state)
{
	(void)state;
	broken(level[1]->place[3], level[1]->place[4], 2);
}

static void test_watched(void **state)
{
	(void)state;
	assert_int_equal(umbra_watch(sim->mmu, (umbra_gfn){0x43}, UMBRA_WATCH_W), 0);
	sim_check_audit(sim);
	broken(level[1]->table[3], level[1]->table[3] | REF_W | REF_D, 8);
	broken(sim->mmu->watch[0].kinds, UMBRA_WATCH_X, 8);
	broken(sim->mmu->watch[0].kinds, UMBRA_WATCH_R, 8);
	assert_int_equal(umbra_watch(sim->mmu, (umbra_gfn){0x43}, 0), 0);
}

static void test_counters(void **state)
{
	struct umbra_mmu *mmu = sim->mmu;

	(void)state;
	broken(mmu->stats.sptes, mmu->stats.sptes + 1, 6);
	broken(mmu->stats.shadow_pages, 1, 6);
	broken(mmu->stats.descs, 99, 6);
	broken(mmu->desc_free_count[DESC_LARGE], mmu->desc_free_count[DESC_LARGE] - 1, 6);
	broken(mmu->shadow_free_count, mmu->shadow_free_count - 1, 6);
	broken(level[4]->roots, 0, 6);
	broken(mmu->stats.shadow_pages_unsync, 5, 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_absent_table, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_lost_leaf, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_rubbish, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_frame, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_rights, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_tracked, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_guest_changed, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_links, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_places, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_watched, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_counters, setup, teardown),
	};

	return cmocka_run_group_tests_name("audit", tests, NULL, NULL);
}
