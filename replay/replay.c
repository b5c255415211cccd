/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The replayer. Inputs wait in a queue until their event comes; then each is handed out when the
 * library asks for it, in the recorder's order. What it asks for and is not in the queue is as the
 * replayer knows it. An input that nobody asked for, a frame that the recording does not have, or
 * another answer than the recorded one is a divergence.
 *
 * Host addresses are numbers that count up, so that the state's hash is the same everywhere.
 */
#include "inside.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INPUTS_MAX (1u << 24)
#define RANGE_MAX  (1ull << 26) /* pages of which something is told one by one: 256 GiB */

enum replay_status replay_trouble(struct replay *r, enum replay_status status, const char *format,
				  ...)
{
	va_list list;

	if (r->trouble)
		return r->trouble;
	r->trouble = status;
	va_start(list, format);
	vsnprintf(r->why, sizeof(r->why), format, list);
	va_end(list);
	return status;
}

void replay_violation(struct replay *r, unsigned wrong, const char *format, ...)
{
	va_list list;

	if (r->trouble)
		return;
	r->trouble = REPLAY_VIOLATION;
	r->wrong = wrong;
	va_start(list, format);
	vsnprintf(r->why, sizeof(r->why), format, list);
	va_end(list);
}

/* ------------------------------------------------------------------ events */

void replay_compare(struct replay *r, const char *what, uint64_t recorded, uint64_t got)
{
	if (recorded == got)
		return;
	if (r->options.loose)
		r->counts.differences++;
	else
		replay_trouble(r, REPLAY_DIVERGED, "%s is %llx, recorded was %llx", what, LL(got),
			       LL(recorded));
}

static uint64_t packed(uint32_t error_code, const struct umbra_answer *answer)
{
	uint64_t injected = answer->verdict == UMBRA_INJECT ? answer->error_code : 0;

	return error_code | (uint64_t)answer->verdict << 32 | injected << 40;
}

static void on_vcpu(struct replay *r, const struct umbra_record *e, struct umbra_vcpu *vcpu)
{
	struct umbra_paging paging = {(uint32_t)e->a, e->b, e->a >> 32, (uint32_t)e->c};
	struct umbra_answer answer;
	struct umbra_root root = {0};
	int error;

	switch (e->kind) {
	case UMBRA_TRACE_PAGING:
		error = umbra_vcpu_set_paging(vcpu, &paging);
		replay_compare(r, "the answer", e->c >> 32, (uint32_t)error);
		if (!error && r->options.tlb)
			oracle_paging(r, e->vcpu, &paging);
		break;
	case UMBRA_TRACE_KEYS:
		r->cpu[e->vcpu].pkru = (uint32_t)e->a;
		r->cpu[e->vcpu].pkrs = (uint32_t)(e->a >> 32);
		umbra_vcpu_set_keys(vcpu, (uint32_t)e->a, (uint32_t)(e->a >> 32));
		break;
	case UMBRA_TRACE_ROOT:
		replay_compare(r, "the root", 0, (uint32_t)umbra_vcpu_root(vcpu, &root));
		if (r->options.tlb && root.levels && !r->trouble)
			watch_retry(r, e, &root);
		break;
	case UMBRA_TRACE_FAULT:
		answer = umbra_fault(vcpu, e->a, (uint32_t)e->c);
		replay_compare(r, "the answer to the fault", e->c, packed((uint32_t)e->c, &answer));
		if (r->options.tlb && answer.verdict == UMBRA_RESUME)
			r->pending = *e;
		break;
	case UMBRA_TRACE_TRANSLATE:
		answer = umbra_translate(vcpu, e->a, (uint32_t)e->c);
		replay_compare(r, "the translation", e->c, packed((uint32_t)e->c, &answer));
		break;
	case UMBRA_TRACE_INVLPG:
		umbra_invlpg(vcpu, e->a);
		break;
	case UMBRA_TRACE_INVPCID:
		replay_compare(r, "the answer", 0,
			       (uint32_t)umbra_invpcid(vcpu, (enum umbra_invpcid)(e->b & 0xffff),
						       (uint16_t)(e->b >> 16), e->a));
		break;
	}
}

static bool is_of_vcpu(unsigned kind)
{
	return (kind >= UMBRA_TRACE_PAGING && kind <= UMBRA_TRACE_TRANSLATE) ||
	       kind == UMBRA_TRACE_INVLPG || kind == UMBRA_TRACE_INVPCID;
}

enum replay_status replay_audit(struct replay *r)
{
	struct umbra_audit report = {0};

	r->quiet = true;
	r->counts.audits++;
	if (umbra_audit(r->mmu, &report)) {
		r->subject.gfn = report.gfn;
		replay_violation(r, report.invariant,
				 "invariant %u violated at gfn %llx, spte %llx: %s",
				 report.invariant, LL(report.gfn), LL(report.spte),
				 report.what ? report.what : "");
	}
	r->quiet = false;
	return r->trouble;
}

/* What the library's contract, and the replayer's tables, have room for. */
static bool can_be(const struct replay *r, const struct umbra_record *e)
{
	if (e->vcpu >= UMBRA_VCPUS_MAX || (is_of_vcpu(e->kind) && !r->vcpu[e->vcpu]))
		return false;
	if (e->kind == UMBRA_TRACE_AGE_RANGE || e->kind == UMBRA_TRACE_LOG_COLLECT)
		return e->b <= RANGE_MAX;
	return e->kind != UMBRA_TRACE_WRITE ||
	       (e->b <= UMBRA_PAGE_SIZE && e->a % UMBRA_PAGE_SIZE + e->b <= UMBRA_PAGE_SIZE);
}

/* The event is the last one, and what may go wrong is about what it is about. */
static void remember(struct replay *r, const struct umbra_record *e)
{
	r->history[r->counts.events++ % HISTORY] = (struct past){*e, NOWHERE, 0};
	r->subject = (struct subject){NOWHERE, NOWHERE, 0};
	switch (e->kind) {
	case UMBRA_TRACE_FAULT:
	case UMBRA_TRACE_TRANSLATE:
	case UMBRA_TRACE_INVLPG:
		r->subject.gva = e->a >> UMBRA_PAGE_SHIFT;
		break;
	case UMBRA_TRACE_WRITE:
		r->subject.gfn = e->a >> UMBRA_PAGE_SHIFT;
		break;
	case UMBRA_TRACE_REMAP:
	case UMBRA_TRACE_DROP:
	case UMBRA_TRACE_PROTECT:
	case UMBRA_TRACE_UNPROTECT:
	case UMBRA_TRACE_INVALIDATE_BEGIN:
	case UMBRA_TRACE_INVALIDATE_GATHER:
	case UMBRA_TRACE_SPLIT:
	case UMBRA_TRACE_WATCH:
	case UMBRA_TRACE_LOG_COLLECT:
	case UMBRA_TRACE_LOG_WORD:
		r->subject.gfn = e->a;
		break;
	}
}

/* It was a fault: what does the guest's address lead to now? */
static void remember_mapping(struct replay *r, const struct umbra_record *e)
{
	struct past *past = &r->history[(r->counts.events - 1) % HISTORY];
	const struct umbra_view_entry *last;
	struct umbra_view view;
	uint64_t gfn, offset;

	if (replay_view(r, r->vcpu[e->vcpu], e->a, &view) || !view.shadow_end)
		return;
	last = &view.shadow[view.shadow_end];
	offset = (1ull << 9 * (view.shadow_end - 1)) - 1;
	past->table = r->subject.table = last->table;
	if (last->value & 1 &&
	    guest_gfn(&r->guest,
		      (last->value >> UMBRA_PAGE_SHIFT & 0xffffffffff & ~offset) |
			  (e->a >> UMBRA_PAGE_SHIFT & offset),
		      &gfn))
		past->gfn = r->subject.gfn = gfn;
}

static enum replay_status event(struct replay *r, const struct umbra_record *e)
{
	bool done = true;
	char text[160];

	remember(r, e);
	if (r->options.loose)
		loose_apply(r);
	if (!can_be(r, e) && r->options.loose) {
		r->counts.skipped++;
		return REPLAY_OK;
	}
	if (!can_be(r, e)) {
		replay_describe(e, r->counts.events - 1, text, sizeof(text));
		return replay_trouble(r, REPLAY_DAMAGED, "an event that cannot be: %s", text);
	}
	if (r->options.tlb)
		watch_before(r, e);
	if (is_of_vcpu(e->kind))
		on_vcpu(r, e, r->vcpu[e->vcpu]);
	else
		done = operate(r, e);
	if (!r->options.brief && e->kind == UMBRA_TRACE_FAULT)
		remember_mapping(r, e);
	if (!r->trouble && r->input != r->inputs_end) {
		replay_describe(r->input, r->counts.records - 1, text, sizeof(text));
		if (r->input->kind == UMBRA_TRACE_FRAME || r->input->kind == UMBRA_TRACE_DIRTY)
			r->subject.gfn = r->input->a;
		else if (r->input->kind != UMBRA_TRACE_AGE)
			r->subject.gfn = r->input->a >> UMBRA_PAGE_SHIFT;
		replay_trouble(r, REPLAY_DIVERGED,
			       "the recorder was asked for what nobody asks for now: %s", text);
	}
	r->input = r->inputs_end = NULL;
	if (done && !r->trouble && r->options.tlb)
		watch_behind(r, e);
	if (!r->trouble && r->options.audit && r->counts.events % r->options.audit == 0)
		replay_audit(r);
	if (r->trouble)
		return r->trouble;
	return e->kind == UMBRA_TRACE_END ? REPLAY_ENDED : REPLAY_OK;
}

/* Keep inputs whose event is not there yet. */
static enum replay_status keep(struct replay *r, const struct umbra_record *inputs, size_t count)
{
	if (r->count + count > r->room) {
		size_t room = 2 * (r->count + count);
		struct umbra_record *more =
		    room <= INPUTS_MAX ? realloc(r->kept, room * sizeof(*more)) : NULL;

		if (!more)
			return replay_trouble(r, REPLAY_NOMEM,
					      "no memory for the inputs of one event");
		r->kept = more;
		r->room = room;
	}
	memcpy(r->kept + r->count, inputs, count * sizeof(*inputs));
	r->count += count;
	return REPLAY_OK;
}

static bool is_input(const struct umbra_record *record)
{
	return record->kind >= UMBRA_TRACE_WORD4 && record->kind < UMBRA_TRACE_INPUTS;
}

/* The inputs that stand before @e, and @e. */
static enum replay_status group(struct replay *r, const struct umbra_record *first,
				const struct umbra_record *e)
{
	enum replay_status status;

	if (e->kind < UMBRA_TRACE_EVENTS || e->kind >= UMBRA_TRACE_KINDS)
		return replay_trouble(r, REPLAY_DAMAGED, "a record of the unknown kind %u",
				      e->kind);
	if (r->count) {
		status = keep(r, first, (size_t)(e - first));
		if (status)
			return status;
		first = r->kept;
	}
	r->input = first;
	r->inputs_end = r->count ? first + r->count : e;
	r->count = 0;
	return event(r, e);
}

enum replay_status replay_records(struct replay *r, const struct umbra_record *records,
				  size_t count, uint64_t until)
{
	const struct umbra_record *end = records + count, *first = records, *at = records;

	while (!r->trouble) {
		enum replay_status status;

		for (; at != end && is_input(at); at++)
			r->counts.by_kind[at->kind]++;
		if (at == end)
			break;
		if (r->counts.events == until)
			return REPLAY_UNTIL;
		if (at->kind < UMBRA_TRACE_KINDS)
			r->counts.by_kind[at->kind]++;
		r->counts.records += (uint64_t)(at - first) + 1;
		status = group(r, first, at++);
		if (status)
			return status;
		first = at;
	}
	if (r->trouble)
		return r->trouble;
	r->counts.records += (uint64_t)(end - first);
	return keep(r, first, (size_t)(end - first));
}

enum replay_status replay_record(struct replay *r, const struct umbra_record *record)
{
	return replay_records(r, record, 1, UINT64_MAX);
}

/* ------------------------------------------------------------------ the rest */

struct replay *replay_new(const struct replay_options *options, int *error)
{
	struct replay *r = calloc(1, sizeof(*r));
	bool valid = options->config.maxphyaddr >= 32 && options->config.maxphyaddr <= 52;

	*error = valid ? UMBRA_ENOMEM : UMBRA_EINVAL;
	if (!r)
		return NULL;
	r->options = *options;
	r->options.loose |= options->lenient; /* another configuration asks in another order */
	r->hpa = FIRST_HPA;
	r->low = UMBRA_PAGE_SIZE;
	r->room = 1024;
	r->kept = malloc(r->room * sizeof(*r->kept));
	r->history = calloc(HISTORY, sizeof(*r->history));
	if (valid && r->kept && r->history && guest_init(&r->guest, options->config.maxphyaddr))
		*error = umbra_mmu_create(&replay_host, r, &options->config, &r->mmu);
	if (r->mmu)
		return r;
	replay_free(r);
	return NULL;
}

void replay_free(struct replay *r)
{
	if (r->mmu)
		umbra_mmu_destroy(r->mmu);
	operate_free(r);
	guest_free(&r->guest);
	for (unsigned i = 0; i < UMBRA_VCPUS_MAX; i++)
		tlb_free(&r->tlb[i]);
	free(r->tables);
	free(r->kept);
	free(r->history);
	free(r);
}

bool replay_knows(struct replay *r, uint64_t gpa, unsigned size)
{
	return guest_knows(&r->guest, gpa, size);
}

const char *replay_why(const struct replay *r)
{
	return r->why;
}

const struct replay_counts *replay_counts(const struct replay *r)
{
	((struct replay *)r)->counts.pages = r->guest.kept;
	return &r->counts;
}

struct umbra_mmu *replay_mmu(struct replay *r)
{
	return r->mmu;
}

unsigned replay_wrong(const struct replay *r)
{
	return r->wrong;
}

int replay_view(struct replay *r, struct umbra_vcpu *vcpu, uint64_t gva, struct umbra_view *view)
{
	int error;

	r->quiet = true;
	error = umbra_view(vcpu, gva, view);
	r->quiet = false;
	return error;
}

struct umbra_vcpu *replay_vcpu(struct replay *r, unsigned number)
{
	return number < UMBRA_VCPUS_MAX ? r->vcpu[number] : NULL;
}
