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

void watch_before(struct replay *r, const struct umbra_record *e)
{
	const struct guest_frame *page;

	if (e->kind != UMBRA_TRACE_ROOT)
		r->pending.kind = 0;
	if (e->kind != UMBRA_TRACE_REMAP)
		return;
	page = guest_frame(&r->guest, e->a);
	r->taken_pfn = page && page->there ? page->pfn : UINT64_MAX;
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
		} else {
			r->subject.gva = fault->a >> UMBRA_PAGE_SHIFT;
			replay_violation(r, REPLAY_WRONG_UNMAPPED,
					 "gva %llx was to be mapped, and is not", LL(fault->a));
		}
	}
	r->pending.kind = 0;
}

static bool is_taken(void *ctx, uint64_t pfn)
{
	struct replay *r = ctx;
	const struct umbra_record *e = r->taken;
	uint64_t gfn;

	if (e->kind == UMBRA_TRACE_REMAP)
		return pfn == r->taken_pfn;
	return guest_gfn(&r->guest, pfn, &gfn) && gfn - e->a < e->b;
}

void watch_behind(struct replay *r, const struct umbra_record *e)
{
	uint64_t gva;

	r->taken = e;
	switch (e->kind) {
	case UMBRA_TRACE_INVLPG:
		if (tlb_holds(&r->tlb[e->vcpu], e->a))
			replay_violation(r, REPLAY_WRONG_TLB,
					 "gva %llx is in the TLB behind INVLPG", LL(e->a));
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
			replay_violation(r, REPLAY_WRONG_TLB,
					 "vcpu %u's TLB leads from gva %llx to what was taken away",
					 i, LL(gva));
		}
	}
}
