/* SPDX-License-Identifier: BSD-2-Clause */
/* `umbra import`: a trace.dat of Linux KVM's tracepoints becomes a trace. */
#include "import.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "commands.h"
#include "import_report.h"
#include "status.h"
#include "tracefile.h"
#include "trace.h"

static const char help[] =
    "usage: umbra import [OPTION...] TRACE.DAT FILE\n"
    "\n"
    "Make a trace, FILE, of what Linux KVM recorded: trace-cmd record -e kvmmmu -e kvm\n"
    "\n"
    "  --timeout S  give up where reading stands still for S seconds (60)\n"
    "  --json FILE  the counts as JSON\n"
    "  --quiet      print no progress and no table\n";

enum {
	OPTION_TIMEOUT = 1,
	OPTION_JSON,
	OPTION_QUIET,
	OPTION_HELP,
};

static const struct option table[] = {
    {"timeout", required_argument, NULL, OPTION_TIMEOUT},
    {"json", required_argument, NULL, OPTION_JSON},
    {"quiet", no_argument, NULL, OPTION_QUIET},
    {"help", no_argument, NULL, OPTION_HELP},
    {NULL, 0, NULL, 0},
};

struct command {
	struct import_options options;
	const char *json;
	bool quiet;
	struct import_report report;
	struct trace_writer *writer; /* NULL: no record has come yet */
	struct trace_error error;
	double started, shown;
	bool failed; /* the writer did */
};

static enum status parse(int argc, char **argv, struct command *c, bool *done)
{
	int option;
	char *end;

	optind = 1;
	while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
		switch (option) {
		case OPTION_TIMEOUT:
			c->options.timeout = (unsigned)strtoul(optarg, &end, 10);
			if (*optarg < '1' || *optarg > '9' || *end || strlen(optarg) > 6)
				return complain(STATUS_USAGE, "--timeout %s: give seconds", optarg);
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
			fputs("`umbra import --help` lists the options\n", stderr);
			return STATUS_USAGE;
		}
	}
	if (optind != argc - 2)
		return complain(STATUS_USAGE,
				"import: give a trace.dat and the file to make of it; `umbra "
				"import --help` helps");
	c->report.from = c->options.path = argv[optind];
	c->report.to = argv[optind + 1];
	return STATUS_OK;
}

/* The file is made when there is something to write: not for an input that is none. */
static bool open_writer(struct command *c)
{
	struct trace_header header = {.source = TRACE_KVM};

	if (c->writer)
		return true;
	snprintf(header.guest, sizeof(header.guest), "KVM%s%.50s",
		 c->report.counts.kernel[0] ? ", " : "", c->report.counts.kernel);
	c->writer = trace_create(c->report.to, &header, &c->error);
	return c->writer;
}

static bool sink(void *ctx, const struct umbra_record *records, size_t count)
{
	struct command *c = ctx;

	for (size_t i = 0; i < count; i++)
		import_report_add(&c->report, &records[i]);
	c->failed = !open_writer(c) || !trace_write(c->writer, records, count, &c->error);
	return !c->failed;
}

static void progress(void *ctx, const struct import_counts *counts)
{
	struct command *c = ctx;
	double now = clock_now();

	if (c->quiet || !isatty(STDERR_FILENO) || now - c->shown < 0.25)
		return;
	c->shown = now;
	fprintf(stderr, "\rumbra: %3.0f %%, %" PRIu64 " events, %.0f a second  ",
		counts->bytes_all ? 100.0 * (double)counts->bytes / (double)counts->bytes_all : 0.0,
		counts->events, (double)counts->events / (now - c->started));
}

static enum status judge(struct command *c, enum import_status status,
			 const struct import_error *error)
{
	switch (status) {
	case IMPORT_OK:
		if (c->report.records)
			return STATUS_OK;
		return complain(STATUS_FOREIGN,
				"%s: none of its %" PRIu64 " events is one of KVM's that tells "
				"something; record with trace-cmd record -e kvmmmu -e kvm",
				c->report.from, c->report.counts.events);
	case IMPORT_NOT:
		return complain(STATUS_FOREIGN, "%s", error->text);
	case IMPORT_DAMAGED:
		return complain(STATUS_PARTIAL, "%s", error->text);
	case IMPORT_SINK:
		return complain(trace_exit(&c->error), "%s%s", c->error.text,
				c->writer ? "; what was written before is good" : "");
	default:
		return complain(STATUS_ERROR, "%s", error->text);
	}
}

/* Close what was made, if anything was. */
static enum status finish(struct command *c, enum status status)
{
	if (c->writer && c->failed)
		trace_abandon(c->writer);
	else if (c->writer && !trace_close(c->writer, &c->error))
		return complain(trace_exit(&c->error), "%s; what was written before is good",
				c->error.text);
	return status;
}

int import_command(int argc, char **argv)
{
	struct command c = {.options = {.timeout = 60, .sink = sink, .progress = progress}};
	struct import_error error;
	enum import_status read;
	bool done = false;
	enum status status = parse(argc, argv, &c, &done);

	if (status != STATUS_OK || done)
		return (int)status;
	c.options.ctx = &c;
	c.started = c.shown = clock_now();
	read = import_read(&c.options, &c.report.counts, &error);
	c.report.seconds = clock_now() - c.started;
	if (c.shown != c.started)
		fputs("\r\033[K", stderr);
	c.report.whole = read == IMPORT_OK;
	status = finish(&c, judge(&c, read, &error));
	if (!c.quiet && (read == IMPORT_OK || (read == IMPORT_DAMAGED && c.report.records)))
		import_report_print(&c.report);
	if (c.json && !import_report_json(&c.report, c.json)) {
		complain(STATUS_ERROR, "%s: cannot write it", c.json);
		if (status == STATUS_OK)
			status = STATUS_ERROR;
	}
	chains_free(&c.report.chains);
	return (int)status;
}
