/* SPDX-License-Identifier: BSD-2-Clause */
/* `umbra shrink`: cut a trace to a small one that still shows what went wrong. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "clock.h"
#include "commands.h"
#include "judge.h"
#include "property.h"
#include "status.h"
#include "trace.h"
#include "tracefile.h"

static const char help[] =
    "usage: umbra shrink [OPTION...] FILE.utr\n"
    "\n"
    "Leave out of a trace all that can be left out while it has a property: by default, that a\n"
    "loose replay with audits and TLBs finds the violation that it finds in the whole trace.\n"
    "\n"
    "  --property CMD  the property is that /bin/sh -c CMD succeeds; $1 is the trace to judge\n"
    "  --output FILE   where the small one goes (default: FILE.min.utr)\n"
    "  --json FILE     the counts as JSON\n"
    "  --quiet         print no progress and no table\n"
    "\n"
    "A signal ends it early: what is smallest by then is kept.\n";

enum {
	OPTION_PROPERTY = 1,
	OPTION_OUTPUT,
	OPTION_JSON,
	OPTION_QUIET,
	OPTION_HELP,
};

static const struct option table[] = {
    {"property", required_argument, NULL, OPTION_PROPERTY},
    {"output", required_argument, NULL, OPTION_OUTPUT},
    {"json", required_argument, NULL, OPTION_JSON},
    {"quiet", no_argument, NULL, OPTION_QUIET},
    {"help", no_argument, NULL, OPTION_HELP},
    {NULL, 0, NULL, 0},
};

struct command {
	const char *path, *json;
	char output[PATH_MAX];
	bool quiet;
	struct trace_header header;
	struct shrink shrink;
	struct judge judge;
	struct property property; /* with .command */
	size_t records, events;   /* of the whole trace */
	bool has;                 /* the property */
	double began, shown, seconds;
};

static volatile sig_atomic_t stop; /* the signal */

static void on_signal(int number)
{
	stop = number;
}

static enum status parse(int argc, char **argv, struct command *c, bool *done)
{
	const char *output = NULL;
	int option, size;

	optind = 1;
	while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
		switch (option) {
		case OPTION_PROPERTY:
			c->property.command = optarg;
			break;
		case OPTION_OUTPUT:
			output = optarg;
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
			fputs("`umbra shrink --help` lists the options\n", stderr);
			return STATUS_USAGE;
		}
	}
	if (optind != argc - 1)
		return complain(STATUS_USAGE,
				"shrink: give one trace; `umbra shrink --help` helps");
	c->path = argv[optind];
	size = (int)strlen(c->path);
	if (size > 4 && !strcmp(c->path + size - 4, ".utr"))
		size -= 4;
	size = output ? snprintf(c->output, sizeof(c->output), "%s", output)
		      : snprintf(c->output, sizeof(c->output), "%.*s.min.utr", size, c->path);
	if (size + 16 >= (int)sizeof(c->output))
		return complain(STATUS_USAGE, "shrink: the output's name is too long");
	return STATUS_OK;
}

/* Better now than when the work is done. Only a trace, or an empty file, is replaced. */
static enum status check_output(const struct command *c)
{
	int file = open(c->output, O_RDONLY | O_CLOEXEC);
	uint64_t magic = TRACE_MAGIC;
	struct stat stat;
	bool good;

	if (file < 0)
		return errno == ENOENT
			   ? STATUS_OK
			   : complain(STATUS_TRACE, "%s: %s", c->output, strerror(errno));
	good = !fstat(file, &stat) && S_ISREG(stat.st_mode) &&
	       pread(file, &magic, sizeof(magic), 0) >= 0 && magic == TRACE_MAGIC;
	close(file);
	return good ? STATUS_OK
		    : complain(STATUS_TRACE, "%s is there and is not a trace; it stays as it is",
			       c->output);
}

static enum status read_all(struct command *c, struct trace_reader *reader)
{
	struct shrink *s = &c->shrink;
	enum trace_status status;
	struct trace_error error;
	size_t room = 0;

	for (;;) {
		if (s->count == room) {
			size_t more = room ? 2 * room : 1u << 16;
			struct umbra_record *records = realloc(s->records, more * sizeof(*records));

			if (!records)
				return complain(STATUS_ERROR, "%s: no memory for its records",
						c->path);
			s->records = records;
			room = more;
		}
		status = trace_next(reader, &s->records[s->count], &error);
		if (status)
			break;
		s->count++;
	}
	c->records = s->count;
	c->events = shrink_events(s->records, s->count);
	/* What a recorder that was stopped wrote is a trace, too. */
	if (status == TRACE_END || (status == TRACE_TRUNCATED && s->count))
		return STATUS_OK;
	return complain(trace_exit(&error), "%s", error.text);
}

static enum status read_trace(struct command *c)
{
	struct trace_error error;
	struct trace_reader *reader = trace_open(c->path, &c->header, &error);
	enum status result;

	if (!reader)
		return complain(trace_exit(&error), "%s", error.text);
	result = read_all(c, reader);
	trace_reader_close(reader);
	c->header.source = TRACE_SHRUNK;
	c->judge.config = c->header.config;
	c->property.header = c->header;
	return result;
}

static void progress(struct command *c)
{
	double now = clock_now();

	if (c->quiet || !isatty(STDERR_FILENO) || now - c->shown < 0.1)
		return;
	c->shown = now;
	fprintf(stderr, "\r\033[Kumbra: %zu of %zu events left, %zu tries, %.0f s ",
		shrink_events(c->shrink.records, c->shrink.count), c->events, c->shrink.tries,
		now - c->began);
}

static void looking(void *ctx, size_t audits)
{
	struct command *c = ctx;

	if (c->quiet || !isatty(STDERR_FILENO))
		return;
	c->shown = clock_now();
	fprintf(stderr, "\rumbra: looking through %zu events, with %zu audits ", c->events, audits);
}

static enum shrink_answer test(void *ctx, const struct umbra_record *records, size_t count)
{
	struct command *c = ctx;

	progress(c);
	return c->property.command ? property_test(&c->property, records, count)
				   : judge_test(&c->judge, records, count);
}

/* Cut the end off. STATUS_OK: c->shrink is ready; or the trace does not have the property. */
static enum status begin_judge(struct command *c)
{
	size_t events;

	switch (judge_locate(&c->judge, c->shrink.records, c->shrink.count, &events)) {
	case SHRINK_YES:
		c->shrink.count = shrink_prefix(c->shrink.records, c->shrink.count, events);
		c->has = true;
		return STATUS_OK;
	case SHRINK_STOP:
		return stop ? STATUS_OK
			    : complain(STATUS_ERROR, "no process or memory for a replay");
	default:
		return complain(STATUS_ABSENT,
				"%s: a loose replay with audits and TLBs finds nothing wrong; "
				"--property CMD can judge otherwise",
				c->path);
	}
}

static enum status begin_property(struct command *c)
{
	enum status status = property_try(&c->property, c->shrink.records, c->shrink.count);

	c->has = status == STATUS_OK && !stop;
	if (c->has && shrink_cut_end(&c->shrink) == SHRINK_NOMEM)
		status = complain(STATUS_ERROR, "no memory for a copy of the trace");
	return status;
}

/* Whole or not at all: beside, and then in its place. */
static enum status write_output(const struct command *c)
{
	char beside[PATH_MAX + 32];
	struct trace_error error;
	struct trace_writer *writer;
	bool good;

	snprintf(beside, sizeof(beside), "%s.%d.new", c->output, (int)getpid());
	writer = trace_create(beside, &c->header, &error);
	if (!writer)
		return complain(trace_exit(&error), "%s", error.text);
	good = trace_write(writer, c->shrink.records, c->shrink.count, &error);
	if (good)
		good = trace_close(writer, &error);
	else
		trace_abandon(writer);
	if (good && rename(beside, c->output)) {
		snprintf(error.text, sizeof(error.text), "%.200s: %s", c->output, strerror(errno));
		good = false;
	}
	if (good)
		return STATUS_OK;
	unlink(beside);
	return complain(trace_exit(&error), "%s", error.text);
}

static void print_table(const struct command *c)
{
	size_t events = shrink_events(c->shrink.records, c->shrink.count);

	printf("umbra shrink: %s\n", c->output);
	printf("  events                %zu of %zu\n", events, c->events);
	printf("  inputs                %zu of %zu\n", c->shrink.count - events,
	       c->records - c->events);
	printf("  tries                 %zu in %.1f s\n", c->shrink.tries, c->seconds);
	printf("  property              %s\n",
	       c->property.command ? c->property.command : c->judge.why);
}

static enum status write_json(const struct command *c)
{
	size_t events = shrink_events(c->shrink.records, c->shrink.count);
	json_t *all = json_pack(
	    "{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:f, s:b}", "trace", c->path, "output",
	    c->output, "property", c->property.command ? c->property.command : c->judge.why,
	    "events_before", (json_int_t)c->events, "events", (json_int_t)events, "inputs_before",
	    (json_int_t)(c->records - c->events), "inputs", (json_int_t)(c->shrink.count - events),
	    "tries", (json_int_t)c->shrink.tries, "seconds", c->seconds, "complete", !stop);
	bool failed = !all || json_dump_file(all, c->json, JSON_INDENT(2));

	json_decref(all);
	return failed ? complain(STATUS_ERROR, "%s: cannot write it", c->json) : STATUS_OK;
}

/* The trace is read. */
static enum status shrink(struct command *c)
{
	enum status status;

	c->began = clock_now();
	status = c->property.command ? begin_property(c) : begin_judge(c);
	if (c->has && status == STATUS_OK && !stop && shrink_run(&c->shrink) == SHRINK_NOMEM)
		status = complain(STATUS_ERROR, "no memory for a copy of the trace");
	if (status == STATUS_OK)
		status = c->property.trouble;
	c->seconds = clock_now() - c->began;
	if (c->shown > 0)
		fputs("\r\033[K", stderr);
	return status;
}

static enum status finish(struct command *c)
{
	enum status status = write_output(c);

	if (status != STATUS_OK)
		return status;
	if (!c->quiet)
		print_table(c);
	if (c->json)
		status = write_json(c);
	return status;
}

int shrink_command(int argc, char **argv)
{
	static const int signals[] = {SIGHUP, SIGINT, SIGTERM};
	const struct sigaction action = {.sa_handler = on_signal};
	struct command c = {.shrink.test = test, .judge.stop = &stop, .property.stop = &stop};
	bool done = false;
	enum status status = parse(argc, argv, &c, &done);

	if (status != STATUS_OK || done)
		return (int)status;
	c.shrink.ctx = c.judge.ctx = &c;
	c.judge.looking = looking;
	for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaction(signals[i], &action, NULL);
	signal(SIGCHLD, SIG_DFL); /* or there is nobody to wait for */
	status = check_output(&c);
	if (status == STATUS_OK)
		status = read_trace(&c);
	if (status == STATUS_OK && c.property.command && !property_init(&c.property))
		status = STATUS_ERROR;
	if (status == STATUS_OK)
		status = shrink(&c);
	if (c.has) {
		enum status written = finish(&c);

		status = status == STATUS_OK ? written : status;
	}
	if (stop)
		status =
		    complain(STATUS_SIGNAL + (int)stop, "stopped by signal %d; %s", (int)stop,
			     c.has ? "what was smallest by then is kept" : "nothing is written");
	if (c.property.command && c.property.file > 0)
		property_end(&c.property);
	free(c.shrink.records);
	return (int)status;
}
