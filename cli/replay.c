/* SPDX-License-Identifier: BSD-2-Clause */
/* `umbra replay`: a recorded guest on libumbra, here, without the guest. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "commands.h"
#include "number.h"
#include "playback.h"
#include "status.h"

static const char help[] =
    "usage: umbra replay [OPTION...] FILE\n"
    "\n"
    "Carry out on libumbra what a recorded guest asked of it (umbra run --record FILE).\n"
    "\n"
    "  --audit N       check every invariant after every N events, and at the end\n"
    "  --tlb           processors whose TLBs forget nothing make the guest's accesses, and a\n"
    "                  second walker of the guest's tables says where these must lead\n"
    "  --until EVENT   stop before event number EVENT\n"
    "  --speed         no checks at the end either: events a second\n"
    "  --config LIST   other settings than the recorded ones: quota=N, prefetch=N, unsync=on|off.\n"
    "                  Answers that differ are counted, not complained about\n"
    "  --loose         as a trace is replayed that umbra shrink has cut: what is missing is made\n"
    "                  up, what cannot be carried out is passed over, answers are not compared\n"
    "  --json FILE     the counts as JSON\n"
    "  --quiet         print no progress and no table\n";

enum {
	OPTION_AUDIT = 1,
	OPTION_TLB,
	OPTION_UNTIL,
	OPTION_SPEED,
	OPTION_CONFIG,
	OPTION_LOOSE,
	OPTION_JSON,
	OPTION_QUIET,
	OPTION_HELP,
};

static const struct option table[] = {
    {"audit", required_argument, NULL, OPTION_AUDIT},   {"tlb", no_argument, NULL, OPTION_TLB},
    {"until", required_argument, NULL, OPTION_UNTIL},   {"speed", no_argument, NULL, OPTION_SPEED},
    {"config", required_argument, NULL, OPTION_CONFIG}, {"loose", no_argument, NULL, OPTION_LOOSE},
    {"json", required_argument, NULL, OPTION_JSON},     {"quiet", no_argument, NULL, OPTION_QUIET},
    {"help", no_argument, NULL, OPTION_HELP},           {NULL, 0, NULL, 0},
};

struct command {
	const char *path, *json;
	char *config;
	uint64_t audit, until;
	bool tlb, speed, loose, quiet;
	struct playback play;
	uint64_t hash;
	uint64_t violations;
};

static enum status parse(int argc, char **argv, struct command *c, bool *done)
{
	int option;

	optind = 1;
	c->until = UINT64_MAX;
	while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
		switch (option) {
		case OPTION_AUDIT:
			if (!number_parse(optarg, &c->audit) || !c->audit)
				return complain(STATUS_USAGE, "--audit %s: give a number of events",
						optarg);
			break;
		case OPTION_TLB:
			c->tlb = true;
			break;
		case OPTION_UNTIL:
			if (!number_parse(optarg, &c->until))
				return complain(STATUS_USAGE, "--until %s: give an event's number",
						optarg);
			break;
		case OPTION_SPEED:
			c->speed = true;
			break;
		case OPTION_CONFIG:
			c->config = optarg;
			break;
		case OPTION_LOOSE:
			c->loose = true;
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

/* One setting of --config. False: no such value. */
static bool set_quota(struct umbra_config *config, const char *value)
{
	uint64_t number;

	if (!number_parse(value, &number) || number > UINT32_MAX)
		return false;
	config->shadow_quota = (uint32_t)number;
	return true;
}

static bool set_prefetch(struct umbra_config *config, const char *value)
{
	uint64_t number;

	if (!number_parse(value, &number) || number > UINT32_MAX)
		return false;
	config->prefetch = (uint32_t)number;
	return true;
}

static bool set_unsync(struct umbra_config *config, const char *value)
{
	bool on = strcmp(value, "on") == 0;

	config->without &= (uint16_t)~UMBRA_WITHOUT_UNSYNC;
	config->without |= on ? 0 : UMBRA_WITHOUT_UNSYNC;
	return on || strcmp(value, "off") == 0;
}

static const struct {
	const char *name, *values;
	bool (*set)(struct umbra_config *config, const char *value);
} settings[] = {
    {"quota", "a number", set_quota},
    {"prefetch", "a number", set_prefetch},
    {"unsync", "on or off", set_unsync},
};
#define SETTINGS (sizeof(settings) / sizeof(settings[0]))

/* "quota=N,prefetch=N,unsync=on" */
static enum status configure(char *text, struct umbra_config *config)
{
	char *rest = text;

	for (char *word; (word = strsep(&rest, ","));) {
		char *value = strchr(word, '=');
		size_t i = 0;

		if (value)
			*value++ = 0;
		while (i < SETTINGS && strcmp(settings[i].name, word) != 0)
			i++;
		if (i == SETTINGS)
			return complain(
			    STATUS_USAGE,
			    "--config: no setting \"%s\"; there are quota, prefetch and unsync",
			    word);
		if (!value || !settings[i].set(config, value))
			return complain(STATUS_USAGE, "--config: %s=%s: give %s", word,
					value ? value : "", settings[i].values);
	}
	return STATUS_OK;
}

static enum status check_end(struct command *c)
{
	if (c->audit && replay_audit(c->play.replay) != REPLAY_OK)
		return complain(STATUS_AUDIT, "%s: at the end: %s", c->path,
				replay_why(c->play.replay));
	c->hash = umbra_state_hash(replay_mmu(c->play.replay));
	return STATUS_OK;
}

/* What settings change. */
static void print_policy(const struct umbra_stats *s)
{
	printf("  faults                %" PRIu64 " mapped, %" PRIu64 " emulated, %" PRIu64
	       " prefetched\n",
	       s->verdicts[UMBRA_RESUME], s->verdicts[UMBRA_EMULATE], s->prefetched);
	printf("  tables gone unsync    %" PRIu64 ", synchronised %" PRIu64 "; writes told %" PRIu64
	       "\n",
	       s->unsyncs, s->syncs, s->guest_writes);
	printf("  shadow pages made     %" PRIu64 "; reclaimed %" PRIu64 ", flooded %" PRIu64 "\n",
	       s->shadow_created, s->shadow_reclaimed, s->shadow_flooded);
	printf("  flushes               %" PRIu64 "\n", s->flushes);
}

static void print_table(const struct command *c)
{
	const struct replay_counts *n = replay_counts(c->play.replay);
	struct umbra_stats stats;

	umbra_stats_get(replay_mmu(c->play.replay), &stats);
	printf("umbra replay: %s, %" PRIu64 " MiB\n", c->play.header.guest,
	       c->play.header.memory >> 20);
	printf("  events                %" PRIu64 " in %.2f s: %.0f a second\n", n->events,
	       c->play.seconds, (double)n->events / c->play.seconds);
	printf("  inputs                %" PRIu64 "\n", n->records - n->events);
	for (unsigned kind = UMBRA_TRACE_EVENTS; kind < UMBRA_TRACE_KINDS; kind++)
		if (n->by_kind[kind])
			printf("    %-18s  %" PRIu64 "\n", replay_kind(kind), n->by_kind[kind]);
	printf("  sptes                 %" PRIu64 "\n", stats.sptes);
	printf("  shadow pages          %" PRIu64 "\n", stats.shadow_pages);
	printf("  pages of guest tables %" PRIu64 "\n", n->pages);
	if (c->config || c->loose)
		printf("  answers that differ   %" PRIu64 "\n", n->differences);
	if (c->loose)
		printf("  events passed over    %" PRIu64 "\n", n->skipped);
	if (c->config)
		print_policy(&stats);
	if (c->audit)
		printf("  audits                %" PRIu64 ", %" PRIu64 " violations\n", n->audits,
		       c->violations);
	if (c->tlb)
		printf("  accesses by TLBs      %" PRIu64 "\n", n->accesses);
	if (c->hash)
		printf("  state                 %016" PRIx64 "\n", c->hash);
}

static enum status write_json(const struct command *c)
{
	const struct replay_counts *n = replay_counts(c->play.replay);
	struct umbra_stats stats;
	char hash[20];
	json_t *kinds = json_object(), *all;
	int failed;

	umbra_stats_get(replay_mmu(c->play.replay), &stats);
	for (unsigned kind = 1; kind < UMBRA_TRACE_KINDS; kind++)
		if (n->by_kind[kind])
			json_object_set_new(kinds,
					    kind == UMBRA_TRACE_WORD4   ? "word4"
					    : kind == UMBRA_TRACE_WORD8 ? "word8"
									: replay_kind(kind),
					    json_integer((json_int_t)n->by_kind[kind]));
	snprintf(hash, sizeof(hash), "%016" PRIx64, c->hash);
	all = json_pack("{s:s, s:s, s:I, s:I, s:f, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s}",
			"trace", c->path, "guest", c->play.header.guest, "events",
			(json_int_t)n->events, "records", (json_int_t)n->records, "seconds",
			c->play.seconds, "kinds", kinds, "sptes", (json_int_t)stats.sptes,
			"shadow_pages", (json_int_t)stats.shadow_pages, "faults",
			(json_int_t)stats.faults, "differences", (json_int_t)n->differences,
			"skipped", (json_int_t)n->skipped, "audits", (json_int_t)n->audits,
			"violations", (json_int_t)c->violations, "state", c->hash ? hash : "");
	failed = !all || json_dump_file(all, c->json, JSON_INDENT(2));
	json_decref(all);
	if (failed)
		return complain(STATUS_ERROR, "%s: cannot write it", c->json);
	return STATUS_OK;
}

static enum status begin(struct command *c)
{
	struct replay_options options = {.config = c->play.header.config,
					 .audit = c->audit,
					 .tlb = c->tlb,
					 .lenient = c->config != NULL,
					 .brief = c->speed,
					 .loose = c->loose};

	if (c->config) {
		enum status status = configure(c->config, &options.config);

		if (status != STATUS_OK)
			return status;
	}
	return playback_begin(&c->play, &options);
}

int replay_command(int argc, char **argv)
{
	struct command c = {0};
	bool done = false;
	enum status status = parse(argc, argv, &c, &done);

	if (status != STATUS_OK || done)
		return (int)status;
	status = playback_open(&c.play, c.path, c.quiet);
	c.loose |= c.play.header.source == TRACE_SHRUNK;
	if (status == STATUS_OK)
		status = begin(&c);
	if (status == STATUS_OK) {
		status = playback_run(&c.play, c.until);
		if (!c.speed && status == STATUS_OK)
			status = check_end(&c);
		c.violations = status == STATUS_AUDIT;
		if (!c.quiet)
			print_table(&c);
		if (c.json && write_json(&c) != STATUS_OK && status == STATUS_OK)
			status = STATUS_ERROR;
	}
	playback_close(&c.play);
	return (int)status;
}
