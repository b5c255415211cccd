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
 * (Slots come and go in plug.c.)
 *
 * Lock: the MMU's.
 */
#include "mmu.h"

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

/* The first gfn from @gfn on whose area may be mapped, on level @least or above, or @end. */
uint64_t slot_skip_unused(const struct slot *slot, uint64_t gfn, uint64_t end, unsigned least)
{
	while (gfn < end) {
		uint64_t next = UINT64_MAX;

		for (unsigned level = least; level <= LEVELS && next > gfn; level++) {
			uint64_t unused = slot_unused_end(slot, gfn, level);

			next = unused < next ? unused : next;
		}
		if (next == gfn)
			return gfn;
		gfn = next;
	}
	return end;
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

/* The first gfn from @gfn on in whose 2 MiB guest tables lie, or @end. */
uint64_t slot_tables_next(const struct slot *slot, uint64_t gfn, uint64_t end)
{
	while (gfn < end) {
		unsigned level = 2;

		if (slot_has_tables(slot, (umbra_gfn){gfn}, 3))
			level = slot_has_tables(slot, (umbra_gfn){gfn}, 2) ? 0 : 1;
		if (!level)
			return gfn;
		gfn = (gfn | (level_pages(level + 1) - 1)) + 1;
	}
	return end;
}

static size_t dir_size(const struct slot *slot, unsigned level)
{
	size_t count = slot->dir[level - 1].count;

	return (count * (sizeof(uint32_t *) + sizeof(uint64_t)) + UMBRA_PAGE_SIZE - 1) /
	       UMBRA_PAGE_SIZE * UMBRA_PAGE_SIZE;
}

/* => no lock: the slot is not in the table (any more) */
void slot_dirs_free(struct umbra_mmu *mmu, struct slot *slot)
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

/* For a slot of .first and .pages. => no lock */
int slot_dirs_alloc(struct umbra_mmu *mmu, struct slot *slot)
{
	for (unsigned level = 1; level <= LEVELS; level++) {
		uint64_t regions =
		    slot_region_index(slot, slot->first + slot->pages - 1, level) + 1;
		int error;

		slot->dir[level - 1].count = (regions + DIR_LEAF - 1) / DIR_LEAF;
		error = mmu->host.alloc(mmu->ctx, dir_size(slot, level), false,
					&slot->dir[level - 1].memory);
		if (error) {
			slot_dirs_free(mmu, slot);
			return error;
		}
		slot->dir[level - 1].top = slot->dir[level - 1].memory.va;
	}
	return 0;
}
