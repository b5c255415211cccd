/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The dirty log: which pages of a slot were written since they were last collected. A bit a page,
 * in memory from the host while the slot is logged.
 *
 * The rule (invariant 4): in a logged slot an spte that grants writing is of 4 KiB, and its page's
 * bit is set. So whoever grants it sets the bit first, and collecting takes the right away from
 * what it clears. What is written without an spte marks its page by itself: the embedder's stores
 * (umbra_guest_write), the bits that the walker sets in a guest's tables.
 *
 * Ranges are gone through in areas of 2 MiB, the lock given up between them, after a flush.
 *
 * Lock: the MMU's, taken in the umbra_* functions.
 */
#include "head.h"

#define AREA 512u

void log_mark(struct umbra_mmu *mmu, umbra_gfn gfn)
{
	struct slot *slot = slot_find(mmu, gfn);

	if (slot && slot->log)
		log_set(slot, gfn);
}

/* Take W from all sptes of [@first, @end), which lies in an area, or split what is large. */
static void area_protect(struct umbra_mmu *mmu, struct slot *slot, uint64_t first, uint64_t end,
			 unsigned flags, struct flush *flush)
{
	uint64_t changed = 0;

	if (flags & UMBRA_LOG_SPLIT) {
		struct sweep sweep = SWEEP_ALL;

		drop_large(mmu, slot, first, &sweep);
		drop_count(mmu, sweep.sptes);
		changed += sweep.sptes;
	}
	track_protect(mmu, slot, first, end, &changed);
	if (changed || mmu->tlb_stale)
		flush_all(mmu, flush);
	flush_commit(mmu, flush);
}

/* Every area of slot @id in turn. UMBRA_ENOENT: it has gone meanwhile. => no lock */
static int slot_protect(struct umbra_mmu *mmu, uint32_t id, unsigned flags)
{
	struct flush flush = {0};

	for (uint64_t done = 0;;) {
		struct slot *slot;
		uint64_t first, next, end;

		port_lock(&mmu->lock);
		slot = slot_by_id(mmu, id);
		if (!slot || !slot->log) {
			port_unlock(&mmu->lock);
			return UMBRA_ENOENT;
		}
		first = slot->first + done;
		end = slot->first + slot->pages;
		next = (first / AREA + 1) * AREA;
		next = next < end ? next : end;
		area_protect(mmu, slot, first, next, flags, &flush);
		port_unlock(&mmu->lock);
		if (next == end)
			return 0;
		done = next - slot->first;
	}
}

static size_t log_size(uint64_t pages)
{
	return (pages / 8 + UMBRA_PAGE_SIZE) / UMBRA_PAGE_SIZE * UMBRA_PAGE_SIZE;
}

void log_free(struct umbra_mmu *mmu, struct slot *slot)
{
	if (slot->log)
		mmu->host.free(mmu->ctx, log_size(slot->pages), slot->log_memory);
}

int umbra_log_start(struct umbra_mmu *mmu, uint32_t id, unsigned flags)
{
	struct umbra_memory memory;
	struct slot *slot, seen;
	int error = 0;

	if (flags & ~(unsigned)UMBRA_LOG_SPLIT)
		return UMBRA_EINVAL;
	port_lock(&mmu->lock);
	slot = slot_by_id(mmu, id);
	seen = slot ? *slot : (struct slot){0};
	port_unlock(&mmu->lock);
	if (!slot)
		return UMBRA_ENOENT;
	if (mmu->host.alloc(mmu->ctx, log_size(seen.pages), false, &memory))
		return UMBRA_ENOMEM;
	port_lock(&mmu->lock);
	slot = slot_by_id(mmu, id);
	if (!slot || slot->pages != seen.pages)
		error = UMBRA_ENOENT;
	else if (slot->log)
		error = UMBRA_EEXIST;
	if (!error) {
		slot->log = memory.va;
		slot->log_memory = memory;
	}
	port_unlock(&mmu->lock);
	if (error)
		mmu->host.free(mmu->ctx, log_size(seen.pages), memory);
	return error ? error : slot_protect(mmu, id, flags);
}

int umbra_log_stop(struct umbra_mmu *mmu, uint32_t id)
{
	struct slot *slot, seen = {0};

	port_lock(&mmu->lock);
	slot = slot_by_id(mmu, id);
	if (slot) {
		seen = *slot;
		slot->log = NULL;
	}
	port_unlock(&mmu->lock);
	log_free(mmu, &seen);
	return seen.log ? 0 : UMBRA_ENOENT;
}

/* Collect those of the 64 pages from bit @at of the slot's log on that @mask names. */
static uint64_t word_collect(struct umbra_mmu *mmu, struct slot *slot, uint64_t at, uint64_t mask,
			     uint64_t *changed)
{
	uint64_t dirty = slot->log[at / 64] & mask;

	slot->log[at / 64] &= ~dirty;
	for (uint64_t left = dirty; left; left &= left - 1) {
		umbra_gfn gfn = {slot->first + at + (unsigned)__builtin_ctzll(left)};
		uint64_t *head = slot_head_find(mmu, slot, gfn, 1);

		if (head)
			*changed += rmap_write_protect(mmu, head);
	}
	return dirty;
}

/* gfns [@first, @end), to bits from @first - @base on. */
static void slot_collect(struct umbra_mmu *mmu, struct slot *slot, uint64_t first, uint64_t end,
			 uint64_t base, uint64_t *dirty, uint64_t *changed)
{
	while (first < end) {
		uint64_t at = (first - slot->first) / 64 * 64, shift = first - slot->first - at;
		uint64_t count = 64 - shift < end - first ? 64 - shift : end - first;
		uint64_t mask = (count == 64 ? UINT64_MAX : (1ull << count) - 1) << shift;
		uint64_t found = word_collect(mmu, slot, at, mask, changed) >> shift;
		uint64_t to = first - base;

		dirty[to / 64] |= found << to % 64;
		if (to % 64 && to % 64 + count > 64)
			dirty[to / 64 + 1] |= found >> (64 - to % 64);
		first += count;
	}
}

int umbra_log_collect(struct umbra_mmu *mmu, umbra_gfn first, uint64_t pages, uint64_t *dirty)
{
	uint64_t end = first.n + pages;
	struct flush flush = {0};

	if (end < first.n)
		return UMBRA_EINVAL;
	memset(dirty, 0, (pages + 63) / 64 * sizeof(*dirty));
	for (uint64_t gfn = first.n, next; gfn < end; gfn = next) {
		uint64_t changed = 0;

		next = (gfn / AREA + 1) * AREA;
		next = next < end ? next : end;
		port_lock(&mmu->lock);
		for (uint32_t i = 0; i < mmu->slots; i++) {
			struct slot *slot = &mmu->slot[i];
			uint64_t slot_end = slot->first + slot->pages;
			uint64_t from = gfn > slot->first ? gfn : slot->first;
			uint64_t to = next < slot_end ? next : slot_end;

			if (slot->log && from < to)
				slot_collect(mmu, slot, from, to, first.n, dirty, &changed);
		}
		if (changed || mmu->tlb_stale)
			flush_all(mmu, &flush);
		flush_commit(mmu, &flush);
		port_unlock(&mmu->lock);
	}
	return 0;
}

int umbra_log_collect_word(struct umbra_mmu *mmu, umbra_gfn first, uint64_t mask, uint64_t *dirty)
{
	struct flush flush = {0};
	uint64_t changed = 0, at;
	struct slot *slot;
	int error = 0;

	port_lock(&mmu->lock);
	slot = slot_find(mmu, first);
	at = slot ? first.n - slot->first : 0;
	if (!slot || !slot->log)
		error = UMBRA_ENOENT;
	else if (at % 64)
		error = UMBRA_EINVAL;
	else
		*dirty = word_collect(mmu, slot, at, mask, &changed);
	if (changed)
		flush_all(mmu, &flush);
	flush_commit(mmu, &flush);
	port_unlock(&mmu->lock);
	return error;
}
