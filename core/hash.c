/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A number for the whole state, to tell whether two MMUs are in the same one. Fed with numbers
 * only, field by field: no padding, no addresses of this process.
 *
 * Lock: the MMU's, taken in umbra_state_hash.
 */
#include "walk.h"

static uint64_t mix(uint64_t hash, uint64_t value)
{
	hash = (hash ^ value) * 0x9e3779b97f4a7c15ull;
	return hash ^ hash >> 29;
}

static uint64_t hash_shadow(uint64_t hash, const struct shadow *shadow)
{
	hash = mix(hash, shadow->id);
	hash = mix(hash, shadow->gfn.n);
	hash = mix(hash, shadow->role.word);
	hash = mix(hash, shadow->hpa);
	hash = mix(hash, (uint64_t)shadow->roots << 32 | shadow->unsync << 1 | shadow->referenced);
	hash = mix(hash, (uint64_t)shadow->writes << 32 | shadow->clean);
	for (unsigned i = 0; i < PTE_ENTRIES; i++) {
		uint64_t spte = spte_read(&shadow->table[i]);

		if (spte & PTE_P)
			spte &= ~(PTE_A | PTE_D);
		if (spte)
			hash = mix(hash, spte ^ (uint64_t)i << 52);
	}
	return hash;
}

static uint64_t hash_vcpu(uint64_t hash, const struct umbra_vcpu *vcpu)
{
	const uint64_t words[] = {vcpu->number,     vcpu->paging.cr0,  vcpu->paging.cr3,
				  vcpu->paging.cr4, vcpu->paging.efer, vcpu->pkru,
				  vcpu->pkrs,       vcpu->loaded.hpa,  vcpu->loaded.levels};

	for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		hash = mix(hash, words[i]);
	for (unsigned i = 0; i < PAE_ROOTS; i++)
		hash = mix(mix(hash, vcpu->pdpte[i]), vcpu->root[i]);
	return hash;
}

struct hashing {
	struct umbra_mmu *mmu;
	uint64_t hash;
};

static void hash_region(struct umbra_mmu *mmu, struct region *region, uint64_t first, uint64_t end,
			void *arg)
{
	struct hashing *hashing = arg;
	uint64_t *heads = heads_of(mmu, region->id);

	(void)first;
	(void)end;
	for (unsigned i = 0; i < 512; i++)
		if (heads[i])
			hashing->hash = mix(mix(hashing->hash, i), rmap_count(heads[i]));
}

static uint64_t hash_stats(uint64_t hash, const struct umbra_stats *stats)
{
	const uint64_t *words = (const uint64_t *)stats;

	for (size_t i = 0; i < sizeof(*stats) / sizeof(*words); i++)
		hash = mix(hash, words[i]);
	return hash;
}

uint64_t umbra_state_hash(struct umbra_mmu *mmu)
{
	struct hashing hashing = {mmu, 0};

	port_lock(&mmu->lock);
	for (uint32_t i = 0; i < mmu->slots; i++) {
		const struct slot *slot = &mmu->slot[i];

		hashing.hash =
		    mix(hashing.hash, (uint64_t)slot->id << 32 | slot->flags |
					  (slot->log ? 1u << 31 : 0) | (slot->by_d ? 1u << 30 : 0));
		hashing.hash = mix(mix(hashing.hash, slot->first), slot->pages);
		slot_regions(mmu, &mmu->slot[i], 0, UINT64_MAX, hash_region, &hashing);
	}
	for (uint32_t i = 0; i < mmu->chunks.count << TUNING_CHUNK_SHIFT; i++)
		if (shadow_of(mmu, i)->state == SHADOW_USED)
			hashing.hash = hash_shadow(hashing.hash, shadow_of(mmu, i));
	for (unsigned i = 0; i < UMBRA_VCPUS_MAX; i++)
		if (mmu->vcpu[i])
			hashing.hash = hash_vcpu(hashing.hash, mmu->vcpu[i]);
	for (uint32_t i = 0; i < mmu->watches; i++)
		hashing.hash = mix(mix(hashing.hash, mmu->watch[i].gfn), mmu->watch[i].kinds);
	hashing.hash = hash_stats(hashing.hash, &mmu->stats);
	port_unlock(&mmu->lock);
	return hashing.hash;
}
