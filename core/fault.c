/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Page faults: walk the guest's tables, then make the shadow tables say the same.
 *
 * The way down from the root makes or finds one shadow page a level; a link that leads to
 * another (gfn, role) than the guest's entry asks for is cut and made anew. Write-protecting a
 * new table may call for a flush; a vcpu could have written the table until then, so nothing is
 * linked into it before: the walk starts again after the flush.
 *
 * Rights: a leaf gets what the guest's entries of all levels grant, W only with D, less what the
 * host's frame, the slot and tracked tables forbid. With CR0.WP = 0 the guest's kernel may write
 * where no entry grants it; such an spte is for the kernel alone (no U; no X under SMEP) until a
 * user comes and turns it round.
 *
 * Lock: the MMU's, taken in umbra_fault and umbra_translate.
 */
#include "head.h"
#include "walk.h"

#define RESTARTS 6 /* more would mean that other vcpus keep interfering: let the guest retry */

struct fault {
	struct umbra_vcpu *vcpu;
	uint64_t gva;
	uint32_t error_code;
	struct walk walk;
	struct slot *slot;
	struct umbra_frame frame;
	struct flush flush;
	bool again; /* tables may have changed since the walk */
};

static struct umbra_answer answer(enum umbra_verdict verdict, uint64_t gpa)
{
	return (struct umbra_answer){.verdict = verdict, .gpa = gpa};
}

/*
 * The entry @index of @shadow leads to the page of that key; NULL: to none, or to a page that is
 * mapped whole. Either is taken away.
 */
static struct shadow *linked_child(struct fault *fault, struct shadow *shadow, unsigned index,
				   umbra_gfn gfn, union role role)
{
	struct umbra_mmu *mmu = fault->vcpu->mmu;
	uint64_t spte = spte_read(&shadow->table[index]);
	struct shadow *child;

	if (!(spte & PTE_P))
		return NULL;
	if (spte_is_leaf(shadow->role.level, spte)) {
		shadow_clear_leaf(mmu, shadow, index);
		flush_all(mmu, &fault->flush);
		return NULL;
	}
	child = shadow_child(mmu, shadow, index);
	if (child->gfn.n == gfn.n && child->role.word == role.word)
		return child;
	shadow_unlink(mmu, shadow, index, &fault->flush);
	return NULL;
}

/* The table of level @target for the gva, with all above it linked. NULL: .again */
static struct shadow *descend(struct fault *fault, unsigned target)
{
	struct umbra_mmu *mmu = fault->vcpu->mmu;
	struct shadow *shadow = vcpu_root(fault->vcpu, fault->gva, &fault->flush);

	for (unsigned level = shadow->role.level; level > target; level--) {
		unsigned index = gva_index(fault->gva, level);
		struct shadow *child;
		union role role;
		umbra_gfn gfn;

		fault->again |= flush_commit(mmu, &fault->flush);
		if (fault->again)
			return NULL;
		shadow->referenced = true;
		shadow->writes = 0;
		walk_child_key(mmu, shadow, index, shadow->role.direct ? 0 : fault->walk.pte[level],
			       &gfn, &role);
		child = linked_child(fault, shadow, index, gfn, role);
		if (!child) {
			child = shadow_get(mmu, gfn, role, &fault->flush);
			sync_below(mmu, child, &fault->flush);
			shadow_link(mmu, shadow, index, child);
		}
		shadow = child;
	}
	shadow->referenced = true;
	shadow->writes = 0;
	fault->again |= flush_commit(mmu, &fault->flush);
	return fault->again ? NULL : shadow;
}

/* Whether the page of @level around the gfn may be mapped by one entry. */
static bool is_whole(const struct fault *fault, unsigned level)
{
	const struct slot *slot = fault->slot;
	uint64_t pages = level_pages(level), gfn = fault->walk.gfn.n;
	uint64_t first = gfn & ~(pages - 1);

	return first >= slot->first && first + pages <= slot->first + slot->pages &&
	       !((gfn ^ fault->frame.pfn.n) & (pages - 1)) &&
	       !slot_has_tables(slot, fault->walk.gfn, level) &&
	       !drop_is_held(fault->vcpu->mmu, first, pages) &&
	       !(fault->vcpu->mmu->watches &&
		 watch_overlaps(fault->vcpu->mmu, first, first + pages));
}

/* The level to map the page on: as large as guest and host have it. */
static unsigned leaf_level(const struct fault *fault)
{
	unsigned level = fault->frame.level, most = fault->vcpu->levels == 3 ? 2 : LEVELS;

	if (level < 2 || (fault->slot->log && fault->error_code & UMBRA_PF_W))
		return 1;
	level = level < fault->walk.level ? level : fault->walk.level;
	level = level < most ? level : most;
	while (level > 1 && !is_whole(fault, level))
		level--;
	return level;
}

/*
 * Rights for a write that the guest's CR0.WP = 0 allows and no entry grants. The hardware runs with
 * WP = 1: the spte grants writing and is taken from users, so from SMAP's and their keys' sight.
 */
static unsigned kernel_rights(const struct fault *fault, unsigned rights,
			      enum umbra_verdict *verdict)
{
	const struct umbra_vcpu *vcpu = fault->vcpu;

	if (rights & ACCESS_U && vcpu_is_strict(vcpu))
		*verdict = UMBRA_EMULATE;
	if (rights & ACCESS_U)
		rights &= vcpu->paging.cr4 & CR4_SMEP ? ~(ACCESS_U | ACCESS_X) : ~ACCESS_U;
	return rights | ACCESS_W;
}

/*
 * In a logged slot a write is let through once its page is marked; what reads grants no writing, so
 * that the mark is true, and so that large pages may be mapped. Where D bits tell, a small page may
 * grant it.
 */
static unsigned logged_rights(struct fault *fault, unsigned rights, unsigned level)
{
	if (fault->error_code & UMBRA_PF_W)
		log_set(fault->slot, fault->walk.gfn);
	else if (!fault->slot->by_d || level > 1)
		return rights & ~ACCESS_W;
	return rights;
}

/*
 * The rights for the spte. *@verdict: UMBRA_RESUME, or why the write cannot be let through.
 */
static unsigned leaf_rights(struct fault *fault, unsigned level, enum umbra_verdict *verdict)
{
	struct umbra_mmu *mmu = fault->vcpu->mmu;
	bool write = fault->error_code & UMBRA_PF_W;
	unsigned rights = fault->walk.rights;

	*verdict = UMBRA_RESUME;
	if (write && !mmu->config.nested &&
	    walk_key_denies(fault->vcpu, rights, fault->walk.marks) & 2)
		*verdict = UMBRA_EMULATE; /* WP = 0 lets it pass, the hardware does not */
	if (write && !(rights & ACCESS_W))
		rights = kernel_rights(fault, rights, verdict);
	if (!fault->frame.writable || fault->slot->flags & UMBRA_SLOT_READONLY) {
		if (write)
			*verdict = UMBRA_MMIO;
		rights &= ~ACCESS_W;
	}
	if (rights & ACCESS_W && !track_is_writable(mmu, fault->walk.gfn)) {
		if (!write)
			rights &= ~ACCESS_W;
		else if (!sync_suspend(mmu, fault->walk.gfn))
			*verdict = UMBRA_EMULATE;
	}
	if (fault->slot->log && rights & ACCESS_W)
		rights = logged_rights(fault, rights, level);
	return rights;
}

/* Enter a leaf in chain and table. => the entry is not present */
static void leaf_add(struct umbra_mmu *mmu, struct shadow *shadow, unsigned index, head_ref ref,
		     uint64_t value)
{
	uint64_t length;

	rmap_add(mmu, ref, handle_of(shadow, index), value);
	spte_write(&shadow->table[index], value);
	length = head_count(*head_at(mmu, ref));
	if (length > mmu->stats.longest_chain)
		mmu->stats.longest_chain = length;
	mmu->stats.sptes++;
	mmu->stats.sptes_added++;
	if (shadow->role.level > 1)
		mmu->stats.sptes_large[shadow->role.level - 2]++;
}

/* Whether some access that @old let through would fault with @new. */
static bool is_narrower(uint64_t old, uint64_t new)
{
	return pte_access(old) & ~pte_access(new);
}

/* What a leaf says besides rights. */
#define LEAF_SUBJECT (PTE_ADDRESS | PTE_MARKS)

/*
 * Take away what stands in the entry for the gva, unless it is a leaf that differs from @value in
 * rights alone.
 */
static void make_way(struct fault *fault, struct shadow *shadow, unsigned index, uint64_t value)
{
	struct umbra_mmu *mmu = fault->vcpu->mmu;
	uint64_t old = spte_read(&shadow->table[index]);
	bool same;

	if (!(old & PTE_P))
		return;
	if (!spte_is_leaf(shadow->role.level, old)) {
		shadow_zap_orphan(mmu, shadow_unlink(mmu, shadow, index, &fault->flush),
				  &fault->flush);
		return;
	}
	same = rmap_gfn(mmu, handle_of(shadow, index)).n ==
		   (fault->walk.gfn.n & ~(level_pages(shadow->role.level) - 1)) &&
	       !((old ^ value) & LEAF_SUBJECT);
	if (!same || is_narrower(old, value)) {
		flush_page(fault->vcpu, &fault->flush, fault->gva);
		flush_later(mmu);
	}
	if (!same)
		shadow_clear_leaf(mmu, shadow, index);
}

/* Make the leaf say @value; true: it was not present before, or could not be written. */
static bool leaf_set(struct fault *fault, struct shadow *shadow, uint64_t value)
{
	struct umbra_mmu *mmu = fault->vcpu->mmu;
	unsigned level = shadow->role.level, index = gva_index(fault->gva, level);
	uint64_t *spte = &shadow->table[index], old;

	make_way(fault, shadow, index, value);
	old = spte_read(spte);
	if (old & PTE_P) {
		rmap_replace(mmu, handle_of(shadow, index), spte, old, value);
		return value & ~old & PTE_W;
	}
	leaf_add(mmu, shadow, index, slot_head_make(mmu, fault->slot, fault->walk.gfn, level),
		 value);
	return true;
}

/*
 * The walk ended outside of all slots: note it, so that the next access there needs no walk.
 *
 * => a leaf that stood there is taken out of its chain first
 */
static void note_set(struct fault *fault, struct shadow *shadow)
{
	unsigned index = gva_index(fault->gva, 1);
	uint64_t note = note_make(fault->walk.gfn.n, fault->walk.rights, fault->walk.marks,
				  fault->vcpu->mmu->generation);

	make_way(fault, shadow, index, note);
	spte_write(&shadow->table[index], note);
}

/*
 * Map entry @index, or let it be written where the guest has come to allow that. false: nothing to
 * do there, so that there is likely nothing to do behind it.
 */
static bool prefetch_one(struct umbra_mmu *mmu, struct shadow *shadow, unsigned index,
			 const void *entries, uint64_t implied)
{
	uint64_t old = spte_read(&shadow->table[index]), value;
	struct umbra_frame frame;
	struct slot *slot;
	struct leaf leaf;

	if (old & PTE_W || is_note(old) ||
	    !walk_leaf_decode(mmu, shadow, index, walk_entry(mmu, shadow, entries, implied, index),
			      &leaf) ||
	    (old && !(leaf.access & ACCESS_W)))
		return false;
	slot = slot_find(mmu, leaf.gfn);
	if (!slot || !slot_head_find(mmu, slot, leaf.gfn, 1) || drop_is_held(mmu, leaf.gfn.n, 1) ||
	    mmu->host.frame_get(mmu->ctx, leaf.gfn, UMBRA_WANT_PEEK, &frame))
		return false;
	if (leaf.access & ACCESS_W && (!frame.writable || slot->flags & UMBRA_SLOT_READONLY ||
				       (slot->log && !slot->by_d && !log_is_set(slot, leaf.gfn)) ||
				       !track_is_writable(mmu, leaf.gfn)))
		leaf.access &= ~ACCESS_W;
	if (mmu->watches) {
		if (watch_kinds(mmu, leaf.gfn) & UMBRA_WATCH_R)
			return false;
		leaf.access &= ~watch_withheld(mmu, leaf.gfn, leaf.access);
	}
	value = log_leaf(slot, leaf.gfn, spte_leaf(1, frame.pfn.n, leaf.access, leaf.marks));
	if (old) {
		if (rmap_gfn(mmu, handle_of(shadow, index)).n != leaf.gfn.n ||
		    (old ^ value) & LEAF_SUBJECT || is_narrower(old, value) || !(value & PTE_W))
			return false;
		rmap_replace(mmu, handle_of(shadow, index), &shadow->table[index], old, value);
	} else {
		leaf_add(mmu, shadow, index, slot_head_make(mmu, slot, leaf.gfn, 1), value);
	}
	mmu->stats.prefetched++;
	return true;
}

/*
 * Map what lies around entry @index, where the guest has it accessed and the host has frames: the
 * run of such entries above it, then the one below.
 */
static void prefetch(struct umbra_mmu *mmu, struct shadow *shadow, unsigned index)
{
	unsigned left = mmu->config.prefetch;
	void *entries = NULL;
	uint64_t implied = 0;
	int error;

	if (!left)
		return;
	if (!shadow->role.direct) {
		entries = walk_table(mmu, shadow->gfn, UMBRA_WANT_PEEK, &implied, &error);
		if (!entries)
			return;
	}
	for (unsigned i = index + 1; left && i < PTE_ENTRIES; i++, left--)
		if (!prefetch_one(mmu, shadow, i, entries, implied))
			break;
	for (unsigned i = index; left && i-- > 0; left--)
		if (!prefetch_one(mmu, shadow, i, entries, implied))
			break;
}

/* Whether the gva is translated through the page it leads to, as a table above the last level. */
static bool is_own_table(struct fault *fault)
{
	struct umbra_mmu *mmu = fault->vcpu->mmu;
	struct shadow *shadow = vcpu_root(fault->vcpu, fault->gva, &fault->flush);

	while (shadow->role.level > 1) {
		unsigned index = gva_index(fault->gva, shadow->role.level);
		uint64_t spte = spte_read(&shadow->table[index]);

		if (!shadow->role.direct && shadow->gfn.n == fault->walk.gfn.n)
			return true;
		if (!(spte & PTE_P) || spte_is_leaf(shadow->role.level, spte))
			return false;
		shadow = shadow_child(mmu, shadow, index);
	}
	return false;
}

/* The walk ended at @gpa, where no memory is. What is not translated is not worth a note. */
static struct umbra_answer map_nothing(struct fault *fault, struct shadow *shadow, uint64_t gpa)
{
	bool translated = fault->vcpu->mode != MODE_OFF && !fault->vcpu->mmu->config.nested;

	if (translated && !shadow)
		shadow = descend(fault, 1);
	if (translated && shadow)
		note_set(fault, shadow);
	return answer(fault->again ? UMBRA_RESUME : UMBRA_MMIO, gpa);
}

static uint64_t leaf_value(const struct fault *fault, unsigned level, unsigned rights)
{
	uint64_t first = fault->frame.pfn.n & ~(level_pages(level) - 1);

	return log_leaf(fault->slot, fault->walk.gfn,
			spte_leaf(level, first, rights, fault->walk.marks));
}

static struct umbra_answer map(struct fault *fault, struct shadow *shadow, uint64_t gpa);

/* Small pages are mapped where a large one has come to fit: only a whole walk tells how large. */
static struct umbra_answer map_large(struct fault *fault)
{
	struct umbra_answer walked =
	    walk_guest(fault->vcpu, fault->gva, fault->error_code, &fault->walk, &fault->flush);

	return walked.verdict == UMBRA_RESUME ? map(fault, NULL, walked.gpa) : walked;
}

/*
 * The walk succeeded: map it in @shadow, or NULL: where descend() leads, unless .again says to walk
 * first.
 */
static struct umbra_answer map(struct fault *fault, struct shadow *shadow, uint64_t gpa)
{
	struct umbra_mmu *mmu = fault->vcpu->mmu;
	enum umbra_verdict verdict;
	unsigned rights, level;
	int error;

	fault->slot = slot_find(mmu, fault->walk.gfn);
	fault->frame.level = 0; /* a host of small pages says nothing */
	if (!fault->slot)
		return map_nothing(fault, shadow, gpa);
	if (drop_is_held(mmu, fault->walk.gfn.n, 1))
		return answer(UMBRA_RETRY, 0);
	error = mmu->host.frame_get(
	    mmu->ctx, fault->walk.gfn,
	    fault->error_code & UMBRA_PF_W ? UMBRA_WANT_WRITE : UMBRA_WANT_READ, &fault->frame);
	if (error)
		return answer(error == UMBRA_ENOMEM ? UMBRA_NOMEM : UMBRA_RETRY, 0);
	level = leaf_level(fault);
	if (shadow && level > 1)
		return map_large(fault);
	if (!shadow)
		shadow = descend(fault, level);
	if (level > 1 && leaf_level(fault) < level)
		fault->again = true; /* one of the new tables lies in that page */
	if (fault->again)
		return answer(UMBRA_RESUME, gpa);
	rights = leaf_rights(fault, level, &verdict);
	if (mmu->watches && verdict != UMBRA_MMIO)
		rights = watch_let(fault->vcpu, fault->gva, gpa, fault->error_code, rights);
	if (verdict != UMBRA_RESUME)
		return (struct umbra_answer){
		    .verdict = verdict,
		    .gpa = gpa,
		    .own_table = verdict == UMBRA_EMULATE && is_own_table(fault),
		};
	if (leaf_set(fault, shadow, leaf_value(fault, level, rights)) && level == 1)
		prefetch(mmu, shadow, gva_index(fault->gva, 1));
	return answer(UMBRA_RESUME, gpa);
}

struct umbra_answer umbra_fault(struct umbra_vcpu *vcpu, uint64_t gva, uint32_t error_code)
{
	struct umbra_mmu *mmu = vcpu->mmu;
	const struct need need = {
	    .shadows = FAULT_TABLES,
	    .descs = FAULT_TABLES + mmu->config.prefetch,
	    .spares = 2 * (FAULT_TABLES + 1),
	    .regions = 1,
	};
	struct fault fault; /* most of it is the walk, which fills itself in */
	struct umbra_answer result = answer(UMBRA_RESUME, 0);

	fault.vcpu = vcpu;
	fault.gva = gva;
	fault.error_code = error_code;
	fault.flush = (struct flush){0};
	for (unsigned i = 0; i < RESTARTS; i++) {
		struct shadow *shadow;

		if (pool_lock(mmu, &need)) {
			port_lock(&mmu->lock);
			result = answer(UMBRA_NOMEM, 0);
			break;
		}
		fault.again = false;
		shadow = walk_shadowed(vcpu, gva, error_code, &fault.walk, &result);
		if (mmu->config.nested)
			result = walk_direct(gva, &fault.walk);
		else if (!shadow)
			result = walk_guest(vcpu, gva, error_code, &fault.walk, &fault.flush);
		if (result.verdict == UMBRA_RESUME)
			result = map(&fault, shadow, result.gpa);
		flush_commit(mmu, &fault.flush);
		if (!fault.again || i == RESTARTS - 1)
			break;
		port_unlock(&mmu->lock);
	}
	mmu->stats.faults++;
	mmu->stats.verdicts[result.verdict]++;
	port_unlock(&mmu->lock);
	return result;
}

struct umbra_answer umbra_translate(struct umbra_vcpu *vcpu, uint64_t gva, uint32_t error_code)
{
	struct walk walk = {0};
	struct flush flush = {0};
	struct umbra_answer result;
	struct slot *slot;

	port_lock(&vcpu->mmu->lock);
	if (!walk_shadowed(vcpu, gva, error_code, &walk, &result))
		result = walk_guest(vcpu, gva, error_code, &walk, &flush);
	slot = slot_find(vcpu->mmu, walk.gfn);
	if (result.verdict == UMBRA_RESUME &&
	    (!slot || (error_code & UMBRA_PF_W && slot->flags & UMBRA_SLOT_READONLY)))
		result.verdict = UMBRA_MMIO;
	else if (result.verdict == UMBRA_RESUME && drop_is_held(vcpu->mmu, walk.gfn.n, 1))
		result = answer(UMBRA_RETRY, 0);
	if (vcpu->mmu->watches && result.verdict == UMBRA_RESUME)
		watch_touch(vcpu, gva, result.gpa, error_code);
	flush_commit(vcpu->mmu, &flush);
	port_unlock(&vcpu->mmu->lock);
	return result;
}
