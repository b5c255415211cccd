/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tests of the hosts that the other tests stand on: the arena keeps its promises about
 * addresses, junk and frames; the failing host fails when told to, and only then.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "arena.h"
#include "failing.h"

#define PAGE UMBRA_PAGE_SIZE

static struct arena *arena;
static unsigned flushed;

static void count_flush(void *ctx, const struct umbra_flush *flush)
{
	(void)ctx;
	(void)flush;
	flushed++;
}

static int setup(void **state)
{
	const struct arena_options options = {
	    .gfns = 64,
	    .frames = 16,
	    .high = 32 * PAGE,
	    .low = 2 * PAGE,
	    .seed = 1,
	    .flush = count_flush,
	};

	(void)state;
	return arena_create(&options, &arena);
}

static int teardown(void **state)
{
	(void)state;
	arena_destroy(arena);
	return 0;
}

static void test_options(void **state)
{
	struct arena_options options = {.gfns = 0, .frames = 1};
	struct arena *other = NULL;

	(void)state;
	assert_int_equal(arena_create(&options, &other), UMBRA_EINVAL);
	options.gfns = 1;
	options.frames = 0;
	assert_int_equal(arena_create(&options, &other), UMBRA_EINVAL);
	options.frames = 1;
	options.low = 2ull << 30;
	assert_int_equal(arena_create(&options, &other), UMBRA_EINVAL);
	assert_null(other);
}

static void test_blocks(void **state)
{
	struct umbra_memory block[32], memory;
	const unsigned char *bytes;

	(void)state;
	for (unsigned i = 0; i < 16; i++) {
		assert_int_equal(arena_host.alloc(arena, 2 * PAGE - 1, false, &block[i]), 0);
		assert_true(block[i].hpa >= 1ull << 32);
		assert_true(block[i].hpa % PAGE == 0);
		assert_true(block[i].hpa != (uintptr_t)block[i].va);
		bytes = block[i].va;
		assert_true(bytes[0] == 0 && bytes[2 * PAGE - 1] == 0);
		assert_ptr_equal(arena_word(arena, block[i].hpa + 13), bytes + 8);
		memset(block[i].va, 1, 2 * PAGE);
	}
	assert_int_equal(arena_host.alloc(arena, 1, false, &memory), UMBRA_ENOMEM);
	assert_int_equal(arena_in_use(arena), 32 * PAGE);
	arena_host.free(arena, 2 * PAGE, block[5]);
	bytes = block[5].va;
	assert_int_equal(bytes[0], ARENA_JUNK);
	assert_null(arena_word(arena, block[5].hpa));
	assert_int_equal(arena_host.alloc(arena, 3 * PAGE, false, &memory), UMBRA_ENOMEM);
	assert_int_equal(arena_host.alloc(arena, 2 * PAGE, false, &memory), 0);
	assert_int_equal(memory.hpa, block[5].hpa);
	assert_int_equal(bytes[PAGE], 0);
}

static void test_low(void **state)
{
	struct umbra_memory one, two, three;

	(void)state;
	assert_int_equal(arena_host.alloc(arena, PAGE, true, &one), 0);
	assert_int_equal(arena_host.alloc(arena, PAGE, true, &two), 0);
	assert_true(one.hpa < 1ull << 32 && two.hpa < 1ull << 32);
	assert_true(one.hpa != two.hpa);
	assert_int_equal(arena_host.alloc(arena, PAGE, true, &three), UMBRA_ENOMEM);
	assert_true(arena_is_library(arena, one.hpa));
	assert_false(arena_is_library(arena, two.hpa + PAGE));
}

static void test_frames(void **state)
{
	struct umbra_frame frame[16], again;
	unsigned in_order = 0;
	umbra_gfn gfn;

	(void)state;
	assert_int_equal(arena_host.frame_get(arena, (umbra_gfn){3}, UMBRA_WANT_PEEK, &again),
			 UMBRA_ENOENT);
	for (unsigned i = 0; i < 16; i++) {
		assert_int_equal(
		    arena_host.frame_get(arena, (umbra_gfn){i}, UMBRA_WANT_READ, &frame[i]), 0);
		assert_true(arena_gfn_of(arena, frame[i].pfn, &gfn));
		assert_int_equal(gfn.n, i);
		assert_true(frame[i].pfn.n != i);
		in_order += i && frame[i].pfn.n == frame[i - 1].pfn.n + 1;
		memset(arena_host.frame_va(arena, frame[i].pfn), (int)i, PAGE);
	}
	assert_true(in_order < 8);
	assert_int_equal(arena_host.frame_get(arena, (umbra_gfn){16}, UMBRA_WANT_WRITE, &again),
			 UMBRA_ENOMEM);
	assert_int_equal(arena_host.frame_get(arena, (umbra_gfn){3}, UMBRA_WANT_PEEK, &again), 0);
	assert_int_equal(again.pfn.n, frame[3].pfn.n);
}

static void test_moves(void **state)
{
	struct umbra_frame old;
	unsigned char *bytes;
	umbra_pfn pfn, now;
	umbra_gfn gfn;

	(void)state;
	assert_int_equal(arena_host.frame_get(arena, (umbra_gfn){7}, UMBRA_WANT_WRITE, &old), 0);
	bytes = arena_host.frame_va(arena, old.pfn);
	bytes[9] = 99;
	assert_int_equal(arena_frame_reserve(arena, &pfn), 0);
	assert_false(arena_gfn_of(arena, pfn, &gfn));
	arena_host.frame_move(arena, (umbra_gfn){7}, &(struct umbra_frame){.pfn = pfn});
	assert_true(arena_frame_of(arena, (umbra_gfn){7}, &now));
	assert_int_equal(now.n, pfn.n);
	assert_int_equal(((unsigned char *)arena_host.frame_va(arena, now))[9], 99);
	assert_int_equal(bytes[9], ARENA_JUNK);
	assert_false(arena_gfn_of(arena, old.pfn, &gfn));
	assert_null(arena_word(arena, old.pfn.n << 12));

	assert_int_equal(arena_frame_swap(arena, (umbra_gfn){8}), UMBRA_ENOENT);
	assert_int_equal(arena_frame_swap(arena, (umbra_gfn){7}), 0);
	assert_int_equal(((unsigned char *)arena_page(arena, (umbra_gfn){7}))[9], 99);
	arena_frame_discard(arena, (umbra_gfn){7});
	assert_false(arena_frame_of(arena, (umbra_gfn){7}, &now));
	assert_int_equal(((unsigned char *)arena_page(arena, (umbra_gfn){7}))[9], 0);
	for (unsigned i = 0; i < 15; i++)
		assert_int_equal(arena_frame_reserve(arena, &pfn), 0);
	assert_int_equal(arena_frame_swap(arena, (umbra_gfn){7}), UMBRA_ENOMEM);
	arena_frame_release(arena, pfn);
	assert_int_equal(arena_frame_swap(arena, (umbra_gfn){7}), 0);
}

static void test_flush(void **state)
{
	const struct umbra_flush flush = {.vcpus = 1};

	(void)state;
	flushed = 0;
	arena_host.flush(arena, &flush);
	assert_int_equal(flushed, 1);
}

static void test_failing(void **state)
{
	struct failing failing;
	struct umbra_host host;
	struct umbra_memory memory;
	struct umbra_frame frame;

	(void)state;
	failing_init(&failing, &arena_host, arena, &host);
	assert_int_equal(host.alloc(&failing, PAGE, false, &memory), 0);
	failing_rule_set(&failing.alloc, 2, 0, UMBRA_ENOMEM);
	assert_int_equal(host.alloc(&failing, PAGE, false, &memory), 0);
	assert_int_equal(host.alloc(&failing, PAGE, false, &memory), UMBRA_ENOMEM);
	assert_int_equal(host.alloc(&failing, PAGE, false, &memory), 0);
	host.free(&failing, PAGE, memory);
	assert_int_equal(failing.allocs, 3);
	assert_int_equal(failing.frees, 1);
	assert_int_equal(failing.alloc.fired, 1);

	failing_rule_set(&failing.frame_get, 0, 2, UMBRA_EAGAIN);
	assert_int_equal(host.frame_get(&failing, (umbra_gfn){1}, UMBRA_WANT_READ, &frame), 0);
	assert_int_equal(host.frame_get(&failing, (umbra_gfn){1}, UMBRA_WANT_READ, &frame),
			 UMBRA_EAGAIN);
	assert_int_equal(host.frame_get(&failing, (umbra_gfn){1}, UMBRA_WANT_READ, &frame), 0);
	assert_int_equal(host.frame_get(&failing, (umbra_gfn){1}, UMBRA_WANT_PEEK, &frame),
			 UMBRA_ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_options),
	    cmocka_unit_test_setup_teardown(test_blocks, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_low, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_frames, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_moves, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_flush, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_failing, setup, teardown),
	};

	return cmocka_run_group_tests_name("arena", tests, NULL, NULL);
}
