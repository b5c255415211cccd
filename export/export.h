/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A trace as something that other tools open. A sink takes, in this order: the header; events, in
 * theirs; snapshots of an MMU between them; the end. See sqlite.c, trace_event.c.
 */
#ifndef EXPORT_H
#define EXPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <umbra/umbra.h>

#include "trace.h"

/* An event, and what stood before it. */
struct export_event {
	uint64_t number;
	uint64_t time; /* microseconds since the recording began; not modulo anything */
	uint64_t inputs;
	const struct umbra_record *record;
};

struct export_sink;

struct export_kind {
	const char *name;   /* "sqlite" */
	const char *suffix; /* of files that are meant as such */
	/* What a file of that kind begins with: others are not written over. */
	const char *magic;
	/* Begin the file @path; .why may be set. NULL: out of memory. */
	struct export_sink *(*open)(const char *path, const struct trace_header *header);
};

extern const struct export_kind export_kinds[];
extern const size_t export_kind_count;

/* Implemented by each. Functions return false with .why set. */
struct export_sink {
	bool (*event)(struct export_sink *sink, const struct export_event *event);
	/* A word that was read. NULL: they are not wanted. */
	bool (*input)(struct export_sink *sink, uint64_t event, const struct umbra_record *record);
	bool (*snapshot)(struct export_sink *sink, uint64_t event, uint64_t time,
			 struct umbra_mmu *mmu);
	/* All has come. */
	bool (*complete)(struct export_sink *sink);
	/* Whether it is complete or not. */
	void (*free)(struct export_sink *sink);
	char why[256]; /* "": all is well */
};

struct export_sink *sqlite_sink_open(const char *path, const struct trace_header *header);
struct export_sink *trace_event_sink_open(const char *path, const struct trace_header *header);

#endif
