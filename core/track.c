/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guest tables that change under us.
 *
 * Tables above the last level are write-protected in every mapping: a write to one is emulated by
 * the embedder and reported (umbra_guest_write). Those of the last level may be written without
 * exits instead (sync.c).
 *
 * Lock: the MMU's.
 */
#include "walk.h"

/*
 * Take the W bit from every spte of @gfn. (Large ones over a guest's table there are none.)
 *
 * => true: all vcpus must be flushed before the protection holds
 */
bool track_write_protect(struct umbra_mmu *mmu, umbra_gfn gfn)
{
	struct slot *slot = slot_find(mmu, gfn);
	bool changed = mmu->tlb_stale != 0;
	uint64_t *head;

	head = slot ? slot_head_find(mmu, slot, gfn, 1) : NULL;
	if (head)
		changed |= rmap_write_protect(mmu, head) != 0;
	return changed;
}

/* Whether sptes of @gfn may be writable: no synced shadow page depends on its contents. */
bool track_is_writable(struct umbra_mmu *mmu, umbra_gfn gfn)
{
	for_each_shadow_of (mmu, gfn, shadow)
		if (!shadow->unsync)
			return false;
	return true;
}

/*
 * The guest's entry @index of a tracked table is @pte now; returns whether pages were zapped.
 *
 * => what upper entries meant is flushed at once: one of the guest's may cover more than one of
 *    ours, and it names only one address when it flushes
 */
static bool entry_written(struct umbra_mmu *mmu, struct shadow *shadow, unsigned index,
			  uint64_t pte, struct flush *flush)
{
	uint64_t spte = spte_read(&shadow->table[index]);
	struct shadow *child;
	union role role;
	umbra_gfn gfn;

	if (!spte)
		return false;
	if (spte_is_leaf(shadow->role.level, spte)) {
		if (sync_entry(mmu, shadow, index, pte) && shadow->role.level > 1)
			flush_all(mmu, flush);
		return false;
	}
	child = shadow_child(mmu, shadow, index);
	if (walk_child_key(mmu, shadow, index, pte, &gfn, &role) && child->gfn.n == gfn.n &&
	    child->role.word == role.word)
		return false;
	shadow_unlink(mmu, shadow, index, flush);
	shadow_zap_orphan(mmu, child, flush);
	return child->state != SHADOW_USED;
}

/* A table that nothing leads to, or that is written without being walked, is one no more. */
static bool is_flooded(const struct shadow *shadow)
{
	return (!shadow->roots && !rmap_count(shadow->parents)) ||
	       shadow->writes >= TUNING_FLOOD_WRITES;
}

/* Bytes of a guest table. */
struct written {
	umbra_gfn gfn;
	unsigned first, last;
	const void *entries;
	uint64_t implied;
};

/* The entries of @shadow that stand for the bytes: [*@first, *@end). */
static void written_entries(const struct written *written, const struct shadow *shadow,
			    unsigned *first, unsigned *end)
{
	const struct mode *mode = &modes[shadow->role.mode];
	unsigned level = shadow->role.level, before = shadow->role.quadrant * PTE_ENTRIES;
	unsigned parts = mode->level[level].shift - shadow_shift(level); /* log2 */
	unsigned from = written->first >> mode->entry_shift << parts;
	unsigned to = ((written->last >> mode->entry_shift) + 1) << parts;

	*first = from > before ? from - before : 0;
	*end = to > before ? to - before : 0;
	*end = *end < PTE_ENTRIES ? *end : PTE_ENTRIES;
}

/* Let the shadow pages of a table follow a write; true: pages were zapped, look again. */
static bool follow_write(struct umbra_mmu *mmu, const struct written *written, struct flush *flush)
{
	for_each_shadow_of (mmu, written->gfn, shadow) {
		bool zapped = false;
		unsigned i, end;

		if (is_flooded(shadow)) {
			mmu->stats.shadow_flooded++;
			shadow_zap_tree(mmu, shadow, flush);
			return true;
		}
		written_entries(written, shadow, &i, &end);
		for (; i < end && !zapped; i++)
			zapped = entry_written(
			    mmu, shadow, i,
			    walk_entry(mmu, shadow, written->entries, written->implied, i), flush);
		if (zapped)
			return true;
	}
	return false;
}

/* Bytes of table @gfn from @first to @last were written. */
static void table_written(struct umbra_mmu *mmu, umbra_gfn gfn, unsigned first, unsigned last,
			  struct flush *flush)
{
	struct written written = {.gfn = gfn, .first = first, .last = last};
	int error;

	written.entries = walk_table(mmu, gfn, UMBRA_WANT_PEEK, &written.implied, &error);
	while (follow_write(mmu, &written, flush))
		;
}

/*
 * The walker set A or D in a 4-byte entry at @gpa. Where the table is one of 8-byte entries too,
 * those are bits of an address there.
 */
void track_bits_set(struct umbra_mmu *mmu, uint64_t gpa, struct flush *flush)
{
	unsigned offset = gpa & (UMBRA_PAGE_SIZE - 1);
	umbra_gfn gfn = {gpa >> UMBRA_PAGE_SHIFT};

	for_each_shadow_of (mmu, gfn, shadow) {
		if (modes[shadow->role.mode].entry_shift != 3)
			continue;
		table_written(mmu, gfn, offset, offset + 3, flush);
		return;
	}
}

int umbra_guest_write(struct umbra_mmu *mmu, uint64_t gpa, size_t len)
{
	unsigned offset = gpa & (UMBRA_PAGE_SIZE - 1);
	umbra_gfn gfn = {gpa >> UMBRA_PAGE_SHIFT};
	struct flush flush = {0};
	bool tracked = false;

	if (len > UMBRA_PAGE_SIZE - offset)
		return UMBRA_EINVAL;
	if (!len)
		return 0;
	port_lock(&mmu->lock);
	log_mark(mmu, gfn);
	for_each_shadow_of (mmu, gfn, shadow) {
		tracked = true;
		if (shadow->writes < UINT8_MAX)
			shadow->writes++;
	}
	if (tracked) {
		mmu->stats.guest_writes++;
		table_written(mmu, gfn, offset, offset + (unsigned)len - 1, &flush);
	}
	flush_commit(mmu, &flush);
	port_unlock(&mmu->lock);
	return 0;
}

size_t umbra_unprotect(struct umbra_mmu *mmu, umbra_gfn gfn)
{
	struct flush flush = {0};
	struct shadow *shadow;
	size_t zapped = 0;

	port_lock(&mmu->lock);
	while ((shadow = shadow_first_of(mmu, gfn))) {
		shadow_zap(mmu, shadow, &flush);
		zapped++;
	}
	flush_commit(mmu, &flush);
	port_unlock(&mmu->lock);
	return zapped;
}
