/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The TLBs watch: what faulted is accessed again through the shadow tables, as the guest would; and
 * what an event took away must be in no TLB behind it.
 */
#include <stdlib.h>

#include "inside.h"

bool watch_note(struct replay *r, bool low, uint64_t hpa, char *va, uint64_t room)
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

static struct taken of_slot(const struct replay *r, uint64_t id, bool writable)
{
	unsigned i = replay_slot_by_id(r, id);

	if (i == r->slot_count)
		return (struct taken){0};
	return (struct taken){
	    .first = r->slots[i].first.n, .pages = r->slots[i].pages, .writable = writable};
}

static struct taken what_goes(const struct replay *r, const struct umbra_record *e)
{
	struct taken range = {.first = e->a, .pages = e->b};

	switch (e->kind) {
	case UMBRA_TRACE_DROP:
	case UMBRA_TRACE_INVALIDATE_BEGIN:
		return range;
	case UMBRA_TRACE_PROTECT:
		range.writable = true;
		return range;
	case UMBRA_TRACE_LOG_COLLECT:
		range.writable = range.logged = true;
		return range;
	case UMBRA_TRACE_LOG_WORD:
		return (struct taken){
		    .first = e->a, .pages = 64, .mask = e->b, .writable = true, .logged = true};
	case UMBRA_TRACE_REMAP:
		range.pages = (e->c >> 56 & 3) == 2 ? LARGE_PAGES : 1;
		return range;
	case UMBRA_TRACE_SLOT_DELETE:
	case UMBRA_TRACE_SLOT_MOVE:
		return of_slot(r, e->a, false);
	case UMBRA_TRACE_SLOT_FLAGS:
		if (!(e->b & UMBRA_SLOT_READONLY))
			return (struct taken){0};
		return of_slot(r, e->a, true);
	case UMBRA_TRACE_LOG_START:
		range = of_slot(r, e->a, true);
		range.logged = true;
		return range;
	case UMBRA_TRACE_ZAP_ALL:
		return (struct taken){.pages = UINT64_MAX};
	default:
		return (struct taken){0};
	}
}

void watch_before(struct replay *r, const struct umbra_record *e)
{
	if (e->kind != UMBRA_TRACE_ROOT)
		r->pending.kind = 0;
	r->taken = what_goes(r, e);
}

/* The guest tries again what faulted; with nothing in between, it must get through. */
void watch_retry(struct replay *r, const struct umbra_record *e, const struct umbra_root *root)
{
	const struct umbra_record *fault = &r->pending;
	struct tlb *tlb = &r->tlb[e->vcpu];
	struct tlb_hit hit;

	tlb_load(tlb, root);
	if (fault->kind && fault->vcpu == e->vcpu) {
		r->counts.accesses++;
		if (tlb_access(tlb, fault->a, (uint32_t)fault->c, table_at, r, &hit)) {
			oracle_check(r, fault, &hit);
			tlb_keep(tlb, fault->a, &hit);
		} else {
			r->subject.gva = fault->a >> UMBRA_PAGE_SHIFT;
			replay_violation(r, REPLAY_WRONG_UNMAPPED,
					 "gva %llx was to be mapped, and is not", LL(fault->a));
		}
	}
	r->pending.kind = 0;
}

static bool is_taken(void *ctx, const struct tlb_entry *entry)
{
	const struct replay *r = ctx;
	const struct taken *taken = &r->taken;
	const struct umbra_slot *slot;
	uint64_t at = entry->gfn - taken->first;

	if (at >= taken->pages || (taken->mask && !(taken->mask >> at & 1)))
		return false;
	if (!taken->logged)
		return true;
	slot = replay_slot(r, entry->gfn);
	if (!slot || r->log[slot - r->slots] == LOG_NONE)
		return false;
	return r->log[slot - r->slots] == LOG_FAULTS || entry->dirty;
}

void watch_behind(struct replay *r, const struct umbra_record *e)
{
	uint64_t gva;

	if (e->kind == UMBRA_TRACE_INVLPG && tlb_holds(&r->tlb[e->vcpu], e->a))
		replay_violation(r, REPLAY_WRONG_TLB, "gva %llx is in the TLB behind INVLPG",
				 LL(e->a));
	for (unsigned i = 0; r->taken.pages && i < UMBRA_VCPUS_MAX; i++)
		if (tlb_find(&r->tlb[i], r->taken.writable, is_taken, r, &gva))
			replay_violation(r, REPLAY_WRONG_TLB,
					 "vcpu %u's TLB leads from gva %llx to what was taken away",
					 i, LL(gva));
}
