/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_loose TRACE [CUTS [SEED]]: whatever is cut out of a recorded guest, a loose replay of the
 * rest finds nothing wrong with a library that is right. Else umbra shrink could slip from a fault
 * of the library's to one of its own making.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replay.h"
#include "trace.h"

static struct umbra_record *records;
static size_t count;
static struct trace_header header;
static uint64_t state;

static uint32_t random_below(uint32_t end)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)((state >> 16) % end);
}

static bool read_trace(const char *path)
{
	struct trace_error error;
	struct trace_reader *reader = trace_open(path, &header, &error);

	if (!reader) {
		fprintf(stderr, "%s\n", error.text);
		return false;
	}
	records = malloc((1u << 20) * sizeof(*records));
	while (records && count < 1u << 20 && !trace_next(reader, &records[count], &error))
		count++;
	trace_reader_close(reader);
	return records && count > 1000;
}

/* Chances, in 1000, that a run of records goes: its inputs, or its events with them. */
struct taste {
	uint32_t inputs, events, length, audit;
};

/* Slots and processors stay mostly, or there would be nothing to see. */
static bool is_basic(unsigned kind)
{
	return kind == UMBRA_TRACE_SLOT_ADD || kind == UMBRA_TRACE_VCPU;
}

static bool replay_cut(struct taste taste, uint64_t *accesses)
{
	const struct replay_options options = {
	    .config = header.config, .tlb = true, .loose = true, .audit = taste.audit};
	int error;
	struct replay *replay = replay_new(&options, &error);
	size_t length = 20 + random_below((uint32_t)count), gone = 0;
	enum replay_status status = REPLAY_OK;
	bool all = false;

	for (size_t i = 0; i < length && i < count && !status; i++) {
		bool event = records[i].kind >= UMBRA_TRACE_EVENTS;
		uint32_t dice = random_below(1000);

		if (!gone && dice < taste.inputs + taste.events) {
			gone = 1 + random_below(taste.length);
			all = dice < taste.events;
		}
		gone -= gone > 0;
		if (!gone || (event && !all) || (is_basic(records[i].kind) && random_below(20)))
			status = replay_record(replay, &records[i]);
	}
	if (status == REPLAY_OK)
		status = replay_audit(replay);
	*accesses += replay_counts(replay)->accesses;
	if (status != REPLAY_OK && status != REPLAY_ENDED)
		fprintf(stderr, "inputs %u, events %u, length %u, audit %u: event %llu: %s\n",
			taste.inputs, taste.events, taste.length, taste.audit,
			(unsigned long long)replay_counts(replay)->events, replay_why(replay));
	replay_free(replay);
	return status == REPLAY_OK || status == REPLAY_ENDED;
}

int main(int argc, char **argv)
{
	static const uint32_t chances[] = {0, 1, 10, 50, 200, 500, 900};
	static const uint32_t lengths[] = {1, 2, 10, 100, 3000};
	unsigned cuts = argc > 2 ? (unsigned)atoi(argv[2]) : 100;
	uint64_t accesses = 0;

	if (argc < 2 || !read_trace(argv[1]))
		return 1;
	for (unsigned i = 0; i < cuts; i++) {
		uint64_t seed = (argc > 3 ? (uint64_t)atoll(argv[3]) : 1) + i;
		struct taste taste;

		state = seed * 0x9e3779b97f4a7c15ull;
		taste = (struct taste){chances[random_below(7)], chances[random_below(7)],
				       lengths[random_below(5)], random_below(2) ? 97 : 7};
		if (!replay_cut(taste, &accesses)) {
			fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
			return 1;
		}
	}
	printf("%u cuts, %llu accesses\n", cuts, (unsigned long long)accesses);
	free(records);
	return accesses ? 0 : 1;
}
