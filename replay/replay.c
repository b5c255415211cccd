/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The replayer. Inputs wait in a queue until their event comes; then each is handed out when the
 * library asks for it, in the recorder's order. What it asks for and is not in the queue is as the
 * replayer knows it. An input that nobody asked for, a frame that the recording does not have, or
 * another answer than the recorded one is a divergence.
 *
 * Host addresses are numbers that count up, so that the state's hash is the same everywhere.
 */
#include "replay.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guest.h"
#include "tlb.h"

#define HISTORY    4096u /* events that are remembered */
#define SHOWN      12u
#define INPUTS_MAX (1u << 24)
#define FIRST_HPA  (1ull << 44) /* above all frames */
#define LOW_PAGES  1024u
#define LOW_END    ((LOW_PAGES + 1ull) << UMBRA_PAGE_SHIFT)

struct replay {
	struct replay_options options;
	struct umbra_mmu *mmu;
	struct umbra_vcpu *vcpu[UMBRA_VCPUS_MAX];
	struct guest guest;

	const struct umbra_record *input, *inputs_end; /* the queue: of the event at hand */
	struct umbra_record *kept; /* inputs whose event comes with the next records */
	size_t count, room;
	bool quiet; /* the audit reads */

	uint64_t hpa, low; /* the next ones */

	/* With options.tlb. */
	struct tlb tlb[UMBRA_VCPUS_MAX];
	void **tables; /* where the hardware finds what was allocated at FIRST_HPA + 4096 i */
	size_t tables_room;
	void *low_tables[LOW_PAGES];
	struct umbra_record pending; /* a fault that the guest is about to retry; kind 0: none */
	const struct umbra_record *taken; /* the event that took frames away */
	uint64_t taken_pfn;

	struct umbra_record *history;
	uint64_t subject; /* the page that went wrong */
	struct replay_counts counts;
	char why[256];
	enum replay_status trouble;
};

static enum replay_status trouble(struct replay *r, enum replay_status status, const char *format,
				  ...) __attribute__((format(printf, 3, 4)));

/* The first one counts. */
static enum replay_status trouble(struct replay *r, enum replay_status status, const char *format,
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

#define LL(n) ((unsigned long long)(n))

/* ------------------------------------------------------------------ the host */

/* Remember where the hardware finds @va. False: out of memory. */
static bool table_note(struct replay *r, bool low, uint64_t hpa, char *va, uint64_t room)
{
	size_t first = (size_t)((hpa - (low ? UMBRA_PAGE_SIZE : FIRST_HPA)) >> UMBRA_PAGE_SHIFT);
	size_t end = first + (size_t)(room >> UMBRA_PAGE_SHIFT);
	void **tables = low ? r->low_tables : r->tables;

	if (!low && end > r->tables_room) {
		size_t more = 2 * end;

		tables = realloc(r->tables, more * sizeof(*tables));
		if (!tables)
			return false;
		r->tables = tables;
		r->tables_room = more;
	}
	for (size_t i = first; i < end; i++, va += UMBRA_PAGE_SIZE)
		tables[i] = va;
	return true;
}

static const uint64_t *table_at(void *ctx, uint64_t hpa)
{
	const struct replay *r = ctx;

	if (hpa >= FIRST_HPA && hpa < r->hpa)
		return r->tables[(hpa - FIRST_HPA) >> UMBRA_PAGE_SHIFT];
	if (hpa >= UMBRA_PAGE_SIZE && hpa < r->low)
		return r->low_tables[(hpa >> UMBRA_PAGE_SHIFT) - 1];
	return NULL;
}

static int host_alloc(void *ctx, size_t size, bool low, struct umbra_memory *memory)
{
	struct replay *r = ctx;
	uint64_t *hpa = low ? &r->low : &r->hpa, room = (size + 4095) & ~4095ull;

	memory->va = aligned_alloc(4096, room);
	if (!memory->va || (low && *hpa + room > LOW_END)) {
		free(memory->va);
		return UMBRA_ENOMEM;
	}
	memset(memory->va, 0, room);
	memory->hpa = *hpa;
	if (r->options.tlb && !table_note(r, low, *hpa, memory->va, room)) {
		free(memory->va);
		return UMBRA_ENOMEM;
	}
	*hpa += room;
	return 0;
}

static void host_free(void *ctx, size_t size, struct umbra_memory memory)
{
	(void)ctx, (void)size;
	free(memory.va);
}

/* The queue's next input, if it is of @kind about @key. */
static const struct umbra_record *take(struct replay *r, unsigned kind, uint64_t key)
{
	const struct umbra_record *front = r->input;

	if (front == r->inputs_end || front->kind != kind || front->a != key || r->quiet)
		return NULL;
	r->input++;
	return front;
}

static int apply_frame(struct replay *r, const struct umbra_record *input)
{
	int error = (int)(int32_t)(input->c >> 32);
	struct guest_frame *frame;

	if (error)
		return error;
	if (!guest_back(&r->guest, input->a, input->b)) {
		trouble(r, REPLAY_DAMAGED, "gfn %llx cannot have the frame %llx", LL(input->a),
			LL(input->b));
		return UMBRA_ENOMEM;
	}
	frame = guest_frame(&r->guest, input->a);
	frame->writable = input->c >> 8 & 1;
	frame->level = input->c >> 16 & 3;
	return 0;
}

static int host_frame_get(void *ctx, umbra_gfn gfn, enum umbra_want want, struct umbra_frame *frame)
{
	struct replay *r = ctx;
	const struct umbra_record *input = NULL;
	const struct guest_frame *known;
	int error = 0;

	if (!r->options.lenient && r->input != r->inputs_end &&
	    (r->input->c & 0xff) == (uint64_t)want)
		input = take(r, UMBRA_TRACE_FRAME, gfn.n);
	if (input)
		error = apply_frame(r, input);
	if (error)
		return error;
	known = guest_frame(&r->guest, gfn.n);
	if (!known || !known->there) {
		if (want == UMBRA_WANT_PEEK)
			return UMBRA_ENOENT;
		r->subject = gfn.n;
		trouble(r, REPLAY_DIVERGED,
			"the frame of gfn %llx was wanted, which the recording "
			"does not have",
			LL(gfn.n));
		return UMBRA_ENOMEM;
	}
	*frame = (struct umbra_frame){{known->pfn}, known->writable, known->level};
	return 0;
}

static void *host_frame_va(void *ctx, umbra_pfn pfn)
{
	static struct guest_table nothing;
	struct replay *r = ctx;
	uint64_t gfn;
	struct guest_table *table =
	    guest_gfn(&r->guest, pfn.n, &gfn) ? guest_table(&r->guest, gfn) : NULL;

	if (!table) {
		trouble(r, REPLAY_NOMEM, "no memory for a page of the guest's");
		table = &nothing;
	}
	return table->words;
}

static void host_frame_move(void *ctx, umbra_gfn gfn, umbra_pfn pfn)
{
	struct replay *r = ctx;
	struct guest_frame *frame = guest_frame(&r->guest, gfn.n);

	if (frame && !frame->there)
		frame->writable = true;
	if (!guest_back(&r->guest, gfn.n, pfn.n))
		trouble(r, REPLAY_DAMAGED, "gfn %llx cannot move to the frame %llx", LL(gfn.n),
			LL(pfn.n));
}

static void host_flush(void *ctx, const struct umbra_flush *flush)
{
	struct replay *r = ctx;

	for (unsigned i = 0; r->options.tlb && i < UMBRA_VCPUS_MAX; i++)
		if (flush->vcpus & 1ull << i)
			tlb_flush(&r->tlb[i], flush->gva, flush->pages);
}

static uint64_t apply_word(struct replay *r, const struct umbra_record *input)
{
	unsigned size = input->kind == UMBRA_TRACE_WORD8 ? 8 : 4;
	struct guest_table *table = guest_table(&r->guest, input->a >> UMBRA_PAGE_SHIFT);

	if (!table || input->a % size)
		trouble(r, REPLAY_DAMAGED, "a table's word at %llx, where none can be",
			LL(input->a));
	else
		guest_tell(table, input->a, input->b, size);
	return input->b;
}

static uint64_t host_input(void *ctx, enum umbra_input kind, uint64_t key, uint64_t value)
{
	static const uint8_t kinds[] = {[UMBRA_INPUT_WORD4] = UMBRA_TRACE_WORD4,
					[UMBRA_INPUT_WORD8] = UMBRA_TRACE_WORD8,
					[UMBRA_INPUT_AGE] = UMBRA_TRACE_AGE};
	struct replay *r = ctx;
	const struct umbra_record *input = take(r, kinds[kind], key);

	if (!input)
		return value;
	return kind == UMBRA_INPUT_AGE ? input->b : apply_word(r, input);
}

static const struct umbra_host host = {
    .alloc = host_alloc,
    .free = host_free,
    .frame_get = host_frame_get,
    .frame_va = host_frame_va,
    .frame_move = host_frame_move,
    .flush = host_flush,
    .input = host_input,
};

/* ------------------------------------------------------------------ events */

/* @got is what the library answered now, @recorded what it did then. */
static void compare(struct replay *r, const char *what, uint64_t recorded, uint64_t got)
{
	if (recorded == got)
		return;
	if (r->options.lenient)
		r->counts.differences++;
	else
		trouble(r, REPLAY_DIVERGED, "%s is %llx, recorded was %llx", what, LL(got),
			LL(recorded));
}

static uint64_t packed(uint32_t error_code, const struct umbra_answer *answer)
{
	uint64_t injected = answer->verdict == UMBRA_INJECT ? answer->error_code : 0;

	return error_code | (uint64_t)answer->verdict << 32 | injected << 40;
}

/* The guest tries again what faulted; with nothing in between, it must get through. */
static void retry(struct replay *r, const struct umbra_record *e, const struct umbra_root *root)
{
	const struct umbra_record *fault = &r->pending;
	struct tlb *tlb = &r->tlb[e->vcpu];

	tlb_load(tlb, root);
	if (fault->kind && fault->vcpu == e->vcpu) {
		r->counts.accesses++;
		if (!tlb_access(tlb, fault->a, (uint32_t)fault->c, table_at, r)) {
			r->subject = fault->a >> UMBRA_PAGE_SHIFT;
			trouble(r, REPLAY_VIOLATION, "gva %llx was to be mapped, and is not",
				LL(fault->a));
		}
	}
	r->pending.kind = 0;
}

static void on_vcpu(struct replay *r, const struct umbra_record *e, struct umbra_vcpu *vcpu)
{
	struct umbra_paging paging = {(uint32_t)e->a, e->b, e->a >> 32, (uint32_t)e->c};
	struct umbra_answer answer;
	struct umbra_root root;

	switch (e->kind) {
	case UMBRA_TRACE_PAGING:
		compare(r, "the answer", e->c >> 32,
			(uint32_t)umbra_vcpu_set_paging(vcpu, &paging));
		break;
	case UMBRA_TRACE_KEYS:
		umbra_vcpu_set_keys(vcpu, (uint32_t)e->a, (uint32_t)(e->a >> 32));
		break;
	case UMBRA_TRACE_ROOT:
		compare(r, "the root", 0, (uint32_t)umbra_vcpu_root(vcpu, &root));
		if (r->options.tlb && !r->trouble)
			retry(r, e, &root);
		break;
	case UMBRA_TRACE_FAULT:
		answer = umbra_fault(vcpu, e->a, (uint32_t)e->c);
		compare(r, "the answer to the fault", e->c, packed((uint32_t)e->c, &answer));
		if (r->options.tlb && answer.verdict == UMBRA_RESUME)
			r->pending = *e;
		break;
	case UMBRA_TRACE_TRANSLATE:
		answer = umbra_translate(vcpu, e->a, (uint32_t)e->c);
		compare(r, "the translation", e->c, packed((uint32_t)e->c, &answer));
		break;
	case UMBRA_TRACE_INVLPG:
		umbra_invlpg(vcpu, e->a);
		break;
	case UMBRA_TRACE_INVPCID:
		compare(r, "the answer", 0,
			(uint32_t)umbra_invpcid(vcpu, (enum umbra_invpcid)(e->b & 0xffff),
						(uint16_t)(e->b >> 16), e->a));
		break;
	}
}

static void on_mmu(struct replay *r, const struct umbra_record *e)
{
	struct umbra_slot slot = {(uint32_t)e->c, (uint32_t)(e->c >> 32), {e->a}, e->b};
	struct umbra_dropped dropped = {0};
	struct umbra_stats stats;
	uint64_t sptes = 0;
	int error = 0;

	switch (e->kind) {
	case UMBRA_TRACE_SLOT_ADD:
		error = umbra_slot_add(r->mmu, &slot);
		break;
	case UMBRA_TRACE_SLOT_DELETE:
		error = umbra_slot_delete(r->mmu, (uint32_t)e->a);
		break;
	case UMBRA_TRACE_VCPU:
		error = umbra_vcpu_create(r->mmu, e->vcpu, &r->vcpu[e->vcpu]);
		break;
	case UMBRA_TRACE_WRITE:
		umbra_guest_write(r->mmu, e->a, e->b);
		break;
	case UMBRA_TRACE_UNPROTECT:
		compare(r, "the count of tables", e->b, umbra_unprotect(r->mmu, (umbra_gfn){e->a}));
		break;
	case UMBRA_TRACE_DROP:
		error = umbra_drop(r->mmu, (umbra_gfn){e->a}, e->b, &dropped);
		compare(r, "the count of sptes", e->c, dropped.sptes);
		break;
	case UMBRA_TRACE_PROTECT:
		error = umbra_write_protect(r->mmu, (umbra_gfn){e->a}, e->b, &sptes);
		compare(r, "the count of sptes", e->c, sptes);
		break;
	case UMBRA_TRACE_REMAP:
		error = umbra_remap(r->mmu, (umbra_gfn){e->a}, (umbra_pfn){e->b}, &dropped);
		compare(r, "the count of sptes", e->c, dropped.sptes);
		break;
	case UMBRA_TRACE_ZAP_ALL:
		umbra_zap_all(r->mmu);
		break;
	case UMBRA_TRACE_QUOTA:
		if (!r->options.lenient)
			error = umbra_quota_set(r->mmu, (uint32_t)e->a);
		break;
	case UMBRA_TRACE_END:
		umbra_stats_get(r->mmu, &stats);
		compare(r, "the count of sptes", e->b, stats.sptes);
		compare(r, "the count of shadow pages", e->c, stats.shadow_pages);
		break;
	}
	if (error)
		trouble(r, REPLAY_DIVERGED, "the library refuses it with error %d", error);
}

static bool is_of_vcpu(unsigned kind)
{
	return (kind >= UMBRA_TRACE_PAGING && kind <= UMBRA_TRACE_TRANSLATE) ||
	       kind == UMBRA_TRACE_INVLPG || kind == UMBRA_TRACE_INVPCID;
}

/* Another configuration asks in another order: everything that was seen is known at once. */
static void apply_all(struct replay *r)
{
	for (; r->input != r->inputs_end; r->input++) {
		if (r->input->kind == UMBRA_TRACE_FRAME)
			apply_frame(r, r->input);
		else if (r->input->kind != UMBRA_TRACE_AGE)
			apply_word(r, r->input);
	}
}

static void audit(struct replay *r)
{
	struct umbra_audit report = {0};

	r->quiet = true;
	r->counts.audits++;
	if (umbra_audit(r->mmu, &report)) {
		r->subject = report.gfn;
		trouble(r, REPLAY_VIOLATION, "invariant %u violated at gfn %llx, spte %llx: %s",
			report.invariant, LL(report.gfn), LL(report.spte),
			report.what ? report.what : "");
	}
	r->quiet = false;
}

/* ------------------------------------------------------------------ the TLBs watch */

static bool is_taken(void *ctx, uint64_t pfn)
{
	struct replay *r = ctx;
	const struct umbra_record *e = r->taken;
	uint64_t gfn;

	if (e->kind == UMBRA_TRACE_REMAP)
		return pfn == r->taken_pfn;
	return guest_gfn(&r->guest, pfn, &gfn) && gfn - e->a < e->b;
}

/* Behind an event: does a TLB hold what must be forgotten by now? */
static void watch(struct replay *r, const struct umbra_record *e)
{
	uint64_t gva;

	r->taken = e;
	switch (e->kind) {
	case UMBRA_TRACE_INVLPG:
		if (tlb_holds(&r->tlb[e->vcpu], e->a))
			trouble(r, REPLAY_VIOLATION, "gva %llx is in the TLB behind INVLPG",
				LL(e->a));
		return;
	case UMBRA_TRACE_ZAP_ALL:
	case UMBRA_TRACE_REMAP:
	case UMBRA_TRACE_DROP:
	case UMBRA_TRACE_PROTECT:
		break;
	default:
		return;
	}
	for (unsigned i = 0; i < UMBRA_VCPUS_MAX; i++) {
		if (e->kind == UMBRA_TRACE_ZAP_ALL
			? r->tlb[i].count != 0
			: tlb_find(&r->tlb[i], e->kind == UMBRA_TRACE_PROTECT, is_taken, r, &gva)) {
			if (e->kind == UMBRA_TRACE_ZAP_ALL)
				gva = 0;
			trouble(r, REPLAY_VIOLATION,
				"vcpu %u's TLB leads from gva %llx to what was taken away", i,
				LL(gva));
		}
	}
}

static enum replay_status event(struct replay *r, const struct umbra_record *e)
{
	char text[160];

	r->history[r->counts.events++ % HISTORY] = *e;
	r->subject = e->a >> UMBRA_PAGE_SHIFT;
	if (e->kind == UMBRA_TRACE_REMAP || e->kind == UMBRA_TRACE_DROP ||
	    e->kind == UMBRA_TRACE_PROTECT || e->kind == UMBRA_TRACE_UNPROTECT)
		r->subject = e->a;
	if (e->vcpu >= UMBRA_VCPUS_MAX || (is_of_vcpu(e->kind) && !r->vcpu[e->vcpu]) ||
	    (e->kind == UMBRA_TRACE_WRITE && e->a % UMBRA_PAGE_SIZE + e->b > UMBRA_PAGE_SIZE)) {
		replay_describe(e, r->counts.events - 1, text, sizeof(text));
		return trouble(r, REPLAY_DAMAGED, "an event that cannot be: %s", text);
	}
	if (r->options.lenient)
		apply_all(r);
	if (r->options.tlb && e->kind == UMBRA_TRACE_REMAP) {
		const struct guest_frame *frame = guest_frame(&r->guest, e->a);

		r->taken_pfn = frame && frame->there ? frame->pfn : UINT64_MAX;
	}
	if (e->kind != UMBRA_TRACE_ROOT)
		r->pending.kind = 0;
	if (is_of_vcpu(e->kind))
		on_vcpu(r, e, r->vcpu[e->vcpu]);
	else
		on_mmu(r, e);
	if (!r->trouble && r->input != r->inputs_end) {
		replay_describe(r->input, r->counts.records - 1, text, sizeof(text));
		r->subject = r->input->a >> UMBRA_PAGE_SHIFT;
		trouble(r, REPLAY_DIVERGED,
			"the recorder was asked for what nobody asks for now: %s", text);
	}
	r->input = r->inputs_end = NULL;
	if (!r->trouble && r->options.tlb)
		watch(r, e);
	if (!r->trouble && r->options.audit && r->counts.events % r->options.audit == 0)
		audit(r);
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
			return trouble(r, REPLAY_NOMEM, "no memory for the inputs of one event");
		r->kept = more;
		r->room = room;
	}
	memcpy(r->kept + r->count, inputs, count * sizeof(*inputs));
	r->count += count;
	return REPLAY_OK;
}

static bool is_input(const struct umbra_record *record)
{
	return record->kind >= UMBRA_TRACE_WORD4 && record->kind <= UMBRA_TRACE_FRAME;
}

/* The inputs that stand before @e, and @e. */
static enum replay_status group(struct replay *r, const struct umbra_record *first,
				const struct umbra_record *e)
{
	enum replay_status status;

	if (e->kind < UMBRA_TRACE_EVENTS || e->kind >= UMBRA_TRACE_KINDS)
		return trouble(r, REPLAY_DAMAGED, "a record of the unknown kind %u", e->kind);
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

/* ------------------------------------------------------------------ what happened before */

static bool is_about(const struct umbra_record *e, uint64_t page)
{
	switch (e->kind) {
	case UMBRA_TRACE_UNPROTECT:
	case UMBRA_TRACE_REMAP:
		return e->a == page;
	case UMBRA_TRACE_DROP:
	case UMBRA_TRACE_PROTECT:
		return page - e->a < e->b;
	case UMBRA_TRACE_FAULT:
	case UMBRA_TRACE_TRANSLATE:
	case UMBRA_TRACE_WRITE:
	case UMBRA_TRACE_INVLPG:
		return e->a >> UMBRA_PAGE_SHIFT == page;
	default:
		return false;
	}
}

void replay_history(const struct replay *r, void (*line)(void *ctx, const char *text), void *ctx)
{
	uint64_t end = r->counts.events, first = end > HISTORY ? end - HISTORY : 0;
	unsigned about = 0, skip;
	char text[200];

	for (uint64_t i = first; i < end; i++)
		about += is_about(&r->history[i % HISTORY], r->subject);
	skip = about > SHOWN ? about - SHOWN : 0;
	for (uint64_t i = first; i < end; i++) {
		const struct umbra_record *e = &r->history[i % HISTORY];

		if (is_about(e, r->subject) ? skip && skip-- : i + SHOWN < end)
			continue;
		replay_describe(e, i, text, sizeof(text));
		line(ctx, text);
	}
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
	r->hpa = FIRST_HPA;
	r->low = UMBRA_PAGE_SIZE;
	r->room = 1024;
	r->kept = malloc(r->room * sizeof(*r->kept));
	r->history = calloc(HISTORY, sizeof(*r->history));
	if (valid && r->kept && r->history && guest_init(&r->guest, options->config.maxphyaddr))
		*error = umbra_mmu_create(&host, r, &options->config, &r->mmu);
	if (r->mmu)
		return r;
	replay_free(r);
	return NULL;
}

void replay_free(struct replay *r)
{
	if (r->mmu)
		umbra_mmu_destroy(r->mmu);
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
