/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The host that the library sees in a replay: memory for its tables, the guest's frames as the
 * recording told them, and the inputs of the event at hand, handed out in the recorder's order.
 *
 * Pages whose contents were merged have one frame. What they hold is kept by gfn all the same: the
 * library reads a frame right behind asking for it, so the gfn that it asked for last is meant.
 */
#include "inside.h"

#include <stdlib.h>
#include <string.h>

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
	if (r->options.tlb && !watch_note(r, low, *hpa, memory->va, room)) {
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

/* What host.frame_get may answer. */
static bool is_answer(const struct umbra_record *input)
{
	int error = (int)(int32_t)(input->c >> 32);
	unsigned level = input->c >> 16 & 3;

	if (error)
		return error == UMBRA_ENOENT || error == UMBRA_ENOMEM || error == UMBRA_EAGAIN;
	return level < 2 || (input->a ^ input->b) % (1ull << 9 * (level - 1)) == 0;
}

/* @gfn has the frame @pfn, with all else that @input tells of it. */
static bool back(struct replay *r, uint64_t gfn, uint64_t pfn, const struct umbra_record *input)
{
	struct guest_frame *frame = guest_frame(&r->guest, gfn);

	if (!guest_back(&r->guest, gfn, pfn))
		return false;
	frame->writable = input->c >> 8 & 1;
	frame->level = input->c >> 16 & 3;
	return true;
}

/* Who tells of one page of a large one tells of all that the slots have of it. */
static void back_all(struct replay *r, const struct umbra_record *input)
{
	uint64_t gfn = input->a - input->a % LARGE_PAGES, pfn = input->b - input->b % LARGE_PAGES;

	for (unsigned i = 0; i < LARGE_PAGES; i++)
		back(r, gfn + i, pfn + i, input);
}

static int apply_frame(struct replay *r, const struct umbra_record *input)
{
	int error = (int)(int32_t)(input->c >> 32);

	if (error && is_answer(input)) {
		if (error == UMBRA_ENOENT && guest_frame(&r->guest, input->a))
			guest_frame(&r->guest, input->a)->there = false;
		return error;
	}
	if (!is_answer(input) || !back(r, input->a, input->b, input)) {
		replay_trouble(r, REPLAY_DAMAGED, "gfn %llx cannot have the frame %llx",
			       LL(input->a), LL(input->b));
		return UMBRA_ENOMEM;
	}
	if ((input->c >> 16 & 3) == 2)
		back_all(r, input);
	return 0;
}

static int host_frame_get(void *ctx, umbra_gfn gfn, enum umbra_want want, struct umbra_frame *frame)
{
	struct replay *r = ctx;
	const struct umbra_record *input = NULL;
	const struct guest_frame *known;
	int error = 0;

	r->asked = gfn.n;
	if (r->options.loose)
		return loose_frame(r, gfn.n, want, frame);
	if (r->input != r->inputs_end && (r->input->c & 0xff) == (uint64_t)want)
		input = take(r, UMBRA_TRACE_FRAME, gfn.n);
	if (input)
		error = apply_frame(r, input);
	if (error)
		return error;
	known = guest_frame(&r->guest, gfn.n);
	if (!known || !known->there) {
		if (want == UMBRA_WANT_PEEK)
			return UMBRA_ENOENT;
		r->subject.gfn = gfn.n;
		replay_trouble(r, REPLAY_DIVERGED,
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
	const struct guest_frame *asked = guest_frame(&r->guest, r->asked);
	struct guest_table *table = NULL;
	uint64_t gfn = r->asked;

	if ((asked && asked->there && asked->pfn == pfn.n) || guest_gfn(&r->guest, pfn.n, &gfn))
		table = guest_table(&r->guest, gfn);
	if (!table) {
		replay_trouble(r, REPLAY_NOMEM, "no memory for a page of the guest's");
		table = &nothing;
	}
	return table->words;
}

/* @gfn moves alone: it is no part of a large page any more. */
static void split(struct replay *r, uint64_t gfn)
{
	const struct guest_frame *page = guest_frame(&r->guest, gfn);

	if (!page || page->level < 2)
		return;
	gfn -= gfn % LARGE_PAGES;
	for (unsigned i = 0; i < LARGE_PAGES; i++)
		if (guest_frame(&r->guest, gfn + i))
			guest_frame(&r->guest, gfn + i)->level = 1;
}

static void host_frame_move(void *ctx, umbra_gfn gfn, const struct umbra_frame *to)
{
	struct replay *r = ctx;
	struct guest_frame *frame = guest_frame(&r->guest, gfn.n);

	if (to->level < 2)
		split(r, gfn.n);
	if (frame) {
		frame->writable = to->writable;
		frame->level = to->level;
	}
	if (!guest_back(&r->guest, gfn.n, to->pfn.n))
		replay_trouble(r, REPLAY_DAMAGED, "gfn %llx cannot move to the frame %llx",
			       LL(gfn.n), LL(to->pfn.n));
}

static void host_flush(void *ctx, const struct umbra_flush *flush)
{
	struct replay *r = ctx;

	for (unsigned i = 0; r->options.tlb && i < UMBRA_VCPUS_MAX; i++)
		if (flush->vcpus & 1ull << i)
			tlb_flush(&r->tlb[i], flush->gva, flush->pages);
}

/* What was touched is told to nobody: the recorder's guest was the one to hear of it. */
static void host_touched(void *ctx, const struct umbra_touch *touch)
{
	(void)ctx, (void)touch;
}

static uint64_t apply_word(struct replay *r, const struct umbra_record *input)
{
	unsigned size = input->kind == UMBRA_TRACE_WORD8 ? 8 : 4;
	struct guest_table *table = guest_table(&r->guest, input->a >> UMBRA_PAGE_SHIFT);

	if (!table || input->a % size)
		replay_trouble(r, REPLAY_DAMAGED, "a table's word at %llx, where none can be",
			       LL(input->a));
	else
		guest_tell(table, input->a, input->b, size);
	return input->b;
}

static uint64_t host_input(void *ctx, enum umbra_input kind, uint64_t key, uint64_t value)
{
	static const uint8_t kinds[] = {[UMBRA_INPUT_WORD4] = UMBRA_TRACE_WORD4,
					[UMBRA_INPUT_WORD8] = UMBRA_TRACE_WORD8,
					[UMBRA_INPUT_AGE] = UMBRA_TRACE_AGE,
					[UMBRA_INPUT_DIRTY] = UMBRA_TRACE_DIRTY,
					/* Older recorders told of these. */
					[UMBRA_INPUT_SET4] = UMBRA_TRACE_WORD4,
					[UMBRA_INPUT_SET8] = UMBRA_TRACE_WORD8};
	struct replay *r = ctx;
	const struct umbra_record *input = take(r, kinds[kind], key);

	if (!input)
		return value;
	if (kind == UMBRA_INPUT_AGE || kind == UMBRA_INPUT_DIRTY)
		return input->b;
	return apply_word(r, input);
}

const struct umbra_host replay_host = {
    .alloc = host_alloc,
    .free = host_free,
    .frame_get = host_frame_get,
    .frame_va = host_frame_va,
    .frame_move = host_frame_move,
    .flush = host_flush,
    .input = host_input,
    .touched = host_touched,
};
