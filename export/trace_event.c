/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * JSON of the Trace Event Format, which Perfetto and Chrome's about:tracing open: a row of address
 * spaces for each vcpu, with what happened in them; a row of the host's operations; counters.
 *
 *     process 1 "guest"   thread n + 1 "vcpu n"        slices: the CR3 loaded; marks: faults that
 * the guest saw, MMIO, emulation, INVLPG thread 100 "host"            marks: remap, drop,
 * write-protect, zap all counters                     sptes, shadow pages, faults a sample
 *
 * Faults that were only mapped are counted and not shown: they are most of all events.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>

#include "export.h"
#include "fields.h"

#define HOST 100

struct sink {
	struct export_sink base;
	FILE *file;
	char *guest;
	struct {
		bool there;
		uint64_t cr3, since;
	} space[UMBRA_VCPUS_MAX];
	bool first;
	bool named[HOST + 1];
	uint64_t time;   /* of the last event */
	uint64_t faults; /* since the last sample */
};

/* The comma belongs to the entry before. */
static FILE *entry(struct sink *s)
{
	fputs(s->first ? "\n" : ",\n", s->file);
	s->first = false;
	return s->file;
}

static bool check(struct sink *s)
{
	if (!ferror(s->file))
		return true;
	snprintf(s->base.why, sizeof(s->base.why), "cannot write: %s", strerror(errno));
	return false;
}

static void name_thread(struct sink *s, unsigned thread)
{
	if (s->named[thread])
		return;
	s->named[thread] = true;
	fprintf(entry(s), "{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":1,\"tid\":%u,", thread);
	if (thread == HOST)
		fprintf(s->file, "\"args\":{\"name\":\"host\"}}");
	else
		fprintf(s->file, "\"args\":{\"name\":\"vcpu %u\"}}", thread - 1);
}

/* All fields of a record, as "args". */
static void put_args(struct sink *s, const struct export_event *e)
{
	size_t count;
	const struct trace_place *place = trace_places(e->record->kind, &count);

	fprintf(s->file, "\"args\":{\"event\":%" PRIu64, e->number);
	for (; count; count--, place++) {
		int64_t value = trace_field_of(e->record, place);

		if (place->field == FIELD_VERDICT)
			fprintf(s->file, ",\"verdict\":\"%s\"",
				trace_verdict_name((unsigned)value));
		else
			fprintf(s->file, ",\"%s\":\"%" PRIx64 "\"", trace_field_name(place->field),
				(uint64_t)value);
	}
	fputs("}}", s->file);
}

static void put_mark(struct sink *s, const struct export_event *e, unsigned thread,
		     const char *name)
{
	name_thread(s, thread);
	fprintf(entry(s),
		"{\"ph\":\"i\",\"s\":\"t\",\"name\":\"%s\",\"ts\":%" PRIu64
		",\"pid\":1,\"tid\":%u,",
		name, e->time, thread);
	put_args(s, e);
}

/* The address space that a vcpu leaves becomes a slice. */
static void leave(struct sink *s, unsigned vcpu, uint64_t time)
{
	if (!s->space[vcpu].there || time == s->space[vcpu].since)
		return;
	name_thread(s, vcpu + 1);
	fprintf(entry(s),
		"{\"ph\":\"X\",\"name\":\"cr3 %" PRIx64 "\",\"ts\":%" PRIu64 ",\"dur\":%" PRIu64
		",\"pid\":1,\"tid\":%u}",
		s->space[vcpu].cr3, s->space[vcpu].since, time - s->space[vcpu].since, vcpu + 1);
}

static void switch_to(struct sink *s, const struct export_event *e, uint64_t cr3)
{
	unsigned vcpu = e->record->vcpu % UMBRA_VCPUS_MAX;

	if (s->space[vcpu].there && s->space[vcpu].cr3 == cr3)
		return;
	leave(s, vcpu, e->time);
	s->space[vcpu].there = true;
	s->space[vcpu].cr3 = cr3;
	s->space[vcpu].since = e->time;
}

static void on_fault(struct sink *s, const struct export_event *e)
{
	unsigned verdict = e->record->c >> 32 & 0xff;
	const char *name = trace_verdict_name(verdict);

	s->faults++;
	if (verdict != UMBRA_RESUME && name)
		put_mark(s, e, e->record->vcpu % UMBRA_VCPUS_MAX + 1, name);
}

static bool on_event(struct export_sink *sink, const struct export_event *e)
{
	struct sink *s = (struct sink *)sink;
	const struct umbra_record *r = e->record;

	s->time = e->time;
	switch (r->kind) {
	case UMBRA_TRACE_PAGING:
		switch_to(s, e, r->b & ~0xfffull);
		break;
	case UMBRA_TRACE_FAULT:
		on_fault(s, e);
		break;
	case UMBRA_TRACE_KVM_CR:
		if (r->a == 3 && r->c & 1)
			switch_to(s, e, r->b & ~0xfffull);
		break;
	case UMBRA_TRACE_KVM_FAULT:
		s->faults++;
		break;
	case UMBRA_TRACE_ROOT:
	case UMBRA_TRACE_TRANSLATE:
	case UMBRA_TRACE_WRITE:
	case UMBRA_TRACE_KVM_WALK:
	case UMBRA_TRACE_KVM_WORD:
	case UMBRA_TRACE_KVM_REQUEST:
	case UMBRA_TRACE_KVM_SPTE:
	case UMBRA_TRACE_KVM_ENTRY:
	case UMBRA_TRACE_KVM_EXIT:
		break;
	case UMBRA_TRACE_INVLPG:
	case UMBRA_TRACE_INVPCID:
	case UMBRA_TRACE_MARK:
		put_mark(s, e, r->vcpu % UMBRA_VCPUS_MAX + 1, trace_kind_name(r->kind));
		break;
	default:
		put_mark(s, e, HOST, trace_kind_name(r->kind));
	}
	return check(s);
}

static void put_counter(struct sink *s, uint64_t time, const char *name, uint64_t value)
{
	fprintf(entry(s),
		"{\"ph\":\"C\",\"name\":\"%s\",\"ts\":%" PRIu64
		",\"pid\":1,\"args\":{\"value\":%" PRIu64 "}}",
		name, time, value);
}

static bool on_counters(struct export_sink *sink, uint64_t time, const struct umbra_stats *stats)
{
	struct sink *s = (struct sink *)sink;

	put_counter(s, time, "sptes", stats->sptes);
	put_counter(s, time, "shadow pages", stats->shadow_pages);
	put_counter(s, time, "unsync", stats->shadow_pages_unsync);
	put_counter(s, time, "faults", s->faults);
	s->faults = 0;
	return check(s);
}

static bool complete(struct export_sink *sink)
{
	struct sink *s = (struct sink *)sink;

	for (unsigned i = 0; i < UMBRA_VCPUS_MAX; i++)
		leave(s, i, s->time);
	fputs("\n]}\n", s->file);
	fflush(s->file);
	return check(s);
}

static void sink_free(struct export_sink *sink)
{
	struct sink *s = (struct sink *)sink;

	if (s->file)
		fclose(s->file);
	free(s);
}

/* JSON's strings know no control characters; a kernel's name has none that is missed. */
static void put_string(FILE *file, const char *text)
{
	fputc('"', file);
	for (; *text; text++)
		if (*text >= ' ' && *text < 127 && *text != '"' && *text != '\\')
			fputc(*text, file);
	fputc('"', file);
}

struct export_sink *trace_event_sink_open(const char *path, const struct trace_header *header)
{
	struct sink *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->base = (struct export_sink){
	    .event = on_event, .counters = on_counters, .complete = complete, .free = sink_free};
	s->first = true;
	s->file = fopen(path, "we");
	if (!s->file) {
		snprintf(s->base.why, sizeof(s->base.why), "%s: %s", path, strerror(errno));
		return &s->base;
	}
	fputs("{\"traceEvents\":[", s->file);
	fprintf(entry(s), "{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":1,\"args\":{\"name\":");
	put_string(s->file, header->guest);
	fputs("}}", s->file);
	return &s->base;
}
