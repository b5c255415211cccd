/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The walk of the guest's own page tables, as its processor would do it: AMD64 APM vol. 2 §5.2,
 * §5.3 (modes), §5.4 (entries, accessed and dirty), §5.6 (protection), §8.4.2 (error codes); Intel
 * SDM vol. 3 §4.6.2 (protection keys).
 *
 * Paging modes are const tables of level descriptors (mode.c), so that the walk is one loop.
 * Accessed and dirty bits are set after all checks passed, leaf last, with a compare-and-exchange:
 * if the guest changed an entry meanwhile, the walk starts again.
 *
 * Table entries where there is no memory read as all ones, as on a PC's bus; nothing is ever
 * mapped from such a table. Entries in read-only memory keep their bits.
 *
 * Lock: the MMU's; host.frame_get may be called.
 */
#include "walk.h"

#define TRIES 16 /* walks that found an entry changed under them, until the guest must wait */

/*
 * Where a guest table may be read, and written if *@implied is 0. NULL: *@error says why
 * (UMBRA_ENOENT: no memory there).
 *
 * => *@implied: bits to take as set in each entry. Tables in read-only memory cannot keep A and
 *    D, so nobody waits for them there
 */
void *walk_table(struct umbra_mmu *mmu, umbra_gfn gfn, enum umbra_want want, uint64_t *implied,
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
	role->quadrant = 0;
	if (shadow->role.direct) {
		gfn->n = shadow->gfn.n + index * level_pages(level);
		return true;
	}
	if (!walk_is_usable(mmu, shadow->role, pte))
		return false;
	role->access &= pte_access(pte);
	if (!mode_is_leaf(role->mode, level, pte)) {
		role->quadrant = mode_part(role->mode, level, index);
		gfn->n = (pte & PTE_ADDRESS) >> UMBRA_PAGE_SHIFT;
		return true;
	}
	*gfn = walk_part_gfn(shadow->role, index, pte);
	role->direct = 1;
	role->type = pte_marks(pte, level) >> 3 & 3;
	role->type |= (pte_marks(pte, level) & PTE_PAT) >> 5;
	role->key = pte >> KEY_SHIFT & 15;
	if (!(pte & PTE_D)) {
		role->access &= ~ACCESS_W;
		role->clean = !role->wp; /* the kernel may write what access forbids */
	}
	return true;
}

/* An entry that the walk read, to be revisited for its A and D bits. */
struct step {
	void *pte; /* NULL: a register, read-only, or no memory */
	uint64_t gpa;
	uint64_t value;
};

/* SDM vol. 3 §4.6.2: what the protection key of a page denies: 1 data accesses, 2 writes. */
unsigned walk_key_denies(const struct umbra_vcpu *vcpu, unsigned access, uint64_t marks)
{
	bool user_page = access & ACCESS_U;
	uint32_t keys = user_page ? vcpu->pkru : vcpu->pkrs;

	if (!(vcpu->paging.cr4 & (CR4_PKE | CR4_PKS)))
		return 0;
	if (!(vcpu->paging.cr4 & (user_page ? CR4_PKE : CR4_PKS)) || !modes[vcpu->mode].keys)
		return 0;
	return keys >> 2 * (marks >> KEY_SHIFT & 15) & 3;
}

static bool is_key_against(const struct umbra_vcpu *vcpu, unsigned access, uint64_t marks,
			   uint32_t error_code)
{
	unsigned denied = walk_key_denies(vcpu, access, marks);

	if (error_code & UMBRA_PF_I)
		return false;
	return denied & 1 || (denied & 2 && error_code & UMBRA_PF_W &&
			      (error_code & UMBRA_PF_U || vcpu->paging.cr0 & CR0_WP));
}

/* APM vol. 2 §5.6: whether the rights of all levels together allow the access. */
static bool is_granted(const struct umbra_vcpu *vcpu, unsigned access, uint32_t error_code)
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

/* 0: the access is allowed; else what an error code says of why not. */
static uint32_t refusal(const struct umbra_vcpu *vcpu, unsigned access, uint64_t marks,
			uint32_t error_code)
{
	if (is_key_against(vcpu, access, marks, error_code))
		return UMBRA_PF_P | UMBRA_PF_PK;
	return is_granted(vcpu, access, error_code) ? 0 : UMBRA_PF_P;
}

/* Set A on the way and D at the leaf; false: an entry changed under us. */
static bool set_accessed_dirty(struct umbra_vcpu *vcpu, struct step *step, unsigned leaf,
			       bool write, struct flush *flush)
{
	enum paging_mode mode = vcpu->mode;

	for (unsigned level = modes[mode].root; level >= leaf; level--) {
		uint64_t wanted = step[level].value | PTE_A;

		if (level == leaf && write)
			wanted |= PTE_D;
		if (wanted == step[level].value || !step[level].pte)
			continue;
		if (!mode_entry_exchange(mode, step[level].pte, step[level].value, wanted))
			return false;
		step[level].value = wanted;
		log_mark(vcpu->mmu, (umbra_gfn){step[level].gpa >> UMBRA_PAGE_SHIFT});
		mmu_input(vcpu->mmu,
			  modes[mode].entry_shift == 2 ? UMBRA_INPUT_SET4 : UMBRA_INPUT_SET8,
			  step[level].gpa, wanted);
		if (modes[mode].entry_shift == 2)
			track_bits_set(vcpu->mmu, step[level].gpa, flush);
	}
	return true;
}

static struct umbra_answer inject(const struct umbra_vcpu *vcpu, uint32_t access, uint32_t why)
{
	bool fetch_told = (vcpu->paging.efer & EFER_NXE && vcpu->paging.cr4 & CR4_PAE) ||
			  vcpu->paging.cr4 & CR4_SMEP;

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

static struct umbra_answer reached(const struct walk *walk, uint64_t gva)
{
	return (struct umbra_answer){
	    .verdict = UMBRA_RESUME,
	    .gpa = walk->gfn.n << UMBRA_PAGE_SHIFT | (gva & (UMBRA_PAGE_SIZE - 1)),
	};
}

/* Read one entry of the table at gpa @table; @step says where. 0 or the host's error. */
static int step_read(struct umbra_vcpu *vcpu, uint64_t gva, unsigned level, uint64_t table,
		     struct step *step, bool *no_memory)
{
	const struct mode *mode = &modes[vcpu->mode];
	unsigned index = gva >> mode->level[level].shift & ((1u << mode->level[level].bits) - 1);
	uint64_t implied;
	int error;
	char *entries;

	*step = (struct step){.value = ~0ull};
	if (mode->level[level].bare) {
		step->value = vcpu->pdpte[index];
		return 0;
	}
	entries = walk_table(vcpu->mmu, (umbra_gfn){table >> UMBRA_PAGE_SHIFT}, UMBRA_WANT_WRITE,
			     &implied, &error);
	if (!entries) {
		*no_memory |= error == UMBRA_ENOENT;
		step->value = mode->entry_shift == 2 ? UINT32_MAX : UINT64_MAX;
		return error == UMBRA_ENOENT ? 0 : error;
	}
	entries += table & (UMBRA_PAGE_SIZE - 1);
	step->value = walk_read(vcpu->mmu, vcpu->mode, table, entries, index) | implied;
	step->gpa = table + ((uint64_t)index << mode->entry_shift);
	step->pte = implied ? NULL : entries + ((size_t)index << mode->entry_shift);
	return 0;
}

/* Nothing translates: paging is off, or @gva is a gpa (nested paging). */
struct umbra_answer walk_direct(uint64_t gva, struct walk *walk)
{
	walk->gfn.n = gva >> UMBRA_PAGE_SHIFT;
	walk->rights = ACCESS_ALL;
	walk->level = LEVELS;
	walk->marks = 0;
	return (struct umbra_answer){.verdict = UMBRA_RESUME, .gpa = gva};
}

/* One attempt; *@again: an entry changed meanwhile. */
static struct umbra_answer walk_once(struct umbra_vcpu *vcpu, uint64_t gva, uint32_t error_code,
				     struct walk *walk, bool *again, struct flush *flush)
{
	const enum paging_mode mode = vcpu->mode;
	const bool nxe = vcpu->paging.efer & EFER_NXE;
	unsigned access = ACCESS_ALL, level = modes[mode].root;
	uint64_t table = vcpu->paging.cr3 & modes[mode].cr3, pte, offset;
	struct step step[LEVELS_MAX + 1];
	struct umbra_answer answer;
	bool no_memory = false;
	uint32_t refused;

	for (;; level--) {
		int error = step_read(vcpu, gva, level, table, &step[level], &no_memory);

		if (error)
			return trouble(error);
		pte = step[level].value;
		if (!(pte & PTE_P))
			return inject(vcpu, error_code, 0);
		if (pte & mode_reserved_mask(&vcpu->mmu->reserved, mode, level, pte, nxe))
			return inject(vcpu, error_code, UMBRA_PF_P | UMBRA_PF_RSVD);
		if (!modes[mode].level[level].bare)
			access &= pte_access(pte);
		if (mode_is_leaf(mode, level, pte))
			break;
		table = pte & PTE_ADDRESS;
	}
	walk->marks = pte_marks(pte, level);
	refused = refusal(vcpu, access, walk->marks, error_code);
	if (refused)
		return inject(vcpu, error_code, refused);
	*again = !set_accessed_dirty(vcpu, step, level, error_code & UMBRA_PF_W, flush);

	offset = (1ull << modes[mode].level[level].shift) - 1;
	for (unsigned i = modes[mode].root; i >= level; i--)
		walk->pte[i] = step[i].value;
	walk->gfn.n = (mode_page(mode, level, pte) | (gva & offset)) >> UMBRA_PAGE_SHIFT;
	walk->level = level;
	walk->rights = access;
	if (!(step[level].value & PTE_D))
		walk->rights &= ~ACCESS_W;
	answer = reached(walk, gva);
	if (no_memory)
		answer.verdict = UMBRA_MMIO;
	return answer;
}

/* The last-level shadow page for @gva, or NULL: the tables do not reach down to one. */
static struct shadow *shadow_last(struct umbra_vcpu *vcpu, uint64_t gva)
{
	struct shadow *shadow;
	uint32_t root;

	if (vcpu->mode == MODE_OFF || vcpu->mmu->config.nested ||
	    !mode_is_canonical(vcpu->mode, gva))
		return NULL;
	root = vcpu->root[vcpu_root_index(vcpu, gva)];
	if (!root)
		return NULL;
	shadow = shadow_of(vcpu->mmu, root);
	for (unsigned level = shadow->role.level; level > 1; level--) {
		unsigned index = gva_index(gva, level);
		uint64_t spte = spte_read(&shadow->table[index]);

		shadow->referenced = true;
		shadow->writes = 0;
		if (!(spte & PTE_P) || spte_is_leaf(level, spte))
			return NULL;
		shadow = shadow_child(vcpu->mmu, shadow, index);
	}
	shadow->referenced = true;
	shadow->writes = 0;
	return shadow;
}

/*
 * Whether a note in @shadow tells that the access, which the guest allows, is to no memory. Where
 * the guest may be changing the table unseen, nothing is told.
 */
static bool is_noted(struct umbra_vcpu *vcpu, const struct shadow *shadow, uint64_t gva,
		     uint32_t error_code, struct walk *walk)
{
	uint64_t note = spte_read(&shadow->table[gva_index(gva, 1)]);
	unsigned access;

	if (!is_note(note) || shadow->unsync)
		return false;
	access = pte_access(note);
	if ((note & NOTE_GENERATION) != note_generation(vcpu->mmu->generation) ||
	    (error_code & UMBRA_PF_W && !(access & ACCESS_W)) ||
	    refusal(vcpu, access, note & PTE_KEY, error_code))
		return false;
	walk->gfn.n = (note & PTE_ADDRESS) >> UMBRA_PAGE_SHIFT;
	vcpu->mmu->stats.mmio_cached++;
	return true;
}

/*
 * The same as walk_guest() where shadow tables reach down to the last level: links stand for what
 * the guest's upper entries say, A bits included (a write that changes one cuts its link), so only
 * the leaf has to be read. NULL: not to be told this way, @answer and @walk mean nothing; else
 * the last-level shadow page. walk->pte is not filled in; walk->level 2 means 2 or more.
 */
struct shadow *walk_shadowed(struct umbra_vcpu *vcpu, uint64_t gva, uint32_t error_code,
			     struct walk *walk, struct umbra_answer *answer)
{
	struct shadow *shadow = shadow_last(vcpu, gva);
	uint64_t pte = 0, implied;
	unsigned index = gva_index(gva, 1), access;
	struct leaf leaf;
	uint32_t refused;

	if (!shadow)
		return NULL;
	if (is_noted(vcpu, shadow, gva, error_code, walk)) {
		*answer = reached(walk, gva);
		answer->verdict = UMBRA_MMIO;
		return shadow;
	}
	access = shadow->role.access;
	if (!shadow->role.direct) {
		int error;
		void *entries =
		    walk_table(vcpu->mmu, shadow->gfn, UMBRA_WANT_PEEK, &implied, &error);

		if (!entries)
			return NULL;
		pte = walk_entry(vcpu->mmu, shadow, entries, implied, index);
		if (!(pte & PTE_P)) {
			*answer = inject(vcpu, error_code, 0);
			return shadow;
		}
		access &= pte_access(pte);
	}
	if (!walk_leaf_decode(vcpu->mmu, shadow, index, pte, &leaf))
		return NULL;
	refused = refusal(vcpu, access, leaf.marks, error_code);
	/* A direct page lacks W where the large page's D is clear, or its W: the walk knows. */
	if (refused && shadow->role.direct)
		return NULL;
	if (!refused && error_code & UMBRA_PF_W && !(pte & PTE_D) && !(leaf.access & ACCESS_W))
		return NULL;
	walk->gfn = leaf.gfn;
	walk->rights = leaf.access;
	walk->level = shadow->role.direct ? 2 : 1;
	walk->marks = leaf.marks;
	*answer = refused ? inject(vcpu, error_code, refused) : reached(walk, gva);
	return shadow;
}

/*
 * Translate @gva for the access @error_code. UMBRA_RESUME: @walk is filled in, and .gpa may or
 * may not be memory. UMBRA_INJECT; UMBRA_MMIO: a table on the way was not memory; or
 * UMBRA_RETRY, UMBRA_NOMEM for a table's frame.
 *
 * => shadow pages may be zapped (track_bits_set): a flush is gathered then
 */
struct umbra_answer walk_guest(struct umbra_vcpu *vcpu, uint64_t gva, uint32_t error_code,
			       struct walk *walk, struct flush *flush)
{
	struct umbra_answer answer;
	unsigned tries = 0;
	bool again;

	if (!mode_is_canonical(vcpu->mode, gva))
		return inject(vcpu, error_code, 0);
	if (vcpu->mode == MODE_OFF)
		return walk_direct(gva, walk);
	do {
		again = false;
		answer = walk_once(vcpu, gva, error_code, walk, &again, flush);
	} while (again && ++tries < TRIES);
	return again ? trouble(UMBRA_EAGAIN) : answer;
}
