/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The MMU as a whole: made, unmade, configured, counted.
 *
 * Lock: the MMU's, taken in the umbra_* functions.
 */
#include "mmu.h"

static bool is_nested_valid(const struct umbra_config *config)
{
	return !config->nested || config->nested == 5 ||
	       (config->nested == 4 && config->maxphyaddr <= 48);
}

static bool is_config_valid(const struct umbra_config *config)
{
	return config->shadow_quota >= UMBRA_QUOTA_MIN && config->shadow_quota <= UMBRA_QUOTA_MAX &&
	       config->prefetch <= 64 && config->maxphyaddr >= 32 && config->maxphyaddr <= 52 &&
	       is_nested_valid(config) &&
	       !(config->without & ~(UMBRA_WITHOUT_UNSYNC | UMBRA_WITHOUT_ACCESSED)) &&
	       !(config->cpu & ~(UMBRA_CPU_AMD | UMBRA_CPU_NO_1G | UMBRA_CPU_NO_PSE36));
}

static bool is_host_valid(const struct umbra_host *host)
{
	return host->alloc && host->free && host->frame_get && host->frame_va && host->flush;
}

static uint32_t hash_size(uint32_t quota)
{
	uint32_t size = 1;

	while (size < TUNING_HASH_SIZE(quota))
		size *= 2;
	return size;
}

int umbra_mmu_create(const struct umbra_host *host, void *ctx, const struct umbra_config *config,
		     struct umbra_mmu **made)
{
	struct umbra_memory memory, hash;
	struct umbra_mmu *mmu;

	if (!is_config_valid(config) || !is_host_valid(host))
		return UMBRA_EINVAL;
	if (host->alloc(ctx, sizeof(*mmu), false, &memory))
		return UMBRA_ENOMEM;
	if (host->alloc(ctx, hash_size(config->shadow_quota) * sizeof(uint32_t), false, &hash)) {
		host->free(ctx, sizeof(*mmu), memory);
		return UMBRA_ENOMEM;
	}
	mmu = memory.va;
	mmu->host = *host;
	mmu->ctx = ctx;
	mmu->config = *config;
	mmu->memory = memory;
	mmu->hash = hash.va;
	mmu->hash_memory = hash;
	mmu->hash_mask = hash_size(config->shadow_quota) - 1;
	mode_reserved_make(&mmu->reserved, config->maxphyaddr, config->cpu);
	*made = mmu;
	return 0;
}

void umbra_mmu_destroy(struct umbra_mmu *mmu)
{
	struct umbra_host host = mmu->host;
	struct umbra_memory memory = mmu->memory;
	void *ctx = mmu->ctx;

	for (unsigned i = 0; i < UMBRA_VCPUS_MAX; i++)
		if (mmu->vcpu[i])
			umbra_vcpu_destroy(mmu->vcpu[i]);
	slot_destroy(mmu);
	pool_destroy(mmu);
	host.free(ctx, (mmu->hash_mask + 1ull) * sizeof(*mmu->hash), mmu->hash_memory);
	host.free(ctx, sizeof(*mmu), memory);
}

/*
 * Take the lock with a hash of @size buckets or more in place; *@old: one to be freed, if .va.
 * A hash that is larger than the quota needs does no harm, and stays.
 *
 * => no lock on entry; UMBRA_ENOMEM: nor on return
 */
static int hash_lock(struct umbra_mmu *mmu, uint32_t size, struct umbra_memory *old,
		     uint32_t *old_size)
{
	struct umbra_memory bigger;

	port_lock(&mmu->lock);
	if (mmu->hash_mask + 1 >= size)
		return 0;
	port_unlock(&mmu->lock);
	if (mmu->host.alloc(mmu->ctx, size * sizeof(uint32_t), false, &bigger))
		return UMBRA_ENOMEM;
	port_lock(&mmu->lock);
	*old = bigger;
	*old_size = size;
	if (mmu->hash_mask + 1 < size) { /* still so */
		*old = mmu->hash_memory;
		*old_size = mmu->hash_mask + 1;
		mmu->hash_memory = bigger;
		shadow_rehash(mmu, bigger.va, size - 1);
	}
	return 0;
}

int umbra_quota_set(struct umbra_mmu *mmu, uint32_t pages)
{
	struct umbra_memory old = {0};
	struct flush flush = {0};
	uint32_t old_size = 0;

	if (pages < UMBRA_QUOTA_MIN || pages > UMBRA_QUOTA_MAX)
		return UMBRA_EINVAL;
	if (hash_lock(mmu, hash_size(pages), &old, &old_size))
		return UMBRA_ENOMEM;
	mmu->config.shadow_quota = pages;
	shadow_reclaim(mmu, pages, &flush);
	flush_commit(mmu, &flush);
	port_unlock(&mmu->lock);
	if (old.va)
		mmu->host.free(mmu->ctx, old_size * sizeof(uint32_t), old);
	return 0;
}

int umbra_rmap_count(struct umbra_mmu *mmu, umbra_gfn gfn, uint64_t *sptes)
{
	struct slot *slot;
	uint64_t count = 0;

	port_lock(&mmu->lock);
	slot = slot_find(mmu, gfn);
	for (unsigned level = 1; slot && level <= LEVELS; level++) {
		uint64_t *head = slot_head_find(mmu, slot, gfn, level);

		count += head ? rmap_count(*head) : 0;
	}
	port_unlock(&mmu->lock);
	if (!slot)
		return UMBRA_ENOENT;
	*sptes = count;
	return 0;
}

static void count_region(struct umbra_mmu *mmu, struct region *region, uint64_t first, uint64_t end,
			 void *arg)
{
	const uint64_t *heads = heads_of(mmu, region->id);
	uint64_t *histogram = arg;

	(void)first;
	(void)end;
	for (unsigned i = 0; i < 512; i++) {
		uint64_t length = rmap_count(heads[i]);
		unsigned log2 = 0;

		if (!length)
			continue;
		while (length >>= 1)
			log2++;
		histogram[log2 < UMBRA_HISTOGRAM ? log2 : UMBRA_HISTOGRAM - 1]++;
	}
}

void umbra_stats_get(struct umbra_mmu *mmu, struct umbra_stats *stats)
{
	port_lock(&mmu->lock);
	*stats = mmu->stats;
	for (uint32_t i = 0; i < mmu->slots; i++)
		slot_regions(mmu, &mmu->slot[i], 0, UINT64_MAX, count_region,
			     stats->rmap_histogram);
	port_unlock(&mmu->lock);
}
