/* SPDX-License-Identifier: BSD-2-Clause */
/* What a trace file is made of, for its writer and its reader. */
#ifndef TRACE_FILE_H
#define TRACE_FILE_H

#include "trace.h"

#define CHUNK_MAGIC   0x6b6e7568u /* "hunk" */
#define INDEX_MAGIC   0x78646e69u /* "indx" */
#define TRAILER_MAGIC 0x726c7274u /* "trlr" */

/* Before each zstd frame. */
struct chunk_header {
	uint32_t magic;   /* CHUNK_MAGIC; the index, which is compressed alike: INDEX_MAGIC */
	uint32_t records; /* of the index: entries of 8 bytes */
	uint64_t first;   /* number of the first record */
	uint32_t bytes;   /* of the frame that follows */
	uint32_t check;   /* CRC-32 of everything before */
};

/* The end of a file that was closed. */
struct trailer {
	uint32_t magic;
	uint32_t check;   /* CRC-32 of everything behind */
	uint64_t index;   /* offset of the index's chunk header */
	uint64_t records; /* in all */
};

uint32_t trace_check(const void *bytes, size_t size);

#endif
