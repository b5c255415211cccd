/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tables of the last level that the guest writes without exits.
 *
 * Such a table goes *unsync* on its first write: the guest writes on, and the shadow pages of it
 * wait on a list until the architecture demands that changes show: CR3 loads, CR4 toggles, INVLPG,
 * and when another table comes to lead there. Then they are compared, entry by entry, with the
 * guest's.
 *
 * A synchronised table stays writable while its guest keeps changing it; found unchanged
 * TUNING_CLEAN_SYNCS times, it is write-protected again. Only tables below the loaded root are
 * looked at, found by going up their parents: no marks in the tables above, so there is nothing
 * to update in every root when one kernel table changes.
 *
 * Lock: the MMU's.
 */
#include "agree.h"
#include "head.h"
#include "walk.h"

static void unsync_one(struct umbra_mmu *mmu, struct shadow *shadow)
{
	shadow->unsync = true;
	shadow->clean = 0;
	shadow->unsync_link = (struct link){.next = mmu->unsync};
	if (mmu->unsync)
		shadow_of(mmu, mmu->unsync)->unsync_link.prev = shadow->id;
	mmu->unsync = shadow->id;
	mmu->stats.unsyncs++;
	mmu->stats.shadow_pages_unsync++;
}

/* Take it off the list of unsync pages. */
void sync_forget(struct umbra_mmu *mmu, struct shadow *shadow)
{
	struct link link = shadow->unsync_link;

	if (link.prev)
		shadow_of(mmu, link.prev)->unsync_link.next = link.next;
	else
		mmu->unsync = link.next;
	if (link.next)
		shadow_of(mmu, link.next)->unsync_link.prev = link.prev;
	shadow->unsync = false;
	mmu->stats.shadow_pages_unsync--;
}

/*
 * The guest wants to write table @gfn: let all its shadow pages go unsync.
 *
 * => false: one of them is of an upper level, or none may; so the write must be emulated
 */
bool sync_suspend(struct umbra_mmu *mmu, umbra_gfn gfn)
{
	if (mmu->config.without & UMBRA_WITHOUT_UNSYNC)
		return false;
	for_each_shadow_of (mmu, gfn, shadow)
		if (shadow->role.level > 1)
			return false;
	for_each_shadow_of (mmu, gfn, shadow)
		if (!shadow->unsync)
			unsync_one(mmu, shadow);
	return true;
}

/* Make note @index agree with the guest's entry, which says @leaf; NULL: nothing. */
static void sync_note(struct umbra_mmu *mmu, struct shadow *shadow, unsigned index,
		      const struct leaf *leaf)
{
	uint64_t *spte = &shadow->table[index];

	if (!leaf ||
	    spte_read(spte) != note_make(leaf->gfn.n, leaf->access, leaf->marks, mmu->generation))
		spte_write(spte, 0);
}

/*
 * Make leaf or note @index, which is there, agree with the guest's entry @pte.
 *
 * => returns whether it took something away that TLBs may hold. More rights are not granted here:
 *    that is a fault's job
 */
bool sync_entry(struct umbra_mmu *mmu, struct shadow *shadow, unsigned index, uint64_t pte)
{
	uint64_t *spte = &shadow->table[index], value = spte_read(spte);
	unsigned has = pte_access(value);
	struct leaf leaf;
	bool maps = walk_leaf_decode(mmu, shadow, index, pte, &leaf);

	if (is_note(value)) {
		sync_note(mmu, shadow, index, maps ? &leaf : NULL);
		return false;
	}
	if (!maps || leaf.gfn.n != rmap_gfn(mmu, handle_of(shadow, index)).n ||
	    leaf.marks != pte_marks(value, shadow->role.level) || (has ^ leaf.access) & ACCESS_U ||
	    has & ~leaf.access & ACCESS_X)
		shadow_clear_leaf(mmu, shadow, index);
	else if (has & ~leaf.access & ACCESS_W && !spte_is_volatile(value) && !mmu->dirty_logs)
		spte_write(spte, value & ~PTE_W);
	else if (has & ~leaf.access & ACCESS_W)
		rmap_take_write(mmu, handle_of(shadow, index));
	else
		return false;
	flush_later(mmu);
	return true;
}

/* The region of heads that was met last. */
struct known_region {
	uint32_t region;
	uint64_t base; /* its first gfn */
};

/* Whether the spte of that place was made for the gfn of @pte. */
static inline bool is_gfn(struct umbra_mmu *mmu, struct known_region *known, place at, uint64_t pte)
{
	head_ref ref = place_owner(mmu, at);

	if (ref >> 9 != known->region) {
		known->region = ref >> 9;
		known->base = region_of(mmu, ref >> 9)->base;
	}
	return known->base + (ref & 511) == (pte & PTE_ADDRESS) >> UMBRA_PAGE_SHIFT;
}

/* sync_table() of entries of 8 bytes, of which most are as they were. */
static bool sync_most(struct umbra_mmu *mmu, struct shadow *shadow, const void *entries,
		      uint64_t implied)
{
	const struct agreement agreement = agreement_make(mmu, shadow);
	struct known_region known = {.region = UINT32_MAX};
	bool changed = false;

	for (unsigned first = 0; first < PTE_ENTRIES; first += 8) {
		if (!spte_any(&shadow->table[first]))
			continue;
		for (unsigned i = first; i < first + 8; i++) {
			uint64_t spte = spte_read(&shadow->table[i]);
			uint64_t pte = mode_entry_read(MODE_4, entries, i) | implied;

			if (spte && !(agree(&agreement, spte, pte) &&
				      is_gfn(mmu, &known, shadow->place[i], pte)))
				changed |= sync_entry(mmu, shadow, i, pte);
		}
	}
	return changed;
}

/* Compare a whole table of the last level; returns whether anything had changed. */
static bool sync_table(struct umbra_mmu *mmu, struct shadow *shadow)
{
	uint64_t implied;
	int error;
	void *entries = walk_table(mmu, shadow->gfn, UMBRA_WANT_PEEK, &implied, &error);
	bool changed = false;

	mmu->stats.syncs++;
	if (entries && modes[shadow->role.mode].entry_shift == 3 && !mmu->host.input)
		return sync_most(mmu, shadow, entries, implied);
	for (unsigned i = spte_next(shadow->table, 0); i < PTE_ENTRIES;
	     i = spte_next(shadow->table, i + 1))
		changed |= sync_entry(mmu, shadow, i, walk_entry(mmu, shadow, entries, implied, i));
	return changed;
}

#define PARENTS_FOLLOWED 2

/*
 * Whether @shadow can be reached from @top. Where a table has many parents (a kernel's, shared
 * by every process) the answer is yes without looking: then it is only synced too often.
 */
static bool is_below(struct umbra_mmu *mmu, struct shadow *shadow, const struct shadow *top)
{
	struct rmap_cursor cursor;

	if (shadow == top)
		return true;
	if (shadow->role.level >= top->role.level)
		return false;
	if (rmap_count(shadow->parents) > PARENTS_FOLLOWED)
		return true;
	rmap_for_each(mmu, shadow->parents, &cursor,
		      h) if (is_below(mmu, handle_shadow(mmu, h), top)) return true;
	return false;
}

/* The root that alone leads to @shadow, by one entry a level; 0: there is no such. */
static uint32_t sole_root(struct umbra_mmu *mmu, struct shadow *shadow)
{
	struct rmap_cursor cursor;

	while (shadow->role.level < modes[shadow->role.mode].shadow_root) {
		if (rmap_count(shadow->parents) != 1)
			return 0;
		shadow = handle_shadow(mmu, rmap_first(mmu, shadow->parents, &cursor));
	}
	return shadow->id;
}

/*
 * The same for the roots that are loaded all the time: who found the way up once remembers it
 * until a link somewhere may have opened another one. (One that was cut since is no harm.)
 */
static bool is_under(struct umbra_mmu *mmu, struct shadow *shadow, const struct shadow *top)
{
	if (top->role.level < modes[top->role.mode].shadow_root)
		return is_below(mmu, shadow, top);
	if (!shadow->top || shadow->top_epoch != mmu->link_epoch) {
		shadow->top = sole_root(mmu, shadow);
		shadow->top_epoch = mmu->link_epoch;
	}
	return shadow->top ? shadow->top == top->id : is_below(mmu, shadow, top);
}

static struct shadow *unsync_at(struct umbra_mmu *mmu, uint32_t id)
{
	return id ? shadow_of(mmu, id) : NULL;
}

/*
 * Synchronise every unsync table that can be reached from @top.
 *
 * => may flush all vcpus on the way, since a table is protected before it is read; then leaves a
 *    flush gathered, for what the caller read before may have changed
 */
void sync_below(struct umbra_mmu *mmu, struct shadow *top, struct flush *flush)
{
	struct shadow *shadow, *next;
	bool protect = false;

	if (top->fresh || (top->role.level == 1 && !top->unsync))
		return;
	for (shadow = unsync_at(mmu, mmu->unsync); shadow;
	     shadow = unsync_at(mmu, shadow->unsync_link.next))
		if (shadow->clean >= TUNING_CLEAN_SYNCS && is_under(mmu, shadow, top))
			protect |= track_write_protect(mmu, shadow->gfn);
	if (protect) {
		flush_all(mmu, flush);
		flush_commit(mmu, flush);
		flush_all(mmu, flush); /* who read tables before us shall know */
	}
	for (shadow = unsync_at(mmu, mmu->unsync); shadow; shadow = next) {
		next = unsync_at(mmu, shadow->unsync_link.next);
		if (!is_under(mmu, shadow, top))
			continue;
		if (sync_table(mmu, shadow))
			shadow->clean = 0;
		else if (shadow->clean >= TUNING_CLEAN_SYNCS)
			sync_forget(mmu, shadow);
		else
			shadow->clean++;
	}
}

/*
 * Synchronise what @shadow, a root, says of @gva. Only a table of the last level can be unsync, so
 * one entry is all that may be out of date; what stands above it follows at once.
 */
void sync_gva(struct umbra_mmu *mmu, struct shadow *shadow, uint64_t gva)
{
	unsigned index = gva_index(gva, 1);
	uint64_t implied;
	void *entries;
	int error;

	for (unsigned level = shadow->role.level; level > 1; level--) {
		uint64_t spte = spte_read(&shadow->table[gva_index(gva, level)]);

		if (!(spte & PTE_P) || spte_is_leaf(level, spte))
			return;
		shadow = shadow_child(mmu, shadow, gva_index(gva, level));
	}
	if (!shadow->unsync || !spte_read(&shadow->table[index]))
		return;
	entries = walk_table(mmu, shadow->gfn, UMBRA_WANT_PEEK, &implied, &error);
	sync_entry(mmu, shadow, index, walk_entry(mmu, shadow, entries, implied, index));
}
