/* SPDX-License-Identifier: BSD-2-Clause */
/* Trace files: docs/trace-format.md. One writer; any number of readers of what is written. */
#ifndef TRACE_H
#define TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <umbra/trace.h>
#include <umbra/umbra.h>

#define TRACE_MAGIC   0x31656361727475ull /* "utrace1" */
#define TRACE_VERSION 2u                  /* what is written; */
#define TRACE_OLDEST  1u                  /*   the oldest that is read */
#define TRACE_CHUNK   65536u              /* records in a chunk, at most */

/* Where a trace comes from. */
enum trace_source {
	TRACE_RECORDED,
	TRACE_KVM,    /* imported: records of UMBRA_TRACE_KVM and above, and no others */
	TRACE_SHRUNK, /* cut: it can be replayed loosely only */
};

/* The beginning of a file. Little-endian. */
struct trace_header {
	uint64_t magic;
	uint32_t version;
	uint32_t size;   /* of this struct: the first chunk follows */
	uint64_t memory; /* bytes of the guest's memory */
	uint64_t tsc_hz;
	struct umbra_config config;
	char guest[64];  /* its kernel's name, NUL-terminated */
	uint32_t source; /* enum trace_source */
	uint32_t check;  /* CRC-32 of everything before */
};

enum trace_status {
	TRACE_OK,
	TRACE_END,       /* of a trace that was ended as it should */
	TRACE_SYSTEM,    /* the file cannot be opened, read or written */
	TRACE_FULL,      /* the disk is */
	TRACE_EMPTY,     /* a file without a byte */
	TRACE_NOT,       /* not a trace */
	TRACE_ENDIAN,    /* of a machine of the other endianness */
	TRACE_OTHER,     /* of another version */
	TRACE_TRUNCATED, /* ends in the middle: its writer was stopped */
	TRACE_DAMAGED,
};

/* What went wrong, in one sentence that names file and offset. */
struct trace_error {
	enum trace_status status;
	char text[256];
};

struct trace_writer;

/* Make @path, which must not be there unless it is a trace. NULL: *@error. */
struct trace_writer *trace_create(const char *path, const struct trace_header *header,
				  struct trace_error *error);

/* False: *@error; what was written before can be read. */
bool trace_write(struct trace_writer *writer, const struct umbra_record *records, size_t count,
		 struct trace_error *error);

/* What was not known when the trace was made. */
bool trace_header_set(struct trace_writer *writer, const struct trace_header *header,
		      struct trace_error *error);

/* Let readers see all that was written. */
bool trace_flush(struct trace_writer *writer, struct trace_error *error);

/* Write the index, and close. False: *@error; it is closed all the same. */
bool trace_close(struct trace_writer *writer, struct trace_error *error);

/* Close it as it is, without an index. */
void trace_abandon(struct trace_writer *writer);

/* It was never begun: away with it. */
void trace_discard(struct trace_writer *writer);

struct trace_reader;

/* NULL: *@error. */
struct trace_reader *trace_open(const char *path, struct trace_header *header,
				struct trace_error *error);

/* The next record. On anything but TRACE_OK and TRACE_END, *@error. */
enum trace_status trace_next(struct trace_reader *reader, struct umbra_record *record,
			     struct trace_error *error);

/* The next ones: those of the rest of a chunk, into @records, which has room for TRACE_CHUNK. */
enum trace_status trace_next_chunk(struct trace_reader *reader, struct umbra_record *records,
				   size_t *count, struct trace_error *error);

/* Go to record number @record: the next one is that. */
enum trace_status trace_seek(struct trace_reader *reader, uint64_t record,
			     struct trace_error *error);

/* Where in the file, and out of how many bytes: for progress. */
void trace_position(const struct trace_reader *reader, uint64_t *at, uint64_t *size);

void trace_reader_close(struct trace_reader *reader);

/*
 * A thread that reads and decompresses ahead. The reader is its own from _start() to _stop(), but
 * for trace_position(). NULL: out of memory, or no thread.
 */
struct trace_ahead;
struct trace_ahead *trace_ahead_start(struct trace_reader *reader);
void trace_ahead_stop(struct trace_ahead *ahead);

/* As trace_next_chunk(), without a copy: *@records is good until the next call. */
enum trace_status trace_ahead_next(struct trace_ahead *ahead, const struct umbra_record **records,
				   size_t *count, struct trace_error *error);

#endif
