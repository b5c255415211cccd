/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Slots that come, go, move and change under a running guest. Each operation touches what it must:
 * mappings of that slot, shadow pages of the guest tables that lie in it; all else stays warm.
 *
 * Tables are found by the slot's directory, mappings by its chains, both in pieces, the lock given
 * up in between, while the range is held (drop.c). A guest may have made new shadow pages of tables
 * in the slot meanwhile: what is left of them goes in the last piece, together with the change
 * itself.
 *
 * A slot that is .going has no name for others; one that .moves has claimed its new place too.
 *
 * Lock: the MMU's, taken in the umbra_* functions.
 */
#include "mmu.h"

#define SLOT_PAGES_MAX (1ull << 28)
#define TABLES_PIECE   2u /* shadow pages zapped, of 512 sptes each, before the lock is given up */

static bool is_overlap(const struct umbra_slot *slot, uint64_t first, uint64_t pages)
{
	return slot->first.n < first + pages && first < slot->first.n + slot->pages;
}

/* UMBRA_EEXIST: something is in the way of @slot that is not @self (NULL: itself, a new one). */
static int slot_collides(const struct umbra_mmu *mmu, const struct umbra_slot *slot,
			 const struct slot *self)
{
	for (uint32_t i = 0; i < mmu->slots; i++) {
		const struct slot *other = &mmu->slot[i];

		if (other != self &&
		    (other->id == slot->id || is_overlap(slot, other->first, other->pages) ||
		     (other->moves && is_overlap(slot, other->to, other->pages))))
			return UMBRA_EEXIST;
	}
	return 0;
}

/* Enter it in the sorted table, which has room. */
static void slot_enter(struct umbra_mmu *mmu, const struct slot *slot)
{
	uint32_t at = mmu->slots++;

	for (; at && mmu->slot[at - 1].first > slot->first; at--)
		mmu->slot[at] = mmu->slot[at - 1];
	mmu->slot[at] = *slot;
}

static void slot_remove(struct umbra_mmu *mmu, uint32_t at)
{
	mmu->slots--;
	for (uint32_t i = at; i < mmu->slots; i++)
		mmu->slot[i] = mmu->slot[i + 1];
}

/* Other gfns are memory from now on: notes that say they are not are void. */
static void generation_next(struct umbra_mmu *mmu, struct flush *flush)
{
	if (++mmu->generation < NOTE_GENERATIONS)
		return;
	mmu->generation = 0;
	shadow_zap_all(mmu, flush);
}

/*
 * Zap the shadow pages of guest tables in [*@first, @end) of @slot until so many are gone; *@first
 * moves on. => returns whether all is done
 */
static bool tables_zap(struct umbra_mmu *mmu, const struct slot *slot, uint64_t *first,
		       uint64_t end, uint64_t most, struct flush *flush)
{
	while ((*first = slot_tables_next(slot, *first, end)) < end) {
		struct shadow *shadow;

		while ((shadow = shadow_first_of(mmu, (umbra_gfn){*first})) && most) {
			shadow_zap(mmu, shadow, flush);
			most--;
		}
		++*first;
		if (!most)
			return false;
	}
	return true;
}

/*
 * Zap most of what shadows guest tables in gfns [@first, @end) of a slot, the lock given up in
 * between.
 *
 * => the lock is held again when this returns; drop_tables() leaves none
 */
static void tables_thin(struct umbra_mmu *mmu, uint64_t first, uint64_t end, struct flush *flush)
{
	struct slot *slot;

	while ((slot = slot_find(mmu, (umbra_gfn){first})) &&
	       !tables_zap(mmu, slot, &first, end, TABLES_PIECE, flush)) {
		flush_later(mmu);
		port_unlock(&mmu->lock);
		port_lock(&mmu->lock);
	}
}

/*
 * Zap the shadow pages of guest tables in gfns [@first, @end): what they hold is void. Those in no
 * slot, of which there are hardly any, are looked for one by one.
 */
void drop_tables(struct umbra_mmu *mmu, uint64_t first, uint64_t end, struct flush *flush)
{
	for (uint32_t i = 0; i < mmu->slots; i++) {
		const struct slot *slot = &mmu->slot[i];
		uint64_t from = first > slot->first ? first : slot->first;
		uint64_t to = slot->first + slot->pages;

		tables_zap(mmu, slot, &from, to < end ? to : end, UINT64_MAX, flush);
	}
	for (uint32_t i = 0; mmu->tables_outside && i < mmu->chunks.count << TUNING_CHUNK_SHIFT;
	     i++) {
		struct shadow *shadow = shadow_of(mmu, i);

		if (shadow->state == SHADOW_USED && !shadow->role.direct &&
		    shadow->gfn.n >= first && shadow->gfn.n < end)
			shadow_zap(mmu, shadow, flush);
	}
}

static bool is_slot_valid(const struct umbra_mmu *mmu, const struct umbra_slot *slot)
{
	uint64_t limit = 1ull << (mmu->config.maxphyaddr - UMBRA_PAGE_SHIFT);

	return slot->pages && slot->pages <= SLOT_PAGES_MAX && slot->first.n < limit &&
	       slot->pages <= limit - slot->first.n && !(slot->flags & ~UMBRA_SLOT_READONLY);
}

int umbra_slot_add(struct umbra_mmu *mmu, const struct umbra_slot *wanted)
{
	struct slot slot = {
	    .id = wanted->id,
	    .flags = wanted->flags,
	    .first = wanted->first.n,
	    .pages = wanted->pages,
	};
	struct flush flush = {0};
	int error;

	if (!is_slot_valid(mmu, wanted))
		return UMBRA_EINVAL;
	error = slot_dirs_alloc(mmu, &slot);
	if (error)
		return error;
	port_lock(&mmu->lock);
	error = mmu->slots == UMBRA_SLOTS_MAX ? UMBRA_EEXIST : slot_collides(mmu, wanted, NULL);
	if (!error) {
		drop_tables(mmu, slot.first, slot.first + slot.pages, &flush);
		generation_next(mmu, &flush);
		slot_enter(mmu, &slot);
		flush_commit(mmu, &flush);
	}
	port_unlock(&mmu->lock);
	if (error)
		slot_dirs_free(mmu, &slot);
	return error;
}

/* Take the regions' pages out; the list runs through their first words. */
static void region_release(struct umbra_mmu *mmu, struct region *region, uint64_t first,
			   uint64_t end, void *arg)
{
	struct umbra_memory *list = arg;
	struct umbra_memory memory = region->memory;

	(void)first;
	(void)end;
	memcpy(memory.va, list, sizeof(*list));
	*list = memory;
	mmu->heads.block[region->id] = NULL;
	region->next_free = mmu->region_free;
	mmu->region_free = region->id + 1;
	mmu->region_free_count++;
}

/* => no lock */
static void regions_free(struct umbra_mmu *mmu, struct umbra_memory list)
{
	while (list.va) {
		struct umbra_memory memory = list;

		memcpy(&list, memory.va, sizeof(list));
		mmu->host.free(mmu->ctx, UMBRA_PAGE_SIZE, memory);
	}
}

/* => lock held on entry, not on exit */
static void forget(struct umbra_mmu *mmu, uint32_t at)
{
	struct umbra_memory list = {0};
	struct slot slot = mmu->slot[at];

	slot_regions(mmu, &slot, 0, UINT64_MAX, region_release, &list);
	watch_forget(mmu, slot.first, slot.first + slot.pages);
	log_end(mmu, &mmu->slot[at]);
	slot_remove(mmu, at);
	port_unlock(&mmu->lock);
	regions_free(mmu, list);
	slot_dirs_free(mmu, &slot);
	log_free(mmu, &slot);
}

/* Return every slot's memory. => no lock, nobody else there */
void slot_destroy(struct umbra_mmu *mmu)
{
	while (mmu->slots) {
		port_lock(&mmu->lock);
		forget(mmu, mmu->slots - 1);
	}
}

/* Index of the slot in the table; mmu->slots: there is none of that name. */
static uint32_t slot_named(const struct umbra_mmu *mmu, uint32_t id)
{
	uint32_t at = 0;

	while (at < mmu->slots && mmu->slot[at].id != id)
		at++;
	return at;
}

struct slot *slot_by_id(struct umbra_mmu *mmu, uint32_t id)
{
	uint32_t at = slot_named(mmu, id);

	return at < mmu->slots && !mmu->slot[at].going ? &mmu->slot[at] : NULL;
}

/*
 * Tables in read-only memory are taken to have A and D set, others not: so what shadows tables of
 * the slot is void when that changes.
 */
int umbra_slot_flags_set(struct umbra_mmu *mmu, uint32_t id, uint32_t flags)
{
	uint64_t first = 0, pages = 0;
	struct flush flush = {0};
	uint32_t changed = 0;
	struct slot *slot;

	if (flags & ~(uint32_t)UMBRA_SLOT_READONLY)
		return UMBRA_EINVAL;
	port_lock(&mmu->lock);
	slot = slot_by_id(mmu, id);
	if (slot && slot->flags != flags) {
		tables_thin(mmu, slot->first, slot->first + slot->pages, &flush);
		slot = slot_by_id(mmu, id); /* others may have come and gone meanwhile */
	}
	if (slot) {
		first = slot->first;
		pages = slot->pages;
		changed = slot->flags ^ flags;
		slot->flags = flags;
	}
	if (changed)
		drop_tables(mmu, first, first + pages, &flush);
	flush_commit(mmu, &flush);
	port_unlock(&mmu->lock);
	if (!slot)
		return UMBRA_ENOENT;
	if (changed & flags & UMBRA_SLOT_READONLY)
		return umbra_write_protect(mmu, (umbra_gfn){first}, pages, NULL);
	return 0;
}

/*
 * Take away what maps slot number @at and what shadows its tables; nobody else knows its name from
 * now on. => the lock is held again when this returns; returns the slot's number now
 */
static uint32_t empty(struct umbra_mmu *mmu, uint32_t at, struct held *held, struct flush *flush)
{
	struct slot *slot = &mmu->slot[at];
	struct sweep sweep = {0};
	uint32_t id = slot->id;

	slot->going = true;
	*held = (struct held){.first = slot->first, .end = slot->first + slot->pages};
	drop_hold(mmu, held, &sweep, flush);
	tables_thin(mmu, held->first, held->end, flush);
	drop_tables(mmu, held->first, held->end, flush);
	return slot_named(mmu, id);
}

int umbra_slot_delete(struct umbra_mmu *mmu, uint32_t id)
{
	struct flush flush = {0};
	struct held held;
	uint32_t at;

	port_lock(&mmu->lock);
	at = slot_named(mmu, id);
	if (at == mmu->slots || mmu->slot[at].going) {
		port_unlock(&mmu->lock);
		return UMBRA_ENOENT;
	}
	at = empty(mmu, at, &held, &flush);
	flush_commit(mmu, &flush);
	drop_release(mmu, &held);
	forget(mmu, at);
	return 0;
}

/* Whether slot @id can go where @wanted says, which is filled in: 0 or an error. => lock held */
static int move_check(const struct umbra_mmu *mmu, uint32_t id, umbra_gfn first,
		      struct umbra_slot *wanted)
{
	uint32_t at = slot_named(mmu, id);

	if (at == mmu->slots || mmu->slot[at].going)
		return UMBRA_ENOENT;
	*wanted = (struct umbra_slot){.id = id, .first = first, .pages = mmu->slot[at].pages};
	if (!is_slot_valid(mmu, wanted))
		return UMBRA_EINVAL;
	return slot_collides(mmu, wanted, &mmu->slot[at]);
}

/*
 * Slot number @at comes to lie at .to, with the empty directories of @fresh.
 *
 * => @old: the slot as it was, its regions in @list; both to be freed
 */
static void move(struct umbra_mmu *mmu, uint32_t at, const struct slot *fresh, struct slot *old,
		 struct umbra_memory *list)
{
	struct slot moved = mmu->slot[at];

	*old = moved;
	slot_regions(mmu, old, 0, UINT64_MAX, region_release, list);
	watch_forget(mmu, old->first, old->first + old->pages);
	memcpy(moved.dir, fresh->dir, sizeof(moved.dir));
	moved.first = moved.to;
	moved.moves = moved.going = false;
	slot_remove(mmu, at);
	slot_enter(mmu, &moved);
}

/* umbra_slot_move() with directories for the new place. => lock held on entry, not on exit */
static void move_into(struct umbra_mmu *mmu, uint32_t id, const struct slot *fresh)
{
	struct umbra_memory list = {0};
	struct flush flush = {0};
	struct slot old, *slot = slot_by_id(mmu, id);
	struct held held;
	uint32_t at;

	slot->moves = true;
	slot->to = fresh->first;
	at = empty(mmu, (uint32_t)(slot - mmu->slot), &held, &flush);
	drop_tables(mmu, fresh->first, fresh->first + fresh->pages, &flush);
	generation_next(mmu, &flush);
	move(mmu, at, fresh, &old, &list);
	flush_commit(mmu, &flush);
	drop_release(mmu, &held);
	port_unlock(&mmu->lock);
	regions_free(mmu, list);
	slot_dirs_free(mmu, &old);
}

int umbra_slot_move(struct umbra_mmu *mmu, uint32_t id, umbra_gfn first)
{
	struct umbra_slot wanted = {0};
	struct slot fresh;
	bool is_there;
	int error;

	port_lock(&mmu->lock);
	error = move_check(mmu, id, first, &wanted);
	is_there = !error && slot_by_id(mmu, id)->first == first.n;
	port_unlock(&mmu->lock);
	if (error || is_there)
		return error;
	fresh = (struct slot){.first = first.n, .pages = wanted.pages};
	error = slot_dirs_alloc(mmu, &fresh);
	if (error)
		return error;
	port_lock(&mmu->lock);
	error = move_check(mmu, id, first, &wanted);
	if (!error && wanted.pages != fresh.pages)
		error = UMBRA_ENOENT; /* another one of that name */
	if (!error) {
		move_into(mmu, id, &fresh);
		return 0;
	}
	port_unlock(&mmu->lock);
	slot_dirs_free(mmu, &fresh);
	return error;
}
