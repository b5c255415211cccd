/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reading by libtracecmd and libtraceevent: where each event's fields are is asked once, then their
 * bytes become records, and those go through a pipe. Nothing here has to be undone: the process
 * ends behind it.
 */
#include "child.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <trace-cmd.h>

#include "kvm.h"

#define TYPES      65536u
#define MEMORY_MAX (2ull << 30) /* what the library may take */

enum known {
	UNSEEN,
	RECORDED,
	OTHER,
};

struct type {
	enum known known;
	uint32_t other; /* its number in the list; beyond it: left out */
	struct kvm_event event;
};

struct child {
	struct import_shared *shared;
	struct tracecmd_input *top;
	bool swap, begun;
	int to;
	unsigned long long began;
	struct type types[TYPES];
};

static void flush(struct child *c)
{
	const char *from = (const char *)c->shared->records;
	size_t size = c->shared->gathered * sizeof(struct umbra_record);

	while (size) {
		ssize_t wrote = write(c->to, from, size);

		if (wrote < 0 && errno == EINTR)
			continue;
		if (wrote <= 0)
			_exit(1);
		from += wrote;
		size -= (size_t)wrote;
	}
	c->shared->gathered = 0;
}

static void give(struct child *c, const struct umbra_record *record)
{
	c->shared->records[c->shared->gathered++] = *record;
	if (c->shared->gathered == IMPORT_GATHERED)
		flush(c);
}

static bool lookup(void *ctx, const char *name, struct kvm_place *place)
{
	const struct tep_format_field *field = tep_find_field(ctx, name);

	if (!field || field->offset < 0 || field->size <= 0)
		return false;
	*place = (struct kvm_place){(uint32_t)field->offset, (uint32_t)field->size};
	return true;
}

static uint32_t list(struct import_shared *shared, const struct tep_event *event, int id,
		     bool foreign)
{
	struct import_other *other = &shared->others[shared->others_count];

	if (shared->others_count == IMPORT_OTHERS) {
		shared->others_left_out++;
		return IMPORT_OTHERS;
	}
	if (event)
		snprintf(other->name, sizeof(other->name), "%s:%s", event->system, event->name);
	else
		snprintf(other->name, sizeof(other->name), "number %d, not described", id);
	other->foreign = foreign;
	return shared->others_count++;
}

/* An event's kind when it is seen first. */
static void learn(struct child *c, struct tep_handle *tep, int id)
{
	struct tep_event *event = tep_find_event(tep, id);
	enum kvm_bound bound = KVM_UNKNOWN;
	struct type *type = &c->types[id];

	if (event)
		bound = kvm_bind(&type->event, event->system, event->name, lookup, event);
	type->known = bound == KVM_BOUND ? RECORDED : OTHER;
	if (bound != KVM_BOUND)
		type->other = list(c->shared, event, id, bound == KVM_FOREIGN);
}

static uint32_t microseconds(const struct child *c, const struct tep_record *record)
{
	return (uint32_t)((record->ts - c->began) / 1000);
}

/* The ring's gap before @record: -1 is a number that nobody knows. */
static void note_missed(struct child *c, const struct tep_record *record)
{
	struct umbra_record lost = {.kind = UMBRA_TRACE_KVM_LOST,
				    .vcpu = (uint8_t)record->cpu,
				    .time = microseconds(c, record)};

	if (!record->missed_events)
		return;
	if (record->missed_events > 0)
		lost.a = (uint64_t)record->missed_events;
	c->shared->missed += lost.a ? lost.a : 1;
	give(c, &lost);
}

/* How far a processor's events were read. */
static void note_place(struct import_shared *shared, const struct tep_record *record)
{
	if (record->cpu < 0 || (unsigned)record->cpu >= LAYOUT_CPUS)
		return;
	if (!shared->seen[record->cpu].first)
		shared->seen[record->cpu].first = record->offset;
	shared->seen[record->cpu].last = record->offset;
}

static int handle(struct tracecmd_input *input, struct tep_record *record, int cpu, void *ctx)
{
	struct child *c = ctx;
	struct tep_handle *tep = tracecmd_get_tep(input);
	int id = tep_data_type(tep, record);
	struct umbra_record made;

	(void)cpu;
	if (!c->begun) {
		c->begun = true;
		c->began = record->ts;
	}
	if (input == c->top)
		note_place(c->shared, record);
	note_missed(c, record);
	c->shared->events++;
	c->shared->bytes += (uint64_t)(record->record_size > 0 ? record->record_size : 0);
	if (id < 0 || (unsigned)id >= TYPES) {
		c->shared->short_events++;
		return 0;
	}
	if (c->types[id].known == UNSEEN)
		learn(c, tep, id);
	if (c->types[id].known == OTHER) {
		if (c->types[id].other < IMPORT_OTHERS)
			c->shared->others[c->types[id].other].count++;
	} else if (record->size > 0 &&
		   kvm_convert(&c->types[id].event, record->data, (size_t)record->size, c->swap,
			       (unsigned)record->cpu, &made)) {
		made.time = microseconds(c, record);
		give(c, &made);
	} else {
		c->shared->short_events++;
	}
	return 0;
}

/* All rings of the file, merged by time. */
static int iterate(struct child *c)
{
	int more = tracecmd_buffer_instances(c->top), rings = 1;
	struct tracecmd_input **inputs = calloc((size_t)(more > 0 ? more : 0) + 1, sizeof(*inputs));

	if (!inputs)
		return -1;
	inputs[0] = c->top;
	for (int i = 0; i < more; i++) {
		inputs[rings] = tracecmd_buffer_instance_handle(c->top, i);
		rings += inputs[rings] != NULL;
	}
	return tracecmd_iterate_events_multi(inputs, rings, handle, c);
}

/* More than this and a bad file would take the machine's memory, not only the process's. */
static void limit_memory(void)
{
	unsigned long long pages = 0;
	struct rlimit limit;
	FILE *statm = fopen("/proc/self/statm", "r");

	if (!statm)
		return;
	if (fscanf(statm, "%llu", &pages) == 1) {
		limit.rlim_cur = pages * 4096 + MEMORY_MAX;
		limit.rlim_max = limit.rlim_cur;
		setrlimit(RLIMIT_AS, &limit);
	}
	fclose(statm);
}

_Noreturn void import_child(int file, int to, bool swap, struct import_shared *shared)
{
	const struct rlimit none = {0, 0};
	struct child *c;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setrlimit(RLIMIT_CORE, &none);
	limit_memory();
	tep_set_loglevel(TEP_LOG_NONE);
	tracecmd_set_loglevel(TEP_LOG_NONE);
	c = calloc(1, sizeof(*c));
	if (!c)
		_exit(1);
	c->shared = shared;
	c->to = to;
	c->swap = swap;
	/* Plugins only print, and are one more thing that could fail. */
	c->top = tracecmd_open_fd(file, TRACECMD_FL_LOAD_NO_PLUGINS);
	if (!c->top)
		_exit(1);
	shared->opened = 1;
	if (iterate(c) < 0)
		_exit(1);
	flush(c);
	shared->done = 1;
	_exit(0);
}
