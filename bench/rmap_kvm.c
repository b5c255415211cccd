/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * KVM in the reverse-map benchmark: kvm_cut.h is cut out of Linux's source at build time by
 * scripts/cut-kvm-rmap, unmodified, and stands on the shims of bench/shim. This file owns the
 * structures around it: a slot with an array of heads a level, struct kvm_mmu_page of each
 * table, a cache of descriptors.
 *
 * add and remove are pte_list_add() and pte_list_remove() with the gfn at hand; map and unmap
 * are the whole of __rmap_add() and drop_spte(), which note each spte's gfn beside its table and
 * look the slot up.
 *
 * A slot that moves loses all mappings: KVM takes down every shadow page, the oldest first, and in
 * each its sptes one by one; and the slot gets heads anew, of zeros. That, without the pages
 * themselves, is the row of what a host does that is here.
 */
#include "bench_rmap.h"
#include "shim/kvm_base.h"
#include "kvm_cut.h"

struct page *shim_pages;
uintptr_t shim_base;

static struct {
	const struct set *set;
	struct kvm kvm;
	struct kvm_memslots slots;
	struct kvm_memory_slot slot;
	struct kmem_cache cache;
	struct kvm_mmu_memory_cache descs;
	struct pte_list_desc *desc;
	size_t desc_count;
	uint32_t *order; /* descriptors, shuffled */
} side;

static void pages_make(const struct set *set)
{
	struct kvm_mmu_page *sp = memory_take(set->tables * sizeof(*sp));
	u64 *translation = memory_take(set->tables * PAGE_SIZE);
	uint64_t frames = 0;

	shim_base = (uintptr_t)memory_base();
	for (uint64_t i = 0; i < set->tables; i++)
		if (__pa(set->table[i]) / PAGE_SIZE >= frames)
			frames = __pa(set->table[i]) / PAGE_SIZE + 1;
	shim_pages = memory_take(frames * sizeof(*shim_pages));
	for (uint64_t i = 0; i < set->tables; i++) {
		sp[i].spt = set->table[i];
		sp[i].role.level = PG_LEVEL_4K;
		sp[i].shadowed_translation = &translation[i * SPTE_ENT_PER_PAGE];
		pfn_to_page(__pa(set->table[i]) / PAGE_SIZE)->private = (unsigned long)&sp[i];
	}
}

static uint64_t heads_of(int level)
{
	return gfn_to_index(side.slot.npages - 1, 0, level) + 1;
}

static void open(const struct set *set)
{
	side.set = set;
	side.slot = (struct kvm_memory_slot){.npages = set->shape.slot_pages};
	for (int level = PG_LEVEL_4K; level <= KVM_MAX_HUGEPAGE_LEVEL; level++) {
		size_t size = heads_of(level) * sizeof(struct kvm_rmap_head);

		side.slot.arch.rmap[level - 1] = memory_take(size);
		/* As the kernel has it: memory of its own, not one page of zeros. */
		for (size_t i = 0; i < size; i += PAGE_SIZE)
			((volatile char *)side.slot.arch.rmap[level - 1])[i] = 0;
	}
	side.slots = (struct kvm_memslots){.gfn_tree = {&side.slot.gfn_node[0]}};
	side.kvm = (struct kvm){.memslots = {&side.slots, &side.slots}};
	side.desc_count = set->shape.chain < 2
			      ? 0
			      : set->shape.gfns * ((set->shape.chain - 1) / PTE_LIST_EXT + 1);
	side.order = order_take(side.desc_count);
	side.desc = memory_take(side.desc_count * sizeof(*side.desc));
	side.cache.free = NULL;
	side.descs.kmem_cache = pte_list_desc_cache = &side.cache;
	pages_make(set);
}

static size_t free_count(void)
{
	size_t count = 0;

	for (void *at = side.cache.free; at; at = *(void **)at)
		count++;
	return count;
}

static void age(bool shuffled, enum state state)
{
	(void)state;
	if (side.cache.free && free_count() != side.desc_count)
		die("kvm: descriptors in use");
	side.cache.free = NULL;
	for (size_t i = side.desc_count; i-- > 0;)
		kmem_cache_free(&side.cache, &side.desc[shuffled ? side.order[i] : i]);
}

static void add(const struct entry *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		pte_list_add(&side.descs, list[i].spte,
			     gfn_to_rmap(list[i].gfn, PG_LEVEL_4K, &side.slot));
}

static void remove_list(const struct entry *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		pte_list_remove(&side.kvm, list[i].spte,
				gfn_to_rmap(list[i].gfn, PG_LEVEL_4K, &side.slot));
}

static void drop(const uint32_t *gfns, size_t count)
{
	for (size_t i = 0; i < count; i++)
		kvm_zap_rmap(&side.kvm, gfn_to_rmap(gfns[i], PG_LEVEL_4K, &side.slot), &side.slot);
}

static void range(uint64_t first, uint64_t end)
{
	__kvm_rmap_zap_gfn_range(&side.kvm, &side.slot, first, end, true, false);
}

static uint64_t walk(const uint32_t *gfns, size_t count)
{
	struct rmap_iterator iter;
	uint64_t sum = 0;
	u64 *sptep;

	for (size_t i = 0; i < count; i++)
		for_each_rmap_spte(gfn_to_rmap(gfns[i], PG_LEVEL_4K, &side.slot), &iter, sptep)
		    sum += READ_ONCE(*sptep);
	return sum;
}

static uint64_t count_sptes(const uint32_t *gfns, size_t count)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < count; i++)
		sum += pte_list_count(gfn_to_rmap(gfns[i], PG_LEVEL_4K, &side.slot));
	return sum;
}

static void map(const struct entry *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		__rmap_add(&side.kvm, &side.descs, &side.slot, list[i].spte, list[i].gfn, ACC_ALL);
}

static void unmap(const struct entry *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		drop_spte(&side.kvm, list[i].spte);
}

static void slot_delete(void)
{
	range(0, side.slot.npages);
}

static uint64_t desc_bytes(void)
{
	return (side.desc_count - free_count()) * sizeof(struct pte_list_desc);
}

static uint64_t head_bytes(void)
{
	return (heads_of(PG_LEVEL_4K) + heads_of(PG_LEVEL_2M) + heads_of(PG_LEVEL_1G)) *
	       sizeof(struct kvm_rmap_head);
}

static uint64_t side_bytes(void)
{
	return side.set->tables * PAGE_SIZE;
}

/* Mapped, so that each spte's gfn is known. */
static void move_prepare(const struct set *set, enum host_op_number op)
{
	(void)op;
	drop(set->gfn_seq, set->shape.gfns);
	set_restore(set, QUIET);
	map(set->seq, set->sptes);
}

/* Tables were made in the order of .seq. */
static void move_run(const struct set *set, enum host_op_number op)
{
	(void)op;
	unmap(set->seq, set->sptes);
	for (int level = PG_LEVEL_4K; level <= KVM_MAX_HUGEPAGE_LEVEL; level++)
		memset(side.slot.arch.rmap[level - 1], 0,
		       heads_of(level) * sizeof(struct kvm_rmap_head));
}

static void move_clear_away(const struct set *set, enum host_op_number op)
{
	(void)set;
	(void)op;
}

static const struct host_side host_kvm = {1u << HOST_MOVE, move_prepare, move_run, move_clear_away};

const struct impl impl_kvm = {
    .name = "kvm-6.12",
    .kind = KVM_CUT_VERSION,
    .open = open,
    .age = age,
    .add = add,
    .remove = remove_list,
    .remove_many = remove_list,
    .drop = drop,
    .drop_range = range,
    .walk = walk,
    .count = count_sptes,
    .map = map,
    .unmap = unmap,
    .slot_delete = slot_delete,
    .bytes = desc_bytes,
    .head_bytes = head_bytes,
    .side_bytes = side_bytes,
    .host = &host_kvm,
};
