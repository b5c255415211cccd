/* SPDX-License-Identifier: BSD-2-Clause */
/* `umbra replay`: a recorded guest on libumbra, here, without the guest. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "clock.h"
#include "commands.h"
#include "replay.h"
#include "status.h"
#include "trace.h"

static const char help[] =
    "usage: umbra replay [OPTION...] FILE\n"
    "\n"
    "Carry out on libumbra what a recorded guest asked of it (umbra run --record FILE).\n"
    "\n"
    "  --audit N       check every invariant after every N events, and at the end\n"
    "  --tlb           processors whose TLBs forget nothing make the guest's accesses\n"
    "  --until EVENT   stop before event number EVENT\n"
    "  --speed         no checks at the end either: events a second\n"
    "  --config LIST   other settings than the recorded ones: quota=N, prefetch=N. Answers that\n"
    "                  differ are counted, not complained about\n"
    "  --json FILE     the counts as JSON\n"
    "  --quiet         print no progress and no table\n";

enum {
	OPTION_AUDIT = 1,
	OPTION_TLB,
	OPTION_UNTIL,
	OPTION_SPEED,
	OPTION_CONFIG,
	OPTION_JSON,
	OPTION_QUIET,
	OPTION_HELP,
};

static const struct option table[] = {
    {"audit", required_argument, NULL, OPTION_AUDIT},
    {"tlb", no_argument, NULL, OPTION_TLB},
    {"until", required_argument, NULL, OPTION_UNTIL},
    {"speed", no_argument, NULL, OPTION_SPEED},
    {"config", required_argument, NULL, OPTION_CONFIG},
    {"json", required_argument, NULL, OPTION_JSON},
    {"quiet", no_argument, NULL, OPTION_QUIET},
    {"help", no_argument, NULL, OPTION_HELP},
    {NULL, 0, NULL, 0},
};

struct command {
	const char *path, *json;
	char *config;
	uint64_t audit, until;
	bool tlb, speed, quiet;
	struct trace_header header;
	struct trace_reader *reader;
	struct replay *replay;
	double seconds;
	uint64_t hash;
	uint64_t violations;
};

static bool parse_number(const char *text, uint64_t *number)
{
	char *end;

	*number = strtoull(text, &end, 0);
	return *text >= '0' && *text <= '9' && !*end;
}

static enum status parse(int argc, char **argv, struct command *c, bool *done)
{
	int option;

	optind = 1;
	c->until = UINT64_MAX;
	while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
		switch (option) {
		case OPTION_AUDIT:
			if (!parse_number(optarg, &c->audit) || !c->audit)
				return complain(STATUS_USAGE, "--audit %s: give a number of events",
						optarg);
			break;
		case OPTION_TLB:
			c->tlb = true;
			break;
		case OPTION_UNTIL:
			if (!parse_number(optarg, &c->until))
				return complain(STATUS_USAGE, "--until %s: give an event's number",
						optarg);
			break;
		case OPTION_SPEED:
			c->speed = true;
			break;
		case OPTION_CONFIG:
			c->config = optarg;
			break;
		case OPTION_JSON:
			c->json = optarg;
			break;
		case OPTION_QUIET:
			c->quiet = true;
			break;
		case OPTION_HELP:
			fputs(help, stdout);
			*done = true;
			return STATUS_OK;
		default:
			fputs("`umbra replay --help` lists the options\n", stderr);
			return STATUS_USAGE;
		}
	}
	if (optind != argc - 1)
		return complain(STATUS_USAGE,
				"replay: give one trace; `umbra replay --help` helps");
	c->path = argv[optind];
	return STATUS_OK;
}

/* "quota=N,prefetch=N" */
static enum status configure(char *text, struct umbra_config *config)
{
	char *rest = text;

	for (char *word; (word = strsep(&rest, ","));) {
		char *value = strchr(word, '=');
		uint64_t number;

		if (value)
			*value++ = 0;
		if (!value || !parse_number(value, &number) || number > UINT32_MAX)
			return complain(STATUS_USAGE, "--config: \"%s\": give NAME=NUMBER", word);
		if (!strcmp(word, "quota"))
			config->shadow_quota = (uint32_t)number;
		else if (!strcmp(word, "prefetch"))
			config->prefetch = (uint32_t)number;
		else
			return complain(STATUS_USAGE,
					"--config: no setting \"%s\"; there are quota and prefetch",
					word);
	}
	return STATUS_OK;
}

static void print_line(void *ctx, const char *text)
{
	(void)ctx;
	fprintf(stderr, "  event %s\n", text);
}

static void progress(const struct command *c, double started, double *shown)
{
	double now = clock_now(), rate;
	uint64_t at, size;

	if (c->quiet || !isatty(STDERR_FILENO) || now - *shown < 0.25)
		return;
	*shown = now;
	trace_position(c->reader, &at, &size);
	rate = (double)at / (now - started);
	fprintf(stderr, "\rumbra: %3.0f %%, %.0f events a second, %.0f s left  ",
		100.0 * (double)at / (double)size,
		(double)replay_counts(c->replay)->events / (now - started),
		(double)(size - at) / rate);
}

static enum status judge_replay(const struct command *c, enum replay_status status)
{
	uint64_t event = replay_counts(c->replay)->events - 1;

	switch (status) {
	case REPLAY_VIOLATION:
		complain(STATUS_AUDIT, "%s: after event %" PRIu64 ": %s", c->path, event,
			 replay_why(c->replay));
		break;
	case REPLAY_NOMEM:
		return complain(STATUS_NOMEM, "%s: %s", c->path, replay_why(c->replay));
	case REPLAY_DAMAGED:
		return complain(STATUS_TRACE, "%s: %s", c->path, replay_why(c->replay));
	default:
		complain(STATUS_DIVERGED, "%s: event %" PRIu64 ": %s", c->path, event,
			 replay_why(c->replay));
	}
	fputs("umbra: the last events there, and the last of all:\n", stderr);
	replay_history(c->replay, print_line, NULL);
	return status == REPLAY_VIOLATION ? STATUS_AUDIT : STATUS_DIVERGED;
}

/* All records, or those before c->until. */
static enum status play(struct command *c)
{
	double started = clock_now(), shown = started;
	enum replay_status status = REPLAY_OK;
	enum trace_status read = TRACE_OK;
	struct umbra_record record;
	struct trace_error error;

	while (status == REPLAY_OK) {
		read = trace_next(c->reader, &record, &error);
		if (read)
			break;
		if (record.kind >= UMBRA_TRACE_EVENTS &&
		    replay_counts(c->replay)->events == c->until)
			break;
		status = replay_record(c->replay, &record);
		if (replay_counts(c->replay)->records % 65536 == 0)
			progress(c, started, &shown);
	}
	c->seconds = clock_now() - started;
	if (shown != started)
		fputs("\r\033[K", stderr);
	if (status != REPLAY_OK && status != REPLAY_ENDED)
		return judge_replay(c, status);
	if (read != TRACE_OK && read != TRACE_END)
		return complain(STATUS_TRACE, "%s", error.text);
	return STATUS_OK;
}

static void check_end(struct command *c)
{
	struct umbra_audit report = {0};

	c->hash = umbra_state_hash(replay_mmu(c->replay));
	if (c->audit)
		c->violations = umbra_audit(replay_mmu(c->replay), &report);
}

static void print_table(const struct command *c)
{
	const struct replay_counts *n = replay_counts(c->replay);
	struct umbra_stats stats;

	umbra_stats_get(replay_mmu(c->replay), &stats);
	printf("umbra replay: %s, %" PRIu64 " MiB\n", c->header.guest, c->header.memory >> 20);
	printf("  events                %" PRIu64 " in %.2f s: %.0f a second\n", n->events,
	       c->seconds, (double)n->events / c->seconds);
	printf("  inputs                %" PRIu64 "\n", n->records - n->events);
	for (unsigned kind = UMBRA_TRACE_EVENTS; kind < UMBRA_TRACE_KINDS; kind++)
		if (n->by_kind[kind])
			printf("    %-18s  %" PRIu64 "\n", replay_kind(kind), n->by_kind[kind]);
	printf("  sptes                 %" PRIu64 "\n", stats.sptes);
	printf("  shadow pages          %" PRIu64 "\n", stats.shadow_pages);
	printf("  pages of guest tables %" PRIu64 "\n", n->pages);
	if (c->config)
		printf("  answers that differ   %" PRIu64 "\n", n->differences);
	if (c->audit)
		printf("  audits                %" PRIu64 ", %" PRIu64 " violations\n",
		       n->audits + 1, c->violations);
	if (c->tlb)
		printf("  accesses by TLBs      %" PRIu64 "\n", n->accesses);
	if (!c->speed)
		printf("  state                 %016" PRIx64 "\n", c->hash);
}

static enum status write_json(const struct command *c)
{
	const struct replay_counts *n = replay_counts(c->replay);
	struct umbra_stats stats;
	char hash[20];
	json_t *kinds = json_object(), *all;
	int failed;

	umbra_stats_get(replay_mmu(c->replay), &stats);
	for (unsigned kind = 1; kind < UMBRA_TRACE_KINDS; kind++)
		if (n->by_kind[kind])
			json_object_set_new(kinds,
					    kind == UMBRA_TRACE_WORD4   ? "word4"
					    : kind == UMBRA_TRACE_WORD8 ? "word8"
									: replay_kind(kind),
					    json_integer((json_int_t)n->by_kind[kind]));
	snprintf(hash, sizeof(hash), "%016" PRIx64, c->hash);
	all = json_pack("{s:s, s:s, s:I, s:I, s:f, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:s}",
			"trace", c->path, "guest", c->header.guest, "events", (json_int_t)n->events,
			"records", (json_int_t)n->records, "seconds", c->seconds, "kinds", kinds,
			"sptes", (json_int_t)stats.sptes, "shadow_pages",
			(json_int_t)stats.shadow_pages, "faults", (json_int_t)stats.faults,
			"differences", (json_int_t)n->differences, "audits", (json_int_t)n->audits,
			"violations", (json_int_t)c->violations, "state", c->speed ? "" : hash);
	failed = !all || json_dump_file(all, c->json, JSON_INDENT(2));
	json_decref(all);
	if (failed)
		return complain(STATUS_ERROR, "%s: cannot write it", c->json);
	return STATUS_OK;
}

static enum status open_trace(struct command *c)
{
	enum trace_status status;
	struct trace_error error;

	c->reader = trace_open(c->path, &c->header, &status, &error);
	if (!c->reader)
		return complain(STATUS_TRACE, "%s", error.text);
	if (c->header.source != TRACE_SOURCE_UMBRA)
		return complain(STATUS_TRACE,
				"%s: imported from KVM, whose tracepoints do not tell enough to "
				"replay it; it can be exported and counted",
				c->path);
	return STATUS_OK;
}

static enum status begin(struct command *c)
{
	struct replay_options options = {.config = c->header.config,
					 .audit = c->audit,
					 .tlb = c->tlb,
					 .lenient = c->config != NULL};

	if (c->config) {
		enum status status = configure(c->config, &options.config);

		if (status != STATUS_OK)
			return status;
	}
	c->replay = replay_new(&options);
	if (!c->replay)
		return complain(
		    STATUS_TRACE,
		    "%s: no MMU can be made as it says (quota %u, prefetch %u, %u bits)", c->path,
		    options.config.shadow_quota, options.config.prefetch,
		    options.config.maxphyaddr);
	return STATUS_OK;
}

int replay_command(int argc, char **argv)
{
	struct command c = {0};
	bool done = false;
	enum status status = parse(argc, argv, &c, &done);

	if (status != STATUS_OK || done)
		return (int)status;
	status = open_trace(&c);
	if (status == STATUS_OK)
		status = begin(&c);
	if (status == STATUS_OK) {
		status = play(&c);
		if (!c.speed && status == STATUS_OK)
			check_end(&c);
		if (c.violations)
			status = complain(STATUS_AUDIT, "%s: %" PRIu64 " violations at the end",
					  c.path, c.violations);
		if (!c.quiet)
			print_table(&c);
		if (c.json && write_json(&c) != STATUS_OK && status == STATUS_OK)
			status = STATUS_ERROR;
	}
	if (c.replay)
		replay_free(c.replay);
	if (c.reader)
		trace_reader_close(c.reader);
	return (int)status;
}
