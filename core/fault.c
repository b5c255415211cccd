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

#define CR4_SMEP (1ull << 20)
#define CR4_SMAP (1ull << 21)

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

/* The table of the last level for the gva, with all above it linked. */
static struct shadow *descend(struct fault *fault)
{
	struct umbra_mmu *mmu = fault->vcpu->mmu;
	struct shadow *shadow = vcpu_root(fault->vcpu, &fault->flush);

	for (unsigned level = shadow->role.level; level > 1; level--) {
		fault->again |= flush_commit(mmu, &fault->flush);
		if (fault->again)
			return NULL;

		unsigned index = gva_index(fault->gva, level);
		struct shadow *child = NULL;
		union role role;
		umbra_gfn gfn;

		shadow->referenced = true;
		shadow->writes = 0;
		walk_child_key(mmu, shadow, index, fault->walk.pte[level], &gfn, &role);
		if (spte_read(&shadow->table[index]) & PTE_P)
			child = shadow_child(mmu, shadow, index);
		if (child && (child->gfn.n != gfn.n || child->role.word != role.word)) {
			shadow_unlink(mmu, shadow, index, &fault->flush);
			child = NULL;
		}
		if (!child) {
			child = shadow_get(mmu, gfn, role, &fault->flush);
			track_sync_below(mmu, child, &fault->flush);
			shadow_link(mmu, shadow, index, child);
		}
		shadow = child;
	}
	shadow->referenced = true;
	shadow->writes = 0;
	return shadow;
}

/*
 * The rights for the spte. *@verdict: UMBRA_RESUME, or why the write cannot be let through.
 */
static unsigned leaf_rights(struct fault *fault, enum umbra_verdict *verdict)
{
	struct umbra_mmu *mmu = fault->vcpu->mmu;
	bool write = fault->error_code & UMBRA_PF_W;
	unsigned rights = fault->walk.rights;

	*verdict = UMBRA_RESUME;
	if (write && !(rights & ACCESS_W)) { /* CR0.WP = 0, or the walk had refused */
		if (rights & ACCESS_U && fault->vcpu->paging.cr4 & CR4_SMAP)
			*verdict = UMBRA_EMULATE;
		if (rights & ACCESS_U)
			rights &=
			    fault->vcpu->paging.cr4 & CR4_SMEP ? ~(ACCESS_U | ACCESS_X) : ~ACCESS_U;
		rights |= ACCESS_W;
	}
	if (!fault->frame.writable || fault->slot->flags & UMBRA_SLOT_READONLY) {
		if (write)
			*verdict = UMBRA_MMIO;
		rights &= ~ACCESS_W;
	}
	if (rights & ACCESS_W && !track_is_writable(mmu, fault->walk.gfn)) {
		if (!write)
			rights &= ~ACCESS_W;
		else if (!track_unsync(mmu, fault->walk.gfn))
			*verdict = UMBRA_EMULATE;
	}
	return rights;
}

static void count_chain(struct umbra_mmu *mmu, head_ref ref)
{
	uint64_t length = rmap_count(*rmap_head_of(mmu, ref));

	mmu->stats.sptes++;
	mmu->stats.sptes_added++;
	if (length > mmu->stats.longest_chain)
		mmu->stats.longest_chain = length;
}

/* Enter a leaf in chain and table. => the entry is not present */
static void leaf_add(struct umbra_mmu *mmu, struct shadow *shadow, unsigned index, head_ref ref,
		     uint64_t value)
{
	rmap_add(mmu, ref, handle_of(shadow, index), value);
	spte_write(&shadow->table[index], value);
	count_chain(mmu, ref);
}

/* Whether some access that @old let through would fault with @new. */
static bool is_narrower(uint64_t old, uint64_t new)
{
	return pte_access(old) & ~pte_access(new);
}

/* Make the leaf say @value; true: it was not present before, or could not be written. */
static bool leaf_set(struct fault *fault, struct shadow *shadow, uint64_t value)
{
	struct umbra_mmu *mmu = fault->vcpu->mmu;
	unsigned index = gva_index(fault->gva, 1);
	uint64_t *spte = &shadow->table[index];
	uint64_t old = spte_read(spte);

	if (old & PTE_P) {
		bool same = rmap_gfn(mmu, handle_of(shadow, index)).n == fault->walk.gfn.n &&
			    (old & PTE_ADDRESS) == (value & PTE_ADDRESS);

		if (!same || is_narrower(old, value)) {
			flush_page(fault->vcpu, &fault->flush, fault->gva);
			flush_later(mmu);
		}
		if (same) {
			rmap_note(mmu, handle_of(shadow, index), value);
			spte_write(spte, value);
			return value & ~old & PTE_W;
		}
		shadow_clear_leaf(mmu, shadow, index);
	}
	leaf_add(mmu, shadow, index, slot_head_make(mmu, fault->slot, fault->walk.gfn, 1), value);
	return true;
}

/* The gfn and rights that entry @index of a last-level table would map; false: nothing. */
static bool neighbour(struct umbra_mmu *mmu, const struct shadow *shadow, unsigned index,
		      const uint64_t *entries, uint64_t implied, umbra_gfn *gfn, unsigned *rights)
{
	if (!shadow->role.direct)
		return walk_leaf_decode(mmu, shadow->role, spte_read(&entries[index]) | implied,
					gfn, rights);
	gfn->n = shadow->gfn.n + index;
	*rights = shadow->role.access;
	return true;
}

/*
 * Map entry @index, or let it be written where the guest has come to allow that. false: nothing to
 * do there, so that there is likely nothing to do behind it.
 */
static bool prefetch_one(struct umbra_mmu *mmu, struct shadow *shadow, unsigned index,
			 const uint64_t *entries, uint64_t implied)
{
	uint64_t old = spte_read(&shadow->table[index]), value;
	struct umbra_frame frame;
	struct slot *slot;
	unsigned rights;
	umbra_gfn gfn;

	if (old & PTE_W || !neighbour(mmu, shadow, index, entries, implied, &gfn, &rights) ||
	    (old && !(rights & ACCESS_W)))
		return false;
	slot = slot_find(mmu, gfn);
	if (!slot || !slot_head_find(mmu, slot, gfn, 1) || drop_is_held(mmu, gfn) ||
	    mmu->host.frame_get(mmu->ctx, gfn, UMBRA_WANT_PEEK, &frame))
		return false;
	if (rights & ACCESS_W &&
	    (!frame.writable || slot->flags & UMBRA_SLOT_READONLY || !track_is_writable(mmu, gfn)))
		rights &= ~ACCESS_W;
	value = spte_leaf(frame.pfn.n, rights);
	if (old) {
		if (rmap_gfn(mmu, handle_of(shadow, index)).n != gfn.n ||
		    (old ^ value) & PTE_ADDRESS || is_narrower(old, value) || !(value & PTE_W))
			return false;
		rmap_note(mmu, handle_of(shadow, index), value);
		spte_write(&shadow->table[index], value);
	} else {
		leaf_add(mmu, shadow, index, slot_head_make(mmu, slot, gfn, 1), value);
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
	uint64_t *entries = NULL, implied = 0;
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
static bool is_own_table(const struct fault *fault)
{
	struct umbra_mmu *mmu = fault->vcpu->mmu;
	struct shadow *shadow = shadow_of(mmu, fault->vcpu->root);

	while (shadow->role.level > 1) {
		if (!shadow->role.direct && shadow->gfn.n == fault->walk.gfn.n)
			return true;
		shadow = shadow_child(mmu, shadow, gva_index(fault->gva, shadow->role.level));
	}
	return false;
}

/*
 * The walk succeeded: map it in @shadow, or NULL: where descend() leads, unless .again says to walk
 * first.
 */
static struct umbra_answer map(struct fault *fault, struct shadow *shadow, uint64_t gpa)
{
	struct umbra_mmu *mmu = fault->vcpu->mmu;
	enum umbra_verdict verdict;
	unsigned rights;
	int error;

	fault->slot = slot_find(mmu, fault->walk.gfn);
	if (!fault->slot)
		return answer(UMBRA_MMIO, gpa);
	if (drop_is_held(mmu, fault->walk.gfn))
		return answer(UMBRA_RETRY, 0);
	error = mmu->host.frame_get(
	    mmu->ctx, fault->walk.gfn,
	    fault->error_code & UMBRA_PF_W ? UMBRA_WANT_WRITE : UMBRA_WANT_READ, &fault->frame);
	if (error)
		return answer(error == UMBRA_ENOMEM ? UMBRA_NOMEM : UMBRA_RETRY, 0);
	if (!shadow) {
		shadow = descend(fault);
		fault->again |= flush_commit(mmu, &fault->flush);
		if (fault->again)
			return answer(UMBRA_RESUME, gpa);
	}
	rights = leaf_rights(fault, &verdict);
	if (verdict != UMBRA_RESUME)
		return (struct umbra_answer){
		    .verdict = verdict,
		    .gpa = gpa,
		    .own_table = verdict == UMBRA_EMULATE && is_own_table(fault),
		};
	if (leaf_set(fault, shadow, spte_leaf(fault->frame.pfn.n, rights)))
		prefetch(mmu, shadow, gva_index(fault->gva, 1));
	return answer(UMBRA_RESUME, gpa);
}

struct umbra_answer umbra_fault(struct umbra_vcpu *vcpu, uint64_t gva, uint32_t error_code)
{
	struct umbra_mmu *mmu = vcpu->mmu;
	const struct need need = {
	    .shadows = FAULT_TABLES,
	    .descs = FAULT_TABLES + 1 + mmu->config.prefetch,
	    .spares = 2,
	    .regions = 1,
	};
	struct fault fault = {.vcpu = vcpu, .gva = gva, .error_code = error_code};
	struct umbra_answer result = answer(UMBRA_RESUME, 0);

	for (unsigned i = 0; i < RESTARTS; i++) {
		struct shadow *shadow;

		if (pool_lock(mmu, &need)) {
			port_lock(&mmu->lock);
			result = answer(UMBRA_NOMEM, 0);
			break;
		}
		fault.again = false;
		shadow = walk_shadowed(vcpu, gva, error_code, &fault.walk, &result);
		if (!shadow)
			result = walk_guest(vcpu, gva, error_code, &fault.walk);
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
	struct umbra_answer result;
	struct slot *slot;

	port_lock(&vcpu->mmu->lock);
	if (!walk_shadowed(vcpu, gva, error_code, &walk, &result))
		result = walk_guest(vcpu, gva, error_code, &walk);
	slot = slot_find(vcpu->mmu, walk.gfn);
	if (result.verdict == UMBRA_RESUME &&
	    (!slot || (error_code & UMBRA_PF_W && slot->flags & UMBRA_SLOT_READONLY)))
		result.verdict = UMBRA_MMIO;
	else if (result.verdict == UMBRA_RESUME && drop_is_held(vcpu->mmu, walk.gfn))
		result = answer(UMBRA_RETRY, 0);
	port_unlock(&vcpu->mmu->lock);
	return result;
}
