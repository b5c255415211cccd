/* SPDX-License-Identifier: BSD-2-Clause */
/* Tests of vmm/compact.c, and of what else is done to frames at the same time. */
#include "memory.h"
#include "pages.h"

#define WINDOW 0x400u /* gfn, of an aligned 2 MiB */
#define PAGES  512u

static void fill_window(unsigned i, uint64_t gfn)
{
	for (unsigned k = 0; k < PAGES; k++)
		fill(i, gfn + k, gfn * 1000 + k);
}

static void assert_window(unsigned i, uint64_t gfn)
{
	for (unsigned k = 0; k < PAGES; k++)
		assert_has(i, gfn + k, gfn * 1000 + k);
	assert_sound();
}

static void compact(unsigned pieces)
{
	assert_int_equal(compact_set(host, UMBRA_COMPACT_RATE_MAX, now), 0);
	while (pieces--) {
		compact_poll(host, HZ, now += HZ);
		if (pieces % 50 == 0)
			assert_sound();
	}
}

/* A window that is whole comes to lie side by side, and is mapped at once; others do not. */
static void test_collapse(void **state)
{
	(void)state;
	fill_window(0, WINDOW);
	fill_window(1, WINDOW + 512);
	for (unsigned k = 1; k < PAGES; k++)
		fill(1, WINDOW + k, k);
	compact(300);
	assert_int_equal(machine[0].collapsed, 1);
	assert_int_equal(machine[1].collapsed, 1);
	assert_int_equal(machine[0].blocks_built, 2);
	assert_true(machine[0].compacted + machine[1].compacted > 0);
	assert_int_equal(entry_of(0, WINDOW) % 512, 0);
	for (unsigned k = 0; k < PAGES; k++)
		assert_int_equal(entry_of(0, WINDOW + k), entry_of(0, WINDOW) + k);
	assert_window(0, WINDOW);
	assert_window(1, WINDOW + 512);
	assert_true(is_large(0, WINDOW + 100));
	assert_true(is_large(1, WINDOW + 512));
	assert_false(is_large(1, WINDOW + 1));
	fill(0, WINDOW + 7, WINDOW * 1000ull + 7);
	assert_true(is_large(0, WINDOW));
}

/* One page of it goes elsewhere: all of it is mapped in 4 KiB, until it is collapsed again. */
static void test_broken(void **state)
{
	uint64_t sptes, ticks;

	(void)state;
	fill_window(0, WINDOW);
	compact(300);
	assert_window(0, WINDOW);
	assert_true(is_large(0, WINDOW));
	assert_int_equal(memory_migrate(&vm[0], WINDOW + 300, &sptes, &ticks), 0);
	assert_int_equal(sptes, 1);
	assert_int_equal(machine[0].collapses_broken, 1);
	assert_window(0, WINDOW);
	assert_false(is_large(0, WINDOW));
	compact(300);
	assert_int_equal(machine[0].collapsed, 2);
	assert_window(0, WINDOW);
	assert_true(is_large(0, WINDOW + 300));
}

/* Pages that come to be shared break a window, and one with shared pages is not collapsed. */
static void test_merged(void **state)
{
	(void)state;
	fill_window(0, WINDOW);
	compact(300);
	fill(1, FIRST, WINDOW * 1000ull + 5);
	assert_int_equal(merge_set(host, UMBRA_MERGE_RATE_MAX, now), 0);
	merge_on(4000);
	assert_int_equal(host->frames.sharers, 2);
	assert_int_equal(machine[0].collapses_broken, 1);
	assert_window(0, WINDOW);
	compact(300);
	assert_int_equal(machine[0].collapsed, 1);
	assert_window(0, WINDOW);
	assert_has(1, FIRST, WINDOW * 1000ull + 5);
}

static void test_range(void **state)
{
	uint64_t moved = 0;

	(void)state;
	fill_window(0, WINDOW);
	fill_window(0, WINDOW + 512);
	assert_int_equal(compact_range(&vm[0], WINDOW + 1, 1024, &moved), 0);
	assert_int_equal(moved, 512);
	assert_window(0, WINDOW);
	assert_window(0, WINDOW + 512);
	assert_false(is_large(0, WINDOW));
	assert_true(is_large(0, WINDOW + 512));
	assert_int_equal(compact_set(host, UMBRA_COMPACT_RATE_MAX + 1, now), UMBRA_EINVAL);
}

/* Without room the daemon takes nothing, and what it has begun goes back. */
static void test_no_room(void **state)
{
	uint64_t pfn, moved = 0;
	size_t count;

	(void)state;
	fill_window(0, WINDOW);
	fill_window(1, WINDOW);
	count = host->frames.count;
	compact(2);
	assert_true(host->compact.builds);
	assert_true(host->frames.count < count);
	assert_int_equal(compact_set(host, 0, now), 0);
	assert_false(host->compact.builds);
	assert_int_equal(host->frames.count, count);
	assert_sound();
	while (host->frames.count > 1000)
		assert_true(frame_take(&host->frames, &pfn));
	count = host->frames.count;
	for (unsigned pieces = 0; pieces < 300; pieces++) {
		compact(1);
		assert_false(host->compact.builds);
		assert_int_equal(host->frames.count, count);
	}
	assert_int_equal(machine[0].collapsed, 0);
	assert_int_equal(compact_range(&vm[0], WINDOW, 512, &moved), UMBRA_ENOMEM);
	assert_window(0, WINDOW);
}

/* A guest ends while its frames are being moved. */
static void test_ends(void **state)
{
	(void)state;
	fill_window(0, WINDOW);
	fill_window(1, WINDOW);
	compact(6);
	memory_destroy(&vm[0]);
	compact(300);
	assert_int_equal(machine[1].collapsed, 1);
	assert_window(1, WINDOW);
}

#define STEPS 3000u

/* Writes, merging, compaction, migrations and drops in random order. */
static void test_random(void **state)
{
	static uint64_t value[GUESTS][PAGES];
	uint64_t sptes, ticks;

	(void)state;
	for (unsigned i = 0; i < GUESTS; i++)
		for (unsigned k = 0; k < PAGES; k++)
			fill(i, WINDOW + k, value[i][k] = i * 100000 + k);
	assert_int_equal(merge_set(host, UMBRA_MERGE_RATE_MAX, now), 0);
	compact(1);
	for (unsigned step = 0; step < STEPS; step++) {
		unsigned i = (unsigned)below(GUESTS), k = (unsigned)below(PAGES);

		switch (below(16)) {
		case 0: /* of which there may be two, for a while */
			fill(i, WINDOW + k, value[i][k] = 7000000 + below(3));
			break;
		case 1:
			fill(i, WINDOW + k, value[i][k] = 8000000 + step);
			break;
		case 2:
			if (below(10) == 0)
				assert_int_equal(memory_migrate(&vm[i], WINDOW + k, &sptes, &ticks),
						 0);
			break;
		case 3:
			assert_int_equal(mmu_drop(&vm[i], (umbra_gfn){WINDOW}, below(PAGES), NULL),
					 0);
			break;
		case 4:
			merge_on(1);
			break;
		case 5:
		case 6:
			assert_has(i, WINDOW + k, value[i][k]);
			break;
		default:
			for (unsigned pieces = 0; pieces < 20; pieces++)
				compact_poll(host, HZ, now += HZ);
		}
		if (step % 100 == 0)
			assert_sound();
		if (step % 1000 == 0) /* nothing is equal: windows can be collapsed again */
			for (unsigned p = 0; p < GUESTS * PAGES; p++)
				fill(p / PAGES, WINDOW + p % PAGES,
				     value[p / PAGES][p % PAGES] = step * 10000ull + p);
	}
	assert_true(machine[0].collapsed > 2 && machine[0].collapses_broken > 1);
	for (unsigned i = 0; i < GUESTS; i++)
		assert_each(i, WINDOW, PAGES, value[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_collapse, pages_setup, pages_teardown),
	    cmocka_unit_test_setup_teardown(test_broken, pages_setup, pages_teardown),
	    cmocka_unit_test_setup_teardown(test_merged, pages_setup, pages_teardown),
	    cmocka_unit_test_setup_teardown(test_range, pages_setup, pages_teardown),
	    cmocka_unit_test_setup_teardown(test_no_room, pages_setup, pages_teardown),
	    cmocka_unit_test_setup_teardown(test_ends, pages_setup, pages_teardown),
	    cmocka_unit_test_setup_teardown(test_random, pages_setup, pages_teardown),
	};

	return cmocka_run_group_tests_name("compact", tests, NULL, NULL);
}
