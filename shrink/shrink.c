/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A pass tries to leave out chunks of units, half of all first and single ones in the end, from the
 * last one backwards: what comes late depends on what came early, seldom the other way round.
 * Single ones are tried until none can go; then, wherever one is left out, the property is lost.
 *
 * Units are events, each with the inputs before it, or inputs alone.
 */
#include "shrink.h"

#include <stdlib.h>
#include <string.h>

enum unit {
	UNIT_EVENT,
	UNIT_INPUT,
};

static bool is_event(const struct umbra_record *record)
{
	return record->kind >= UMBRA_TRACE_EVENTS;
}

size_t shrink_events(const struct umbra_record *records, size_t count)
{
	size_t events = 0;

	for (size_t i = 0; i < count; i++)
		events += is_event(&records[i]);
	return events;
}

size_t shrink_prefix(const struct umbra_record *records, size_t count, size_t events)
{
	size_t i = 0;

	for (; i < count && events; i++)
		events -= is_event(&records[i]);
	return i;
}

static size_t units(const struct shrink *s, enum unit unit)
{
	size_t events = shrink_events(s->records, s->count);

	return unit == UNIT_EVENT ? events : s->count - events;
}

/* All but units @from to @end go into s->other. Inputs that no event follows go in any case. */
static size_t copy_without(struct shrink *s, enum unit unit, size_t from, size_t end)
{
	size_t event = 0, input = 0, kept = 0;

	for (size_t i = 0; i < s->count; i++) {
		size_t number = unit == UNIT_EVENT ? event : input;
		bool is_unit = unit == UNIT_EVENT || !is_event(&s->records[i]);

		if (!is_unit || number < from || number >= end)
			s->other[kept++] = s->records[i];
		event += is_event(&s->records[i]);
		input += !is_event(&s->records[i]);
	}
	while (kept && !is_event(&s->other[kept - 1]))
		kept--;
	return kept;
}

/* What is in s->other, @count records, is the smallest now, if it has the property. */
static enum shrink_answer try_other(struct shrink *s, size_t count)
{
	struct umbra_record *records = s->records;
	enum shrink_answer answer;

	s->tries++;
	answer = s->test(s->ctx, s->other, count);
	if (answer == SHRINK_YES) {
		s->records = s->other;
		s->other = records;
		s->count = count;
	}
	return answer;
}

/* Chunks of @size units, once from the end to the beginning. *@cut: one could go. */
static enum shrink_answer sweep(struct shrink *s, enum unit unit, size_t size, bool *cut)
{
	for (size_t end = units(s, unit); end;) {
		size_t from = end > size ? end - size : 0;
		enum shrink_answer answer = try_other(s, copy_without(s, unit, from, end));

		if (answer == SHRINK_STOP)
			return answer;
		*cut |= answer == SHRINK_YES;
		end = from;
	}
	return SHRINK_YES;
}

static enum shrink_answer pass(struct shrink *s, enum unit unit, bool *cut)
{
	size_t size = units(s, unit);

	while (size) {
		bool now = false;

		size = (size + 1) / 2;
		if (sweep(s, unit, size, &now) == SHRINK_STOP)
			return SHRINK_STOP;
		*cut |= now;
		if (size == 1 && !now)
			break;
		if (size > units(s, unit))
			size = units(s, unit);
	}
	return SHRINK_YES;
}

static bool make_room(struct shrink *s)
{
	if (!s->other)
		s->other = malloc((s->count + 1) * sizeof(*s->other));
	return s->other;
}

static enum shrink_status finish(struct shrink *s, enum shrink_status status)
{
	free(s->other);
	s->other = NULL;
	return status;
}

enum shrink_status shrink_cut_end(struct shrink *s)
{
	size_t without = 0, with = shrink_events(s->records, s->count);

	if (!make_room(s))
		return SHRINK_NOMEM;
	while (with - without > 1) {
		size_t middle = without + (with - without) / 2;
		size_t count = shrink_prefix(s->records, s->count, middle);
		enum shrink_answer answer;

		memcpy(s->other, s->records, count * sizeof(*s->other));
		answer = try_other(s, count);
		if (answer == SHRINK_STOP)
			return finish(s, SHRINK_STOPPED);
		if (answer == SHRINK_YES)
			with = middle;
		else
			without = middle;
	}
	return finish(s, SHRINK_DONE);
}

enum shrink_status shrink_run(struct shrink *s)
{
	bool cut = true;

	if (!make_room(s))
		return SHRINK_NOMEM;
	/* An input less may make an event needless. */
	while (cut) {
		cut = false;
		if (pass(s, UNIT_EVENT, &cut) == SHRINK_STOP)
			return finish(s, SHRINK_STOPPED);
		cut = false;
		if (pass(s, UNIT_INPUT, &cut) == SHRINK_STOP)
			return finish(s, SHRINK_STOPPED);
	}
	return finish(s, SHRINK_DONE);
}
