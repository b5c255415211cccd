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
	/* What is there before @event. NULL: not wanted. */
	bool (*table)(struct export_sink *sink, uint64_t event, const struct umbra_table *table);
	bool (*mapping)(struct export_sink *sink, uint64_t event,
			const struct umbra_mapping *mapping);
	bool (*counters)(struct export_sink *sink, uint64_t time, const struct umbra_stats *stats);
	/* All has come. */
	bool (*complete)(struct export_sink *sink);
	/* Whether it is complete or not. */
	void (*free)(struct export_sink *sink);
	char why[256]; /* "": all is well */
};

/* All that @mmu holds, before @event. False: the sink's .why. */
bool export_mmu(struct export_sink *sink, uint64_t event, uint64_t time, struct umbra_mmu *mmu);

/*
 * What KVM holds, as far as records of a trace that was imported tell: sptes as they were last set
 * (that one goes away, nobody tells), shadow pages that were made and not zapped. See kvm_state.c.
 */
struct kvm_state;
struct kvm_state *kvm_state_new(void); /* NULL: out of memory */
bool kvm_state_record(struct kvm_state *state, const struct umbra_record *record);
bool kvm_state_export(struct kvm_state *state, struct export_sink *sink, uint64_t event,
		      uint64_t time);
void kvm_state_free(struct kvm_state *state);

struct export_sink *sqlite_sink_open(const char *path, const struct trace_header *header);
struct export_sink *trace_event_sink_open(const char *path, const struct trace_header *header);

#endif
