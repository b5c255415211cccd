/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Writing a trace. Records gather in a chunk; a full chunk, or trace_flush(), becomes one zstd
 * frame behind a header, in two writes. So whoever stops the writer loses at most what has not been
 * flushed, and a chunk that is half there is told by its header.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "file.h"

#define LEVEL 3

struct trace_writer {
	int file;
	char *path;
	uint64_t at;      /* offset of what is written next */
	uint64_t records; /* in all, gathered ones included */
	size_t gathered;
	struct umbra_record *chunk;
	uint64_t *index; /* offsets of chunk headers */
	size_t chunks, room;
	ZSTD_CCtx *zstd;
	void *frame;
	size_t frame_size;
};

static bool fail(struct trace_error *error, const char *path, const char *what)
{
	bool full = errno == ENOSPC || errno == EDQUOT || errno == EFBIG;

	error->status = full ? TRACE_FULL : TRACE_SYSTEM;
	snprintf(error->text, sizeof(error->text), "%s: %s: %s", path, what, strerror(errno));
	return false;
}

static bool put(struct trace_writer *w, const void *bytes, size_t size, struct trace_error *error)
{
	const char *from = bytes;

	while (size) {
		ssize_t wrote = write(w->file, from, size);

		if (wrote < 0 && errno == EINTR)
			continue;
		if (wrote <= 0)
			return fail(error, w->path, "cannot write the trace");
		from += wrote;
		size -= (size_t)wrote;
		w->at += (uint64_t)wrote;
	}
	return true;
}

/* What was begun is taken back: a reader must not find half of it where a chunk may follow. */
static bool put_frame(struct trace_writer *w, uint32_t magic, uint32_t records, uint64_t first,
		      const void *bytes, size_t size, struct trace_error *error)
{
	struct chunk_header header = {magic, records, first, 0, 0};
	uint64_t before = w->at;
	size_t frame = ZSTD_compress2(w->zstd, w->frame, w->frame_size, bytes, size);

	if (ZSTD_isError(frame)) {
		errno = ENOMEM;
		return fail(error, w->path, ZSTD_getErrorName(frame));
	}
	header.bytes = (uint32_t)frame;
	header.check = trace_check(&header, offsetof(struct chunk_header, check));
	if (put(w, &header, sizeof(header), error) && put(w, w->frame, frame, error))
		return true;
	if (ftruncate(w->file, (off_t)before) == 0)
		lseek(w->file, (off_t)before, SEEK_SET);
	w->at = before;
	return false;
}

bool trace_flush(struct trace_writer *w, struct trace_error *error)
{
	uint64_t before = w->at;

	if (!w->gathered)
		return true;
	if (w->chunks == w->room) {
		size_t room = w->room ? 2 * w->room : 1024;
		uint64_t *index = realloc(w->index, room * sizeof(*index));

		if (!index)
			return fail(error, w->path, "index");
		w->index = index;
		w->room = room;
	}
	if (!put_frame(w, CHUNK_MAGIC, (uint32_t)w->gathered, w->records - w->gathered, w->chunk,
		       w->gathered * sizeof(*w->chunk), error))
		return false;
	w->index[w->chunks++] = before;
	w->gathered = 0;
	return true;
}

bool trace_write(struct trace_writer *w, const struct umbra_record *records, size_t count,
		 struct trace_error *error)
{
	while (count) {
		size_t some = TRACE_CHUNK - w->gathered < count ? TRACE_CHUNK - w->gathered : count;

		memcpy(w->chunk + w->gathered, records, some * sizeof(*records));
		w->gathered += some;
		w->records += some;
		records += some;
		count -= some;
		if (w->gathered == TRACE_CHUNK && !trace_flush(w, error))
			return false;
	}
	return true;
}

/* Room to compress @size bytes into. */
static bool make_room(struct trace_writer *w, size_t size)
{
	size_t bound = ZSTD_compressBound(size);

	if (bound > w->frame_size) {
		free(w->frame);
		w->frame = malloc(bound);
		w->frame_size = w->frame ? bound : 0;
	}
	return w->frame;
}

static void writer_free(struct trace_writer *w)
{
	ZSTD_freeCCtx(w->zstd);
	free(w->frame);
	free(w->index);
	free(w->chunk);
	free(w->path);
	free(w);
}

/* A file that is there is only replaced if it is a trace, or empty. */
static bool is_replaceable(int file)
{
	uint64_t magic = 0;
	struct stat stat;

	if (fstat(file, &stat) || !S_ISREG(stat.st_mode))
		return false;
	return !stat.st_size ||
	       (pread(file, &magic, sizeof(magic), 0) == sizeof(magic) && magic == TRACE_MAGIC);
}

static void complete(struct trace_header *header)
{
	header->magic = TRACE_MAGIC;
	header->version = TRACE_VERSION;
	header->size = sizeof(*header);
	header->check = trace_check(header, offsetof(struct trace_header, check));
}

bool trace_header_set(struct trace_writer *w, const struct trace_header *given,
		      struct trace_error *error)
{
	struct trace_header header = *given;

	complete(&header);
	if (pwrite(w->file, &header, sizeof(header), 0) == sizeof(header))
		return true;
	return fail(error, w->path, "cannot write the trace");
}

struct trace_writer *trace_create(const char *path, const struct trace_header *given,
				  struct trace_error *error)
{
	struct trace_writer *w = calloc(1, sizeof(*w));
	struct trace_header header = *given;

	error->status = TRACE_SYSTEM;
	if (!w) {
		fail(error, path, "trace");
		return NULL;
	}
	w->file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	if (w->file < 0) {
		fail(error, path, "cannot open the trace");
		free(w);
		return NULL;
	}
	if (flock(w->file, LOCK_EX | LOCK_NB)) {
		snprintf(error->text, sizeof(error->text),
			 "%s: another process is writing it; name another file", path);
		close(w->file);
		free(w);
		return NULL;
	}
	if (!is_replaceable(w->file)) {
		snprintf(error->text, sizeof(error->text),
			 "%s is there and is not a trace; it stays as it is", path);
		close(w->file);
		free(w);
		return NULL;
	}
	w->path = strdup(path);
	w->chunk = malloc(TRACE_CHUNK * sizeof(*w->chunk));
	w->zstd = ZSTD_createCCtx();
	if (!w->path || !w->chunk || !w->zstd || !make_room(w, TRACE_CHUNK * sizeof(*w->chunk))) {
		errno = ENOMEM;
		fail(error, path, "trace");
		close(w->file);
		writer_free(w);
		return NULL;
	}
	ZSTD_CCtx_setParameter(w->zstd, ZSTD_c_compressionLevel, LEVEL);
	ZSTD_CCtx_setParameter(w->zstd, ZSTD_c_checksumFlag, 1);
	complete(&header);
	error->text[0] = 0;
	if (ftruncate(w->file, 0) || !put(w, &header, sizeof(header), error)) {
		if (!error->text[0])
			fail(error, path, "cannot write the trace");
		close(w->file);
		writer_free(w);
		return NULL;
	}
	return w;
}

bool trace_close(struct trace_writer *w, struct trace_error *error)
{
	bool ok = trace_flush(w, error);

	if (ok) {
		struct trailer trailer = {TRAILER_MAGIC, 0, w->at, w->records};
		size_t size = w->chunks * sizeof(*w->index);

		trailer.check = trace_check(&trailer.index, 16);
		ok = make_room(w, size) || fail(error, w->path, "index");
		ok = ok &&
		     put_frame(w, INDEX_MAGIC, (uint32_t)w->chunks, w->records, w->index, size,
			       error) &&
		     put(w, &trailer, sizeof(trailer), error);
	}
	if (close(w->file) && ok)
		ok = fail(error, w->path, "cannot write the trace");
	writer_free(w);
	return ok;
}

void trace_abandon(struct trace_writer *w)
{
	close(w->file);
	writer_free(w);
}

void trace_discard(struct trace_writer *w)
{
	unlink(w->path);
	trace_abandon(w);
}
