/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The walk of the guest's own page tables, as its processor would do it: AMD64 APM vol. 2 §5.3
 * (long mode), §5.4 (entries, accessed and dirty), §5.6 (protection), §8.4.2 (error codes).
 *
 * Paging modes are const tables of level descriptors, so that the walk is one loop. Accessed
 * and dirty bits are set after all checks passed, leaf last, with a compare-and-exchange: if
 * the guest changed an entry meanwhile, the walk starts again.
 *
 * Table entries where there is no memory read as all ones, as on a PC's bus; nothing is ever
 * mapped from such a table. Entries in read-only memory keep their bits.
 *
 * Lock: the MMU's; host.frame_get may be called.
 */
#include "mmu.h"

#define TRIES 16 /* walks that found an entry changed under them, until the guest must wait */

#define CR0_WP   (1ull << 16)
#define CR4_SMEP (1ull << 20)
#define CR4_SMAP (1ull << 21)
#define EFER_NXE (1ull << 11)

/* What an entry of a level may be. */
struct level {
	bool leaf;              /* may map a page, by PS or because it is the last */
	bool table;             /* may lead to a table */
	uint64_t reserved;      /* bits that must be 0 whatever the entry is */
	uint64_t reserved_leaf; /* and if it maps a page */
};

/* APM vol. 2 §5.3.3: 4-level long mode. Bit 12 of a large page is its PAT bit. */
static const struct level long_mode[LEVEL_ROOT + 1] = {
    [1] = {.leaf = true},
    [2] = {.leaf = true, .table = true, .reserved_leaf = 0x1fe000},
    [3] = {.leaf = true, .table = true, .reserved_leaf = 0x3fffe000},
    [4] = {.table = true, .reserved = PTE_PS},
};

static bool is_leaf(unsigned level, uint64_t pte)
{
	return long_mode[level].leaf && (!long_mode[level].table || pte & PTE_PS);
}

/* The reserved bits that are set in a present entry. */
static uint64_t reserved(const struct umbra_mmu *mmu, unsigned level, uint64_t pte, bool nxe)
{
	uint64_t beyond = PTE_ADDRESS & ~((1ull << mmu->config.maxphyaddr) - 1);

	return pte & (beyond | long_mode[level].reserved | (nxe ? 0 : PTE_NX) |
		      (is_leaf(level, pte) ? long_mode[level].reserved_leaf : 0));
}

/*
 * Where a guest table may be read, and written if *@implied is 0. NULL: *@error says why
 * (UMBRA_ENOENT: no memory there).
 *
 * => *@implied: bits to take as set in each entry. Tables in read-only memory cannot keep A and
 *    D, so nobody waits for them there
 */
uint64_t *walk_table(struct umbra_mmu *mmu, umbra_gfn gfn, enum umbra_want want, uint64_t *implied,
		     int *error)
{
	struct slot *slot = slot_find(mmu, gfn);
	struct umbra_frame frame;

	*implied = 0;
	if (slot && slot->flags & UMBRA_SLOT_READONLY && want == UMBRA_WANT_WRITE)
		want = UMBRA_WANT_READ;
	*error = slot ? mmu->host.frame_get(mmu->ctx, gfn, want, &frame) : UMBRA_ENOENT;
	if (*error)
		return NULL;
	if (slot->flags & UMBRA_SLOT_READONLY || (want == UMBRA_WANT_WRITE && !frame.writable))
		*implied = PTE_A | PTE_D;
	return mmu->host.frame_va(mmu->ctx, frame.pfn);
}

/*
 * What a leaf entry of a 4K table says, seen from a shadow page of @role. false: it maps
 * nothing that may be mapped without a walk (not present, reserved bits, not accessed).
 */
bool walk_leaf_decode(const struct umbra_mmu *mmu, union role role, uint64_t pte, umbra_gfn *gfn,
		      unsigned *access)
{
	if ((pte & (PTE_P | PTE_A)) != (PTE_P | PTE_A) || reserved(mmu, 1, pte, role.nxe))
		return false;
	gfn->n = (pte & PTE_ADDRESS) >> UMBRA_PAGE_SHIFT;
	*access = role.access & pte_access(pte);
	if (!(pte & PTE_D))
		*access &= ~ACCESS_W;
	return true;
}

/*
 * The key of the shadow page that entry @index of @shadow leads to, when the guest's entry there
 * is @pte (of no meaning for a direct page). false: it leads nowhere.
 *
 * => the one place where keys of children are made: to link them, and to judge links
 */
bool walk_child_key(const struct umbra_mmu *mmu, const struct shadow *shadow, unsigned index,
		    uint64_t pte, umbra_gfn *gfn, union role *role)
{
	unsigned level = shadow->role.level;

	*role = shadow->role;
	role->level = level - 1;
	if (shadow->role.direct) {
		gfn->n = shadow->gfn.n + index * level_pages(level);
		return true;
	}
	if ((pte & (PTE_P | PTE_A)) != (PTE_P | PTE_A) ||
	    reserved(mmu, level, pte, shadow->role.nxe))
		return false;
	role->access &= pte_access(pte);
	gfn->n = (pte & PTE_ADDRESS) >> UMBRA_PAGE_SHIFT;
	if (is_leaf(level, pte)) {
		gfn->n &= ~(level_pages(level) - 1);
		role->direct = 1;
		if (!(pte & PTE_D)) {
			role->access &= ~ACCESS_W;
			role->clean = !role->wp; /* the kernel may write what access forbids */
		}
	}
	return true;
}

/* An entry that the walk read, to be revisited for its A and D bits. */
struct step {
	_Atomic uint64_t *pte; /* NULL: read-only, or no memory */
	uint64_t value;
};

/* APM vol. 2 §5.6: whether the rights of all levels together allow the access. */
static bool is_allowed(const struct umbra_vcpu *vcpu, unsigned access, uint32_t error_code)
{
	bool user = error_code & UMBRA_PF_U;
	bool write = error_code & UMBRA_PF_W;
	bool fetch = error_code & UMBRA_PF_I;

	if (fetch && !(access & ACCESS_X))
		return false;
	if (user)
		return access & ACCESS_U && (!write || access & ACCESS_W);
	if (write && !(access & ACCESS_W) && vcpu->paging.cr0 & CR0_WP)
		return false;
	if (!(access & ACCESS_U))
		return true;
	if (fetch)
		return !(vcpu->paging.cr4 & CR4_SMEP);
	return !(vcpu->paging.cr4 & CR4_SMAP) || error_code & UMBRA_PF_AC;
}

/* Set A on the way and D at the leaf; false: an entry changed under us. */
static bool set_accessed_dirty(struct step *step, unsigned leaf, bool write)
{
	for (unsigned level = LEVEL_ROOT; level >= leaf; level--) {
		uint64_t wanted = step[level].value | PTE_A;

		if (level == leaf && write)
			wanted |= PTE_D;
		if (wanted == step[level].value || !step[level].pte)
			continue;
		if (!atomic_compare_exchange_strong(step[level].pte, &step[level].value, wanted))
			return false;
		step[level].value = wanted;
	}
	return true;
}

static struct umbra_answer inject(const struct umbra_vcpu *vcpu, uint32_t access, uint32_t why)
{
	bool fetch_told = vcpu->paging.efer & EFER_NXE || vcpu->paging.cr4 & CR4_SMEP;

	return (struct umbra_answer){
	    .verdict = UMBRA_INJECT,
	    .error_code =
		(access & (UMBRA_PF_W | UMBRA_PF_U)) | why | (fetch_told ? access & UMBRA_PF_I : 0),
	};
}

static struct umbra_answer trouble(int error)
{
	return (struct umbra_answer){.verdict = error == UMBRA_ENOMEM ? UMBRA_NOMEM : UMBRA_RETRY};
}

/* Read one entry; @step says where. 0 or the host's error. */
static int step_read(struct umbra_vcpu *vcpu, uint64_t gva, unsigned level, umbra_gfn table,
		     struct step *step)
{
	uint64_t implied;
	int error;
	uint64_t *entries = walk_table(vcpu->mmu, table, UMBRA_WANT_WRITE, &implied, &error);

	*step = (struct step){.value = ~0ull};
	if (entries) {
		_Atomic uint64_t *pte = (_Atomic uint64_t *)&entries[gva_index(gva, level)];

		step->value = atomic_load_explicit(pte, memory_order_acquire) | implied;
		step->pte = implied ? NULL : pte;
	}
	return error == UMBRA_ENOENT ? 0 : error;
}

static struct umbra_answer walk_off(uint64_t gva, struct walk *walk)
{
	walk->gfn.n = gva >> UMBRA_PAGE_SHIFT;
	walk->rights = ACCESS_ALL;
	return (struct umbra_answer){.verdict = UMBRA_RESUME, .gpa = gva};
}

/* One attempt; *@again: an entry changed meanwhile. */
static struct umbra_answer walk_once(struct umbra_vcpu *vcpu, uint64_t gva, uint32_t error_code,
				     struct walk *walk, bool *again)
{
	bool nxe = vcpu->paging.efer & EFER_NXE;
	bool no_memory = false;
	unsigned access = ACCESS_ALL, level = LEVEL_ROOT;
	umbra_gfn table = {(vcpu->paging.cr3 & PTE_ADDRESS) >> UMBRA_PAGE_SHIFT};
	struct step step[LEVEL_ROOT + 1];
	uint64_t pte, offset;

	for (;; level--) {
		int error = step_read(vcpu, gva, level, table, &step[level]);

		if (error)
			return trouble(error);
		pte = step[level].value;
		no_memory |= !slot_find(vcpu->mmu, table);
		if (!(pte & PTE_P))
			return inject(vcpu, error_code, 0);
		if (reserved(vcpu->mmu, level, pte, nxe))
			return inject(vcpu, error_code, UMBRA_PF_P | UMBRA_PF_RSVD);
		access &= pte_access(pte);
		if (is_leaf(level, pte))
			break;
		table.n = (pte & PTE_ADDRESS) >> UMBRA_PAGE_SHIFT;
	}
	if (!is_allowed(vcpu, access, error_code))
		return inject(vcpu, error_code, UMBRA_PF_P);
	*again = !set_accessed_dirty(step, level, error_code & UMBRA_PF_W);

	offset = level_pages(level) * UMBRA_PAGE_SIZE - 1;
	for (unsigned i = LEVEL_ROOT; i >= level; i--)
		walk->pte[i] = step[i].value;
	walk->gfn.n = ((pte & PTE_ADDRESS & ~offset) | (gva & offset)) >> UMBRA_PAGE_SHIFT;
	walk->rights = access;
	if (!(step[level].value & PTE_D))
		walk->rights &= ~ACCESS_W;
	return (struct umbra_answer){
	    .verdict = no_memory ? UMBRA_MMIO : UMBRA_RESUME,
	    .gpa = walk->gfn.n << UMBRA_PAGE_SHIFT | (gva & (UMBRA_PAGE_SIZE - 1)),
	};
}

/* The last-level shadow page for @gva, or NULL: the tables do not reach down to one. */
static struct shadow *shadow_last(struct umbra_vcpu *vcpu, uint64_t gva)
{
	struct shadow *shadow;

	if (!vcpu->root || !is_paging(vcpu) || (int64_t)(gva << 16) >> 16 != (int64_t)gva)
		return NULL;
	shadow = shadow_of(vcpu->mmu, vcpu->root);
	for (unsigned level = LEVEL_ROOT; level > 1; level--) {
		unsigned index = gva_index(gva, level);

		shadow->referenced = true;
		shadow->writes = 0;
		if (!(spte_read(&shadow->table[index]) & PTE_P))
			return NULL;
		shadow = shadow_child(vcpu->mmu, shadow, index);
	}
	shadow->referenced = true;
	shadow->writes = 0;
	return shadow;
}

/*
 * The same as walk_guest() where shadow tables reach down to the last level: links stand for what
 * the guest's upper entries say, A bits included (a write that changes one cuts its link), so only
 * the leaf has to be read. NULL: not to be told this way, @answer and @walk mean nothing; else
 * the last-level shadow page. walk->pte is not filled in.
 */
struct shadow *walk_shadowed(struct umbra_vcpu *vcpu, uint64_t gva, uint32_t error_code,
			     struct walk *walk, struct umbra_answer *answer)
{
	struct shadow *shadow = shadow_last(vcpu, gva);
	unsigned access;

	if (!shadow)
		return NULL;
	if (shadow->role.direct) { /* a large page; W is missing while its D is clear */
		walk->gfn.n = shadow->gfn.n + gva_index(gva, 1);
		access = walk->rights = shadow->role.access;
		if (!is_allowed(vcpu, access, error_code) ||
		    (error_code & UMBRA_PF_W && !(access & ACCESS_W)))
			return NULL;
	} else {
		uint64_t implied, pte;
		int error;
		uint64_t *entries =
		    walk_table(vcpu->mmu, shadow->gfn, UMBRA_WANT_PEEK, &implied, &error);

		if (!entries)
			return NULL;
		pte = spte_read(&entries[gva_index(gva, 1)]) | implied;
		if (!(pte & PTE_P)) {
			*answer = inject(vcpu, error_code, 0);
			return shadow;
		}
		if (!walk_leaf_decode(vcpu->mmu, shadow->role, pte, &walk->gfn, &walk->rights) ||
		    (error_code & UMBRA_PF_W && !(pte & PTE_D)))
			return NULL;
		access = shadow->role.access & pte_access(pte);
		if (!is_allowed(vcpu, access, error_code)) {
			*answer = inject(vcpu, error_code, UMBRA_PF_P);
			return shadow;
		}
	}
	*answer = (struct umbra_answer){
	    .verdict = UMBRA_RESUME,
	    .gpa = walk->gfn.n << UMBRA_PAGE_SHIFT | (gva & (UMBRA_PAGE_SIZE - 1)),
	};
	return shadow;
}

/*
 * Translate @gva for the access @error_code. UMBRA_RESUME: @walk is filled in, and .gpa may or
 * may not be memory. UMBRA_INJECT; UMBRA_MMIO: a table on the way was not memory; or
 * UMBRA_RETRY, UMBRA_NOMEM for a table's frame.
 */
struct umbra_answer walk_guest(struct umbra_vcpu *vcpu, uint64_t gva, uint32_t error_code,
			       struct walk *walk)
{
	struct umbra_answer answer;
	unsigned tries = 0;
	bool again;

	if (!is_paging(vcpu))
		return gva >> 32 ? inject(vcpu, error_code, 0) : walk_off(gva, walk);
	if ((int64_t)(gva << 16) >> 16 != (int64_t)gva)
		return inject(vcpu, error_code, 0);
	do {
		again = false;
		answer = walk_once(vcpu, gva, error_code, walk, &again);
	} while (again && ++tries < TRIES);
	return again ? trouble(UMBRA_EAGAIN) : answer;
}
