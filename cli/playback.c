/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From a trace file to an MMU in the state of one moment: reader, its thread, replayer, progress,
 * and what to say when one of them is in trouble.
 */
#include "playback.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "clock.h"
#include "tracefile.h"

enum status playback_open(struct playback *p, const char *path, bool quiet)
{
	struct trace_error error;

	*p = (struct playback){.path = path, .quiet = quiet};
	p->reader = trace_open(path, &p->header, &error);
	return p->reader ? STATUS_OK : complain(trace_exit(&error), "%s", error.text);
}

enum status playback_begin(struct playback *p, const struct replay_options *options)
{
	struct replay_options used = *options;
	int error;

	if (p->header.source == TRACE_KVM)
		return complain(STATUS_NO_REPLAY,
				"%s: imported from KVM, whose tracepoints do not tell enough to "
				"replay it; it can be exported and counted",
				p->path);

	if (!used.lenient)
		used.config = p->header.config;
	used.loose |= p->header.source == TRACE_SHRUNK;
	p->replay = replay_new(&used, &error);
	if (p->replay)
		return STATUS_OK;
	if (error == UMBRA_ENOMEM)
		return complain(STATUS_NOMEM, "%s: no memory for a guest of so many pages",
				p->path);
	return complain(STATUS_TRACE_DAMAGED,
			"%s: no MMU can be made as it says (quota %u, prefetch %u, %u bits)",
			p->path, used.config.shadow_quota, used.config.prefetch,
			used.config.maxphyaddr);
}

static void print_line(void *ctx, const char *text)
{
	(void)ctx;
	fprintf(stderr, "  event %s\n", text);
}

static enum status judge(const struct playback *p, enum replay_status status)
{
	uint64_t event = replay_counts(p->replay)->events - 1;

	switch (status) {
	case REPLAY_VIOLATION:
		complain(STATUS_AUDIT, "%s: after event %" PRIu64 ": %s", p->path, event,
			 replay_why(p->replay));
		break;
	case REPLAY_NOMEM:
		return complain(STATUS_NOMEM, "%s: %s", p->path, replay_why(p->replay));
	case REPLAY_DAMAGED:
		return complain(STATUS_TRACE_DAMAGED, "%s: %s", p->path, replay_why(p->replay));
	default:
		complain(STATUS_DIVERGED, "%s: event %" PRIu64 ": %s", p->path, event,
			 replay_why(p->replay));
	}
	fputs("umbra: the last events there, and the last of all:\n", stderr);
	replay_history(p->replay, print_line, NULL);
	return status == REPLAY_VIOLATION ? STATUS_AUDIT : STATUS_DIVERGED;
}

static void progress(const struct playback *p, double started, double *shown)
{
	double now = clock_now(), seconds = now - started;
	uint64_t at, size;

	if (p->quiet || !isatty(STDERR_FILENO) || now - *shown < 0.25)
		return;
	*shown = now;
	trace_position(p->reader, &at, &size);
	fprintf(stderr, "\rumbra: %3.0f %%, %.0f events a second, %.0f s left  ",
		100.0 * (double)at / (double)size, (double)p->events / seconds,
		(double)(size - at) / (double)at * seconds);
}

/*
 * One by one, with a look at each: its inputs come first, so what is seen before an event is the
 * state before its inputs too.
 */
static enum status play_watched(struct playback *p, const struct umbra_record *records,
				size_t count, uint64_t until, enum replay_status *status)
{
	enum status seen = STATUS_OK;

	for (size_t i = 0; i < count && seen == STATUS_OK && *status == REPLAY_OK; i++) {
		if (replay_counts(p->replay)->events == until) {
			*status = REPLAY_UNTIL;
			break;
		}
		seen = p->watch(p->watch_ctx, &records[i]);
		if (seen == STATUS_OK)
			*status = replay_record(p->replay, &records[i]);
	}
	return seen;
}

enum status playback_run(struct playback *p, uint64_t until)
{
	double started = clock_now(), shown = started;
	struct trace_ahead *ahead = trace_ahead_start(p->reader);
	enum replay_status status = REPLAY_OK;
	enum trace_status read = TRACE_OK;
	enum status watched = STATUS_OK;
	const struct umbra_record *records;
	struct trace_error error;
	size_t count;

	if (!ahead)
		return complain(STATUS_NOMEM, "%s: no thread, or no memory, to read it with",
				p->path);
	while (status == REPLAY_OK) {
		read = trace_ahead_next(ahead, &records, &count, &error);
		if (read)
			break;
		if (p->watch)
			watched = play_watched(p, records, count, until, &status);
		else
			status = replay_records(p->replay, records, count, until);
		if (watched != STATUS_OK)
			break;
		p->events = replay_counts(p->replay)->events;
		progress(p, started, &shown);
	}
	trace_ahead_stop(ahead);
	p->seconds = clock_now() - started;
	if (shown != started)
		fputs("\r\033[K", stderr);
	if (watched != STATUS_OK)
		return watched;
	if (status != REPLAY_OK && status != REPLAY_ENDED && status != REPLAY_UNTIL)
		return judge(p, status);
	if (read != TRACE_OK && read != TRACE_END)
		return complain(trace_exit(&error), "%s", error.text);
	return STATUS_OK;
}

enum status playback_read(struct playback *p, uint64_t until)
{
	double started = clock_now(), shown = started;
	enum status status = STATUS_OK;
	enum trace_status read = TRACE_OK;
	struct umbra_record record;
	struct trace_error error;

	while (status == STATUS_OK && p->events < until) {
		read = trace_next(p->reader, &record, &error);
		if (read)
			break;
		status = p->watch(p->watch_ctx, &record);
		if (++p->events % 65536 == 0)
			progress(p, started, &shown);
	}
	if (shown != started)
		fputs("\r\033[K", stderr);
	if (status == STATUS_OK && read != TRACE_OK && read != TRACE_END)
		return complain(trace_exit(&error), "%s", error.text);
	return status;
}

enum status playback_at(struct playback *p, const char *path, uint64_t at, bool quiet)
{
	const struct replay_options options = {0};
	enum status status = playback_open(p, path, quiet);
	uint64_t events;

	if (status == STATUS_OK)
		status = playback_begin(p, &options);
	if (status == STATUS_OK)
		status = playback_run(p, at);
	if (status != STATUS_OK)
		return status;
	events = replay_counts(p->replay)->events;
	if (at != UINT64_MAX && events < at)
		return complain(STATUS_NO_SUCH, "%s: it has %" PRIu64 " events, no event %" PRIu64,
				path, events, at);
	return STATUS_OK;
}

void playback_close(struct playback *p)
{
	if (p->replay)
		replay_free(p->replay);
	if (p->reader)
		trace_reader_close(p->reader);
}
