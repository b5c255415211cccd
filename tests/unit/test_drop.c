/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tests of core/drop.c through its callers' eyes: what a drop tells, what a host may rely on when
 * it returns, and that nothing comes back while it has given up the lock. (Which sptes of which
 * chains go is test_sweep.c's business.)
 */
#include <pthread.h>
#include <stdatomic.h>

#include "fixture.h"

#define ALIASES 16u
#define ROUNDS  400u

static struct umbra_dropped dropped_of(uint64_t gfn, uint64_t pages)
{
	struct umbra_dropped dropped;

	assert_int_equal(umbra_drop(fix.mmu, (umbra_gfn){gfn}, pages, &dropped), 0);
	assert_sound();
	return dropped;
}

/* Accessed by a read, dirty by a write, neither when nothing was mapped. */
static void test_accessed_dirty(void **state)
{
	struct umbra_dropped dropped;

	(void)state;
	dropped = dropped_of(FIRST, 1);
	assert_false(dropped.sptes || dropped.accessed || dropped.dirty);
	*guest_entry(4, 0) |= PTE_A;
	assert_int_equal(fault(DATA, UMBRA_PF_U), UMBRA_RESUME);
	dropped = dropped_of(FIRST, 1);
	assert_true(dropped.sptes == 1 && dropped.accessed && !dropped.dirty);
	assert_int_equal(fault(DATA, UMBRA_PF_U | UMBRA_PF_W), UMBRA_RESUME);
	dropped = dropped_of(FIRST, 1);
	assert_int_equal(dropped.sptes, 1);
	assert_true(dropped.accessed && dropped.dirty);
}

/* The right to write may come later than the spte, and go again. */
static void test_upgraded(void **state)
{
	(void)state;
	assert_int_equal(fault(DATA, UMBRA_PF_U), UMBRA_RESUME);
	assert_int_equal(fault(DATA, UMBRA_PF_U | UMBRA_PF_W), UMBRA_RESUME);
	assert_true(spte_at(DATA) & PTE_W);
	assert_true(dropped_of(FIRST, 1).dirty);
	assert_int_equal(spte_at(DATA), 0);
}

/* The flush comes once, after everything is gone, whatever the number of pieces. */
static void test_one_flush(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ALIASES; i++)
		assert_int_equal(fault(DATA + i * 4096ull, UMBRA_PF_U), UMBRA_RESUME);
	fix.flushes = 0;
	assert_int_equal(dropped_of(FIRST, ALIASES).sptes, ALIASES);
	assert_int_equal(fix.flushes, 1);
	assert_int_equal(fix.flushed.pages, 0);
	assert_int_equal(dropped_of(FIRST, ALIASES).sptes, 0);
	assert_int_equal(fix.flushes, 1);
}

/* Gaps between slots, and slots behind them. */
static void test_over_slots(void **state)
{
	const struct umbra_slot far = {.id = 7, .first = {1ull << 24}, .pages = 1ull << 20};

	(void)state;
	assert_int_equal(umbra_slot_add(fix.mmu, &far), 0);
	assert_int_equal(fault(DATA, UMBRA_PF_U), UMBRA_RESUME);
	assert_int_equal(dropped_of(0, 1ull << 40).sptes, 1);
	assert_int_equal(umbra_slot_delete(fix.mmu, 7), 0);
	assert_int_equal(umbra_slot_delete(fix.mmu, 7), UMBRA_ENOENT);
	assert_sound();
}

static unsigned
    held; /* of the pages of the drop, when it flushed; and of those around it, 100 each */

static void look_held(void)
{
	held = 0;
	for (unsigned i = 0; i < ALIASES; i++)
		held += drop_is_held(fix.mmu, FIRST + i, 1);
	held += 100u * drop_is_held(fix.mmu, FIRST - 1, 1);
	held += 100u * drop_is_held(fix.mmu, FIRST + ALIASES, 1);
}

/* While a drop may have given up the lock, nothing of its range is mapped, to the last page. */
static void test_held(void **state)
{
	(void)state;
	assert_int_equal(fault(DATA, UMBRA_PF_U), UMBRA_RESUME);
	fix.on_flush = look_held;
	dropped_of(FIRST, ALIASES);
	assert_int_equal(held, ALIASES);
	fix.on_flush = NULL;
	assert_false(drop_is_held(fix.mmu, 0, 1ull << 40));
}

/* From begin to end nobody maps anything there, whatever else begins and ends. */
static void test_invalidate(void **state)
{
	struct umbra_invalidation outer, inner;
	struct umbra_dropped dropped;

	(void)state;
	assert_int_equal(fault(DATA + 0x2000, UMBRA_PF_U | UMBRA_PF_W), UMBRA_RESUME);
	fix.flushes = 0;
	assert_int_equal(
	    umbra_invalidate_begin(fix.mmu, (umbra_gfn){FIRST}, UINT64_MAX, &outer, &dropped),
	    UMBRA_EINVAL);
	assert_int_equal(umbra_invalidate_begin(fix.mmu, (umbra_gfn){FIRST}, 8, &outer, &dropped),
			 0);
	assert_int_equal(dropped.sptes, 1);
	assert_true(dropped.dirty);
	assert_int_equal(fix.flushes, 1);
	assert_int_equal(fault(DATA + 0x2000, UMBRA_PF_U), UMBRA_RETRY);
	assert_int_equal(umbra_translate(fix.vcpu, DATA + 0x2000, UMBRA_PF_U).verdict, UMBRA_RETRY);
	assert_int_equal(umbra_invalidate_begin(fix.mmu, (umbra_gfn){FIRST + 2}, 8, &inner, NULL),
			 0);
	umbra_invalidate_end(fix.mmu, &outer);
	assert_int_equal(fault(DATA + 0x1000, UMBRA_PF_U), UMBRA_RESUME);
	assert_int_equal(fault(DATA + 0x2000, UMBRA_PF_U), UMBRA_RETRY);
	assert_int_equal(drop(FIRST, 1), 0); /* a neighbour was not mapped along */
	umbra_invalidate_end(fix.mmu, &inner);
	assert_int_equal(fault(DATA + 0x2000, UMBRA_PF_U), UMBRA_RESUME);
	assert_sound();
}

/* In pieces of few sptes (tuning/small), with one flush at the end. */
static void test_protected_in_pieces(void **state)
{
	uint64_t sptes;

	(void)state;
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(fault(DATA + i * 0x1000, UMBRA_PF_U | UMBRA_PF_W), UMBRA_RESUME);
	fix.flushes = 0;
	fix.on_flush = look_held;
	assert_int_equal(umbra_write_protect(fix.mmu, (umbra_gfn){FIRST}, ALIASES, &sptes), 0);
	fix.on_flush = NULL;
	assert_int_equal(held, ALIASES);
	assert_int_equal(sptes, 16);
	assert_int_equal(fix.flushes, 1);
	for (unsigned i = 0; i < 16; i++)
		assert_false(spte_at(DATA + i * 0x1000) & PTE_W);
	assert_int_equal(fault(DATA, UMBRA_PF_U | UMBRA_PF_W), UMBRA_RESUME);
	assert_sound();
}

static void test_some(void **state)
{
	struct umbra_range range = {{FIRST}, ALIASES};
	struct umbra_dropped dropped;
	uint64_t sptes = 0;

	(void)state;
	for (unsigned i = 0; i < ALIASES; i++)
		assert_int_equal(fault(DATA + i * 4096ull, UMBRA_PF_U), UMBRA_RESUME);
	while (range.pages) {
		assert_int_equal(umbra_drop_some(fix.mmu, &range, 2, &dropped), 0);
		assert_in_range(dropped.sptes, 0, 2);
		sptes += dropped.sptes;
		/* What it left is as it was, what it took is gone. */
		for (unsigned i = 0; i < ALIASES; i++)
			assert_int_equal(!spte_at(DATA + i * 4096ull), FIRST + i < range.first.n);
		assert_sound();
	}
	assert_int_equal(sptes, ALIASES);
}

/* ---- a vcpu that keeps coming while the host moves the page ---- */

static _Atomic bool done;

static void *guest_main(void *arg)
{
	unsigned *resumed = arg;

	for (unsigned i = 0; !atomic_load(&done); i++) {
		struct umbra_answer answer;

		answer = umbra_fault(fix.vcpu, DATA + i % ALIASES * 4096ull,
				     i & 1 ? UMBRA_PF_U : UMBRA_PF_U | UMBRA_PF_W);
		if (answer.verdict != UMBRA_RESUME && answer.verdict != UMBRA_RETRY)
			return "a good access was refused";
		*resumed += answer.verdict == UMBRA_RESUME;
	}
	return NULL;
}

static _Atomic unsigned found; /* sptes that stood there when the drop flushed */

/* Under the lock: nothing of the range is mapped at the moment of the drop's flush. */
static void look(void)
{
	for (unsigned i = 0; i < ALIASES; i++)
		found += spte_at(DATA + i * 4096ull) != 0;
}

/*
 * A range that is longer than a piece is dropped again and again. A page that went first must not
 * be mapped anew while the last ones go.
 */
static void test_dropped_under_a_guest(void **state)
{
	unsigned resumed = 0, sptes = 0;
	pthread_t thread;
	void *wrong;

	(void)state;
	atomic_store(&done, false);
	atomic_store(&found, 0);
	for (unsigned i = 0; i < ALIASES; i++)
		assert_int_equal(fault(DATA + i * 4096ull, UMBRA_PF_U), UMBRA_RESUME);
	fix.on_flush = look;
	assert_int_equal(pthread_create(&thread, NULL, guest_main, &resumed), 0);
	for (unsigned i = 0; i < ROUNDS; i++) {
		struct umbra_dropped dropped;
		struct umbra_stats stats;

		for (unsigned tries = 0; tries < 1000; tries++) {
			umbra_stats_get(fix.mmu, &stats);
			if (stats.sptes >= ALIASES)
				break;
			port_pause();
		}
		assert_int_equal(umbra_drop(fix.mmu, (umbra_gfn){FIRST}, ALIASES, &dropped), 0);
		sptes += (unsigned)dropped.sptes;
	}
	atomic_store(&done, true);
	pthread_join(thread, &wrong);
	assert_null(wrong);
	assert_int_equal(atomic_load(&found), 0);
	assert_true(sptes > ROUNDS && resumed + ALIASES >= sptes);
	assert_sound();
}

static struct umbra_invalidation gathered[2];

static void gather(unsigned which, uint64_t gfn)
{
	assert_int_equal(
	    umbra_invalidate_gather(fix.mmu, (umbra_gfn){gfn}, 1, &gathered[which], NULL), 0);
}

/* Two ranges, one flush; and none where nothing was there. */
static void test_gathered(void **state)
{
	(void)state;
	assert_int_equal(
	    umbra_invalidate_gather(fix.mmu, (umbra_gfn){FIRST}, UINT64_MAX, &gathered[0], NULL),
	    UMBRA_EINVAL);
	assert_int_equal(fault(DATA, UMBRA_PF_U), UMBRA_RESUME);
	assert_int_equal(fault(DATA + 0x1000, UMBRA_PF_U), UMBRA_RESUME);
	fix.flushes = 0;
	gather(0, FIRST);
	gather(1, FIRST + 1);
	assert_int_equal(fix.flushes, 0);
	assert_int_equal(fault(DATA, UMBRA_PF_U), UMBRA_RETRY);
	umbra_flush(fix.mmu);
	assert_int_equal(fix.flushes, 1);
	assert_int_equal(fix.flushed.pages, 0);
	umbra_flush(fix.mmu);
	umbra_invalidate_end(fix.mmu, &gathered[0]);
	assert_int_equal(fault(DATA, UMBRA_PF_U), UMBRA_RESUME);
	assert_int_equal(fault(DATA + 0x1000, UMBRA_PF_U), UMBRA_RETRY);
	umbra_invalidate_end(fix.mmu, &gathered[1]);
	assert_int_equal(fix.flushes, 1);
	assert_sound();
}

/* Whoever forgets to flush has it done before anything is mapped anew; once. */
static void test_gathered_and_ended(void **state)
{
	(void)state;
	assert_int_equal(fault(DATA, UMBRA_PF_U), UMBRA_RESUME);
	fix.flushes = 0;
	gather(0, FIRST);
	gather(1, FIRST + 1);
	umbra_invalidate_end(fix.mmu, &gathered[0]);
	assert_int_equal(fix.flushes, 1);
	umbra_invalidate_end(fix.mmu, &gathered[1]);
	assert_int_equal(fix.flushes, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    FIXTURE_TEST(test_accessed_dirty),
	    FIXTURE_TEST(test_upgraded),
	    FIXTURE_TEST(test_one_flush),
	    FIXTURE_TEST(test_over_slots),
	    FIXTURE_TEST(test_held),
	    FIXTURE_TEST(test_invalidate),
	    FIXTURE_TEST(test_gathered),
	    FIXTURE_TEST(test_gathered_and_ended),
	    FIXTURE_TEST(test_protected_in_pieces),
	    FIXTURE_TEST(test_some),
	    FIXTURE_TEST(test_dropped_under_a_guest),
	};

	return cmocka_run_group_tests_name("drop", tests, NULL, NULL);
}
