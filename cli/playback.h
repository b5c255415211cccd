/* SPDX-License-Identifier: BSD-2-Clause */
/* A trace file under replay, for the commands that ask something of it. See playback.c. */
#ifndef CLI_PLAYBACK_H
#define CLI_PLAYBACK_H

#include <stdbool.h>
#include <stdint.h>

#include "replay.h"
#include "status.h"
#include "trace.h"

struct playback {
	const char *path;
	bool quiet; /* no progress */
	struct trace_header header;
	struct trace_reader *reader;
	struct replay *replay;
	uint64_t events; /* so far */
	double seconds;  /* that playback_run() took */

	/* Called before each record is carried out; NULL: not. Anything but STATUS_OK ends it. */
	enum status (*watch)(void *ctx, const struct umbra_record *record);
	void *watch_ctx;
};

enum status playback_open(struct playback *p, const char *path, bool quiet);

/* Make the MMU; @options->config is what to use in place of the header's if it is .lenient. */
enum status playback_begin(struct playback *p, const struct replay_options *options);

/* Carry out all events, or the first @until (UINT64_MAX: all). */
enum status playback_run(struct playback *p, uint64_t until);

/* Let .watch see the first @until events of a trace, without a replay. */
enum status playback_read(struct playback *p, uint64_t until);

/* The same for a question: open @path, carry out its first @at events. */
enum status playback_at(struct playback *p, const char *path, uint64_t at, bool quiet);

void playback_close(struct playback *p);

#endif
