/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The side that cannot fail: looks at the file's layout, mends a file that was cut, starts the
 * child that reads it, takes its records, and judges how it ended. A child that crashed or stood
 * still is a damaged file; what it had sent is kept.
 */
#include "import.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "layout.h"

#define TICK_MS 250

struct import {
	const struct import_options *options;
	struct import_counts *counts;
	struct import_error *error;
	struct import_shared *shared;
	struct layout *layout;
	struct layout_error found;
	bool is_cut;
	int file, from; /* the trace, or its mended copy; the pipe */
	pid_t child;
	uint64_t taken; /* records */
	size_t part;    /* bytes of a record that did not come whole yet */
	struct umbra_record records[IMPORT_GATHERED];
};

__attribute__((format(printf, 3, 4))) static enum import_status
fail(struct import *i, enum import_status status, const char *format, ...)
{
	char what[sizeof(i->error->text) / 2];
	va_list args;

	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	snprintf(i->error->text, sizeof(i->error->text), "%.250s: %s", i->options->path, what);
	return status;
}

static bool read_file(void *ctx, uint64_t at, void *to, size_t size)
{
	const struct import *i = ctx;
	char *bytes = to;

	while (size) {
		ssize_t got = pread(i->file, bytes, size, (off_t)at);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return false;
		bytes += got;
		at += (uint64_t)got;
		size -= (size_t)got;
	}
	return true;
}

/* ------------------------------------------------------------------ the file */

/* Read the copy in place of the file. */
static enum import_status repair(struct import *i, const struct layout_source *source)
{
	const char *dir = getenv("TMPDIR");
	int copy = open(dir ? dir : "/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (copy < 0 || !layout_repair(source, i->layout, copy)) {
		fail(i, IMPORT_SYSTEM, "no copy of it can be made in %.100s: %s",
		     dir ? dir : "/tmp", strerror(errno));
		if (copy >= 0)
			close(copy);
		return IMPORT_SYSTEM;
	}
	close(i->file);
	i->file = copy;
	lseek(i->file, 0, SEEK_SET);
	return IMPORT_OK;
}

static enum import_status judge_layout(struct import *i, const struct layout_source *source,
				       enum layout_status status)
{
	switch (status) {
	case LAYOUT_OK:
		return IMPORT_OK;
	case LAYOUT_CUT:
		i->is_cut = true;
		return repair(i, source);
	case LAYOUT_NOT:
		return fail(i, IMPORT_NOT, "%s; umbra import reads what trace-cmd record wrote",
			    i->found.what);
	case LAYOUT_VERSION:
		return fail(i, IMPORT_NOT, "a trace.dat of %s, at offset %" PRIu64, i->found.what,
			    i->found.at);
	case LAYOUT_SYSTEM:
		return fail(i, IMPORT_NOT, "%s, at offset %" PRIu64 ": %s", i->found.what,
			    i->found.at, strerror(errno));
	case LAYOUT_TRUNCATED:
		return fail(i, IMPORT_DAMAGED,
			    "%s: it ends at offset %" PRIu64 ", and something is due at %" PRIu64
			    "; no event can be read",
			    i->found.what, source->size, i->found.at);
	default:
		return fail(i, IMPORT_DAMAGED, "%s, at offset %" PRIu64 "; no event can be read",
			    i->found.what, i->found.at);
	}
}

static enum import_status examine(struct import *i)
{
	struct layout_source source = {.ctx = i, .read = read_file};
	struct stat stat;
	enum layout_status status;
	enum import_status judged;

	i->file = open(i->options->path, O_RDONLY | O_CLOEXEC);
	if (i->file < 0 || fstat(i->file, &stat))
		return fail(i, IMPORT_NOT, "cannot open it: %s", strerror(errno));
	if (!S_ISREG(stat.st_mode))
		return fail(i, IMPORT_NOT, "this is no file; umbra import reads a trace.dat");
	source.size = (uint64_t)stat.st_size;
	status = layout_read(&source, i->layout, &i->found);
	judged = judge_layout(i, &source, status);
	if (judged == IMPORT_OK && !i->layout->cpus && !i->layout->is_opaque)
		return fail(i, IMPORT_DAMAGED, "%s, at offset %" PRIu64 "; no event can be read",
			    i->is_cut ? i->found.what : "it has no part with events",
			    i->is_cut ? i->found.at : source.size);
	for (size_t n = 0; n < i->layout->cpus; n++)
		i->counts->bytes_all += i->layout->cpu[n].bytes;
	memcpy(i->counts->kernel, i->layout->kernel, sizeof(i->counts->kernel));
	memcpy(i->counts->clock, i->layout->clock, sizeof(i->counts->clock));
	return judged;
}

/* ------------------------------------------------------------------ the child */

static enum import_status start(struct import *i)
{
	int pipes[2], nothing;

	i->shared = mmap(NULL, sizeof(*i->shared), PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (i->shared == MAP_FAILED) {
		i->shared = NULL;
		return fail(i, IMPORT_SYSTEM, "no memory to read it: %s", strerror(errno));
	}
	if (pipe2(pipes, O_CLOEXEC))
		return fail(i, IMPORT_SYSTEM, "no pipe to read it: %s", strerror(errno));
	fflush(NULL);
	i->child = fork();
	if (i->child == 0) {
		/* What the library has to say helps nobody who has the messages here. */
		nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
		dup2(nothing, STDIN_FILENO);
		dup2(nothing, STDOUT_FILENO);
		dup2(nothing, STDERR_FILENO);
		import_child(i->file, pipes[1], i->layout->swap, i->shared);
	}
	close(pipes[1]);
	i->from = pipes[0];
	if (i->child < 0)
		return fail(i, IMPORT_SYSTEM, "no process to read it: %s", strerror(errno));
	return IMPORT_OK;
}

/* Counts as they are now, each taken for what it is worth. */
static void look(struct import *i)
{
	struct import_counts *counts = i->counts;
	const struct import_shared *shared = i->shared;
	size_t others = shared->others_count;

	counts->events = shared->events;
	counts->short_events = shared->short_events;
	counts->bytes = shared->bytes < counts->bytes_all ? shared->bytes : counts->bytes_all;
	counts->lost = i->layout->lost > shared->missed ? i->layout->lost : shared->missed;
	counts->others_left_out = shared->others_left_out;
	counts->others_count = others < IMPORT_OTHERS ? others : IMPORT_OTHERS;
	memcpy(counts->others, shared->others, sizeof(counts->others));
	for (size_t n = 0; n < counts->others_count; n++)
		for (char *at = counts->others[n].name;; at++) {
			if (at == counts->others[n].name + sizeof(counts->others[n].name) - 1)
				*at = 0;
			if (!*at)
				break;
			if (*at < ' ' || *at > '~')
				*at = '?';
		}
}

static bool hand_over(struct import *i, const struct umbra_record *records, size_t count)
{
	i->taken += count;
	return !count || i->options->sink(i->options->ctx, records, count);
}

/* What is in the pipe. Returns bytes; 0: its end; -1: the sink does not want them. */
static ssize_t take(struct import *i)
{
	char *bytes = (char *)i->records;
	ssize_t got = read(i->from, bytes + i->part, sizeof(i->records) - i->part);
	size_t whole;

	if (got < 0)
		return errno == EINTR || errno == EAGAIN ? 1 : 0;
	i->part += (size_t)got;
	whole = i->part / sizeof(*i->records);
	if (!hand_over(i, i->records, whole))
		return -1;
	i->part %= sizeof(*i->records);
	memmove(bytes, bytes + whole * sizeof(*i->records), i->part);
	return got;
}

enum ending {
	ENDED,
	STANDS_STILL,
	UNWANTED,
};

/* Until the pipe's end. */
static enum ending watch(struct import *i)
{
	uint64_t before = 0, still = 0;

	for (;;) {
		struct pollfd poll_in = {.fd = i->from, .events = POLLIN};
		int ready = poll(&poll_in, 1, TICK_MS);
		ssize_t got = ready > 0 ? take(i) : 1;

		if (got < 0)
			return UNWANTED;
		if (got == 0)
			return ENDED;
		if (ready > 0) {
			still = 0;
		} else if (ready == 0) {
			uint64_t events = i->shared->events;

			still = events == before ? still + 1 : 0;
			before = events;
			if (still * TICK_MS > i->options->timeout * 1000ull)
				return STANDS_STILL;
		}
		look(i);
		if (i->options->progress)
			i->options->progress(i->options->ctx, i->counts);
	}
}

/* What the child had gathered and not sent when it ended. */
static bool take_rest(struct import *i)
{
	size_t count = i->shared->gathered;

	if (count > IMPORT_GATHERED)
		return true;
	memcpy(i->records, i->shared->records, count * sizeof(*i->records));
	return hand_over(i, i->records, count);
}

/* ------------------------------------------------------------------ how it ended */

/* Pages of a processor's events that were not reached; 0 where that cannot be told. */
static uint64_t pages_missing(const struct import *i, uint64_t *all)
{
	uint64_t missing = 0;

	*all = 0;
	for (size_t n = 0; n < i->layout->cpus; n++) {
		const struct layout_cpu *cpu = &i->layout->cpu[n];
		uint64_t pages = cpu->bytes / i->layout->page, first, last;

		if (cpu->buffer || cpu->id >= LAYOUT_CPUS)
			continue;
		*all += pages;
		first = i->shared->seen[cpu->id].first / i->layout->page;
		last = i->shared->seen[cpu->id].last / i->layout->page;
		if (!i->shared->seen[cpu->id].first)
			missing += pages;
		else if (last - first + 1 < pages)
			missing += pages - (last - first + 1);
	}
	return missing;
}

static enum import_status judge(struct import *i, enum ending ending, int status)
{
	const char *saved = i->taken ? "; what was read before is kept" : "; nothing can be kept";
	uint64_t all, missing;

	if (ending == STANDS_STILL)
		return fail(i, IMPORT_DAMAGED,
			    "damaged: reading it stood still for %u s, after %" PRIu64 " events%s",
			    i->options->timeout, i->counts->events, saved);
	if (WIFSIGNALED(status))
		return fail(i, IMPORT_DAMAGED,
			    "damaged: libtracecmd failed on it (%s) after %" PRIu64 " events%s",
			    strsignal(WTERMSIG(status)), i->counts->events, saved);
	if (!i->shared->opened)
		return fail(i, IMPORT_DAMAGED,
			    "damaged: libtracecmd cannot make sense of it (version %u, %s)",
			    i->layout->version,
			    i->layout->compression[0] ? i->layout->compression : "uncompressed");
	if (WEXITSTATUS(status) || !i->shared->done)
		return fail(i, IMPORT_DAMAGED,
			    "damaged: libtracecmd gave up after %" PRIu64 " events%s",
			    i->counts->events, saved);
	if (i->is_cut)
		return fail(i, IMPORT_DAMAGED, "%s, at offset %" PRIu64 "%s", i->found.what,
			    i->found.at, saved);
	missing = pages_missing(i, &all);
	if (missing)
		return fail(i, IMPORT_DAMAGED,
			    "damaged: %" PRIu64 " of %" PRIu64 " pages of events cannot be read%s",
			    missing, all, saved);
	if (i->counts->short_events)
		return fail(i, IMPORT_DAMAGED,
			    "damaged: %" PRIu64 " of %" PRIu64 " events are too short%s",
			    i->counts->short_events, i->counts->events, saved);
	return IMPORT_OK;
}

static enum import_status run(struct import *i)
{
	enum import_status status = start(i);
	enum ending ending;
	int ended = 0;

	if (status)
		return status;
	ending = watch(i);
	if (ending != ENDED)
		kill(i->child, SIGKILL);
	while (waitpid(i->child, &ended, 0) < 0 && errno == EINTR)
		;
	if (ending != UNWANTED && !take_rest(i))
		ending = UNWANTED;
	look(i);
	return ending == UNWANTED ? IMPORT_SINK : judge(i, ending, ended);
}

enum import_status import_read(const struct import_options *options, struct import_counts *counts,
			       struct import_error *error)
{
	struct import *i = calloc(1, sizeof(*i));
	enum import_status status;

	memset(counts, 0, sizeof(*counts));
	snprintf(error->text, sizeof(error->text), "%.250s: no memory", options->path);
	if (!i)
		return IMPORT_SYSTEM;
	*i = (struct import){
	    .options = options, .counts = counts, .error = error, .file = -1, .from = -1};
	i->layout = calloc(1, sizeof(*i->layout));
	status = i->layout ? examine(i) : IMPORT_SYSTEM;
	if (status == IMPORT_OK)
		status = run(i);
	if (i->shared)
		munmap(i->shared, sizeof(*i->shared));
	if (i->from >= 0)
		close(i->from);
	if (i->file >= 0)
		close(i->file);
	free(i->layout);
	free(i);
	return status;
}
