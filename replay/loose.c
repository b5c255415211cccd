/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Loose replay, of a trace that was cut, or with another configuration than the recorded one.
 * Inputs and events are missing, or come too late, so what there is is taken for a guest and a host
 * of their own, who do nothing that the library's contract forbids:
 *
 *   - all inputs of an event come before it. A word that changes is a store of the guest's if an
 *     spte, or a TLB, would let it pass, else a device's, of which the library is told. One that
 * only got accessed or dirty bits is left alone: the library sets them when they are due.
 *   - a gfn keeps its frame until it is moved, and no frame is two gfns', though they were merged
 *     when it was recorded. Whoever has none, or one
 *     that is another's by now, gets one from the top of memory downwards; if the trace names that
 *     frame later on, it finds it taken, and gets another in its turn. So frames are distinct
 *     without anybody having to know the whole trace.
 *   - what cannot be carried out (a vcpu that was not made) is passed over, and counted.
 *
 * So an audit or a TLB that finds something has found a fault of the library's.
 */
#include <string.h>

#include "inside.h"

#define ACCESSED_DIRTY 0x60ull

static struct guest_frame *owner_of(struct replay *r, uint64_t pfn, uint64_t *gfn)
{
	struct guest_frame *page = NULL;

	if (guest_gfn(&r->guest, pfn, gfn))
		page = guest_frame(&r->guest, *gfn);
	return page && page->there && page->pfn == pfn ? page : NULL;
}

static bool is_free(struct replay *r, uint64_t pfn)
{
	uint64_t gfn;

	return pfn < GUEST_PFNS && !owner_of(r, pfn, &gfn);
}

/* A frame that nobody has. UINT64_MAX: none is left. */
static uint64_t make_up(struct replay *r)
{
	while (r->made_up < GUEST_PFNS) {
		uint64_t pfn = GUEST_PFNS - ++r->made_up;

		if (is_free(r, pfn))
			return pfn;
	}
	return UINT64_MAX;
}

int loose_frame(struct replay *r, uint64_t gfn, enum umbra_want want, struct umbra_frame *frame)
{
	struct guest_frame *page = guest_frame(&r->guest, gfn);

	if (page && !page->there && want != UMBRA_WANT_PEEK &&
	    guest_back(&r->guest, gfn, make_up(r))) {
		page->writable = true;
		page->level = 1;
	}
	if (!page || !page->there)
		return want == UMBRA_WANT_PEEK ? UMBRA_ENOENT : UMBRA_ENOMEM;
	*frame = (struct umbra_frame){{page->pfn}, page->writable, page->level};
	return 0;
}

/* Is the whole of 2 MiB around @gfn to be had, in frames side by side with @pfn? */
static bool is_large(struct replay *r, uint64_t gfn, uint64_t pfn, bool writable)
{
	if ((gfn ^ pfn) % LARGE_PAGES)
		return false;
	gfn -= gfn % LARGE_PAGES;
	pfn -= pfn % LARGE_PAGES;
	for (unsigned i = 0; i < LARGE_PAGES; i++) {
		const struct guest_frame *page = guest_frame(&r->guest, gfn + i);

		if (!page || (page->there ? page->pfn != pfn + i || page->writable != writable
					  : !is_free(r, pfn + i)))
			return false;
	}
	return true;
}

/* 1 GiB is taken for 2 MiB of it: that is as true. */
static void back_large(struct replay *r, uint64_t gfn, uint64_t pfn, bool writable)
{
	gfn -= gfn % LARGE_PAGES;
	pfn -= pfn % LARGE_PAGES;
	for (unsigned i = 0; i < LARGE_PAGES; i++) {
		struct guest_frame *page = guest_frame(&r->guest, gfn + i);

		if (!guest_back(&r->guest, gfn + i, pfn + i))
			return;
		page->writable = writable;
		page->level = 1;
	}
	for (unsigned i = 0; i < LARGE_PAGES; i++)
		guest_frame(&r->guest, gfn + i)->level = 2;
}

static void apply_frame(struct replay *r, const struct umbra_record *input)
{
	struct guest_frame *page = guest_frame(&r->guest, input->a);
	bool writable = input->c >> 8 & 1;

	if (!page || input->c >> 32 || page->there || !is_free(r, input->b))
		return;
	if ((input->c >> 16 & 3) > 1 && is_large(r, input->a, input->b, writable)) {
		back_large(r, input->a, input->b, writable);
	} else if (guest_back(&r->guest, input->a, input->b)) {
		page->writable = writable;
		page->level = 1;
	}
}

static bool is_of_gfn(void *ctx, const struct tlb_entry *entry)
{
	return entry->gfn == *(uint64_t *)ctx;
}

static bool is_writable(void *ctx, const struct umbra_mapping *mapping)
{
	*(bool *)ctx = mapping->spte & 2;
	return !*(bool *)ctx;
}

/* Can the guest store there, and nobody hears of it? */
static bool is_guests_store(struct replay *r, uint64_t gfn)
{
	bool writable = false;
	uint64_t gva;

	umbra_rmap_visit(r->mmu, (umbra_gfn){gfn}, is_writable, &writable);
	for (unsigned i = 0; r->options.tlb && i < UMBRA_VCPUS_MAX; i++)
		writable |= tlb_find(&r->tlb[i], true, is_of_gfn, &gfn, &gva);
	return writable;
}

static void apply_word(struct replay *r, const struct umbra_record *input)
{
	unsigned size = input->kind == UMBRA_TRACE_WORD8 ? 8 : 4;
	uint64_t old = 0, new = size == 8 ? input->b : (uint32_t)input->b;
	uint64_t gfn = input->a >> UMBRA_PAGE_SHIFT;
	struct guest_table *table = NULL;

	if (replay_slot(r, gfn) && input->a % size == 0)
		table = guest_table(&r->guest, gfn);
	if (!table)
		return;
	memcpy(&old, (char *)table->words + input->a % UMBRA_PAGE_SIZE, size);
	if ((old ^ new) == (new & ~old &ACCESSED_DIRTY))
		return;
	guest_tell(table, input->a, new, size);
	r->pending.kind = 0; /* what the fault mapped may not be so any more */
	if (!is_guests_store(r, gfn))
		umbra_guest_write(r->mmu, input->a, size);
}

void loose_apply(struct replay *r)
{
	const struct umbra_record *at = r->input, *end = r->inputs_end;

	r->input = r->inputs_end = NULL; /* the library reads meanwhile, and shall not find them */
	for (; at != end; at++) {
		if (at->kind == UMBRA_TRACE_FRAME)
			apply_frame(r, at);
		else if (at->kind == UMBRA_TRACE_WORD4 || at->kind == UMBRA_TRACE_WORD8)
			apply_word(r, at);
	}
}

bool loose_target(struct replay *r, uint64_t gfn, struct umbra_frame *to)
{
	uint64_t owner;

	if (to->level < 2) {
		to->pfn.n = is_free(r, to->pfn.n) ? to->pfn.n : make_up(r);
		return true;
	}
	for (unsigned i = 0; i < LARGE_PAGES; i++)
		if (to->pfn.n + i >= GUEST_PFNS ||
		    (owner_of(r, to->pfn.n + i, &owner) && owner != gfn + i))
			return false;
	return true;
}
