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
#include "walk.h"

struct audit {
	struct umbra_mmu *mmu;
	struct umbra_audit *report;
	uint64_t gfn; /* what is being looked at, for the report */
	uint64_t spte;
	uint64_t leaves, tables; /* entries present */
	uint64_t large[2];       /* of the leaves, of 2 MiB and of 1 GiB */
	uint64_t outside;        /* gfns in no slot that are shadowed as tables */
	uint64_t guest_tables;   /* gfns in slots that are shadowed, */
	uint64_t counted[2];     /*   as directories count them in 2 MiB, and such areas in 1 GiB */
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
		return !role.strict;
	if (!role.wp && !(may & ACCESS_U))
		may |= ACCESS_W;
	return !(has & ~may) && !((has ^ may) & ACCESS_U);
}

/* Invariant 2: @gfn, mapped to @pfn, is the host's to give. */
static void check_frame(struct audit *audit, umbra_gfn gfn, uint64_t pfn)
{
	struct umbra_mmu *mmu = audit->mmu;
	struct slot *slot = slot_find(mmu, gfn);
	struct umbra_frame frame;

	if (!check(audit, slot, 2, "a leaf maps a gfn outside every slot"))
		return;
	if (!check(audit, !mmu->host.frame_get(mmu->ctx, gfn, UMBRA_WANT_PEEK, &frame), 2,
		   "a leaf maps a gfn that has no frame"))
		return;
	check(audit, pfn == frame.pfn.n, 2, "a leaf maps another frame than its gfn's");
	check(audit,
	      !(audit->spte & PTE_W) || (frame.writable && !(slot->flags & UMBRA_SLOT_READONLY)), 2,
	      "a leaf grants writing to read-only memory");
}

/* The same for a whole page. Of a large one only both ends are asked for: there may be many. */
static void check_frames(struct audit *audit, unsigned level, umbra_gfn gfn)
{
	uint64_t more = level_pages(level) - 1;
	uint64_t pfn = (audit->spte & PTE_ADDRESS) >> UMBRA_PAGE_SHIFT & ~more;

	check_frame(audit, gfn, pfn);
	if (more)
		check_frame(audit, (umbra_gfn){gfn.n + more}, pfn + more);
}

/* Invariant 4. */
static void check_log(struct audit *audit, unsigned level, umbra_gfn gfn)
{
	struct slot *slot = slot_find(audit->mmu, gfn);

	uint64_t head;

	if (!slot || !slot->log || !(audit->spte & (slot->by_d ? PTE_W | PTE_D : PTE_W)))
		return;
	if (!slot->by_d) {
		check(audit, level == 1 && log_is_set(slot, gfn), 4,
		      "a logged page may be written unseen");
		return;
	}
	if (level > 1) {
		check(audit, !(audit->spte & PTE_W), 4, "a large leaf may be written unseen");
		return;
	}
	check(audit, audit->spte & PTE_W, 4, "D stands without W, where it tells of writes");
	head = *slot_head_find(audit->mmu, slot, gfn, 1);
	check(audit, log_is_set(slot, gfn) || rmap_covers(head, PTE_P | PTE_A | PTE_W), 4,
	      "nobody will look at the D bit of a logged page");
}

/* Invariant 8. */
static void check_watch(struct audit *audit, unsigned level, umbra_gfn gfn)
{
	const struct umbra_mmu *mmu = audit->mmu;
	unsigned kinds = watch_kinds(mmu, gfn);

	if (level > 1) {
		check(audit, !watch_overlaps(mmu, gfn.n, gfn.n + level_pages(level)), 8,
		      "a large leaf covers a watched page");
		return;
	}
	check(audit, !(kinds & UMBRA_WATCH_R), 8, "a page watched for any access is mapped");
	check(audit, !watch_withheld(mmu, gfn, pte_access(audit->spte)), 8,
	      "a page may be touched in a way that is watched for");
}

/* Invariant 2. @pte: the guest's entry, of no meaning for a direct page. */
static void check_leaf(struct audit *audit, struct shadow *shadow, unsigned index, uint64_t pte,
		       bool comparable)
{
	struct umbra_mmu *mmu = audit->mmu;
	umbra_gfn gfn = rmap_gfn(mmu, handle_of(shadow, index));
	unsigned level = shadow->role.level;
	struct leaf leaf;

	audit->gfn = gfn.n;
	check_frames(audit, level, gfn);
	check(audit, (audit->spte & (PTE_W | PTE_D)) != PTE_W || slot_find(mmu, gfn)->waits, 2,
	      "a leaf waits for the hardware to set D");
	check_log(audit, level, gfn);
	if (mmu->watches)
		check_watch(audit, level, gfn);
	if (!comparable || !check(audit, walk_leaf_decode(mmu, shadow, index, pte, &leaf), 2,
				  "a leaf stands where the guest maps nothing"))
		return;
	check(audit, gfn.n == leaf.gfn.n, 2, "a leaf maps another gfn than the guest's entry");
	check(audit, pte_marks(audit->spte, level) == leaf.marks, 2,
	      "a leaf has another memory type or key than the guest's entry");
	/* The hardware may set D on its own account only after we did: W without D is not ours. */
	check(audit, is_within(shadow->role, pte_access(audit->spte), leaf.access), 2,
	      "a leaf grants more than the guest's entry");
}

/* Invariant 2 of notes. */
static void check_note(struct audit *audit, struct shadow *shadow, unsigned index, uint64_t pte,
		       bool comparable)
{
	struct umbra_mmu *mmu = audit->mmu;
	umbra_gfn gfn = {(audit->spte & PTE_ADDRESS) >> UMBRA_PAGE_SHIFT};
	unsigned has = pte_access(audit->spte);
	struct leaf leaf;

	if (!check(audit, shadow->role.level == 1 && audit->spte & NOTE, 1,
		   "an spte that is not present is neither 0 nor a note"))
		return;
	if ((audit->spte & NOTE_GENERATION) != note_generation(mmu->generation))
		return;
	check(audit, !slot_find(mmu, gfn), 2, "a note names a gfn in a slot");
	if (comparable && check(audit, walk_leaf_decode(mmu, shadow, index, pte, &leaf), 2,
				"a note stands where the guest maps nothing"))
		check(audit,
		      gfn.n == leaf.gfn.n && !(has & ~leaf.access) &&
			  !((has ^ leaf.access) & ACCESS_U) &&
			  !((audit->spte ^ leaf.marks) & PTE_KEY),
		      2, "a note tells something else than the guest's entry");
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
static void check_table(struct audit *audit, struct shadow *shadow, unsigned index, uint64_t pte,
			bool comparable)
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
	if (comparable)
		check(audit, is_asked_for(mmu, shadow, index, pte, child), 5,
		      "an entry leads to a page of another gfn or role");
}

static void check_entry(struct audit *audit, struct shadow *shadow, unsigned index, uint64_t pte,
			bool comparable)
{
	unsigned level = shadow->role.level;

	audit->spte = spte_read(&shadow->table[index]);
	if (!(audit->spte & PTE_P)) {
		check_note(audit, shadow, index, pte, comparable);
		return;
	}
	if (!spte_is_leaf(level, audit->spte)) {
		audit->tables++;
		check_table(audit, shadow, index, pte, comparable);
		return;
	}
	audit->leaves++;
	if (level > 1)
		audit->large[level - 2]++;
	if (check(audit, !(rmap_owner(audit->mmu, handle_of(shadow, index)) & HEAD_PARENTS), 1,
		  "a leaf is in a parent chain"))
		check_leaf(audit, shadow, index, pte, comparable);
}

static unsigned count_roots(const struct umbra_mmu *mmu, const struct shadow *shadow)
{
	unsigned roots = 0;

	for (unsigned i = 0; i < UMBRA_VCPUS_MAX; i++)
		for (unsigned j = 0; mmu->vcpu[i] && j < PAE_ROOTS; j++)
			roots += mmu->vcpu[i]->root[j] == shadow->id;
	return roots;
}

/* Invariant 3 of a synced table: no entry of its chain lets it be written. */
static void check_protected(struct audit *audit, umbra_gfn gfn)
{
	struct umbra_mmu *mmu = audit->mmu;
	struct slot *slot = slot_find(mmu, gfn);
	const uint64_t *head = slot ? slot_head_find(mmu, slot, gfn, 1) : NULL;
	struct rmap_cursor cursor;

	if (!head)
		return;
	rmap_for_each(mmu, *head, &cursor, h)
	{
		audit->spte = spte_read(handle_spte(mmu, h));
		check(audit, !(audit->spte & PTE_W), 3, "a synced guest table has a writable spte");
	}
}

/* A guest's table, met for the first time. */
static void check_tracked(struct audit *audit, umbra_gfn gfn)
{
	struct slot *slot = slot_find(audit->mmu, gfn);

	if (!slot) {
		audit->outside++;
		return;
	}
	audit->guest_tables++;
	for (unsigned level = 2; level <= LEVELS; level++)
		check(audit, slot_has_tables(slot, gfn, level), 6,
		      "a guest's table is not counted");
}

/* Entries are compared with the guest's, unless the host has the table's frame away. */
static void check_shadow(struct audit *audit, struct shadow *shadow)
{
	struct umbra_mmu *mmu = audit->mmu;
	bool direct = shadow->role.direct, comparable;
	const void *entries = NULL;
	uint64_t implied = 0;
	int error;

	audit->gfn = shadow->gfn.n;
	audit->spte = 0;
	check(audit, shadow_find(mmu, shadow->gfn, shadow->role) == shadow, 5,
	      "a shadow page is not the one under its key");
	check(audit, count_roots(mmu, shadow) == shadow->roots, 6, "a count of roots is wrong");
	if (!direct) {
		entries = walk_table(mmu, shadow->gfn, UMBRA_WANT_PEEK, &implied, &error);
		if (shadow_first_of(mmu, shadow->gfn) == shadow)
			check_tracked(audit, shadow->gfn);
	}
	if (!direct && !shadow->unsync)
		check_protected(audit, shadow->gfn);
	comparable = direct || (entries && !shadow->unsync);
	for (unsigned i = spte_next(shadow->table, 0); i < PTE_ENTRIES;
	     i = spte_next(shadow->table, i + 1))
		check_entry(audit, shadow, i, walk_entry(audit->mmu, shadow, entries, implied, i),
			    comparable);
}

/* Invariant 1 from the chain's side; returns its sptes. */
static uint64_t check_chain(struct audit *audit, head_ref ref)
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
		struct slot *slot;

		if (!heads[i])
			continue;
		audit->gfn = gfn;
		audit->spte = heads[i];
		check(audit, gfn < end && gfn + level_pages(region->level) > first, 1,
		      "a chain belongs to a gfn outside its slot");
		slot = slot_find(mmu, (umbra_gfn){gfn});
		check(audit,
		      region->level == 1 ||
			  (slot && !slot_has_tables(slot, (umbra_gfn){gfn}, region->level)),
		      3, "a large leaf covers a guest's table");
		audit->chained += check_chain(audit, region->id << 9 | i);
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
	for (unsigned i = 0; i < 2; i++)
		check(audit, audit->large[i] == mmu->stats.sptes_large[i], 6,
		      "the count of large sptes is wrong");
	check(audit, audit->outside == mmu->tables_outside, 6,
	      "the count of tables outside of slots is wrong");
	check(audit, audit->guest_tables == audit->counted[0], 6,
	      "tables are counted that are none");
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

/* Guest tables by the slot's own count; and its count of areas that have some is right. */
static void check_directory(struct audit *audit, const struct slot *slot)
{
	uint64_t areas = 0;

	for (unsigned level = 1; level < LEVELS; level++) {
		uint64_t last = slot_region_index(slot, slot->first + slot->pages - 1, level);

		audit->counted[level - 1] = level == 1 ? audit->counted[0] : 0;
		for (uint64_t i = 0; i <= last; i++) {
			const uint32_t *leaf = slot->dir[level - 1].top[i / DIR_LEAF];
			uint32_t tables = leaf ? leaf[i % DIR_LEAF] >> DIR_TABLES_SHIFT : 0;

			audit->counted[level - 1] += tables;
			areas += level == 1 && tables;
			if (!leaf)
				i |= DIR_LEAF - 1;
		}
	}
	check(audit, audit->counted[1] == areas, 6, "areas that have tables are counted wrong");
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
		audit.linked += check_chain(&audit, HEAD_PARENTS | shadow->id);
	}
	for (uint32_t i = 0; i < mmu->slots; i++) {
		check_directory(&audit, &mmu->slot[i]);
		slot_regions(mmu, &mmu->slot[i], mmu->slot[i].first,
			     mmu->slot[i].first + mmu->slot[i].pages, check_region, &audit);
	}
	check_counters(&audit, used, unsync);
	port_unlock(&mmu->lock);
	return report->violations;
}
