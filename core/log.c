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
 * In a slot that is logged by D bits, an spte may grant writing without D; the hardware sets it,
 * and that is all that tells of the write. Collecting takes D; and whoever takes such an spte away,
 * or D from it, marks its page by what was there at that moment (log_removed). decisions/0023 has
 * more.
 *
 * Ranges are gone through in areas of 2 MiB, the lock given up between them and after TUNING_BUDGET
 * sptes. Collecting flushes once, at its end: what is written through a TLB until then is part of
 * what was collected, for the caller reads the pages afterwards.
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

/*
 * Leaf @h granted writing, and will tell no more whether it was written through; @dirty: it was. In
 * a slot where nothing else tells, that marks its page. A replayer's sptes have no hardware that
 * sets D in them: so it is an input.
 */
void log_ask(struct umbra_mmu *mmu, handle h, bool dirty)
{
	struct slot *slot;
	umbra_gfn gfn;

	if (rmap_owner(mmu, h) & HEAD_PARENTS)
		return;
	gfn = rmap_gfn(mmu, h);
	slot = slot_find(mmu, gfn);
	if (slot && slot->by_d && handle_shadow(mmu, h)->role.level == 1 &&
	    !log_is_set(slot, gfn) && mmu_input(mmu, UMBRA_INPUT_DIRTY, gfn.n, dirty))
		log_set(slot, gfn);
}

/* All of a page is about to go, unseen: see what its D bits tell. */
void log_harvest(struct umbra_mmu *mmu, struct shadow *shadow)
{
	if (shadow->state != SHADOW_USED || shadow->role.level > 1)
		return;
	for (unsigned i = spte_next(shadow->table, 0); i < PTE_ENTRIES;
	     i = spte_next(shadow->table, i + 1)) {
		uint64_t value = spte_read(&shadow->table[i]);

		if (is_note(value))
			continue;
		if (spte_is_volatile(value))
			value = atomic_fetch_and((_Atomic uint64_t *)&shadow->table[i], ~PTE_W);
		log_removed(mmu, handle_of(shadow, i), value);
	}
}

/*
 * What is written to [@first, @end), which lies in an area of a slot that is logged, will be seen.
 * The area is held as long as that takes.
 */
static void area_protect(struct umbra_mmu *mmu, uint64_t first, uint64_t end, unsigned flags,
			 struct flush *flush)
{
	struct held held = {.first = first, .end = end};
	struct protect protect = {.dirty = flags & UMBRA_LOG_DIRTY_BITS};
	struct sweep sweep = {.large_only = true};

	if (flags & UMBRA_LOG_SPLIT) {
		drop_hold(mmu, &held, &sweep, flush);
		drop_release(mmu, &held);
	}
	protect_hold(mmu, &held, &protect, flush);
	flush_commit(mmu, flush);
	drop_release(mmu, &held);
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
		next = (slot_skip_unused(slot, first, end, 1) / AREA + 1) * AREA;
		next = next < end ? next : end;
		done = next - slot->first;
		area_protect(mmu, first, next, flags, &flush);
		slot = next == end ? slot_by_id(mmu, id) : NULL;
		if (slot && slot->will_by_d && !slot->by_d) {
			slot->by_d = true;
			mmu->dirty_slots++;
		}
		port_unlock(&mmu->lock);
		if (next == end)
			return 0;
	}
}

static size_t log_size(uint64_t pages)
{
	return (pages / 8 + UMBRA_PAGE_SIZE) / UMBRA_PAGE_SIZE * UMBRA_PAGE_SIZE;
}

/* The slot is logged no more; its memory is the caller's to free. */
void log_end(struct umbra_mmu *mmu, struct slot *slot)
{
	mmu->dirty_logs -= slot->will_by_d;
	mmu->dirty_slots -= slot->by_d;
	slot->by_d = slot->will_by_d = false;
	slot->log = NULL;
}

/* => no lock: of a slot as it was */
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

	if (flags & ~(unsigned)(UMBRA_LOG_SPLIT | UMBRA_LOG_DIRTY_BITS) ||
	    (flags & UMBRA_LOG_DIRTY_BITS && mmu->config.without & UMBRA_WITHOUT_ACCESSED))
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
		slot->will_by_d = flags & UMBRA_LOG_DIRTY_BITS;
		slot->waits |= slot->will_by_d;
		mmu->dirty_logs += slot->will_by_d;
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
		log_end(mmu, slot);
	}
	port_unlock(&mmu->lock);
	log_free(mmu, &seen);
	return seen.log ? 0 : UMBRA_ENOENT;
}

/* What is collected, and where it goes. */
struct collect {
	struct protect protect;
	uint64_t budget;
	uint64_t base; /* gfn of bit 0 of */
	uint64_t *dirty;
};

static bool collect_some(struct umbra_mmu *mmu, uint64_t *head, struct rmap_piece *piece,
			 uint64_t *budget, void *arg)
{
	struct collect *collect = arg;

	return rmap_protect_some(mmu, head, piece, budget, collect->protect.dirty,
				 &collect->protect.changed);
}

/*
 * @gfn, which lies in @slot: its next write will be seen, and its bit moves to .dirty. In a slot
 * that is logged by D bits, they are asked first.
 *
 * => returns whether the lock was given up
 */
static bool page_collect(struct umbra_mmu *mmu, struct slot *slot, uint64_t gfn,
			 struct collect *collect)
{
	uint64_t *head = slot_head_find(mmu, slot, (umbra_gfn){gfn}, 1);
	struct rmap_piece piece = {0};
	uint64_t bit = gfn - slot->first, to = gfn - collect->base;
	bool gave_up = false;

	collect->protect.dirty = slot->by_d;
	if (head && *head & HEAD_WRITABLE &&
	    !collect_some(mmu, head, &piece, &collect->budget, collect)) {
		gave_up = true;
		chain_finish(mmu, gfn, 1, &piece, collect_some, collect);
		slot = slot_find(mmu, (umbra_gfn){gfn});
		if (!slot || !slot->log || gfn - slot->first != bit)
			return true;
	}
	collect->dirty[to / 64] |= (slot->log[bit / 64] >> bit % 64 & 1) << to % 64;
	slot->log[bit / 64] &= ~(1ull << bit % 64);
	return gave_up;
}

/* Those of the 64 pages from bit @at of the slot's log on that may be dirty. */
static uint64_t word_candidates(struct slot *slot, uint64_t at)
{
	return slot->by_d ? UINT64_MAX : slot->log[at / 64];
}

/* gfns [@gfn, @end) of a slot. => returns where the budget ended, or the lock was given up */
static uint64_t slot_collect(struct umbra_mmu *mmu, struct slot *slot, uint64_t gfn, uint64_t end,
			     struct collect *collect)
{
	while (gfn < end && collect->budget) {
		uint64_t at = gfn - slot->first;
		uint64_t left = word_candidates(slot, at / 64 * 64) >> at % 64;

		if (!left) {
			gfn += 64 - at % 64;
			continue;
		}
		gfn += (unsigned)__builtin_ctzll(left);
		if (gfn < end && page_collect(mmu, slot, gfn++, collect))
			return gfn;
	}
	return gfn < end ? gfn : end;
}

/* As much of [@gfn, @end) as the budget pays, wherever logged slots are; returns what is done. */
static uint64_t collect_piece(struct umbra_mmu *mmu, uint64_t gfn, uint64_t end,
			      struct collect *collect)
{
	collect->budget = TUNING_BUDGET;
	for (uint32_t i = 0; i < mmu->slots; i++) {
		struct slot *slot = &mmu->slot[i];
		uint64_t slot_end = slot->first + slot->pages, to = end < slot_end ? end : slot_end;

		if (!slot->log || slot_end <= gfn || slot->first >= end)
			continue;
		gfn = slot_collect(mmu, slot, gfn > slot->first ? gfn : slot->first, to, collect);
		if (gfn < to || !collect->budget)
			return gfn;
	}
	return end;
}

/* What was collected will be seen again from when this returns. */
static void collect_flush(struct umbra_mmu *mmu, struct collect *collect)
{
	struct flush flush = {0};

	if (collect->protect.changed || mmu->tlb_stale)
		flush_all(mmu, &flush);
	collect->protect.changed = 0;
	flush_commit(mmu, &flush);
}

int umbra_log_collect(struct umbra_mmu *mmu, umbra_gfn first, uint64_t pages, uint64_t *dirty)
{
	struct collect collect = {.base = first.n, .dirty = dirty};
	uint64_t gfn = first.n, end = first.n + pages;

	if (end < first.n)
		return UMBRA_EINVAL;
	memset(dirty, 0, (pages + 63) / 64 * sizeof(*dirty));
	while (gfn < end) {
		uint64_t next = (gfn / AREA + 1) * AREA;

		port_lock(&mmu->lock);
		gfn = collect_piece(mmu, gfn, next < end ? next : end, &collect);
		if (gfn == end)
			collect_flush(mmu, &collect);
		else if (collect.protect.changed)
			flush_later(mmu);
		port_unlock(&mmu->lock);
	}
	return 0;
}

int umbra_log_collect_word(struct umbra_mmu *mmu, umbra_gfn first, uint64_t mask, uint64_t *dirty)
{
	uint64_t found = 0, at;
	struct collect collect = {.base = first.n, .dirty = &found, .budget = TUNING_BUDGET};
	struct slot *slot;
	uint32_t id;
	int error = 0;

	port_lock(&mmu->lock);
	slot = slot_find(mmu, first);
	at = slot ? first.n - slot->first : 0;
	if (!slot || !slot->log)
		error = UMBRA_ENOENT;
	else if (at % 64)
		error = UMBRA_EINVAL;
	id = error ? 0 : slot->id;
	for (uint64_t left = error ? 0 : mask & word_candidates(slot, at); left; left &= left - 1) {
		uint64_t gfn = first.n + (unsigned)__builtin_ctzll(left);

		if (!collect.budget) {
			flush_later(mmu);
			port_unlock(&mmu->lock);
			port_lock(&mmu->lock);
			collect.budget = TUNING_BUDGET;
		}
		slot = slot_find(mmu, (umbra_gfn){gfn});
		if (slot && slot->id == id && slot->log)
			page_collect(mmu, slot, gfn, &collect);
	}
	if (!error) {
		collect_flush(mmu, &collect);
		*dirty = found;
	}
	port_unlock(&mmu->lock);
	return error;
}
