/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `umbra export`: a trace as a database, or as a timeline. The trace is replayed, so that at the
 * asked-for events, and at the end, the MMU itself can be written out. The file appears whole, or
 * not at all.
 */
#include "export.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "commands.h"
#include "number.h"
#include "playback.h"

static const char help[] =
    "usage: umbra export [OPTION...] FILE OUTPUT\n"
    "\n"
    "Write the trace FILE, recorded or imported, as an SQLite database (docs/export.md has its "
    "tables) or, where OUTPUT\n"
    "ends in .json, as Trace Event JSON for Perfetto and Chrome.\n"
    "\n"
    "  --at EVENT    write sptes and shadow pages as they are before that event, too; may come\n"
    "                again\n"
    "  --every N     the same, every N events (JSON: counters; otherwise 10000)\n"
    "  --until EVENT stop before that event\n"
    "  --words       also every word of the guest's tables that was read\n"
    "  --quiet       print no progress\n";

enum {
	OPTION_AT = 1,
	OPTION_EVERY,
	OPTION_UNTIL,
	OPTION_WORDS,
	OPTION_QUIET,
	OPTION_HELP,
};

static const struct option table[] = {
    {"at", required_argument, NULL, OPTION_AT},
    {"every", required_argument, NULL, OPTION_EVERY},
    {"until", required_argument, NULL, OPTION_UNTIL},
    {"words", no_argument, NULL, OPTION_WORDS},
    {"quiet", no_argument, NULL, OPTION_QUIET},
    {"help", no_argument, NULL, OPTION_HELP},
    {NULL, 0, NULL, 0},
};

#define MOMENTS 64

struct command {
	const char *path, *output;
	char *part; /* what OUTPUT is called until it is whole */
	uint64_t at[MOMENTS];
	unsigned moments;
	uint64_t every, until;
	bool words, quiet;
	const struct export_kind *kind;
	struct playback play;
	struct export_sink *sink;
	struct kvm_state *kvm; /* of a trace that was imported; NULL: it is replayed */

	uint64_t event, inputs;
	uint64_t time, seen; /* the last event's; as its record has it */
};

static enum status parse(int argc, char **argv, struct command *c, bool *done)
{
	uint64_t number = 0;
	int option;

	optind = 1;
	c->until = UINT64_MAX;
	while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
		if (option == OPTION_HELP) {
			fputs(help, stdout);
			*done = true;
			return STATUS_OK;
		}
		if (option == '?')
			return STATUS_USAGE;
		if (option <= OPTION_UNTIL && !number_parse(optarg, &number))
			return complain(STATUS_USAGE, "export: %s: give an event's number", optarg);
		if (option == OPTION_AT && c->moments == MOMENTS)
			return complain(STATUS_USAGE, "export: --at more than %u times", MOMENTS);
		if (option == OPTION_AT)
			c->at[c->moments++] = number;
		if (option == OPTION_EVERY)
			c->every = number;
		if (option == OPTION_UNTIL)
			c->until = number;
		c->words |= option == OPTION_WORDS;
		c->quiet |= option == OPTION_QUIET;
	}
	if (optind != argc - 2)
		return complain(STATUS_USAGE,
				"export: give a trace and an output; `umbra export --help` helps");
	c->path = argv[optind];
	c->output = argv[optind + 1];
	return STATUS_OK;
}

/* ------------------------------------------------------------------ the output */

static bool ends_in(const char *text, const char *end)
{
	size_t size = strlen(text), tail = strlen(end);

	return size > tail && strcmp(text + size - tail, end) == 0;
}

/* What is there and was not made by us is not written over. */
static bool is_replaceable(const char *path, const char *magic)
{
	char head[32] = "";
	struct stat stat_of;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = 0;

	if (fd < 0)
		return errno == ENOENT;
	if (!fstat(fd, &stat_of) && S_ISREG(stat_of.st_mode))
		got = read(fd, head, sizeof(head) - 1);
	else
		got = -1;
	close(fd);
	return got == 0 || (got > 0 && strncmp(head, magic, strlen(magic)) == 0);
}

static enum status open_output(struct command *c)
{
	int fd;

	c->kind = &export_kinds[0];
	for (size_t i = 0; i < export_kind_count; i++)
		if (ends_in(c->output, export_kinds[i].suffix))
			c->kind = &export_kinds[i];
	if (!is_replaceable(c->output, c->kind->magic))
		return complain(STATUS_ERROR, "%s is there and is no %s file; it stays as it is",
				c->output, c->kind->name);
	if (asprintf(&c->part, "%s.XXXXXX", c->output) < 0)
		c->part = NULL;
	fd = c->part ? mkstemp(c->part) : -1;
	if (fd < 0)
		return complain(STATUS_ERROR, "%s: %s", c->output, strerror(errno));
	fchmod(fd, 0644);
	close(fd);
	c->sink = c->kind->open(c->part, &c->play.header);
	if (!c->sink)
		return complain(STATUS_NOMEM, "%s: out of memory", c->output);
	return c->sink->why[0] ? complain(STATUS_ERROR, "%s", c->sink->why) : STATUS_OK;
}

static enum status close_output(struct command *c, enum status status)
{
	if (c->sink && status == STATUS_OK && !c->sink->complete(c->sink))
		status = complain(STATUS_ERROR, "%s: %s", c->output, c->sink->why);
	if (c->sink)
		c->sink->free(c->sink);
	if (c->part && status == STATUS_OK && rename(c->part, c->output))
		status = complain(STATUS_ERROR, "%s: %s", c->output, strerror(errno));
	if (c->part && status != STATUS_OK)
		unlink(c->part);
	free(c->part);
	return status;
}

/* ------------------------------------------------------------------ events */

static bool is_moment(const struct command *c, uint64_t event)
{
	for (unsigned i = 0; i < c->moments; i++)
		if (c->at[i] == event)
			return true;
	return c->every && event && event % c->every == 0;
}

static bool on_record(struct command *c, const struct umbra_record *record)
{
	struct export_event event = {.record = record};

	if (record->kind < UMBRA_TRACE_EVENTS) {
		c->inputs++;
		return !c->words || !c->sink->input || c->sink->input(c->sink, c->event, record);
	}
	c->time += (uint32_t)(record->time - (uint32_t)c->seen);
	c->seen = record->time;
	event.number = c->event++;
	event.time = c->time;
	event.inputs = c->inputs;
	c->inputs = 0;
	return c->sink->event(c->sink, &event);
}

/* What is there now. */
static bool snapshot(struct command *c)
{
	if (c->kvm)
		return kvm_state_export(c->kvm, c->sink, c->event, c->time);
	return export_mmu(c->sink, c->event, c->time, replay_mmu(c->play.replay));
}

static enum status complain_sink(const struct command *c)
{
	return complain(STATUS_ERROR, "%s: %s", c->output, c->sink->why);
}

static volatile sig_atomic_t stopped; /* the signal */

static void on_signal(int number)
{
	stopped = number;
}

/* Who ends us finds nothing half-written. */
static void watch_signals(void)
{
	const struct sigaction action = {.sa_handler = on_signal};

	sigaction(SIGHUP, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

static enum status watch(void *ctx, const struct umbra_record *record)
{
	struct command *c = ctx;

	if (stopped)
		return complain((enum status)(STATUS_SIGNAL + stopped),
				"%s: stopped by signal %d; nothing was written", c->output,
				(int)stopped);
	if (record->kind >= UMBRA_TRACE_EVENTS && is_moment(c, c->event) && !snapshot(c))
		return complain_sink(c);
	if (c->kvm && !kvm_state_record(c->kvm, record))
		return complain(STATUS_NOMEM, "%s: no memory for all that KVM mapped", c->path);
	return on_record(c, record) ? STATUS_OK : complain_sink(c);
}

static enum status play(struct command *c)
{
	const struct replay_options options = {0};
	enum status status;

	c->play.watch = watch;
	c->play.watch_ctx = c;
	if (c->play.header.source == TRACE_KVM) {
		c->kvm = kvm_state_new();
		return c->kvm ? playback_read(&c->play, c->until)
			      : complain(STATUS_NOMEM, "%s: out of memory", c->path);
	}
	status = playback_begin(&c->play, &options);
	return status == STATUS_OK ? playback_run(&c->play, c->until) : status;
}

static enum status export_all(struct command *c)
{
	enum status status;

	if (!c->every && c->kind != &export_kinds[0])
		c->every = 10000;
	status = play(c);
	if (status == STATUS_OK && !snapshot(c))
		status = complain_sink(c);
	return status;
}

int export_command(int argc, char **argv)
{
	struct command c = {0};
	bool done = false;
	enum status status = parse(argc, argv, &c, &done);

	if (status != STATUS_OK || done)
		return (int)status;
	watch_signals();
	status = playback_open(&c.play, c.path, c.quiet);
	if (status == STATUS_OK)
		status = open_output(&c);
	if (status == STATUS_OK)
		status = export_all(&c);
	status = close_output(&c, status);
	playback_close(&c.play);
	kvm_state_free(c.kvm);
	if (status == STATUS_OK && !c.quiet)
		printf("umbra export: %s: %" PRIu64 " events\n", c.output, c.event);
	return (int)status;
}
