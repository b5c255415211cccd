/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Shadow pages: tables of sptes, found by (gfn, role), bounded by a quota.
 *
 *     free -> used (hashed, linked from parents or a vcpu's root) -> pending -> free
 *                                                        flush of all vcpus ^
 *
 * A page in use is hashed once under its key. Pages that shadow a guest table and direct pages
 * (no guest table behind them) hash apart, so that "who shadows this gfn" sees only the first.
 * Over quota, a clock goes round and takes what was not walked since it last came by: the
 * hardware tells by the A bits of the entries that lead there, fault.c by .referenced.
 *
 * Links between tables and what leaves map are entered in the reverse map here and in fault.c,
 * taken out only here.
 *
 * Lock: the MMU's.
 */
#include "head.h"

static uint32_t *bucket(struct umbra_mmu *mmu, umbra_gfn gfn, bool direct)
{
	uint64_t key = (gfn.n << 1 | direct) * 0x9e3779b97f4a7c15ull;

	return &mmu->hash[key >> 32 & mmu->hash_mask];
}

static struct shadow *shadow_at(struct umbra_mmu *mmu, uint32_t id)
{
	return id ? shadow_of(mmu, id) : NULL;
}

static struct shadow *skip_others(struct umbra_mmu *mmu, struct shadow *shadow, umbra_gfn gfn)
{
	while (shadow && (shadow->gfn.n != gfn.n || shadow->role.direct))
		shadow = shadow_at(mmu, shadow->hash_next);
	return shadow;
}

struct shadow *shadow_first_of(struct umbra_mmu *mmu, umbra_gfn gfn)
{
	return skip_others(mmu, shadow_at(mmu, *bucket(mmu, gfn, false)), gfn);
}

struct shadow *shadow_next_of(struct umbra_mmu *mmu, struct shadow *shadow)
{
	return skip_others(mmu, shadow_at(mmu, shadow->hash_next), shadow->gfn);
}

/* The page of that key, or NULL. */
struct shadow *shadow_find(struct umbra_mmu *mmu, umbra_gfn gfn, union role role)
{
	struct shadow *shadow = shadow_at(mmu, *bucket(mmu, gfn, role.direct));

	while (shadow && (shadow->gfn.n != gfn.n || shadow->role.word != role.word))
		shadow = shadow_at(mmu, shadow->hash_next);
	return shadow;
}

static struct shadow *take_free(struct umbra_mmu *mmu)
{
	struct shadow *shadow = shadow_at(mmu, mmu->shadow_free);

	port_assert(shadow);
	mmu->shadow_free = shadow->next;
	mmu->shadow_free_count--;
	if (++mmu->stats.shadow_pages > mmu->stats.shadow_pages_peak)
		mmu->stats.shadow_pages_peak = mmu->stats.shadow_pages;
	mmu->stats.shadow_created++;
	if (shadow->used_up)
		memset(shadow->table, 0, UMBRA_PAGE_SIZE);
	shadow->used_up = false;
	return shadow;
}

/* @gfn is about to be shadowed: large pages over it are taken away, and come no more. */
static void table_begins(struct umbra_mmu *mmu, umbra_gfn gfn, struct flush *flush)
{
	struct slot *slot = slot_find(mmu, gfn);
	struct sweep sweep = SWEEP_ALL;

	if (!slot) {
		mmu->tables_outside += !shadow_first_of(mmu, gfn);
		return;
	}
	if (shadow_first_of(mmu, gfn) || !slot_table_add(mmu, slot, gfn))
		return;
	drop_large(mmu, slot, gfn.n, &sweep);
	drop_count(mmu, sweep.sptes);
	if (sweep.sptes)
		flush_all(mmu, flush);
}

/*
 * The page of that key; a new one if there is none, with the guest's table write-protected.
 *
 * => a new one needs a free page in stock
 * => if @flush was added to, entries of the table that were read before may have changed
 */
struct shadow *shadow_get(struct umbra_mmu *mmu, umbra_gfn gfn, union role role,
			  struct flush *flush)
{
	struct shadow *shadow = shadow_find(mmu, gfn, role);
	uint32_t *first = bucket(mmu, gfn, role.direct);

	if (shadow)
		return shadow;
	shadow = take_free(mmu);
	if (!role.direct)
		table_begins(mmu, gfn, flush);
	shadow->gfn = gfn;
	shadow->role = role;
	shadow->parents = 0;
	shadow->roots = 0;
	shadow->writes = 0;
	shadow->clean = 0;
	shadow->unsync = false;
	shadow->referenced = true;
	shadow->fresh = true;
	shadow->top = 0;
	shadow->state = SHADOW_USED;
	shadow->hash_next = *first;
	*first = shadow->id;
	if (!role.direct && track_write_protect(mmu, gfn))
		flush_all(mmu, flush);
	return shadow;
}

static void unhash(struct umbra_mmu *mmu, struct shadow *shadow)
{
	uint32_t *at = bucket(mmu, shadow->gfn, shadow->role.direct);

	while (*at != shadow->id)
		at = &shadow_of(mmu, *at)->hash_next;
	*at = shadow->hash_next;
	if (!shadow->role.direct && !shadow_first_of(mmu, shadow->gfn)) {
		struct slot *slot = slot_find(mmu, shadow->gfn);

		if (slot)
			slot_table_remove(mmu, slot, shadow->gfn);
		else
			mmu->tables_outside--;
	}
}

/* Put every page in use into the empty buckets @hash[0..@mask] instead. */
void shadow_rehash(struct umbra_mmu *mmu, uint32_t *hash, uint32_t mask)
{
	const uint32_t *old = mmu->hash;
	uint64_t buckets = mmu->hash_mask + 1ull;

	mmu->hash = hash;
	mmu->hash_mask = mask;
	for (uint64_t i = 0; i < buckets; i++) {
		for (uint32_t id = old[i], next; id; id = next) {
			struct shadow *shadow = shadow_of(mmu, id);
			uint32_t *first = bucket(mmu, shadow->gfn, shadow->role.direct);

			next = shadow->hash_next;
			shadow->hash_next = *first;
			*first = id;
		}
	}
}

/* The shadow page that a present entry to a table leads to. */
struct shadow *shadow_child(struct umbra_mmu *mmu, struct shadow *shadow, unsigned index)
{
	return shadow_of(mmu, rmap_owner(mmu, handle_of(shadow, index)) & ~HEAD_PARENTS);
}

/* => the entry is not present; takes at most one descriptor */
void shadow_link(struct umbra_mmu *mmu, struct shadow *parent, unsigned index, struct shadow *child)
{
	uint64_t value = spte_table(child->hpa);

	/* What has two parents or more already had no root of its own, nor anything below it. */
	if (rmap_count(child->parents) == 1 || (!rmap_count(child->parents) && !child->fresh))
		mmu->link_epoch++;
	child->fresh = parent->fresh = false;
	rmap_add(mmu, HEAD_PARENTS | child->id, handle_of(parent, index), value);
	/* Hardware that follows the link must see the table as it was cleared. */
	atomic_store_explicit((_Atomic uint64_t *)&parent->table[index], value,
			      memory_order_release);
}

/* => the entry is present and leads to a table; returns which */
struct shadow *shadow_unlink(struct umbra_mmu *mmu, struct shadow *parent, unsigned index,
			     struct flush *flush)
{
	struct shadow *child = shadow_child(mmu, parent, index);

	rmap_remove(mmu, handle_of(parent, index));
	spte_clear(&parent->table[index]);
	flush_all(mmu, flush);
	return child;
}

static inline void clear_leaf(struct umbra_mmu *mmu, struct shadow *shadow, unsigned index)
{
	rmap_remove(mmu, handle_of(shadow, index));
	spte_clear(&shadow->table[index]);
	mmu->stats.sptes--;
	mmu->stats.sptes_removed++;
	if (shadow->role.level > 1)
		mmu->stats.sptes_large[shadow->role.level - 2]--;
}

/* Where a log goes by D bits. Apart, so that the way without is as short as if there were none. */
static __attribute__((noinline)) void clear_logged_leaf(struct umbra_mmu *mmu,
							struct shadow *shadow, unsigned index)
{
	log_removed(mmu, handle_of(shadow, index), spte_clear(&shadow->table[index]));
	clear_leaf(mmu, shadow, index);
}

/* => the entry is a present leaf. TLBs may hold it: the caller sees to that */
void shadow_clear_leaf(struct umbra_mmu *mmu, struct shadow *shadow, unsigned index)
{
	if (__builtin_expect(mmu->dirty_slots, 0))
		clear_logged_leaf(mmu, shadow, index);
	else
		clear_leaf(mmu, shadow, index);
}

/* Out of use, until a flush makes it free. */
static void retire(struct umbra_mmu *mmu, struct shadow *shadow)
{
	if (shadow->roots)
		vcpu_root_gone(mmu, shadow);
	if (shadow->unsync)
		sync_forget(mmu, shadow);
	shadow->state = SHADOW_PENDING;
	shadow->next = mmu->shadow_pending;
	mmu->shadow_pending = shadow->id;
	mmu->shadow_pending_count++;
	mmu->stats.shadow_pages--;
	mmu->stats.shadow_zapped++;
}

#define BATCH 64u

static void zap_leaves(struct umbra_mmu *mmu, struct shadow *shadow)
{
	handle batch[BATCH];
	unsigned index = spte_next(shadow->table, 0);

	while (index < PTE_ENTRIES) {
		unsigned count = 0;

		for (; index < PTE_ENTRIES && count < BATCH;
		     index = spte_next(shadow->table, index + 1)) {
			uint64_t value = spte_clear(&shadow->table[index]);

			if (is_note(value))
				continue;
			log_removed(mmu, handle_of(shadow, index), value);
			batch[count++] = handle_of(shadow, index);
		}
		rmap_remove_many(mmu, batch, count);
		mmu->stats.sptes -= count;
		mmu->stats.sptes_removed += count;
	}
}

/* Of an upper table: links, and leaves that are large. */
static void zap_links(struct umbra_mmu *mmu, struct shadow *shadow, bool orphans,
		      struct flush *flush)
{
	for (unsigned i = spte_next(shadow->table, 0); i < PTE_ENTRIES;
	     i = spte_next(shadow->table, i + 1)) {
		struct shadow *child;

		if (spte_read(&shadow->table[i]) & PTE_PS) {
			shadow_clear_leaf(mmu, shadow, i);
			continue;
		}
		child = shadow_unlink(mmu, shadow, i, flush);
		if (orphans)
			shadow_zap_orphan(mmu, child, flush);
	}
}

static void zap(struct umbra_mmu *mmu, struct shadow *shadow, bool orphans, struct flush *flush)
{
	sweep_chain(mmu, &shadow->parents, &SWEEP_ALL);
	if (shadow->role.level == 1)
		zap_leaves(mmu, shadow);
	else
		zap_links(mmu, shadow, orphans, flush);
	unhash(mmu, shadow);
	retire(mmu, shadow);
	flush_all(mmu, flush);
}

/* Take one page down: unlink its parents in one pass, remove what it maps. Its children stay. */
void shadow_zap(struct umbra_mmu *mmu, struct shadow *shadow, struct flush *flush)
{
	zap(mmu, shadow, false, flush);
}

/* The same, and what becomes unreachable with it: the guest has given up that table. */
void shadow_zap_tree(struct umbra_mmu *mmu, struct shadow *shadow, struct flush *flush)
{
	zap(mmu, shadow, true, flush);
}

/*
 * Take a page down, if nothing leads to it any more, and what becomes unreachable with it.
 *
 * => levels go down, so the recursion is at most four deep
 */
void shadow_zap_orphan(struct umbra_mmu *mmu, struct shadow *shadow, struct flush *flush)
{
	if (!shadow->roots && !rmap_count(shadow->parents))
		zap(mmu, shadow, true, flush);
}

static void forget_region(struct umbra_mmu *mmu, struct region *region, uint64_t first,
			  uint64_t end, void *arg)
{
	uint64_t *heads = heads_of(mmu, region->id);

	(void)first;
	(void)end;
	(void)arg;
	for (unsigned i = 0; i < 512; i++)
		if (heads[i])
			rmap_forget(mmu, &heads[i]);
}

/*
 * Take everything down without looking at a single spte: chains are freed, tables retired. (But for
 * what D bits alone tell.)
 */
void shadow_zap_all(struct umbra_mmu *mmu, struct flush *flush)
{
	for (uint32_t i = 0; mmu->dirty_slots && i < mmu->chunks.count << TUNING_CHUNK_SHIFT; i++)
		log_harvest(mmu, shadow_of(mmu, i));
	for (uint32_t i = 0; i < mmu->slots; i++)
		slot_regions(mmu, &mmu->slot[i], 0, UINT64_MAX, forget_region, NULL);
	for (uint32_t i = 0; i < mmu->chunks.count << TUNING_CHUNK_SHIFT; i++) {
		struct shadow *shadow = shadow_of(mmu, i);

		if (shadow->state != SHADOW_USED)
			continue;
		rmap_forget(mmu, &shadow->parents);
		shadow->used_up = true;
		unhash(mmu, shadow);
		retire(mmu, shadow);
	}
	mmu->stats.sptes_large[0] = mmu->stats.sptes_large[1] = 0;
	drop_count(mmu, mmu->stats.sptes);
	flush_all(mmu, flush);
}

/* Every vcpu was flushed: what was zapped before is free now. */
void shadow_release_pending(struct umbra_mmu *mmu)
{
	while (mmu->shadow_pending) {
		struct shadow *shadow = shadow_of(mmu, mmu->shadow_pending);

		mmu->shadow_pending = shadow->next;
		shadow->state = SHADOW_FREE;
		shadow->next = mmu->shadow_free;
		mmu->shadow_free = shadow->id;
		mmu->shadow_free_count++;
	}
	mmu->shadow_pending_count = 0;
}

#define CLOCK_PARENTS 8 /* entries looked at for A bits: enough to tell, bounded */

/*
 * Whether the page was walked since the clock last asked; asking makes it no. A page that TLBs and
 * walk caches keep using may look idle for a round, and is then only rebuilt.
 */
static bool was_referenced(struct umbra_mmu *mmu, struct shadow *shadow)
{
	bool referenced = shadow->referenced;

	shadow->referenced = false;
	return mmu_input(mmu, UMBRA_INPUT_AGE, shadow->id,
			 rmap_age(mmu, &shadow->parents, CLOCK_PARENTS)) ||
	       referenced;
}

/*
 * Zap the least recently used pages until @target are in use. Roots of vcpus stay, so it may
 * end above. Two rounds of the clock look for idle ones; the third takes what it meets.
 */
void shadow_reclaim(struct umbra_mmu *mmu, uint64_t target, struct flush *flush)
{
	uint32_t pages = mmu->chunks.count << TUNING_CHUNK_SHIFT;

	for (uint64_t steps = 3ull * pages; steps && mmu->stats.shadow_pages > target; steps--) {
		struct shadow *shadow;

		mmu->clock = mmu->clock + 1 < pages ? mmu->clock + 1 : 0;
		shadow = shadow_of(mmu, mmu->clock);
		if (shadow->state != SHADOW_USED || shadow->roots ||
		    (was_referenced(mmu, shadow) && steps > pages))
			continue;
		shadow_zap(mmu, shadow, flush);
		mmu->stats.shadow_reclaimed++;
	}
}
