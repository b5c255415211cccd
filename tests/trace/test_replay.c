/* SPDX-License-Identifier: BSD-2-Clause */
/* Records that nobody recorded: what the library's contract forbids does not reach it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "inside.h"

#define ALL  UINT64_MAX
#define READ (UMBRA_WANT_READ | 1u << 8)

/* A slot of 1024 pages, a vcpu without paging. */
static const struct umbra_record guest[] = {
    {.kind = UMBRA_TRACE_SLOT_ADD, .b = 1024},
    {.kind = UMBRA_TRACE_VCPU},
};

#define VERDICT(verdict) ((uint64_t)(verdict) << 32)
#define ERROR(error)     ((uint64_t)(uint32_t)(error) << 32)
#define COUNT(array)     (sizeof(array) / sizeof((array)[0]))

static struct replay *begin(bool loose)
{
	const struct replay_options options = {
	    .config = {.shadow_quota = 64, .prefetch = 2, .maxphyaddr = 40},
	    .audit = 1,
	    .tlb = true,
	    .loose = loose};
	int error;
	struct replay *replay = replay_new(&options, &error);

	assert_non_null(replay);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(replay_record(replay, &guest[i]), REPLAY_OK);
	return replay;
}

static enum replay_status play(bool loose, const struct umbra_record *records, size_t count,
			       uint64_t *skipped)
{
	struct replay *replay = begin(loose);
	enum replay_status status = REPLAY_OK;

	for (size_t i = 0; i < count && !status; i++)
		status = replay_record(replay, &records[i]);
	*skipped = replay_counts(replay)->skipped;
	replay_free(replay);
	return status;
}

/* Strictly each is an end of some kind; loosely it is passed over. */
static void test_nonsense(void **state)
{
	static const struct {
		struct umbra_record record;
		enum replay_status strict;
	} cases[] = {
	    {{.kind = UMBRA_TRACE_ROOT, .vcpu = 1}, REPLAY_DAMAGED},
	    {{.kind = UMBRA_TRACE_ROOT, .vcpu = 255}, REPLAY_DAMAGED},
	    {{.kind = UMBRA_TRACE_WRITE, .a = 0xfff, .b = 2}, REPLAY_DAMAGED},
	    {{.kind = UMBRA_TRACE_WRITE, .a = 0x20, .b = ALL - 15}, REPLAY_DAMAGED},
	    {{.kind = UMBRA_TRACE_VCPU}, REPLAY_DIVERGED},
	    {{.kind = UMBRA_TRACE_SLOT_ADD, .b = 1, .c = 1}, REPLAY_DIVERGED},
	    {{.kind = UMBRA_TRACE_SLOT_DELETE, .a = 7}, REPLAY_DIVERGED},
	    {{.kind = UMBRA_TRACE_REMAP, .a = 1024, .b = 5}, REPLAY_DIVERGED},
	    {{.kind = UMBRA_TRACE_DROP, .a = 5, .b = ALL}, REPLAY_DIVERGED},
	    {{.kind = UMBRA_TRACE_PROTECT, .a = 5, .b = ALL}, REPLAY_DIVERGED},
	    {{.kind = UMBRA_TRACE_QUOTA, .a = 1}, REPLAY_DIVERGED},
	    {{.kind = UMBRA_TRACE_SLOT_MOVE, .a = 7}, REPLAY_DIVERGED},
	    {{.kind = UMBRA_TRACE_SLOT_MOVE, .b = ALL}, REPLAY_DIVERGED},
	    {{.kind = UMBRA_TRACE_SLOT_FLAGS, .a = 7}, REPLAY_DIVERGED},
	    {{.kind = UMBRA_TRACE_SLOT_FLAGS, .b = 1u << 31}, REPLAY_DIVERGED},
	    {{.kind = UMBRA_TRACE_INVALIDATE_BEGIN, .a = 5, .b = ALL}, REPLAY_DIVERGED},
	    {{.kind = UMBRA_TRACE_INVALIDATE_END, .a = 5, .b = 1}, REPLAY_DIVERGED},
	    {{.kind = UMBRA_TRACE_INVALIDATE_GATHER, .a = 5, .b = ALL}, REPLAY_DIVERGED},
	    {{.kind = UMBRA_TRACE_SPLIT, .a = 5, .b = ALL}, REPLAY_DIVERGED},
	    {{.kind = UMBRA_TRACE_WATCH, .a = 1024, .b = 1}, REPLAY_DIVERGED},
	    {{.kind = UMBRA_TRACE_WATCH, .a = 5, .b = 1u << 31}, REPLAY_DIVERGED},
	    {{.kind = UMBRA_TRACE_AGE_RANGE, .a = ALL, .b = 2}, REPLAY_DIVERGED},
	    {{.kind = UMBRA_TRACE_AGE_RANGE, .b = 64, .c = ALL}, REPLAY_DIVERGED},
	    {{.kind = UMBRA_TRACE_AGE_RANGE, .b = 1ull << 40}, REPLAY_DAMAGED},
	    {{.kind = UMBRA_TRACE_LOG_START, .a = 7}, REPLAY_DIVERGED},
	    {{.kind = UMBRA_TRACE_LOG_START, .b = ALL}, REPLAY_DIVERGED},
	    {{.kind = UMBRA_TRACE_LOG_COLLECT, .a = ALL, .b = 2}, REPLAY_DIVERGED},
	    {{.kind = UMBRA_TRACE_LOG_COLLECT, .b = ALL}, REPLAY_DAMAGED},
	    {{.kind = UMBRA_TRACE_LOG_WORD, .b = ALL}, REPLAY_DIVERGED},
	    {{.kind = UMBRA_TRACE_LOG_STOP}, REPLAY_DIVERGED},
	    {{.kind = UMBRA_TRACE_REMAP, .b = 513, .c = 2ull << 56}, REPLAY_DIVERGED},
	};
	uint64_t skipped;

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(play(false, &cases[i].record, 1, &skipped), cases[i].strict);
		assert_int_equal(play(true, &cases[i].record, 1, &skipped), REPLAY_OK);
		assert_int_equal(skipped, 1);
	}
}

/* What host.frame_get must not answer. */
static void test_frames(void **state)
{
	static const struct umbra_record fault = {.kind = UMBRA_TRACE_FAULT, .a = 0x5000};
	static const struct umbra_record frames[] = {
	    {.kind = UMBRA_TRACE_FRAME, .a = 5, .b = 1ull << 28, .c = READ},
	    {.kind = UMBRA_TRACE_FRAME, .a = 5, .b = 6, .c = READ | 2 << 16},
	    {.kind = UMBRA_TRACE_FRAME, .a = 5, .b = 6, .c = READ | 3 << 16},
	    {.kind = UMBRA_TRACE_FRAME, .a = 5, .c = READ | 7ull << 32},
	};
	uint64_t skipped;

	(void)state;
	for (unsigned i = 0; i < sizeof(frames) / sizeof(frames[0]); i++) {
		const struct umbra_record records[] = {frames[i], fault};

		assert_int_equal(play(false, records, 2, &skipped), REPLAY_DAMAGED);
		assert_int_equal(play(true, records, 2, &skipped), REPLAY_OK);
	}
}

/* Found by the fuzzer: a range that is refused takes nothing away, so TLBs may hold it. */
static void test_refused(void **state)
{
	static const struct umbra_record records[] = {
	    {.kind = UMBRA_TRACE_FAULT, .a = 0x5000, .c = UMBRA_PF_W},
	    {.kind = UMBRA_TRACE_ROOT},
	    {.kind = UMBRA_TRACE_PROTECT, .a = 5, .b = ALL},
	};
	uint64_t skipped;

	(void)state;
	assert_int_equal(play(true, records, 3, &skipped), REPLAY_OK);
	assert_int_equal(skipped, 1);
}

/* Frames that are made up, moved, or wanted twice stay distinct. */
static void test_made_up(void **state)
{
	const uint64_t top = (1ull << 28) - 1;
	const struct umbra_record records[] = {
	    {.kind = UMBRA_TRACE_FAULT, .a = 0x5000, .c = UMBRA_PF_W},
	    {.kind = UMBRA_TRACE_FRAME, .a = 6, .b = top, .c = READ}, /* gfn 5 has it by now */
	    {.kind = UMBRA_TRACE_FAULT, .a = 0x6000, .c = UMBRA_PF_W},
	    {.kind = UMBRA_TRACE_REMAP, .a = 7, .b = top},
	    {.kind = UMBRA_TRACE_REMAP, .a = 8, .b = 0x123},
	    {.kind = UMBRA_TRACE_FRAME, .a = 9, .b = 0x123, .c = READ},
	    {.kind = UMBRA_TRACE_FAULT, .a = 0x9000, .c = UMBRA_PF_W},
	    {.kind = UMBRA_TRACE_REMAP, .a = 5, .b = top}, /* its own */
	};
	struct replay *replay = begin(true);

	(void)state;
	for (unsigned i = 0; i < sizeof(records) / sizeof(records[0]); i++)
		assert_int_equal(replay_record(replay, &records[i]), REPLAY_OK);
	assert_int_equal(guest_frame(&replay->guest, 8)->pfn, 0x123);
	for (uint64_t i = 5; i < 10; i++) {
		assert_true(guest_frame(&replay->guest, i)->there);
		for (uint64_t j = 5; j < i; j++)
			assert_int_not_equal(guest_frame(&replay->guest, i)->pfn,
					     guest_frame(&replay->guest, j)->pfn);
	}
	replay_free(replay);
}

/* Two pages that are merged, and one of them broken off again by a write. */
static void test_merged(void **state)
{
	static const struct umbra_record records[] = {
	    {.kind = UMBRA_TRACE_FRAME, .a = 5, .b = 0x100, .c = READ},
	    {.kind = UMBRA_TRACE_FAULT, .a = 0x5000},
	    {.kind = UMBRA_TRACE_FRAME, .a = 70, .b = 0x200, .c = READ},
	    {.kind = UMBRA_TRACE_FAULT, .a = 0x46000},
	    {.kind = UMBRA_TRACE_REMAP, .a = 5, .b = 0x300, .c = 1 | UMBRA_TRACE_READONLY},
	    {.kind = UMBRA_TRACE_REMAP, .a = 70, .b = 0x300, .c = 1 | UMBRA_TRACE_READONLY},
	    {.kind = UMBRA_TRACE_FAULT, .a = 0x5000},
	    {.kind = UMBRA_TRACE_ROOT, .a = 3},
	    {.kind = UMBRA_TRACE_FAULT, .a = 0x46000},
	    {.kind = UMBRA_TRACE_ROOT, .a = 3},
	    {.kind = UMBRA_TRACE_PROTECT, .b = 1024}, /* of the right to write there is none */
	    {.kind = UMBRA_TRACE_FRAME, .a = 70, .c = UMBRA_WANT_WRITE | ERROR(UMBRA_EAGAIN)},
	    {.kind = UMBRA_TRACE_FAULT, .a = 0x46000, .c = UMBRA_PF_W | VERDICT(UMBRA_RETRY)},
	    {.kind = UMBRA_TRACE_REMAP, .a = 70, .b = 0x200, .c = 1},
	    {.kind = UMBRA_TRACE_FAULT, .a = 0x46000, .c = UMBRA_PF_W},
	    {.kind = UMBRA_TRACE_ROOT, .a = 3},
	    {.kind = UMBRA_TRACE_DROP, .a = 70, .b = 1, .c = 1},
	    {.kind = UMBRA_TRACE_DROP, .a = 5, .b = 1, .c = 1},
	};
	uint64_t skipped;

	(void)state;
	assert_int_equal(play(false, records, COUNT(records), &skipped), REPLAY_OK);
	assert_int_equal(play(true, records, COUNT(records), &skipped), REPLAY_OK);
	assert_int_equal(skipped, 0);
}

/* A page that has gone is not mapped in passing. */
static void test_gone(void **state)
{
	static const struct umbra_record records[] = {
	    {.kind = UMBRA_TRACE_FRAME, .a = 6, .b = 0x100, .c = READ},
	    {.kind = UMBRA_TRACE_FAULT, .a = 0x6000},
	    {.kind = UMBRA_TRACE_DROP, .a = 6, .b = 1, .c = 1},
	    {.kind = UMBRA_TRACE_FRAME, .a = 5, .b = 0x200, .c = READ},
	    {.kind = UMBRA_TRACE_FRAME, .a = 6, .c = UMBRA_WANT_PEEK | ERROR(UMBRA_ENOENT)},
	    {.kind = UMBRA_TRACE_FAULT, .a = 0x5000},
	    {.kind = UMBRA_TRACE_DROP, .a = 0, .b = 64, .c = 1},
	    {.kind = UMBRA_TRACE_FAULT, .a = 0x5000},
	    {.kind = UMBRA_TRACE_DROP, .a = 0, .b = 64, .c = 1},
	};
	uint64_t skipped;

	(void)state;
	assert_int_equal(play(false, records, COUNT(records), &skipped), REPLAY_OK);
}

/* 512 pages to one place, and one of them away from there: the others are as they were told. */
static void test_collapsed(void **state)
{
	static const struct umbra_record records[] = {
	    {.kind = UMBRA_TRACE_FRAME, .a = 513, .b = 0x105, .c = READ},
	    {.kind = UMBRA_TRACE_FAULT, .a = 0x201000},
	    {.kind = UMBRA_TRACE_REMAP, .a = 512, .b = 0x1000, .c = 1 | 2ull << 56},
	    {.kind = UMBRA_TRACE_FAULT, .a = 0x201000},
	    {.kind = UMBRA_TRACE_REMAP, .a = 513, .b = 0x105, .c = 1},
	    {.kind = UMBRA_TRACE_FRAME, .a = 512, .b = 0x1000, .c = READ | 1 << 16},
	    {.kind = UMBRA_TRACE_FAULT, .a = 0x200000},
	};
	struct replay *replay = begin(false);

	(void)state;
	for (unsigned i = 0; i < COUNT(records); i++) {
		assert_int_equal(replay_record(replay, &records[i]), REPLAY_OK);
		if (i == 2)
			assert_int_equal(guest_frame(&replay->guest, 1023)->pfn, 0x11ff);
	}
	assert_int_equal(guest_frame(&replay->guest, 1023)->level, 1);
	replay_free(replay);
}

/* A recording that begins when 512 pages are one already: who hears of one of them knows all. */
static void test_large_before(void **state)
{
	static const struct umbra_record records[] = {
	    {.kind = UMBRA_TRACE_FRAME, .a = 517, .b = 0x1005, .c = READ | 2 << 16},
	    {.kind = UMBRA_TRACE_FAULT, .a = 0x205000},
	    {.kind = UMBRA_TRACE_REMAP, .a = 513, .b = 0x105, .c = 1},
	    {.kind = UMBRA_TRACE_FAULT, .a = 0x200000},
	};
	struct replay *replay = begin(false);

	(void)state;
	for (unsigned i = 0; i < COUNT(records); i++)
		assert_int_equal(replay_record(replay, &records[i]), REPLAY_OK);
	assert_int_equal(guest_frame(&replay->guest, 512)->pfn, 0x1000);
	assert_int_equal(guest_frame(&replay->guest, 513)->pfn, 0x105);
	assert_int_equal(guest_frame(&replay->guest, 1023)->pfn, 0x11ff);
	assert_false(guest_frame(&replay->guest, 511)->there);
	replay_free(replay);
}

static void test_host(void **state)
{
	static const struct umbra_record records[] = {
	    {.kind = UMBRA_TRACE_FRAME, .a = 5, .b = 0x100, .c = READ},
	    {.kind = UMBRA_TRACE_FAULT, .a = 0x5000},
	    {.kind = UMBRA_TRACE_ROOT, .a = 3},
	    {.kind = UMBRA_TRACE_AGE_RANGE, .b = 64, .c = 1},
	    {.kind = UMBRA_TRACE_AGE_RANGE, .b = 64, .c = 1 | (uint64_t)UMBRA_AGE_TEST << 32},
	    {.kind = UMBRA_TRACE_LOG_START},
	    {.kind = UMBRA_TRACE_FAULT, .a = 0x5000, .c = UMBRA_PF_W},
	    {.kind = UMBRA_TRACE_ROOT, .a = 3},
	    {.kind = UMBRA_TRACE_LOG_COLLECT, .b = 1024, .c = 1},
	    {.kind = UMBRA_TRACE_FAULT, .a = 0x5000, .c = UMBRA_PF_W},
	    {.kind = UMBRA_TRACE_ROOT, .a = 3},
	    {.kind = UMBRA_TRACE_LOG_WORD, .b = ALL, .c = 1 << 5},
	    {.kind = UMBRA_TRACE_LOG_STOP},
	    {.kind = UMBRA_TRACE_INVALIDATE_BEGIN, .a = 5, .b = 2, .c = 1},
	    {.kind = UMBRA_TRACE_FAULT, .a = 0x5000, .c = VERDICT(UMBRA_RETRY)},
	    {.kind = UMBRA_TRACE_INVALIDATE_END, .a = 5, .b = 2},
	    {.kind = UMBRA_TRACE_INVALIDATE_GATHER, .a = 5, .b = 2},
	    {.kind = UMBRA_TRACE_FLUSH},
	    {.kind = UMBRA_TRACE_INVALIDATE_END, .a = 5, .b = 2},
	    {.kind = UMBRA_TRACE_WATCH, .a = 5, .b = UMBRA_WATCH_R},
	    {.kind = UMBRA_TRACE_FAULT, .a = 0x5000},
	    {.kind = UMBRA_TRACE_ROOT, .a = 3},
	    {.kind = UMBRA_TRACE_SPLIT, .b = 512},
	    {.kind = UMBRA_TRACE_SLOT_FLAGS, .b = UMBRA_SLOT_READONLY},
	    {.kind = UMBRA_TRACE_FAULT, .a = 0x5000, .c = UMBRA_PF_W | VERDICT(UMBRA_MMIO)},
	    {.kind = UMBRA_TRACE_SLOT_FLAGS},
	    {.kind = UMBRA_TRACE_SLOT_MOVE, .b = 2},
	    {.kind = UMBRA_TRACE_FAULT, .a = 0x1000, .c = VERDICT(UMBRA_MMIO)},
	    {.kind = UMBRA_TRACE_FRAME, .a = 7, .b = 0x100, .c = READ},
	    {.kind = UMBRA_TRACE_FAULT, .a = 0x7000},
	    {.kind = UMBRA_TRACE_ROOT, .a = 3},
	    {.kind = UMBRA_TRACE_SLOT_DELETE},
	    {.kind = UMBRA_TRACE_INVALIDATE_BEGIN, .a = 5, .b = 2}, /* for ever */
	};
	static const struct umbra_record wrong[] = {
	    {.kind = UMBRA_TRACE_LOG_COLLECT, .b = 1024, .c = 1},
	    {.kind = UMBRA_TRACE_LOG_WORD, .b = ALL, .c = 1},
	};
	uint64_t skipped;

	(void)state;
	assert_int_equal(play(false, records, COUNT(records), &skipped), REPLAY_OK);
	for (unsigned i = 0; i < COUNT(wrong); i++) {
		const struct umbra_record pair[] = {records[5], wrong[i]};

		assert_int_equal(play(false, pair, 2, &skipped), REPLAY_DIVERGED);
	}
}

/* A log by D bits: hardware's are inputs, and a TLB that has seen D is flushed. */
static void test_log_by_d(void **state)
{
	static const struct umbra_record records[] = {
	    {.kind = UMBRA_TRACE_FRAME, .a = 5, .b = 0x100, .c = READ},
	    {.kind = UMBRA_TRACE_FAULT, .a = 0x5000},
	    {.kind = UMBRA_TRACE_ROOT, .a = 3},
	    {.kind = UMBRA_TRACE_FAULT, .a = 0x5000, .c = UMBRA_PF_W},
	    {.kind = UMBRA_TRACE_ROOT, .a = 3},
	    {.kind = UMBRA_TRACE_LOG_START, .b = UMBRA_LOG_DIRTY_BITS},
	    {.kind = UMBRA_TRACE_LOG_COLLECT, .b = 1024},
	    {.kind = UMBRA_TRACE_DIRTY, .a = 5, .b = 1},
	    {.kind = UMBRA_TRACE_LOG_COLLECT, .b = 1024, .c = 1},
	    {.kind = UMBRA_TRACE_DIRTY, .a = 5, .b = 1},
	    {.kind = UMBRA_TRACE_DROP, .a = 5, .b = 1, .c = 1},
	    {.kind = UMBRA_TRACE_FAULT, .a = 0x5000, .c = UMBRA_PF_W}, /* marked: D at once */
	    {.kind = UMBRA_TRACE_ROOT, .a = 3},
	    {.kind = UMBRA_TRACE_LOG_WORD, .b = ALL, .c = 1 << 5},
	    {.kind = UMBRA_TRACE_LOG_STOP},
	};
	static const struct umbra_record wrong[][2] = {
	    {{.kind = UMBRA_TRACE_LOG_COLLECT, .b = 1024, .c = 1}},
	    {{.kind = UMBRA_TRACE_DIRTY, .a = 6, .b = 1},
	     {.kind = UMBRA_TRACE_LOG_COLLECT, .b = 1024, .c = 1}},
	    {{.kind = UMBRA_TRACE_DIRTY, .a = 5, .b = 1},
	     {.kind = UMBRA_TRACE_FAULT, .a = 0x5000, .c = UMBRA_PF_W}},
	};
	struct umbra_record some[COUNT(records)];
	uint64_t skipped;

	(void)state;
	assert_int_equal(play(false, records, COUNT(records), &skipped), REPLAY_OK);
	for (unsigned i = 0; i < COUNT(wrong); i++) {
		memcpy(some, records, sizeof(some));
		memcpy(&some[6], wrong[i], sizeof(wrong[i]));
		assert_int_equal(play(false, some, wrong[i][1].kind ? 8 : 7, &skipped),
				 REPLAY_DIVERGED);
	}
	/* Cut traces have no such hardware: they play all the same. */
	play(true, records, COUNT(records), &skipped);
	assert_int_equal(skipped, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_log_by_d),     cmocka_unit_test(test_nonsense),
	    cmocka_unit_test(test_frames),       cmocka_unit_test(test_refused),
	    cmocka_unit_test(test_made_up),      cmocka_unit_test(test_merged),
	    cmocka_unit_test(test_gone),         cmocka_unit_test(test_collapsed),
	    cmocka_unit_test(test_large_before), cmocka_unit_test(test_host),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
