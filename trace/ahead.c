/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reading ahead: one thread fills a ring of chunks, another one takes them. What the reader said at
 * last (the end, or trouble) is kept, and comes behind the chunks before it.
 */
#include <pthread.h>
#include <stdlib.h>

#include "trace.h"

#define CHUNKS 3u

struct trace_ahead {
	struct trace_reader *reader;
	struct umbra_record *records[CHUNKS];
	size_t count[CHUNKS];
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* Under the lock. */
	unsigned filled; /* chunks in all; the next one goes to .filled modulo CHUNKS */
	unsigned taken;
	bool using; /* the one before .taken is with whoever took it */
	bool stop;
	enum trace_status status; /* TRACE_OK: more to come */
	struct trace_error error;
};

static bool has_room(const struct trace_ahead *a)
{
	return a->filled - a->taken + a->using < CHUNKS;
}

static void *work(void *arg)
{
	struct trace_ahead *a = arg;

	pthread_mutex_lock(&a->lock);
	while (!a->stop && a->status == TRACE_OK) {
		struct trace_error error = {.text = ""};
		enum trace_status status;
		unsigned at = a->filled % CHUNKS;

		if (!has_room(a)) {
			pthread_cond_wait(&a->changed, &a->lock);
			continue;
		}
		pthread_mutex_unlock(&a->lock);
		status = trace_next_chunk(a->reader, a->records[at], &a->count[at], &error);
		pthread_mutex_lock(&a->lock);
		a->status = status;
		a->error = error;
		a->filled += status == TRACE_OK;
		pthread_cond_signal(&a->changed);
	}
	pthread_mutex_unlock(&a->lock);
	return NULL;
}

static void release(struct trace_ahead *a)
{
	for (unsigned i = 0; i < CHUNKS; i++)
		free(a->records[i]);
	free(a);
}

struct trace_ahead *trace_ahead_start(struct trace_reader *reader)
{
	struct trace_ahead *a = calloc(1, sizeof(*a));
	bool ok = a != NULL;

	for (unsigned i = 0; ok && i < CHUNKS; i++) {
		a->records[i] = malloc(TRACE_CHUNK * sizeof(*a->records[i]));
		ok = a->records[i] != NULL;
	}
	if (!a)
		return NULL;
	a->reader = reader;
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->changed, NULL);
	if (!ok || pthread_create(&a->thread, NULL, work, a)) {
		release(a);
		return NULL;
	}
	return a;
}

enum trace_status trace_ahead_next(struct trace_ahead *a, const struct umbra_record **records,
				   size_t *count, struct trace_error *error)
{
	enum trace_status status = TRACE_OK;

	pthread_mutex_lock(&a->lock);
	a->using = false;
	pthread_cond_signal(&a->changed);
	while (a->taken == a->filled && a->status == TRACE_OK)
		pthread_cond_wait(&a->changed, &a->lock);
	if (a->taken == a->filled) {
		status = a->status;
		*error = a->error;
	} else {
		*records = a->records[a->taken % CHUNKS];
		*count = a->count[a->taken++ % CHUNKS];
		a->using = true;
	}
	pthread_mutex_unlock(&a->lock);
	return status;
}

void trace_ahead_stop(struct trace_ahead *a)
{
	pthread_mutex_lock(&a->lock);
	a->stop = true;
	pthread_cond_signal(&a->changed);
	pthread_mutex_unlock(&a->lock);
	pthread_join(a->thread, NULL);
	pthread_cond_destroy(&a->changed);
	pthread_mutex_destroy(&a->lock);
	release(a);
}
