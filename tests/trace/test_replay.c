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

static struct replay *begin(bool loose)
{
	const struct replay_options options = {.config = {.shadow_quota = 64, .maxphyaddr = 40},
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

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_nonsense),
	    cmocka_unit_test(test_frames),
	    cmocka_unit_test(test_refused),
	    cmocka_unit_test(test_made_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
