/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Events that are no vcpu's: slots, what the host does to the guest's memory, the log of writes.
 * Counts are compared, but for that of pages that were used: hardware knew, and nobody else.
 */
#include <stdlib.h>

#include "inside.h"

unsigned replay_slot_by_id(const struct replay *r, uint64_t id)
{
	unsigned i = 0;

	while (i < r->slot_count && r->slots[i].id != id)
		i++;
	return i;
}

const struct umbra_slot *replay_slot(const struct replay *r, uint64_t gfn)
{
	for (unsigned i = 0; i < r->slot_count; i++)
		if (gfn - r->slots[i].first.n < r->slots[i].pages)
			return &r->slots[i];
	return NULL;
}

/* ------------------------------------------------------------------ slots */

static int slot_add(struct replay *r, const struct umbra_record *e)
{
	struct umbra_slot slot = {(uint32_t)e->c, (uint32_t)(e->c >> 32), {e->a}, e->b};
	int error = umbra_slot_add(r->mmu, &slot);

	if (error)
		return error;
	r->log[r->slot_count] = LOG_NONE;
	r->slots[r->slot_count++] = slot;
	return 0;
}

static int slot_delete(struct replay *r, const struct umbra_record *e)
{
	int error = umbra_slot_delete(r->mmu, (uint32_t)e->a);
	unsigned i = replay_slot_by_id(r, (uint32_t)e->a);

	if (error)
		return error;
	r->slots[i] = r->slots[--r->slot_count];
	r->log[i] = r->log[r->slot_count];
	return 0;
}

/* What its pages have, is told anew by their new gfns. */
static int slot_move(struct replay *r, const struct umbra_record *e)
{
	int error = umbra_slot_move(r->mmu, (uint32_t)e->a, (umbra_gfn){e->b});
	struct umbra_slot *slot = &r->slots[replay_slot_by_id(r, (uint32_t)e->a)];

	if (error)
		return error;
	guest_forget(&r->guest, slot->first.n, slot->pages);
	slot->first.n = e->b;
	guest_forget(&r->guest, slot->first.n, slot->pages);
	return 0;
}

static int slot_flags(struct replay *r, const struct umbra_record *e)
{
	int error = umbra_slot_flags_set(r->mmu, (uint32_t)e->a, (uint32_t)e->b);

	if (!error)
		r->slots[replay_slot_by_id(r, (uint32_t)e->a)].flags = (uint32_t)e->b;
	return error;
}

/* ------------------------------------------------------------------ mappings */

static int invalidate_begin(struct replay *r, const struct umbra_record *e,
			    struct umbra_dropped *dropped)
{
	bool gather = e->kind == UMBRA_TRACE_INVALIDATE_GATHER;
	struct open *open = r->open_count < OPEN_MAX ? calloc(1, sizeof(*open)) : NULL;
	int error = UMBRA_ENOMEM;

	if (open)
		error = (gather ? umbra_invalidate_gather : umbra_invalidate_begin)(
		    r->mmu, (umbra_gfn){e->a}, e->b, &open->umbra, dropped);
	if (error) {
		free(open);
		return error;
	}
	open->first = e->a;
	open->pages = e->b;
	open->next = r->open;
	r->open = open;
	r->open_count++;
	return 0;
}

/* Of two with the same range it does not matter which one. */
static int invalidate_end(struct replay *r, const struct umbra_record *e)
{
	struct open **at = &r->open, *open;

	while (*at && ((*at)->first != e->a || (*at)->pages != e->b))
		at = &(*at)->next;
	open = *at;
	if (!open)
		return UMBRA_ENOENT;
	umbra_invalidate_end(r->mmu, &open->umbra);
	*at = open->next;
	free(open);
	r->open_count--;
	return 0;
}

void operate_free(struct replay *r)
{
	for (struct open *open = r->open, *next; open; open = next) {
		next = open->next;
		free(open);
	}
}

static int remap(struct replay *r, const struct umbra_record *e, struct umbra_dropped *dropped)
{
	struct umbra_frame to = {{e->b}, !(e->c & UMBRA_TRACE_READONLY), e->c >> 56 & 3};

	if (r->options.loose && !loose_target(r, e->a, &to))
		return UMBRA_ENOENT;
	return umbra_remap(r->mmu, (umbra_gfn){e->a}, &to, dropped);
}

/* What takes mappings away, or their right to write. */
static int on_mappings(struct replay *r, const struct umbra_record *e)
{
	uint64_t recorded = e->c;
	struct umbra_dropped dropped = {0};
	int error = 0;

	switch (e->kind) {
	case UMBRA_TRACE_DROP:
		error = umbra_drop(r->mmu, (umbra_gfn){e->a}, e->b, &dropped);
		break;
	case UMBRA_TRACE_PROTECT:
		error = umbra_write_protect(r->mmu, (umbra_gfn){e->a}, e->b, &dropped.sptes);
		break;
	case UMBRA_TRACE_SPLIT:
		error = umbra_split(r->mmu, (umbra_gfn){e->a}, e->b, &dropped.sptes);
		break;
	case UMBRA_TRACE_INVALIDATE_BEGIN:
	case UMBRA_TRACE_INVALIDATE_GATHER:
		error = invalidate_begin(r, e, &dropped);
		break;
	default:
		recorded = (uint32_t)e->c;
		error = remap(r, e, &dropped);
	}
	if (!error)
		replay_compare(r, "the count of sptes", recorded, dropped.sptes);
	return error;
}

/* ------------------------------------------------------------------ ages and logs */

static uint64_t count_bits(const uint64_t *bits, uint64_t count)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < (count + 63) / 64; i++)
		sum += (uint64_t)__builtin_popcountll(bits[i]);
	return sum;
}

/* A bit a page of the event's range, or NULL. */
static uint64_t *bits_of(const struct umbra_record *e)
{
	return calloc(e->b / 64 + 1, sizeof(uint64_t));
}

static int age(struct replay *r, const struct umbra_record *e)
{
	uint64_t *young = bits_of(e);
	int error = UMBRA_ENOMEM;

	if (young)
		error = umbra_age(r->mmu, (umbra_gfn){e->a}, e->b, (uint32_t)(e->c >> 32), young);
	free(young);
	return error;
}

static int log_start(struct replay *r, const struct umbra_record *e)
{
	int error = umbra_log_start(r->mmu, (uint32_t)e->a, (uint32_t)e->b);

	if (!error)
		r->log[replay_slot_by_id(r, (uint32_t)e->a)] =
		    e->b & UMBRA_LOG_DIRTY_BITS ? LOG_D_BITS : LOG_FAULTS;
	return error;
}

static int log_stop(struct replay *r, const struct umbra_record *e)
{
	int error = umbra_log_stop(r->mmu, (uint32_t)e->a);

	if (!error)
		r->log[replay_slot_by_id(r, (uint32_t)e->a)] = LOG_NONE;
	return error;
}

static int log_collect(struct replay *r, const struct umbra_record *e)
{
	uint64_t *dirty = bits_of(e);
	int error = UMBRA_ENOMEM;

	if (dirty)
		error = umbra_log_collect(r->mmu, (umbra_gfn){e->a}, e->b, dirty);
	if (!error)
		replay_compare(r, "the count of dirty pages", e->c, count_bits(dirty, e->b));
	free(dirty);
	return error;
}

static int log_word(struct replay *r, const struct umbra_record *e)
{
	uint64_t dirty = 0;
	int error = umbra_log_collect_word(r->mmu, (umbra_gfn){e->a}, e->b, &dirty);

	if (!error)
		replay_compare(r, "the word of dirty pages", e->c, dirty);
	return error;
}

/* ------------------------------------------------------------------ all of them */

static int vcpu_make(struct replay *r, const struct umbra_record *e)
{
	int error = umbra_vcpu_create(r->mmu, e->vcpu, &r->vcpu[e->vcpu]);

	if (!error)
		oracle_vcpu(r, e->vcpu);
	return error;
}

static int end(struct replay *r, const struct umbra_record *e)
{
	struct umbra_stats stats;

	umbra_stats_get(r->mmu, &stats);
	replay_compare(r, "the count of sptes", e->b, stats.sptes);
	replay_compare(r, "the count of shadow pages", e->c, stats.shadow_pages);
	return 0;
}

static int carry_out(struct replay *r, const struct umbra_record *e)
{
	switch (e->kind) {
	case UMBRA_TRACE_SLOT_ADD:
		return slot_add(r, e);
	case UMBRA_TRACE_SLOT_DELETE:
		return slot_delete(r, e);
	case UMBRA_TRACE_SLOT_MOVE:
		return slot_move(r, e);
	case UMBRA_TRACE_SLOT_FLAGS:
		return slot_flags(r, e);
	case UMBRA_TRACE_VCPU:
		return vcpu_make(r, e);
	case UMBRA_TRACE_WRITE:
		return umbra_guest_write(r->mmu, e->a, e->b);
	case UMBRA_TRACE_UNPROTECT:
		replay_compare(r, "the count of tables", e->b,
			       umbra_unprotect(r->mmu, (umbra_gfn){e->a}));
		return 0;
	case UMBRA_TRACE_DROP:
	case UMBRA_TRACE_PROTECT:
	case UMBRA_TRACE_REMAP:
	case UMBRA_TRACE_SPLIT:
	case UMBRA_TRACE_INVALIDATE_BEGIN:
	case UMBRA_TRACE_INVALIDATE_GATHER:
		return on_mappings(r, e);
	case UMBRA_TRACE_FLUSH:
		umbra_flush(r->mmu);
		return 0;
	case UMBRA_TRACE_WATCH:
		return umbra_watch(r->mmu, (umbra_gfn){e->a}, (uint32_t)e->b);
	case UMBRA_TRACE_INVALIDATE_END:
		return invalidate_end(r, e);
	case UMBRA_TRACE_AGE_RANGE:
		return age(r, e);
	case UMBRA_TRACE_LOG_START:
		return log_start(r, e);
	case UMBRA_TRACE_LOG_COLLECT:
		return log_collect(r, e);
	case UMBRA_TRACE_LOG_WORD:
		return log_word(r, e);
	case UMBRA_TRACE_LOG_STOP:
		return log_stop(r, e);
	case UMBRA_TRACE_ZAP_ALL:
		umbra_zap_all(r->mmu);
		return 0;
	case UMBRA_TRACE_QUOTA:
		return r->options.lenient ? 0 : umbra_quota_set(r->mmu, (uint32_t)e->a);
	case UMBRA_TRACE_END:
		return end(r, e);
	default:
		return 0;
	}
}

bool operate(struct replay *r, const struct umbra_record *e)
{
	int error = carry_out(r, e);

	if (error && r->options.loose)
		r->counts.skipped++;
	else if (error)
		replay_trouble(r, REPLAY_DIVERGED, "the library refuses it with error %d", error);
	return !error;
}
