/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Slots: which gfns are memory, and where the heads of their chains are.
 *
 * Heads come in regions of 512 neighbours, one page each, made when the first of them is
 * mapped. A slot finds them through a directory per level:
 *
 *     slot.dir[level - 1].top[i] -> page of 1024 words -> region -> head[512]
 *
 * so that a range is visited by skipping what was never used: 2 MiB of guest a region, 2 GiB a
 * page of words. A region id is given back when its slot goes.
 *
 * The same words count the guest's tables, so that whoever wants to map a large page sees at once
 * whether there is one in it: a region of level 1 is a 2 MiB page, one of level 2 a 1 GiB page.
 *
 * Lock: the MMU's.
 */
#include "mmu.h"

#define SLOT_PAGES_MAX (1ull << 28)

/* The slot that holds @gfn, or NULL. */
struct slot *slot_find(struct umbra_mmu *mmu, umbra_gfn gfn)
{
	uint32_t low = 0, high = mmu->slots;
	struct slot *hit = &mmu->slot[mmu->slot_hit];

	if (mmu->slot_hit < mmu->slots && gfn.n - hit->first < hit->pages)
		return hit;
	while (low < high) {
		uint32_t middle = (low + high) / 2;
		struct slot *slot = &mmu->slot[middle];

		if (gfn.n < slot->first) {
			high = middle;
		} else if (gfn.n - slot->first < slot->pages) {
			mmu->slot_hit = middle;
			return slot;
		} else {
			low = middle + 1;
		}
	}
	return NULL;
}

/* Where the gfns from @gfn on end that no region of @level covers; @gfn: there is one here. */
uint64_t slot_unused_end(const struct slot *slot, uint64_t gfn, unsigned level)
{
	uint64_t index = slot_region_index(slot, gfn, level);
	unsigned shift = level_shift(level + 1);

	if (!slot->dir[level - 1].top[index / DIR_LEAF])
		index |= DIR_LEAF - 1;
	else if (slot_region_id(slot, level, index))
		return gfn;
	return ((slot->first >> shift) + index + 1) << shift;
}

static uint32_t region_make(struct umbra_mmu *mmu, uint64_t base, unsigned level)
{
	uint32_t id = mmu->region_free - 1;
	struct region *region = region_of(mmu, id);

	port_assert(mmu->region_free);
	mmu->region_free = region->next_free;
	mmu->region_free_count--;
	mmu->heads.block[id] = pool_spare_take(mmu, &region->memory);
	region->id = id;
	region->base = base;
	region->level = level;
	return id;
}

/* The directory's word about the region of @gfn; its leaf is made if it is missing. */
static uint32_t *dir_word(struct umbra_mmu *mmu, struct slot *slot, umbra_gfn gfn, unsigned level)
{
	uint64_t index = slot_region_index(slot, gfn.n, level);
	uint32_t **leaf = &slot->dir[level - 1].top[index / DIR_LEAF];

	if (!*leaf) {
		struct umbra_memory memory;

		*leaf = pool_spare_take(mmu, &memory);
		/* The leaf's address for the way back stands behind the pointers. */
		((uint64_t *)(slot->dir[level - 1].top +
			      slot->dir[level - 1].count))[index / DIR_LEAF] = memory.hpa;
	}
	return &(*leaf)[index % DIR_LEAF];
}

/* The region of @gfn's head is there when this returns. */
void slot_region_make(struct umbra_mmu *mmu, struct slot *slot, umbra_gfn gfn, unsigned level)
{
	uint32_t *word = dir_word(mmu, slot, gfn, level);
	uint64_t base = gfn.n & ~(level_pages(level + 1) - 1);

	if (!(*word & DIR_ID))
		*word |= region_make(mmu, base, level) + 1;
}

/*
 * @gfn has become a guest's table. => needs two spare pages in stock
 * => returns whether it is the first in its 2 MiB: then large pages may be mapped over it
 */
bool slot_table_add(struct umbra_mmu *mmu, struct slot *slot, umbra_gfn gfn)
{
	uint32_t *word = dir_word(mmu, slot, gfn, 1);

	*word += DIR_TABLES_ONE;
	if (*word >> DIR_TABLES_SHIFT > 1)
		return false;
	*dir_word(mmu, slot, gfn, 2) += DIR_TABLES_ONE;
	return true;
}

/* @gfn is a table no more. */
void slot_table_remove(struct umbra_mmu *mmu, struct slot *slot, umbra_gfn gfn)
{
	uint32_t *word = dir_word(mmu, slot, gfn, 1);

	port_assert(*word >= DIR_TABLES_ONE);
	*word -= DIR_TABLES_ONE;
	if (*word < DIR_TABLES_ONE)
		*dir_word(mmu, slot, gfn, 2) -= DIR_TABLES_ONE;
}

void slot_regions(struct umbra_mmu *mmu, struct slot *slot, uint64_t first, uint64_t end,
		  void (*visit)(struct umbra_mmu *mmu, struct region *region, uint64_t first,
				uint64_t end, void *arg),
		  void *arg)
{
	if (first < slot->first)
		first = slot->first;
	if (end > slot->first + slot->pages)
		end = slot->first + slot->pages;
	if (first >= end)
		return;
	for (unsigned level = 1; level <= LEVELS; level++) {
		uint64_t last = slot_region_index(slot, end - 1, level);

		for (uint64_t i = slot_region_index(slot, first, level); i <= last; i++) {
			uint32_t id;

			if (!slot->dir[level - 1].top[i / DIR_LEAF]) {
				i |= DIR_LEAF - 1;
				continue;
			}
			id = slot_region_id(slot, level, i);
			if (id)
				visit(mmu, region_of(mmu, id - 1), first, end, arg);
		}
	}
}

static size_t dir_size(const struct slot *slot, unsigned level)
{
	size_t count = slot->dir[level - 1].count;

	return (count * (sizeof(uint32_t *) + sizeof(uint64_t)) + UMBRA_PAGE_SIZE - 1) /
	       UMBRA_PAGE_SIZE * UMBRA_PAGE_SIZE;
}

/* => no lock: the slot is not in the table (any more) */
static void dirs_free(struct umbra_mmu *mmu, struct slot *slot)
{
	for (unsigned level = 1; level <= LEVELS; level++) {
		uint64_t *hpa;

		if (!slot->dir[level - 1].top)
			continue;
		hpa = (uint64_t *)(slot->dir[level - 1].top + slot->dir[level - 1].count);
		for (uint32_t i = 0; i < slot->dir[level - 1].count; i++)
			if (slot->dir[level - 1].top[i])
				mmu->host.free(
				    mmu->ctx, UMBRA_PAGE_SIZE,
				    (struct umbra_memory){slot->dir[level - 1].top[i], hpa[i]});
		mmu->host.free(mmu->ctx, dir_size(slot, level), slot->dir[level - 1].memory);
	}
}

/* => no lock */
static int dirs_alloc(struct umbra_mmu *mmu, struct slot *slot)
{
	for (unsigned level = 1; level <= LEVELS; level++) {
		uint64_t regions =
		    slot_region_index(slot, slot->first + slot->pages - 1, level) + 1;
		int error;

		slot->dir[level - 1].count = (regions + DIR_LEAF - 1) / DIR_LEAF;
		error = mmu->host.alloc(mmu->ctx, dir_size(slot, level), false,
					&slot->dir[level - 1].memory);
		if (error) {
			dirs_free(mmu, slot);
			return error;
		}
		slot->dir[level - 1].top = slot->dir[level - 1].memory.va;
	}
	return 0;
}

/* Where the slot goes in the sorted table, or UMBRA_EEXIST. */
static int slot_place(struct umbra_mmu *mmu, const struct umbra_slot *slot)
{
	uint32_t at = 0;

	if (mmu->slots == UMBRA_SLOTS_MAX)
		return UMBRA_EEXIST;
	for (uint32_t i = 0; i < mmu->slots; i++) {
		const struct slot *other = &mmu->slot[i];

		if (other->id == slot->id || (slot->first.n < other->first + other->pages &&
					      other->first < slot->first.n + slot->pages))
			return UMBRA_EEXIST;
		if (other->first < slot->first.n)
			at = i + 1;
	}
	return at;
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
	int at;

	if (!is_slot_valid(mmu, wanted))
		return UMBRA_EINVAL;
	at = dirs_alloc(mmu, &slot);
	if (at)
		return at;
	port_lock(&mmu->lock);
	at = slot_place(mmu, wanted);
	if (at >= 0) {
		if (mmu->tables_outside)
			drop_tables(mmu, slot.first, slot.first + slot.pages, &flush);
		if (++mmu->generation == NOTE_GENERATIONS) {
			mmu->generation = 0;
			shadow_zap_all(mmu, &flush);
		}
		for (uint32_t i = mmu->slots++; i > (uint32_t)at; i--)
			mmu->slot[i] = mmu->slot[i - 1];
		mmu->slot[at] = slot;
		flush_commit(mmu, &flush);
	}
	port_unlock(&mmu->lock);
	if (at < 0)
		dirs_free(mmu, &slot);
	return at < 0 ? at : 0;
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

/* => lock held on entry, not on exit */
static void forget(struct umbra_mmu *mmu, uint32_t at, struct slot *slot)
{
	struct umbra_memory list = {0};

	*slot = mmu->slot[at];
	slot_regions(mmu, slot, 0, UINT64_MAX, region_release, &list);
	watch_forget(mmu, slot->first, slot->first + slot->pages);
	mmu->slots--;
	for (uint32_t i = at; i < mmu->slots; i++)
		mmu->slot[i] = mmu->slot[i + 1];
	port_unlock(&mmu->lock);
	while (list.va) {
		struct umbra_memory memory = list;

		memcpy(&list, memory.va, sizeof(list));
		mmu->host.free(mmu->ctx, UMBRA_PAGE_SIZE, memory);
	}
	dirs_free(mmu, slot);
	log_free(mmu, slot);
}

/* Return every slot's memory. => no lock, nobody else there */
void slot_destroy(struct umbra_mmu *mmu)
{
	while (mmu->slots) {
		struct slot slot;

		port_lock(&mmu->lock);
		forget(mmu, mmu->slots - 1, &slot);
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
	struct flush flush = {0};
	struct slot *slot, seen = {0};
	uint32_t changed = 0;

	if (flags & ~(uint32_t)UMBRA_SLOT_READONLY)
		return UMBRA_EINVAL;
	port_lock(&mmu->lock);
	slot = slot_by_id(mmu, id);
	if (slot) {
		changed = slot->flags ^ flags;
		slot->flags = flags;
		seen = *slot;
	}
	if (changed && seen.tables)
		drop_tables(mmu, seen.first, seen.first + seen.pages, &flush);
	flush_commit(mmu, &flush);
	port_unlock(&mmu->lock);
	if (!slot)
		return UMBRA_ENOENT;
	if (changed & flags & UMBRA_SLOT_READONLY)
		return umbra_write_protect(mmu, (umbra_gfn){seen.first}, seen.pages, NULL);
	return 0;
}

int umbra_slot_delete(struct umbra_mmu *mmu, uint32_t id)
{
	struct sweep sweep = {0};
	struct flush flush = {0};
	struct held held;
	struct slot slot;
	uint32_t at;

	port_lock(&mmu->lock);
	at = slot_named(mmu, id);
	if (at == mmu->slots || mmu->slot[at].going) {
		port_unlock(&mmu->lock);
		return UMBRA_ENOENT;
	}
	mmu->slot[at].going = true;
	held = (struct held){.first = mmu->slot[at].first,
			     .end = mmu->slot[at].first + mmu->slot[at].pages};
	drop_hold(mmu, &held, &sweep, &flush);
	at = slot_named(mmu, id); /* others may have come and gone meanwhile */
	if (mmu->slot[at].tables)
		drop_tables(mmu, held.first, held.end, &flush);
	flush_commit(mmu, &flush);
	drop_release(mmu, &held);
	forget(mmu, at, &slot);
	return 0;
}
