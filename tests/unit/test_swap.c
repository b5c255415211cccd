/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tests of swapping: vmm/swap.c and memory.c on the real library, in user space, with a file in
 * memory (fake_hostio.c). One guest has 16 MiB, the machine some frames less.
 */
#include "compact.h"
#include "fake_hostio.h"
#include "memory.h"
#include "pages.h"
#include "string.h"

#define FRAMES 512u
#define SLOTS  992u /* of the file */

static int setup(void **state)
{
	(void)state;
	pages_begin(1, FRAMES, SLOTS);
	return 0;
}

/* So many that 2 MiB can lie side by side. */
static int setup_large(void **state)
{
	(void)state;
	pages_begin(1, 8 * FRAMES, SLOTS);
	return 0;
}

static int teardown(void **state)
{
	memory_destroy(&vm[0]);
	assert_int_equal(host->frames.count, host->frames.given);
	assert_int_equal(machine[0].swap.used, 0);
	return pages_teardown(state);
}

static bool is_out(uint64_t gfn)
{
	return entry_of(0, gfn) & MEMORY_SWAPPED;
}

/* Everything goes that can. */
static void all_out(void)
{
	for (unsigned i = 0; i < 8; i++)
		swap_reclaim(host, MEMORY / UMBRA_PAGE_SIZE);
}

/* ------------------------------------------------------------------ tests */

static void test_out_and_in(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 100; i++)
		fill(0, FIRST + i, i % 4 * 1000);
	all_out();
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(is_out(FIRST + i), i % 4 != 0);
		assert_false(memory_has_frame(entry_of(0, FIRST + i)));
		assert_int_equal(spte_of(0, FIRST + i, false), 0);
	}
	assert_int_equal(machine[0].swap.zeros, 25);
	assert_int_equal(machine[0].swap.out, 75);
	assert_int_equal(machine[0].swap.used, 75);
	assert_true(fake_file.writes < 8);
	assert_sound();
	for (unsigned i = 0; i < 100; i++)
		assert_has(0, FIRST + i, i % 4 * 1000);
	assert_int_equal(machine[0].swap.used, 0);
	assert_int_equal(machine[0].swap.in, 75);
	assert_true(machine[0].swap.ahead > 0 && fake_file.reads < 75);
	assert_sound();
}

/* What was used lately stays; what nobody wanted goes; each once round the clock. */
static void test_cold(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 256; i++)
		fill(0, FIRST + i, 5 + i);
	swap_reclaim(host, 1); /* nothing is new any more, and something went */
	for (unsigned i = 128; i < 160; i++) {
		assert_has(0, FIRST + i, 5 + i);
		swap_touch(vm[0].recent, vm[0].slots[0].index + i); /* as if asked for */
	}
	assert_int_equal(swap_reclaim(host, 160), 160);
	for (unsigned i = 128; i < 160; i++)
		assert_false(is_out(FIRST + i));
	assert_sound();
}

static void test_handed(void **state)
{
	uint64_t *page;

	(void)state;
	fill(0, FIRST + 3, 33);
	fill(0, FIRST + 4, 44);
	page = memory_page(&vm[0], FIRST + 3);
	all_out();
	assert_true(is_out(FIRST + 4));
	assert_false(is_out(FIRST + 3));
	assert_int_equal(page[7], 33 + 7);
	page = memory_page(&vm[0], FIRST + 4); /* comes in for that */
	assert_int_equal(page[7], 44 + 7);
}

/* More is written than there are frames. */
static void test_short(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 900; i++)
		fill(0, FIRST + i, 1 + i);
	assert_true(machine[0].swap.waits > 0);
	for (unsigned i = 0; i < 900; i++)
		assert_has(0, FIRST + i, 1 + i);
	assert_sound();
}

static void test_full(void **state)
{
	jmp_buf end;

	(void)state;
	ends = &end;
	if (!setjmp(end)) /* frames and places are gone: so is the guest */
		for (unsigned i = 0; i < 2000; i++)
			fill(0, FIRST + i, 1 + i);
	ends = NULL;
	assert_int_equal(end_seen, UMBRA_END_NOMEM);
	assert_int_equal(machine[0].swap.used, SLOTS);
	assert_string_equal(swap_excuse(host),
			    ": the swap file is full; give more with --swap FILE,SIZE or --frames");
	assert_sound();
}

/* A file that takes nothing: pages stay, and what was written before is still good. */
static void test_refused(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 300; i++)
		fill(0, FIRST + i, 1 + i);
	swap_reclaim(host, 100);
	fake_file.no_writes = true;
	all_out();
	assert_int_equal(machine[0].swap.used, machine[0].swap.out);
	assert_true(machine[0].swap.out < 300 && machine[0].swap.failed > 0);
	fake_file.no_writes = false;
	for (unsigned i = 0; i < 300; i++)
		assert_has(0, FIRST + i, 1 + i);
	assert_sound();
}

static void access_ends(uint64_t gfn, enum umbra_end why)
{
	jmp_buf end;

	ends = &end;
	if (!setjmp(end)) {
		access(0, gfn, false);
		fail_msg("the guest goes on");
	}
	ends = NULL;
	assert_int_equal(end_seen, why);
}

/* One bit of the file, anywhere in the page, is enough. And a page in another one's place. */
static void test_changed(void **state)
{
	uint8_t *file = fake_file.bytes + UMBRA_SWAP_FIRST;
	uint64_t slot;

	(void)state;
	fill(0, FIRST, 77);
	fill(0, FIRST + 1, 77);
	all_out();
	slot = entry_of(0, FIRST) & MEMORY_NUMBER;
	for (unsigned i = 0; i < 200; i++) {
		uint64_t at = slot * UMBRA_PAGE_SIZE + below(UMBRA_PAGE_SIZE);
		uint8_t bit = (uint8_t)(1u << below(8));

		file[at] ^= bit;
		access_ends(FIRST, UMBRA_END_SWAP);
		file[at] ^= bit;
	}
	assert_true(is_out(FIRST));
	fake_file.no_reads = true;
	access_ends(FIRST, UMBRA_END_SWAP);
	fake_file.no_reads = false;
	assert_has(0, FIRST, 77);
	fill(0, FIRST + 2, 88);
	all_out();
	memcpy(file + (entry_of(0, FIRST + 1) & MEMORY_NUMBER) * UMBRA_PAGE_SIZE,
	       file + (entry_of(0, FIRST + 2) & MEMORY_NUMBER) * UMBRA_PAGE_SIZE, UMBRA_PAGE_SIZE);
	access_ends(FIRST + 1, UMBRA_END_SWAP);
}

/* What is read ahead for another page is only believed if it is right. */
static void test_changed_ahead(void **state)
{
	uint8_t *file = fake_file.bytes + UMBRA_SWAP_FIRST;

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		fill(0, FIRST + i, 77 + i);
	all_out();
	assert_int_equal(entry_of(0, FIRST + 1), entry_of(0, FIRST) + 1);
	file[(entry_of(0, FIRST + 1) & MEMORY_NUMBER) * UMBRA_PAGE_SIZE + 9] ^= 4;
	assert_has(0, FIRST, 77);
	assert_true(is_out(FIRST + 1) && machine[0].swap.ahead == 1);
	access_ends(FIRST + 1, UMBRA_END_SWAP);
	assert_has(0, FIRST + 2, 79);
}

/* Pages that lay side by side leave: what maps all of them must not come back. */
static void test_collapsed(void **state)
{
	const uint64_t first = 0x200;
	uint64_t moved;

	(void)state;
	assert_int_equal(compact_set(host, 1, now), 0);
	for (unsigned i = 0; i < 512; i++)
		fill(0, first + i, 1 + i);
	assert_int_equal(compact_range(&vm[0], first, 512, &moved), 0);
	assert_true(compact_is_large(&vm[0], (uint32_t)(vm[0].slots[0].index + first - FIRST)));
	assert_int_equal(mmu_drop(&vm[0], (umbra_gfn){first}, 512, NULL), 0);
	assert_int_equal(swap_reclaim(host, 100), 100);
	assert_false(compact_is_large(&vm[0], (uint32_t)(vm[0].slots[0].index + first - FIRST)));
	for (unsigned i = 600; i < 800; i++)
		fill(0, first + i, 1 + i); /* in frames that were theirs */
	for (unsigned i = 0; i < 512; i++)
		assert_has(0, first + i, 1 + i);
	assert_sound();
}

/* A host that merges, migrates, drops and swaps; each page has what was written to it last. */
static void test_random(void **state)
{
	static uint64_t value[600];
	uint64_t sptes, ticks;

	(void)state;
	memset(value, 0, sizeof(value));
	assert_int_equal(merge_set(host, UMBRA_MERGE_RATE_MAX, now), 0);
	for (unsigned step = 0; step < 8000; step++) {
		unsigned k = (unsigned)below(600);

		switch (below(8)) {
		case 0:
		case 1:
		case 2:
			fill(0, FIRST + k, value[k] = below(2) ? step * 1000 : below(3) * 7);
			break;
		case 3:
			swap_reclaim(host, below(100));
			break;
		case 4:
			memory_migrate(&vm[0], FIRST + k, &sptes, &ticks);
			break;
		case 5:
			merge_on(1);
			break;
		case 6:
			swap_poll(host, now += HZ);
			break;
		default:
			assert_has(0, FIRST + k, value[k]);
		}
		if (step % 200 == 0)
			assert_sound();
	}
	for (unsigned k = 0; k < 600; k++)
		assert_has(0, FIRST + k, value[k]);
	assert_true(machine[0].swap.out > 1000 && machine[0].merges > 10);
	assert_sound();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_out_and_in, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_cold, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_handed, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_short, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_full, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_changed, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_changed_ahead, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_collapsed, setup_large, teardown),
	    cmocka_unit_test_setup_teardown(test_random, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
