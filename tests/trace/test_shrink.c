/* SPDX-License-Identifier: BSD-2-Clause */
/* Cutting: what is left is what the property asks for, in order, and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "shrink.h"

#define RECORDS 3000u

/* Records that the property asks for, by number; each third one is an event. */
static const uint64_t *wanted;
static size_t wanted_count, tries_left;
static unsigned wrong_tries;

static enum shrink_answer has_wanted(void *ctx, const struct umbra_record *records, size_t count)
{
	size_t found = 0;

	(void)ctx;
	if (!tries_left--)
		return SHRINK_STOP;
	for (size_t i = 0; i < count; i++) {
		wrong_tries += i && records[i].a <= records[i - 1].a;
		if (found < wanted_count && records[i].a == wanted[found])
			found++;
	}
	/* Inputs that no event follows belong to nobody. */
	wrong_tries += count && records[count - 1].kind < UMBRA_TRACE_EVENTS;
	return found == wanted_count ? SHRINK_YES : SHRINK_NO;
}

static struct shrink make(const uint64_t *numbers, size_t count)
{
	struct shrink shrink = {.test = has_wanted, .count = RECORDS};

	wanted = numbers;
	wanted_count = count;
	tries_left = SIZE_MAX;
	wrong_tries = 0;
	shrink.records = calloc(RECORDS, sizeof(*shrink.records));
	assert_non_null(shrink.records);
	for (size_t i = 0; i < RECORDS; i++)
		shrink.records[i] = (struct umbra_record){
		    .kind = i % 3 == 2 ? UMBRA_TRACE_FAULT : UMBRA_TRACE_WORD8, .a = i};
	return shrink;
}

static void assert_left(const struct shrink *shrink, const uint64_t *numbers, size_t count)
{
	assert_int_equal(shrink->count, count);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(shrink->records[i].a, numbers[i]);
	assert_int_equal(wrong_tries, 0);
}

/* An input keeps its event, an event does not keep its inputs. */
static void test_minimal(void **state)
{
	static const uint64_t some[] = {5, 300, 303, 304, 2999},
			      left[] = {5, 300, 302, 303, 304, 305, 2999};
	struct shrink shrink = make(some, 5);

	(void)state;
	assert_int_equal(shrink_run(&shrink), SHRINK_DONE);
	assert_left(&shrink, left, 7);
	assert_in_range(shrink.tries, 1, 400);
	free(shrink.records);
}

static void test_nothing(void **state)
{
	struct shrink shrink = make(NULL, 0);

	(void)state;
	assert_int_equal(shrink_run(&shrink), SHRINK_DONE);
	assert_int_equal(shrink.count, 0);
	free(shrink.records);
}

static void test_end(void **state)
{
	static const uint64_t some[] = {5, 300};
	struct shrink shrink = make(some, 2);

	(void)state;
	assert_int_equal(shrink_cut_end(&shrink), SHRINK_DONE);
	assert_int_equal(shrink.count, 303);
	assert_in_range(shrink.tries, 1, 12);
	assert_int_equal(shrink_prefix(shrink.records, shrink.count, 2), 6);
	assert_int_equal(shrink_events(shrink.records, shrink.count), 101);
	free(shrink.records);
}

/* Wherever it is stopped, what is left has the property. */
static void test_stopped(void **state)
{
	static const uint64_t some[] = {5, 300, 2999};

	(void)state;
	for (size_t tries = 0; tries < 60; tries++) {
		struct shrink shrink = make(some, 3);

		tries_left = tries;
		assert_int_equal(shrink_run(&shrink), SHRINK_STOPPED);
		tries_left = 1;
		assert_int_equal(has_wanted(NULL, shrink.records, shrink.count), SHRINK_YES);
		free(shrink.records);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_minimal),
	    cmocka_unit_test(test_nothing),
	    cmocka_unit_test(test_end),
	    cmocka_unit_test(test_stopped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
