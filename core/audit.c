/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The audit: every invariant of mmu.h, checked against a walk over everything.
 *
 * Both ways: from each table entry to the chain it should stand in, and from each chain to the
 * entries it names; as the numbers agree, the two are the same set. Changes nothing; asks the
 * host only for frames that are there.
 *
 * Lock: the MMU's, taken in umbra_audit.
 */
#include "mmu.h"

struct audit {
	struct umbra_mmu *mmu;
	struct umbra_audit *report;
	uint64_t gfn; /* what is being looked at, for the report */
	uint64_t spte;
	uint64_t implied;         /* bits taken as set in the guest's table */
	uint64_t leaves, tables;  /* entries present */
	uint64_t chained, linked; /* sptes in chains of gfns, of parents */
	uint64_t descs;
};

static bool check(struct audit *audit, bool holds, uint32_t invariant, const char *what)
{
	struct umbra_audit *report = audit->report;

	report->checks++;
	if (holds)
		return true;
	if (!report->violations++) {
		report->invariant = invariant;
		report->gfn = audit->gfn;
		report->spte = audit->spte;
		report->what = what;
	}
	return false;
}

/* Whether spte rights @has are within @may, or are the kernel's alone under CR0.WP = 0. */
static bool is_within(union role role, unsigned has, unsigned may)
{
	if (role.clean && has & ACCESS_W)
		return false;
	if (!role.wp && !(has & ACCESS_U) && may & ACCESS_U && !(has & ~may & ACCESS_X) &&
	    !(role.smep && has & ACCESS_X))
		return !role.smap;
	if (!role.wp && !(may & ACCESS_U))
		may |= ACCESS_W;
	return !(has & ~may) && !((has ^ may) & ACCESS_U);
}

/*
 * Invariant 2. @entries: the guest's table; NULL for a direct page, and while the host has the
 * table's frame away: then there is nothing to compare with.
 */
static void check_leaf(struct audit *audit, struct shadow *shadow, unsigned index,
		       const uint64_t *entries)
{
	struct umbra_mmu *mmu = audit->mmu;
	umbra_gfn gfn = rmap_gfn(mmu, handle_of(shadow, index)), wanted = gfn;
	struct slot *slot = slot_find(mmu, gfn);
	unsigned has = pte_access(audit->spte), may = shadow->role.access;
	struct umbra_frame frame;

	audit->gfn = gfn.n;
	if (!check(audit, slot, 2, "a leaf maps a gfn outside every slot"))
		return;
	if (!check(audit, !mmu->host.frame_get(mmu->ctx, gfn, UMBRA_WANT_PEEK, &frame), 2,
		   "a leaf maps a gfn that has no frame"))
		return;
	check(audit, (audit->spte & PTE_ADDRESS) >> UMBRA_PAGE_SHIFT == frame.pfn.n, 2,
	      "a leaf maps another frame than its gfn's");
	check(audit, !(has & ACCESS_W) || (frame.writable && !(slot->flags & UMBRA_SLOT_READONLY)),
	      2, "a leaf grants writing to read-only memory");
	check(audit, (audit->spte & (PTE_W | PTE_D)) != PTE_W && audit->spte & PTE_A, 2,
	      "a leaf waits for the hardware to set A or D");
	if (shadow->unsync || (!shadow->role.direct && !entries))
		return;
	if (shadow->role.direct)
		wanted.n = shadow->gfn.n + index;
	else if (!check(audit,
			walk_leaf_decode(mmu, shadow->role,
					 spte_read(&entries[index]) | audit->implied, &wanted,
					 &may),
			2, "a leaf stands where the guest maps nothing"))
		return;
	check(audit, gfn.n == wanted.n, 2, "a leaf maps another gfn than the guest's entry");
	/* The hardware may set D on its own account only after we did: W without D is not ours. */
	check(audit, is_within(shadow->role, has, may), 2,
	      "a leaf grants more than the guest's entry");
}

/*
 * Whether the guest's entry @pte asks for @child. A walk may have set D in the entry of a large
 * page since it was linked, for an access that ended elsewhere: then the child grants less.
 */
static bool is_asked_for(struct umbra_mmu *mmu, const struct shadow *shadow, unsigned index,
			 uint64_t pte, const struct shadow *child)
{
	union role role;
	umbra_gfn gfn;

	for (unsigned i = 0; i < 2; i++, pte &= ~PTE_D)
		if (walk_child_key(mmu, shadow, index, pte, &gfn, &role) && gfn.n == child->gfn.n &&
		    role.word == child->role.word)
			return true;
	return false;
}

/* Invariant 5, downwards. */
static void check_table(struct audit *audit, struct shadow *shadow, unsigned index,
			const uint64_t *entries)
{
	struct umbra_mmu *mmu = audit->mmu;
	head_ref owner = rmap_owner(mmu, handle_of(shadow, index));
	struct shadow *child;

	if (!check(audit, owner & HEAD_PARENTS, 5, "an entry to a table is in no parent chain"))
		return;
	child = shadow_of(mmu, owner & ~HEAD_PARENTS);
	check(audit, child->state == SHADOW_USED, 5, "an entry leads to a page not in use");
	check(audit, (audit->spte & PTE_ADDRESS) == child->hpa, 5,
	      "an entry leads elsewhere than its parent chain says");
	if (!shadow->role.direct && !entries)
		return;
	check(audit,
	      is_asked_for(mmu, shadow, index,
			   entries ? spte_read(&entries[index]) | audit->implied : 0, child),
	      5, "an entry leads to a page of another gfn or role");
}

static void check_shadow(struct audit *audit, struct shadow *shadow)
{
	struct umbra_mmu *mmu = audit->mmu;
	const uint64_t *entries = NULL;
	unsigned roots = 0;
	int error;

	audit->gfn = shadow->gfn.n;
	audit->spte = 0;
	check(audit, shadow_find(mmu, shadow->gfn, shadow->role) == shadow, 5,
	      "a shadow page is not the one under its key");
	for (unsigned i = 0; i < UMBRA_VCPUS_MAX; i++)
		roots += mmu->vcpu[i] && mmu->vcpu[i]->root == shadow->id;
	check(audit, roots == shadow->roots, 6, "a count of roots is wrong");
	if (!shadow->role.direct)
		entries = walk_table(mmu, shadow->gfn, UMBRA_WANT_PEEK, &audit->implied, &error);
	for (unsigned i = 0; i < PTE_ENTRIES; i++) {
		audit->spte = spte_read(&shadow->table[i]);
		if (!(audit->spte & PTE_P)) {
			check(audit, !audit->spte, 1, "an spte that is not present is not 0");
			continue;
		}
		if (shadow->role.level == 1) {
			audit->leaves++;
			if (check(audit, !(rmap_owner(mmu, handle_of(shadow, i)) & HEAD_PARENTS), 1,
				  "a leaf is in a parent chain"))
				check_leaf(audit, shadow, i, entries);
		} else {
			audit->tables++;
			check_table(audit, shadow, i, entries);
		}
	}
}

/* Invariant 1 from the chain's side; returns its sptes. */
static uint64_t check_chain(struct audit *audit, head_ref ref, bool writable)
{
	struct umbra_mmu *mmu = audit->mmu;
	uint64_t head = *rmap_head_of(mmu, ref);
	const char *wrong = rmap_check(mmu, ref, &audit->descs);
	struct rmap_cursor cursor;

	audit->spte = 0;
	if (!check(audit, !wrong, 1, wrong))
		return 0;
	rmap_for_each(mmu, head, &cursor, h)
	{
		audit->spte = spte_read(handle_spte(mmu, h));
		check(audit, audit->spte & PTE_P, 1, "a chain names an spte that is not present");
		check(audit, handle_shadow(mmu, h)->state == SHADOW_USED, 1,
		      "a chain names an spte of a page not in use");
		check(audit, writable || !(audit->spte & PTE_W), 3,
		      "a synced guest table has a writable spte");
		check(audit, rmap_covers(head, audit->spte), 1,
		      "a head does not know that its chain has a writable or volatile spte");
	}
	return rmap_count(head);
}

static void check_region(struct umbra_mmu *mmu, struct region *region, uint64_t first, uint64_t end,
			 void *arg)
{
	const uint64_t *heads = heads_of(mmu, region->id);
	struct audit *audit = arg;

	for (unsigned i = 0; i < 512; i++) {
		uint64_t gfn = region->base + i * level_pages(region->level);
		bool writable = true;

		if (!heads[i])
			continue;
		audit->gfn = gfn;
		audit->spte = heads[i];
		check(audit, gfn < end && gfn + level_pages(region->level) > first, 1,
		      "a chain belongs to a gfn outside its slot");
		for (uint64_t page = 0; page < level_pages(region->level); page++)
			writable &= track_is_writable(mmu, (umbra_gfn){gfn + page});
		audit->chained += check_chain(audit, region->id << 9 | i, writable);
	}
}

static uint64_t list_length(struct umbra_mmu *mmu, uint32_t first, uint64_t limit)
{
	uint64_t length = 0;

	for (uint32_t id = first; id && length <= limit; id = shadow_of(mmu, id)->next)
		length++;
	return length;
}

static uint64_t free_descs(struct umbra_mmu *mmu, enum desc_kind kind)
{
	uint64_t length = 0;

	for (uint32_t id = mmu->desc_free[kind]; id && length <= mmu->desc_count;
	     id = desc_of(mmu, id)->next)
		length++;
	return length;
}

static void check_counters(struct audit *audit, uint64_t used, uint64_t unsync)
{
	struct umbra_mmu *mmu = audit->mmu;
	uint64_t hashed = 0, units = audit->descs;

	audit->gfn = 0;
	audit->spte = 0;
	for (uint64_t i = 0; i <= mmu->hash_mask; i++)
		for (uint32_t id = mmu->hash[i]; id && hashed <= used;
		     id = shadow_of(mmu, id)->hash_next)
			hashed++;
	check(audit, hashed == used, 5, "the hash holds a page twice, or one not in use");
	check(audit, used == mmu->stats.shadow_pages, 6, "the count of shadow pages is wrong");
	check(audit, unsync == mmu->stats.shadow_pages_unsync, 6,
	      "the count of unsync pages is wrong");
	check(audit,
	      list_length(mmu, mmu->shadow_free, mmu->shadow_free_count) == mmu->shadow_free_count,
	      6, "the count of free shadow pages is wrong");
	check(audit,
	      list_length(mmu, mmu->shadow_pending, mmu->shadow_pending_count) ==
		  mmu->shadow_pending_count,
	      6, "the count of pending shadow pages is wrong");
	check(audit, audit->leaves == mmu->stats.sptes, 6, "the count of sptes is wrong");
	check(audit, audit->leaves == audit->chained, 1, "leaves and chains differ in number");
	check(audit, audit->tables == audit->linked, 5, "links and parent chains differ in number");
	check(audit, audit->descs == mmu->stats.descs, 6, "the count of descriptors is wrong");
	for (enum desc_kind kind = 0; kind < DESC_KINDS; kind++) {
		check(audit, free_descs(mmu, kind) == mmu->desc_free_count[kind], 6,
		      "the count of free descriptors is wrong");
		units += mmu->desc_free_count[kind] * (kind == DESC_LARGE ? 2 : 1);
	}
	check(audit, units == mmu->desc_count, 6, "free and used descriptors are not all");
}

uint64_t umbra_audit(struct umbra_mmu *mmu, struct umbra_audit *report)
{
	struct audit audit = {.mmu = mmu, .report = report};
	uint64_t used = 0, unsync = 0;

	*report = (struct umbra_audit){0};
	port_lock(&mmu->lock);
	for (uint32_t i = 0; i < mmu->chunks.count << TUNING_CHUNK_SHIFT; i++) {
		struct shadow *shadow = shadow_of(mmu, i);

		if (shadow->state != SHADOW_USED)
			continue;
		used++;
		unsync += shadow->unsync;
		check_shadow(&audit, shadow);
		audit.gfn = shadow->gfn.n;
		audit.linked += check_chain(&audit, HEAD_PARENTS | shadow->id, true);
	}
	for (uint32_t i = 0; i < mmu->slots; i++)
		slot_regions(mmu, &mmu->slot[i], mmu->slot[i].first,
			     mmu->slot[i].first + mmu->slot[i].pages, check_region, &audit);
	check_counters(&audit, used, unsync);
	port_unlock(&mmu->lock);
	return report->violations;
}
