/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The one thread beside the event loop: it takes records out of the ring and hands them to the
 * trace's writer, so that a guest waits for the disk and the compression only when the ring is
 * full. When writing fails, it goes on emptying the ring: the guest gets to its end, the trace is
 * good up to there, and the complaint comes at the end.
 */
#include "record.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <umbra/machine.h>

#include "clock.h"
#include "qemu.h"
#include "trace.h"
#include "tracefile.h"

#define PAUSE_NS 500000
#define FLUSH_S  1.0 /* a killed recorder loses that much at most */

struct recorder {
	struct trace_writer *writer; /* NULL: given up */
	struct trace_header header;
	struct trace_error error;
	bool failed;
	const struct ram *ram;
	struct umbra_ring *ring;
	const struct umbra_record *records; /* mapped */
	size_t bytes;
	uint64_t capacity, read; /* ours: what the ring says of them can change */
	pthread_t thread;
	bool running;
	int stop; /* no more will come */
};

enum status record_open(struct recording *recording, const char *path, char *why, size_t size)
{
	struct recorder *r = calloc(1, sizeof(*r));

	if (!r) {
		snprintf(why, size, "%s", strerror(errno));
		return STATUS_ERROR;
	}
	r->header.memory = recording->memory;
	strncpy(r->header.guest, recording->guest, sizeof(r->header.guest) - 1);
	r->writer = trace_create(path, &r->header, &r->error);
	if (!r->writer) {
		enum status status = trace_exit(&r->error);

		snprintf(why, size, "%s", r->error.text);
		free(r);
		return status;
	}
	recording->recorder = r;
	return STATUS_OK;
}

static void not_a_ring(struct recorder *r)
{
	if (r->failed)
		return;
	r->failed = true;
	r->error.status = TRACE_SYSTEM;
	snprintf(r->error.text, sizeof(r->error.text),
		 "recording: the machine's ring of records makes no sense; the trace ends there");
}

/* The ring is there: map it, and complete the header. False: not yet, or it cannot be. */
static bool attach(struct recorder *r)
{
	uint64_t address = __atomic_load_n(&r->ring->address, __ATOMIC_ACQUIRE);
	uint64_t capacity = __atomic_load_n(&r->ring->capacity, __ATOMIC_RELAXED);
	void *map;

	if (!address)
		return false;
	r->bytes = capacity * sizeof(struct umbra_record);
	if (!capacity || address % 4096 || capacity > r->ram->bytes / sizeof(struct umbra_record) ||
	    address > r->ram->bytes - r->bytes) {
		not_a_ring(r);
		return false;
	}
	map = mmap(NULL, r->bytes, PROT_READ, MAP_SHARED, r->ram->fd, (off_t)address);
	if (map == MAP_FAILED)
		return false;
	r->records = map;
	r->capacity = capacity;
	r->read = __atomic_load_n(&r->ring->read, __ATOMIC_RELAXED);
	r->header.config = r->ram->page->config;
	r->header.tsc_hz = r->ram->page->tsc_hz;
	if (!r->failed)
		r->failed = !trace_header_set(r->writer, &r->header, &r->error);
	return true;
}

/* What is in the ring now. False: nothing. More than fits: the trace ends, the guest goes on. */
static bool drain(struct recorder *r)
{
	const uint64_t capacity = r->capacity;
	uint64_t written = __atomic_load_n(&r->ring->written, __ATOMIC_ACQUIRE);

	if (r->read == written)
		return false;
	if (written - r->read > capacity) {
		not_a_ring(r);
		r->read = written;
		__atomic_store_n(&r->ring->read, written, __ATOMIC_RELEASE);
		return true;
	}
	while (r->read != written) {
		uint64_t at = r->read % capacity, count = written - r->read;

		if (count > capacity - at)
			count = capacity - at;
		if (count > TRACE_CHUNK)
			count = TRACE_CHUNK;
		if (!r->failed)
			r->failed = !trace_write(r->writer, r->records + at, count, &r->error);
		r->read += count;
		__atomic_store_n(&r->ring->read, r->read, __ATOMIC_RELEASE);
	}
	return true;
}

static void *work(void *arg)
{
	const struct timespec pause = {.tv_nsec = PAUSE_NS};
	struct recorder *r = arg;
	double flushed = clock_now();

	for (;;) {
		bool stop = __atomic_load_n(&r->stop, __ATOMIC_ACQUIRE);

		if (!r->records && !attach(r)) {
			if (stop)
				break;
			nanosleep(&pause, NULL);
			continue;
		}
		if (!drain(r)) {
			if (stop)
				break;
			nanosleep(&pause, NULL);
		}
		if (!r->failed && clock_now() - flushed > FLUSH_S) {
			r->failed = !trace_flush(r->writer, &r->error);
			flushed = clock_now();
		}
	}
	return NULL;
}

enum status record_start(struct recording *recording, const struct ram *ram, char *why, size_t size)
{
	struct recorder *r = recording->recorder;
	sigset_t all, before;
	int error;

	recording->ram = r->ram = ram;
	r->ring = &ram->page->ring;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&r->thread, NULL, work, r);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error) {
		snprintf(why, size, "no thread: %s", strerror(error));
		record_discard(recording);
		return STATUS_ERROR;
	}
	r->running = true;
	return STATUS_OK;
}

/* Let the thread take what is there, and end. */
static void finish(struct recorder *r)
{
	if (r->running) {
		__atomic_store_n(&r->stop, 1, __ATOMIC_RELEASE);
		pthread_join(r->thread, NULL);
	}
	if (r->records)
		munmap((void *)r->records, r->bytes);
}

enum status record_close(struct recording *recording)
{
	struct recorder *r = recording->recorder;
	enum status status = STATUS_OK;
	struct trace_error error;

	recording->recorder = NULL;
	if (!r)
		return STATUS_OK;
	finish(r);
	if (r->failed)
		trace_abandon(r->writer);
	else if (!trace_close(r->writer, &error))
		r->failed = true, r->error = error;
	if (r->failed)
		status = complain(trace_exit(&r->error),
				  "%s; what was recorded before can be replayed", r->error.text);
	free(r);
	return status;
}

void record_discard(struct recording *recording)
{
	struct recorder *r = recording->recorder;

	recording->recorder = NULL;
	if (!r)
		return;
	finish(r);
	trace_discard(r->writer);
	free(r);
}
