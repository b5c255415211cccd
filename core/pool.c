/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory from the host: shadow pages in chunks, descriptors and regions in blocks, spare pages
 * for heads and directories. Stocks are filled here, before the lock is taken, so that
 * nothing under the lock can fail for memory.
 *
 * Lock: taken inside, for the moments when stocks are read or changed; host.alloc and
 * host.free are called without it.
 */
#include "mmu.h"

/* What handles, places and head_refs can name (mmu.h). */
#define CHUNKS_MAX  (UMBRA_QUOTA_MAX >> TUNING_CHUNK_SHIFT)
#define DESCS_MAX   (1u << 26)
#define REGIONS_MAX (1u << 21)

static bool has_room(const struct store *store, uint32_t more)
{
	return store->capacity - store->count >= more;
}

/*
 * Room for @more blocks; UMBRA_ENOMEM: none, or there would be more than @limit.
 * => no lock on entry and exit
 */
static int store_reserve(struct umbra_mmu *mmu, struct store *store, uint32_t more, uint32_t limit)
{
	struct umbra_memory bigger, old = {0};
	uint32_t capacity, seen;
	bool full;
	size_t size;
	int error;

	port_lock(&mmu->lock);
	full = store->count + more > limit;
	seen = store->capacity;
	capacity = store->count + more <= seen ? 0
		   : seen                      ? 2 * seen
					       : UMBRA_PAGE_SIZE / sizeof(void *);
	port_unlock(&mmu->lock);
	if (full)
		return UMBRA_ENOMEM;
	if (!capacity)
		return 0;
	size = capacity * sizeof(void *);
	error = mmu->host.alloc(mmu->ctx, size, false, &bigger);
	if (error)
		return error;
	port_lock(&mmu->lock);
	if (store->capacity == seen) {
		if (seen)
			memcpy(bigger.va, store->block, seen * sizeof(void *));
		old = store->memory;
		store->memory = bigger;
		store->block = bigger.va;
		store->capacity = capacity;
		size = seen * sizeof(void *);
	} else {
		old = bigger;
	}
	port_unlock(&mmu->lock);
	if (old.va)
		mmu->host.free(mmu->ctx, size, old);
	return 0;
}

static const size_t chunk_size[3] = {
    CHUNK_PAGES * (size_t)UMBRA_PAGE_SIZE,
    CHUNK_PAGES *PTE_ENTRIES * sizeof(place),
    CHUNK_PAGES * sizeof(struct shadow) + sizeof(struct chunk),
};

static void chunk_free(struct umbra_mmu *mmu, const struct umbra_memory memory[3])
{
	for (unsigned i = 0; i < 3; i++)
		if (memory[i].va)
			mmu->host.free(mmu->ctx, chunk_size[i], memory[i]);
}

/* Put the chunk's pages on the free list. => lock held */
static void chunk_stock(struct umbra_mmu *mmu, struct chunk *chunk)
{
	uint32_t first = mmu->chunks.count << TUNING_CHUNK_SHIFT;

	mmu->chunks.block[mmu->chunks.count++] = chunk;
	mmu->tables.block[mmu->tables.count++] = chunk->memory[0].va;
	mmu->places.block[mmu->places.count++] = chunk->memory[1].va;
	for (uint32_t i = CHUNK_PAGES; i-- > 0;) {
		struct shadow *shadow = &chunk->shadows[i];

		shadow->id = first + i;
		shadow->table = (uint64_t *)chunk->memory[0].va + i * PTE_ENTRIES;
		shadow->place = (place *)chunk->memory[1].va + i * PTE_ENTRIES;
		shadow->hpa = chunk->memory[0].hpa + i * (uint64_t)UMBRA_PAGE_SIZE;
		if (!shadow->id)
			continue; /* page 0 would make handle 0 */
		shadow->next = mmu->shadow_free;
		mmu->shadow_free = shadow->id;
		mmu->shadow_free_count++;
	}
}

/*
 * 2^21 page ids are all that a handle can name; the quota keeps far below.
 * => no lock on entry and exit
 */
static int chunk_add(struct umbra_mmu *mmu)
{
	struct umbra_memory memory[3] = {{0}};
	struct chunk *chunk;
	struct store *stores[] = {&mmu->chunks, &mmu->tables, &mmu->places};
	int error = 0;

	for (unsigned i = 0; i < 3 && !error; i++)
		error = store_reserve(mmu, stores[i], 1, CHUNKS_MAX);
	for (unsigned i = 0; i < 3 && !error; i++)
		error = mmu->host.alloc(mmu->ctx, chunk_size[i], false, &memory[i]);
	if (!error) {
		chunk = (struct chunk *)((struct shadow *)memory[2].va + CHUNK_PAGES);
		chunk->shadows = memory[2].va;
		memcpy(chunk->memory, memory, sizeof(memory));
		port_lock(&mmu->lock);
		if (mmu->chunks.count >= CHUNKS_MAX) {
			error = UMBRA_ENOMEM;
		} else if (has_room(&mmu->chunks, 1) && has_room(&mmu->tables, 1) &&
			   has_room(&mmu->places, 1)) {
			chunk_stock(mmu, chunk);
			memcpy(memory, (struct umbra_memory[3]){{0}}, sizeof(memory));
		} /* else another thread was faster: the caller looks again */
		port_unlock(&mmu->lock);
	}
	chunk_free(mmu, memory);
	return error;
}

/*
 * Units of a block are given to one kind of descriptor. The first unit is none: id 0 means none,
 * and there the block's address is kept for the way back. The second is always small, so that large
 * ones begin at even units.
 */
static void desc_block_stock(struct umbra_mmu *mmu, enum desc_kind kind, struct umbra_memory memory)
{
	uint32_t first = mmu->descs.count * DESC_BLOCK;

	memcpy(memory.va, &memory.hpa, sizeof(memory.hpa));
	mmu->descs.block[mmu->descs.count++] = memory.va;
	mmu->desc_count += DESC_BLOCK - 1;
	for (uint32_t i = DESC_BLOCK; i > 1;) {
		enum desc_kind given = i > 2 ? kind : DESC_SMALL;

		i -= given == DESC_LARGE ? 2 : 1;
		desc_of(mmu, first + i)->next = mmu->desc_free[given];
		mmu->desc_free[given] = first + i;
		mmu->desc_free_count[given]++;
	}
}

static int desc_block_add(struct umbra_mmu *mmu, enum desc_kind kind)
{
	const size_t size = DESC_BLOCK * DESC_UNIT;
	struct umbra_memory memory;
	int error = store_reserve(mmu, &mmu->descs, 1, DESCS_MAX / DESC_BLOCK);

	if (!error)
		error = mmu->host.alloc(mmu->ctx, size, false, &memory);
	if (error)
		return error;
	port_lock(&mmu->lock);
	if (!has_room(&mmu->descs, 1)) {
		port_unlock(&mmu->lock);
		mmu->host.free(mmu->ctx, size, memory);
		return 0; /* another thread was faster: the caller looks again */
	}
	desc_block_stock(mmu, kind, memory);
	port_unlock(&mmu->lock);
	return 0;
}

static int small_descs_add(struct umbra_mmu *mmu)
{
	return desc_block_add(mmu, DESC_SMALL);
}

static int large_descs_add(struct umbra_mmu *mmu)
{
	return desc_block_add(mmu, DESC_LARGE);
}

struct region_block {
	struct region region[REGION_BLOCK];
	struct umbra_memory memory;
};

static int region_block_add(struct umbra_mmu *mmu)
{
	struct umbra_memory memory;
	struct region_block *block;
	int error = store_reserve(mmu, &mmu->regions, 1, REGIONS_MAX / REGION_BLOCK);

	if (!error)
		error = store_reserve(mmu, &mmu->heads, REGION_BLOCK, REGIONS_MAX);
	if (!error)
		error = mmu->host.alloc(mmu->ctx, sizeof(*block), false, &memory);
	if (error)
		return error;
	block = memory.va;
	block->memory = memory;
	port_lock(&mmu->lock);
	if (!has_room(&mmu->regions, 1) || !has_room(&mmu->heads, REGION_BLOCK)) {
		port_unlock(&mmu->lock);
		mmu->host.free(mmu->ctx, sizeof(*block), memory);
		return 0;
	}
	for (uint32_t i = REGION_BLOCK; i-- > 0;) {
		block->region[i].next_free = mmu->region_free;
		mmu->region_free = mmu->regions.count * REGION_BLOCK + i + 1;
	}
	mmu->regions.block[mmu->regions.count++] = block;
	mmu->heads.count += REGION_BLOCK;
	mmu->region_free_count += REGION_BLOCK;
	port_unlock(&mmu->lock);
	return 0;
}

static int spare_add(struct umbra_mmu *mmu)
{
	struct umbra_memory memory;
	int error = mmu->host.alloc(mmu->ctx, UMBRA_PAGE_SIZE, false, &memory);

	if (error)
		return error;
	port_lock(&mmu->lock);
	if (mmu->spares < SPARES) {
		mmu->spare[mmu->spares++] = memory;
		memory.va = NULL;
	}
	port_unlock(&mmu->lock);
	if (memory.va)
		mmu->host.free(mmu->ctx, UMBRA_PAGE_SIZE, memory);
	return 0;
}

/* A zeroed page from stock. */
void *pool_spare_take(struct umbra_mmu *mmu, struct umbra_memory *memory)
{
	port_assert(mmu->spares);
	*memory = mmu->spare[--mmu->spares];
	return memory->va;
}

/* Shadow pages that may be taken without exceeding quota or stock. */
static uint32_t shadows_at_hand(const struct umbra_mmu *mmu)
{
	uint64_t used = mmu->stats.shadow_pages + mmu->shadow_pending_count;
	uint64_t quota = mmu->config.shadow_quota;
	uint64_t left = used < quota ? quota - used : 0;

	return left < mmu->shadow_free_count ? (uint32_t)left : mmu->shadow_free_count;
}

/*
 * Reclaim shadow pages, least recently used first, until @target are in use, and flush.
 * Where the quota is so small that roots in use fill it, they may exceed it.
 */
static void shadows_reclaim(struct umbra_mmu *mmu, uint64_t target)
{
	struct flush flush = {0};

	shadow_reclaim(mmu, target, &flush);
	if (mmu->shadow_pending_count)
		flush_all(mmu, &flush);
	flush_commit(mmu, &flush);
}

static uint64_t minus(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

/* What stock is short of, in order; NULL: nothing. */
static int (*shortage(struct umbra_mmu *mmu, const struct need *need))(struct umbra_mmu *)
{
	if (mmu->desc_free_count[DESC_SMALL] < need->descs)
		return small_descs_add;
	if (mmu->desc_free_count[DESC_LARGE] < need->descs)
		return large_descs_add;
	if (mmu->region_free_count < need->regions)
		return region_block_add;
	if (mmu->spares < need->spares)
		return spare_add;
	if (shadows_at_hand(mmu) < need->shadows) {
		uint64_t used = mmu->stats.shadow_pages + mmu->shadow_pending_count;

		if (mmu->shadow_free_count < need->shadows &&
		    used + need->shadows <= mmu->config.shadow_quota)
			return chunk_add;
		shadows_reclaim(mmu, minus(mmu->config.shadow_quota,
					   need->shadows + mmu->config.shadow_quota / 16));
		if (mmu->shadow_free_count < need->shadows)
			return chunk_add;
	}
	return NULL;
}

int pool_lock(struct umbra_mmu *mmu, const struct need *need)
{
	int (*add)(struct umbra_mmu * mmu);
	int error;

	port_lock(&mmu->lock);
	while ((add = shortage(mmu, need))) {
		port_unlock(&mmu->lock);
		error = add(mmu);
		port_lock(&mmu->lock);
		if (error && add == chunk_add) {
			shadows_reclaim(mmu, minus(mmu->stats.shadow_pages, need->shadows));
			if (mmu->shadow_free_count >= need->shadows)
				continue;
		}
		if (error) {
			port_unlock(&mmu->lock);
			return error;
		}
	}
	return 0;
}

static void store_free(struct umbra_mmu *mmu, struct store *store)
{
	if (store->capacity)
		mmu->host.free(mmu->ctx, store->capacity * sizeof(void *), store->memory);
}

/* Return everything. => no lock, nobody else there */
void pool_destroy(struct umbra_mmu *mmu)
{
	for (uint32_t i = 0; i < mmu->chunks.count; i++) {
		struct chunk chunk = *(struct chunk *)mmu->chunks.block[i];

		chunk_free(mmu, chunk.memory);
	}
	for (uint32_t i = 0; i < mmu->descs.count; i++) {
		struct umbra_memory memory = {.va = mmu->descs.block[i]};

		memcpy(&memory.hpa, memory.va, sizeof(memory.hpa));
		mmu->host.free(mmu->ctx, DESC_BLOCK * DESC_UNIT, memory);
	}
	for (uint32_t i = 0; i < mmu->regions.count; i++) {
		struct region_block *block = mmu->regions.block[i];
		struct umbra_memory memory = block->memory;

		mmu->host.free(mmu->ctx, sizeof(*block), memory);
	}
	while (mmu->spares)
		mmu->host.free(mmu->ctx, UMBRA_PAGE_SIZE, mmu->spare[--mmu->spares]);
	store_free(mmu, &mmu->chunks);
	store_free(mmu, &mmu->tables);
	store_free(mmu, &mmu->places);
	store_free(mmu, &mmu->descs);
	store_free(mmu, &mmu->regions);
	store_free(mmu, &mmu->heads);
}
