/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reading a trace. Nothing in a file is trusted: sizes are checked before anything is allocated or
 * read, headers by their CRC, chunks by zstd's checksum. Memory: one chunk, whatever the length.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "file.h"

struct trace_reader {
	int file;
	char *path;
	uint64_t at, size; /* of the next chunk; of the file */
	struct umbra_record *chunk;
	uint64_t first; /* number of its first record */
	size_t records, next;
	uint64_t expected; /* number of the next chunk's first record */
	bool ended;        /* its index was met */
	void *frame;
	ZSTD_DCtx *zstd;
};

static enum trace_status fail(const struct trace_reader *r, enum trace_status status,
			      struct trace_error *error, const char *what)
{
	if (status == TRACE_SYSTEM)
		snprintf(error->text, sizeof(error->text), "%s: %s: %s", r->path, what,
			 strerror(errno));
	else
		snprintf(error->text, sizeof(error->text),
			 "%s: %s, at offset %llu; %llu records before it are good", r->path, what,
			 (unsigned long long)r->at, (unsigned long long)r->expected);
	error->status = status;
	return status;
}

/* @size bytes at @at; TRACE_TRUNCATED: the file ends before. */
static enum trace_status get(const struct trace_reader *r, uint64_t at, void *to, size_t size,
			     struct trace_error *error)
{
	char *bytes = to;

	while (size) {
		ssize_t got = pread(r->file, bytes, size, (off_t)at);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return fail(r, TRACE_SYSTEM, error, "cannot read the trace");
		if (got == 0)
			return fail(r, TRACE_TRUNCATED, error, "the trace ends in the middle");
		bytes += got;
		at += (uint64_t)got;
		size -= (size_t)got;
	}
	return TRACE_OK;
}

static bool is_sound(const struct trace_reader *r, const struct chunk_header *h)
{
	if (h->check != trace_check(h, offsetof(struct chunk_header, check)))
		return false;
	if (h->magic == INDEX_MAGIC)
		return h->first == r->expected;
	return h->magic == CHUNK_MAGIC && h->records && h->records <= TRACE_CHUNK &&
	       h->first == r->expected &&
	       h->bytes <= ZSTD_compressBound(TRACE_CHUNK * sizeof(struct umbra_record));
}

/* The next chunk, into @records (room for TRACE_CHUNK). */
static enum trace_status chunk_read(struct trace_reader *r, struct umbra_record *records,
				    size_t *count, struct trace_error *error)
{
	enum trace_status status;
	struct chunk_header h;
	size_t size;

	if (r->ended)
		return TRACE_END;
	if (r->at == r->size)
		return fail(r, TRACE_TRUNCATED, error,
			    "the trace has no end: its recording was stopped");
	status = get(r, r->at, &h, sizeof(h), error);
	if (status)
		return status;
	if (!is_sound(r, &h))
		return fail(r, TRACE_DAMAGED, error, "damaged header of a chunk");
	if (h.magic == INDEX_MAGIC) {
		r->ended = true;
		return TRACE_END;
	}
	status = get(r, r->at + sizeof(h), r->frame, h.bytes, error);
	if (status)
		return status;
	size = ZSTD_decompressDCtx(r->zstd, records, TRACE_CHUNK * sizeof(*records), r->frame,
				   h.bytes);
	if (ZSTD_isError(size) || size != h.records * sizeof(*records))
		return fail(r, TRACE_DAMAGED, error, "damaged chunk");
	*count = h.records;
	r->expected = h.first + h.records;
	__atomic_store_n(&r->at, r->at + sizeof(h) + h.bytes, __ATOMIC_RELAXED);
	return TRACE_OK;
}

static enum trace_status chunk_load(struct trace_reader *r, struct trace_error *error)
{
	uint64_t first = r->expected;
	enum trace_status status = chunk_read(r, r->chunk, &r->records, error);

	if (status) {
		r->records = r->next;
		return status;
	}
	r->first = first;
	r->next = 0;
	return TRACE_OK;
}

enum trace_status trace_next(struct trace_reader *r, struct umbra_record *record,
			     struct trace_error *error)
{
	if (r->next == r->records) {
		enum trace_status status = chunk_load(r, error);

		if (status)
			return status;
	}
	*record = r->chunk[r->next++];
	return TRACE_OK;
}

enum trace_status trace_next_chunk(struct trace_reader *r, struct umbra_record *records,
				   size_t *count, struct trace_error *error)
{
	size_t left = r->records - r->next;

	if (!left)
		return chunk_read(r, records, count, error);
	memcpy(records, r->chunk + r->next, left * sizeof(*records));
	r->next = r->records;
	*count = left;
	return TRACE_OK;
}

enum trace_status trace_seek(struct trace_reader *r, uint64_t record, struct trace_error *error)
{
	if (record < r->first) {
		r->at = sizeof(struct trace_header);
		r->expected = 0;
		r->records = r->next = 0;
		r->ended = false;
	}
	while (record >= r->expected) {
		struct chunk_header h;
		enum trace_status status = get(r, r->at, &h, sizeof(h), error);

		if (status)
			return status;
		if (!is_sound(r, &h))
			return fail(r, TRACE_DAMAGED, error, "damaged header of a chunk");
		if (h.magic == INDEX_MAGIC)
			return TRACE_END;
		if (record >= h.first + h.records) { /* skip it unread */
			r->at += sizeof(h) + h.bytes;
			r->expected = h.first + h.records;
			r->first = r->expected;
			r->records = r->next = 0;
			continue;
		}
		status = chunk_load(r, error);
		if (status)
			return status;
	}
	r->next = (size_t)(record - r->first);
	return TRACE_OK;
}

void trace_position(const struct trace_reader *r, uint64_t *at, uint64_t *size)
{
	*at = __atomic_load_n(&r->at, __ATOMIC_RELAXED);
	*size = r->size;
}

void trace_reader_close(struct trace_reader *r)
{
	if (r->file >= 0)
		close(r->file);
	ZSTD_freeDCtx(r->zstd);
	free(r->frame);
	free(r->chunk);
	free(r->path);
	free(r);
}

static enum trace_status header_read(struct trace_reader *r, struct trace_header *h,
				     struct trace_error *error)
{
	enum trace_status status;

	if (r->size < sizeof(h->magic))
		return r->size ? fail(r, TRACE_NOT, error, "not a trace")
			       : fail(r, TRACE_EMPTY, error, "an empty file");
	status = get(r, 0, &h->magic, sizeof(h->magic), error);
	if (status)
		return status;
	if (h->magic == __builtin_bswap64(TRACE_MAGIC))
		return fail(r, TRACE_ENDIAN, error, "a trace of a machine of the other endianness");
	if (h->magic != TRACE_MAGIC)
		return fail(r, TRACE_NOT, error, "not a trace");
	status = get(r, 0, h, sizeof(*h), error);
	if (status)
		return status;
	if (h->version < TRACE_OLDEST || h->version > TRACE_VERSION) {
		snprintf(error->text, sizeof(error->text),
			 "%s: a trace of version %u; this umbra reads versions %u to %u", r->path,
			 h->version, TRACE_OLDEST, TRACE_VERSION);
		error->status = TRACE_OTHER;
		return TRACE_OTHER;
	}
	if (h->size != sizeof(*h) ||
	    h->check != trace_check(h, offsetof(struct trace_header, check)) ||
	    !memchr(h->guest, 0, sizeof(h->guest)))
		return fail(r, TRACE_DAMAGED, error, "damaged header");
	r->at = sizeof(*h);
	return TRACE_OK;
}

struct trace_reader *trace_open(const char *path, struct trace_header *header,
				struct trace_error *error)
{
	struct trace_reader *r = calloc(1, sizeof(*r));
	struct stat stat;

	error->status = TRACE_SYSTEM;
	if (!r) {
		snprintf(error->text, sizeof(error->text), "%s: %s", path, strerror(ENOMEM));
		return NULL;
	}
	r->path = strdup(path);
	r->chunk = malloc(TRACE_CHUNK * sizeof(*r->chunk));
	r->frame = malloc(ZSTD_compressBound(TRACE_CHUNK * sizeof(*r->chunk)));
	r->zstd = ZSTD_createDCtx();
	r->file = open(path, O_RDONLY | O_CLOEXEC);
	if (!r->path || !r->chunk || !r->frame || !r->zstd || r->file < 0 ||
	    fstat(r->file, &stat)) {
		snprintf(error->text, sizeof(error->text), "%s: cannot open the trace: %s", path,
			 strerror(errno));
		trace_reader_close(r);
		return NULL;
	}
	r->size = (uint64_t)stat.st_size;
	if (header_read(r, header, error)) {
		trace_reader_close(r);
		return NULL;
	}
	return r;
}
