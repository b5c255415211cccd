/* SPDX-License-Identifier: BSD-2-Clause */
/* Tests of vmm/merge.c and vmm/books.c. */
#include "books.h"
#include "memory.h"
#include "pages.h"
#include "string.h"

/* Look at every page so many times. */
static void merge(unsigned times)
{
	assert_int_equal(merge_set(host, UMBRA_MERGE_RATE_MAX, now), 0);
	while (times) {
		uint64_t at = (uint64_t)host->merge.guest << 32 | host->merge.page;

		merge_poll(host, HZ, now += HZ);
		times -= ((uint64_t)host->merge.guest << 32 | host->merge.page) < at;
	}
	assert_sound();
}

/* ------------------------------------------------------------------ merging */

/* Pages of both guests, of three contents, come to share three frames; and go their ways again. */
static void test_merge(void **state)
{
	const unsigned pages = 60;

	(void)state;
	for (unsigned k = 0; k < pages; k++)
		fill(k % GUESTS, FIRST + k, k / GUESTS % 3 * 1000);
	merge(4);
	assert_int_equal(host->frames.shared, 3);
	assert_int_equal(host->frames.sharers, pages);
	assert_int_equal(machine[0].merges + machine[1].merges, pages);
	for (unsigned k = 0; k < pages; k++)
		assert_has(k % GUESTS, FIRST + k, k / GUESTS % 3 * 1000);
	for (unsigned k = 0; k < pages; k++)
		fill(k % GUESTS, FIRST + k, 9000 + k);
	assert_sound();
	assert_int_equal(host->frames.shared, 0);
	assert_int_equal(host->frames.sharers, 0);
	assert_int_equal(machine[0].merge_breaks + machine[1].merge_breaks, pages);
	for (unsigned k = 0; k < pages; k++)
		assert_has(k % GUESTS, FIRST + k, 9000 + k);
}

/* What changes between two looks is left alone; so is, for a while, what was shared and written. */
static void test_merge_rests(void **state)
{
	(void)state;
	for (unsigned times = 0; times < 4; times++) {
		fill(0, FIRST, times);
		fill(1, FIRST, times);
		merge(1);
	}
	assert_int_equal(host->frames.sharers, 0);
	merge(2);
	assert_int_equal(host->frames.sharers, 2);
	fill(0, FIRST, 3); /* what it was */
	merge(4);
	assert_int_equal(host->frames.sharers, 1);
	merge(5);
	assert_int_equal(host->frames.sharers, 2);
}

/* The last sharer keeps the frame. */
static void test_merge_last(void **state)
{
	uint32_t pfn;

	(void)state;
	fill(0, FIRST, 1);
	fill(1, FIRST, 1);
	merge(4);
	pfn = entry_of(1, FIRST) & MEMORY_NUMBER;
	assert_int_equal(entry_of(0, FIRST), pfn | MEMORY_SHARED);
	fill(0, FIRST, 2);
	assert_int_equal(entry_of(1, FIRST), pfn | MEMORY_SHARED);
	fill(1, FIRST, 3);
	assert_int_equal(entry_of(1, FIRST), pfn);
	assert_has(0, FIRST, 2);
	assert_has(1, FIRST, 3);
	assert_sound();
}

/* What devices and emulated instructions write is not written to a shared frame. */
static void test_merge_memory_page(void **state)
{
	uint64_t value = 77;

	(void)state;
	fill(0, FIRST, 1);
	fill(1, FIRST, 1);
	fill(1, FIRST + 1, 1);
	merge(4);
	assert_int_equal(host->frames.sharers, 3);
	assert_non_null(memory_page_read(&vm[0], FIRST));
	assert_int_equal(host->frames.sharers, 3);
	assert_true(memory_guest_write(&vm[0], FIRST << UMBRA_PAGE_SHIFT, &value, sizeof(value)));
	assert_int_equal(host->frames.sharers, 2);
	assert_int_equal(access(0, FIRST, false)[0], 77);
	assert_has(1, FIRST, 1);
	assert_has(1, FIRST + 1, 1);
	assert_sound();
}

/* No frame is left for who writes: it is told, nothing else happens. */
static void test_merge_no_frame(void **state)
{
	uint64_t pfn;

	(void)state;
	fill(0, FIRST, 1);
	fill(1, FIRST, 1);
	merge(4);
	while (frame_take(&host->frames, &pfn))
		;
	assert_null(memory_page(&vm[0], FIRST));
	assert_has(0, FIRST, 1);
	frame_give(&host->frames, pfn);
	fill(0, FIRST, 2);
	fill(1, FIRST, 3); /* needs none */
	assert_has(0, FIRST, 2);
	assert_int_equal(host->frames.count, 0);
}

/* A guest that ends leaves what it shared to the others. */
static void test_merge_ends(void **state)
{
	(void)state;
	for (unsigned k = 0; k < 40; k++)
		fill(k % GUESTS, FIRST + k, 5);
	fill(0, FIRST + 100, 6);
	fill(0, FIRST + 102, 6);
	merge(4);
	assert_int_equal(host->frames.sharers, 42);
	assert_int_equal(machine[0].saved_peak, 40);
	memory_destroy(&vm[0]);
	assert_int_equal(host->frames.shared, 1);
	assert_int_equal(host->frames.sharers, 20);
	assert_int_equal(machine[0].sharers, 20);
	for (unsigned k = 1; k < 40; k += 2)
		assert_has(1, FIRST + k, 5);
	fill(1, FIRST + 50, 5);
	merge(4);
	assert_int_equal(host->frames.sharers, 21);
}

static void test_merge_range(void **state)
{
	uint64_t merged = 7;

	(void)state;
	for (unsigned k = 0; k < 10; k++)
		fill(0, FIRST + k, k % 2);
	fill(0, FIRST + 3, 100);
	assert_int_equal(merge_range(&vm[0], FIRST + 1, 9, &merged), 0);
	assert_int_equal(merged, 8);
	assert_int_equal(host->frames.shared, 2);
	assert_int_equal(merge_range(&vm[0], FIRST, 10, &merged), 0);
	assert_int_equal(merged, 1);
	for (unsigned k = 0; k < 10; k++)
		assert_has(0, FIRST + k, k == 3 ? 100 : k % 2);
	assert_sound();
}

static void test_merge_set(void **state)
{
	(void)state;
	assert_int_equal(merge_set(host, UMBRA_MERGE_RATE_MAX + 1, now), UMBRA_EINVAL);
	while (pool_alloc(&host->frames, UMBRA_PAGE_SIZE))
		;
	assert_int_equal(merge_set(host, 1, now), UMBRA_ENOMEM);
	assert_int_equal(merge_set(host, 0, now), 0);
	merge_poll(host, HZ, now + HZ);
}

/* ------------------------------------------------------------------ books */

/* Each of the audit's sentences, by spoiling what it is about. */
static void test_books(void **state)
{
	struct frames *f = &host->frames;
	const char *what = NULL;
	uint64_t where = 0;
	uint32_t pfn, free;

	(void)state;
	fill(0, FIRST, 1);
	fill(1, FIRST, 1);
	fill(1, FIRST + 1, 2);
	merge(4);
	pfn = entry_of(0, FIRST) & MEMORY_NUMBER;
	free = f->free[5];
#define SPOILS(field, sentence)                                \
	do {                                                   \
		(field)++;                                     \
		assert_true(books_audit(host, &what, &where)); \
		assert_string_equal(what, sentence);           \
		(field)--;                                     \
		assert_sound();                                \
	} while (0)
	SPOILS(f->frame[free].at, "the list of free frames names one that does not say so");
	SPOILS(f->block_free[free / FRAMES_BLOCK], "the free frames of 2 MiB are miscounted");
	SPOILS(f->frame[entry_of(1, FIRST + 1)].at, "a frame's owner does not have it");
	SPOILS(f->frame[entry_of(1, FIRST + 1)].guest, "a frame's owner does not have it");
	SPOILS(f->shared, "shared frames are miscounted");
	SPOILS(f->sharers, "sharers are miscounted");
	SPOILS(f->frame[pfn].at, "sharers are miscounted");
#undef SPOILS
	f->frame[pfn].at++;
	f->sharers++;
	assert_true(books_audit(host, &what, &where));
	assert_string_equal(what, "a shared frame's sharers are miscounted");
	assert_int_equal(where, pfn);
	f->frame[pfn].at--;
	f->sharers--;
}

/* ------------------------------------------------------------------ all together */

#define PAGES 96u
#define STEPS 6000u

/* Random writes and whatever a host does; each page has what was written to it last. */
static void test_random(void **state)
{
	static uint64_t value[GUESTS][PAGES];
	uint64_t sptes, ticks;

	(void)state;
	memset(value, 0, sizeof(value));
	for (unsigned i = 0; i < GUESTS; i++)
		fill_each(i, FIRST, PAGES, value[i]);
	assert_int_equal(merge_set(host, UMBRA_MERGE_RATE_MAX, now), 0);
	for (unsigned step = 0; step < STEPS; step++) {
		unsigned i = (unsigned)below(GUESTS), k = (unsigned)below(PAGES);

		switch (below(8)) {
		case 0:
		case 1:
			fill(i, FIRST + k, value[i][k] = below(4) * 1000);
			break;
		case 2:
			assert_int_equal(memory_migrate(&vm[i], FIRST + k, &sptes, &ticks), 0);
			break;
		case 3:
			assert_int_equal(mmu_drop(&vm[i], (umbra_gfn){FIRST}, below(PAGES), NULL),
					 0);
			break;
		case 4:
			assert_has(i, FIRST + k, value[i][k]);
			break;
		default:
			merge_on(30);
		}
		if (step % 100 == 0)
			assert_sound();
	}
	assert_true(machine[0].merges > 100 && machine[0].merge_breaks > 50);
	for (unsigned i = 0; i < GUESTS; i++)
		assert_each(i, FIRST, PAGES, value[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_merge, pages_setup, pages_teardown),
	    cmocka_unit_test_setup_teardown(test_merge_rests, pages_setup, pages_teardown),
	    cmocka_unit_test_setup_teardown(test_merge_last, pages_setup, pages_teardown),
	    cmocka_unit_test_setup_teardown(test_merge_memory_page, pages_setup, pages_teardown),
	    cmocka_unit_test_setup_teardown(test_merge_no_frame, pages_setup, pages_teardown),
	    cmocka_unit_test_setup_teardown(test_merge_ends, pages_setup, pages_teardown),
	    cmocka_unit_test_setup_teardown(test_merge_range, pages_setup, pages_teardown),
	    cmocka_unit_test_setup_teardown(test_merge_set, pages_setup, pages_teardown),
	    cmocka_unit_test_setup_teardown(test_books, pages_setup, pages_teardown),
	    cmocka_unit_test_setup_teardown(test_random, pages_setup, pages_teardown),
	};

	return cmocka_run_group_tests_name("pages", tests, NULL, NULL);
}
