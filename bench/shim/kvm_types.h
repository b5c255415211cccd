/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the kernel's headers would give to KVM's reverse map, second part: structures around it
 * with the members that it uses, and caches. The cut file includes this after KVM's own
 * rmap head and role.
 *
 *   kmem_cache_free, kvm_mmu_memory_cache_alloc   push and pop of a free list. A popped
 *                              descriptor is zeroed, as the kernel's __GFP_ZERO caches do
 *   kvm_flush_remote_tlbs_range   nothing
 *   __kvm_memslots             a load, as in the kernel
 */
#ifndef SHIM_KVM_TYPES_H
#define SHIM_KVM_TYPES_H

#include <string.h>

struct kvm_memory_slot {
	struct rb_node gfn_node[2];
	gfn_t base_gfn;
	unsigned long npages;
	struct {
		struct kvm_rmap_head *rmap[KVM_NR_PAGE_SIZES];
	} arch;
};

struct kvm_memslots {
	atomic_long_t last_used_slot;
	struct rb_root gfn_tree;
	int node_idx;
};

struct kvm {
	rwlock_t mmu_lock;
	struct kvm_memslots *memslots[2];
	struct {
		atomic64_t pages[KVM_NR_PAGE_SIZES];
		u64 max_mmu_rmap_size;
	} stat;
	bool vm_bugged;
};

#define __kvm_memslots(kvm, id) READ_ONCE((kvm)->memslots[id])
#define kvm_vm_bugged(kvm)      ((void)((kvm)->vm_bugged = true))

typedef u64 *tdp_ptep_t;

/* A cache of objects of one size: those that were freed, last one first. */
struct kmem_cache {
	void *free;
	size_t size;
};

struct kvm_mmu_memory_cache {
	struct kmem_cache *kmem_cache;
};

static inline void kmem_cache_free(struct kmem_cache *cache, void *object)
{
	*(void **)object = cache->free;
	cache->free = object;
}

static inline void *kvm_mmu_memory_cache_alloc(struct kvm_mmu_memory_cache *cache)
{
	void *object = cache->kmem_cache->free;

	BUG_ON(!object);
	cache->kmem_cache->free = *(void **)object;
	return memset(object, 0, 128);
}

static inline void kvm_flush_remote_tlbs_range(struct kvm *kvm, gfn_t first, u64 pages)
{
	(void)kvm;
	(void)first;
	(void)pages;
}

static struct kmem_cache *pte_list_desc_cache;

/* As KVM sets them on AMD, and on Intel without EPT. */
static const u64 shadow_accessed_mask = BIT_ULL(5);
static const u64 shadow_dirty_mask = BIT_ULL(6);
static const u64 shadow_present_mask = BIT_ULL(0);
static const u64 physical_mask = BIT_ULL(52) - 1;
static const u64 shadow_acc_track_mask = 0;
static const u64 shadow_mmu_writable_mask = BIT_ULL(10);

#endif
