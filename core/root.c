/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Virtual processors: their registers and their roots (vcpu.h draws them).
 *
 * A root is a shadow page like any other, counted in shadow.roots by the vcpus that have it. It
 * is looked up when the guest loads CR3 and made when the vcpu is about to run; who zaps it sets
 * the vcpu's id of it to 0. So every root that a guest ever loaded is found again by its key, until
 * the quota needs its page.
 *
 * Lock: the MMU's, taken in the umbra_* functions.
 */
#include "walk.h"

/* Each root is a table: its two words of the slot's directory may be missing too. */
static const struct need root_need = {.shadows = PAE_ROOTS, .spares = 2 * PAE_ROOTS};

/* What the roles of all roots have in common. */
static union role common_role(const struct umbra_vcpu *vcpu)
{
	const struct umbra_paging *paging = &vcpu->paging;
	unsigned nested = vcpu->mmu->config.nested;
	bool wp = paging->cr0 & CR0_WP;

	if (nested)
		return (union role){.direct = 1,
				    .access = ACCESS_ALL,
				    .mode = nested == 4 ? MODE_4 : MODE_5,
				    .level = nested};
	if (vcpu->mode == MODE_OFF)
		return (union role){.direct = 1, .access = ACCESS_ALL, .level = 2};
	return (union role){
	    .access = ACCESS_ALL,
	    .mode = vcpu->mode,
	    .level = modes[vcpu->mode].shadow_root,
	    .nxe = !!(paging->efer & EFER_NXE),
	    .wp = wp,
	    .smep = !wp && paging->cr4 & CR4_SMEP,
	    .strict = !wp && vcpu_is_strict(vcpu),
	};
}

/* CR3 is set, or PDPTEs: which tables the roots are. */
static void tables_set(struct umbra_vcpu *vcpu)
{
	uint64_t cr3 = vcpu->paging.cr3 & modes[vcpu->mode].cr3;

	for (unsigned i = 0; i < vcpu->roots; i++) {
		struct root_key *key = &vcpu->key[i];

		*key = (struct root_key){.gfn = {cr3 >> UMBRA_PAGE_SHIFT}, .role = vcpu->role};
		if (vcpu->role.direct) {
			key->gfn.n = i * level_pages(LEVELS);
		} else if (vcpu->mode == MODE_PAE) {
			key->gfn.n = (vcpu->pdpte[i] & PTE_ADDRESS) >> UMBRA_PAGE_SHIFT;
			if (!(vcpu->pdpte[i] & PTE_P))
				key->role.word = 0;
		} else {
			key->role.quadrant = i;
		}
	}
}

/* The other registers are set: what follows from them. */
static void keys_make(struct umbra_vcpu *vcpu)
{
	union role role = common_role(vcpu);

	vcpu->role = role;
	vcpu->roots = role.level == 2 ? PAE_ROOTS : 1;
	vcpu->levels = role.level == 2 ? 3 : role.level;
	tables_set(vcpu);
}

int umbra_vcpu_create(struct umbra_mmu *mmu, uint32_t number, struct umbra_vcpu **made)
{
	struct umbra_memory memory, pae;
	struct umbra_vcpu *vcpu;

	if (number >= UMBRA_VCPUS_MAX)
		return UMBRA_EINVAL;
	if (mmu->host.alloc(mmu->ctx, sizeof(*vcpu), false, &memory))
		return UMBRA_ENOMEM;
	if (mmu->host.alloc(mmu->ctx, UMBRA_PAGE_SIZE, true, &pae)) {
		mmu->host.free(mmu->ctx, sizeof(*vcpu), memory);
		return UMBRA_ENOMEM;
	}
	vcpu = memory.va;
	*vcpu = (struct umbra_vcpu){.mmu = mmu, .memory = memory, .pae = pae, .number = number};
	keys_make(vcpu);
	port_lock(&mmu->lock);
	if (!mmu->vcpu[number]) {
		mmu->vcpu[number] = vcpu;
		mmu->vcpus |= 1ull << number;
		*made = vcpu;
		vcpu = NULL;
	}
	port_unlock(&mmu->lock);
	if (!vcpu)
		return 0;
	mmu->host.free(mmu->ctx, UMBRA_PAGE_SIZE, pae);
	mmu->host.free(mmu->ctx, sizeof(*vcpu), memory);
	return UMBRA_EEXIST;
}

static void root_set(struct umbra_vcpu *vcpu, unsigned i, struct shadow *root)
{
	vcpu->loaded.levels = 0;
	if (vcpu->root[i])
		shadow_of(vcpu->mmu, vcpu->root[i])->roots--;
	vcpu->root[i] = root ? root->id : 0;
	if (root) {
		root->roots++;
		root->referenced = true;
		root->writes = 0;
	}
}

void umbra_vcpu_destroy(struct umbra_vcpu *vcpu)
{
	struct umbra_mmu *mmu = vcpu->mmu;
	struct umbra_memory memory = vcpu->memory, pae = vcpu->pae;

	port_lock(&mmu->lock);
	for (unsigned i = 0; i < PAE_ROOTS; i++)
		root_set(vcpu, i, NULL);
	mmu->vcpu[vcpu->number] = NULL;
	mmu->vcpus &= ~(1ull << vcpu->number);
	mmu->tlb_stale &= mmu->vcpus;
	port_unlock(&mmu->lock);
	mmu->host.free(mmu->ctx, UMBRA_PAGE_SIZE, pae);
	mmu->host.free(mmu->ctx, sizeof(*vcpu), memory);
}

/* @shadow is being zapped: vcpus that run on it look for another one. The caller flushes them. */
void vcpu_root_gone(struct umbra_mmu *mmu, struct shadow *shadow)
{
	for (unsigned i = 0; i < UMBRA_VCPUS_MAX * PAE_ROOTS; i++) {
		struct umbra_vcpu *vcpu = mmu->vcpu[i / PAE_ROOTS];

		if (vcpu && vcpu->root[i % PAE_ROOTS] == shadow->id)
			root_set(vcpu, i % PAE_ROOTS, NULL);
	}
}

/* Root @i, if the guest has it; a new one needs a free page in stock. */
static void root_make(struct umbra_vcpu *vcpu, unsigned i, struct flush *flush)
{
	const struct root_key *key = &vcpu->key[i];
	struct shadow *root;

	if (vcpu->root[i] || !key->role.word)
		return;
	root = shadow_get(vcpu->mmu, key->gfn, key->role, flush);
	root_set(vcpu, i, root);
	sync_below(vcpu->mmu, root, flush);
}

/* The root that leads to @gva, which can be translated; a new one needs a free page in stock. */
struct shadow *vcpu_root(struct umbra_vcpu *vcpu, uint64_t gva, struct flush *flush)
{
	unsigned i = vcpu_root_index(vcpu, gva);

	root_make(vcpu, i, flush);
	return shadow_of(vcpu->mmu, vcpu->root[i]);
}

/* SDM vol. 3 §4.1.1. MODES: the registers contradict one another. */
static enum paging_mode mode_of(const struct umbra_paging *paging)
{
	bool lma = paging->efer & EFER_LMA, pcide = paging->cr4 & CR4_PCIDE;

	if (!(paging->cr0 & CR0_PG))
		return MODE_OFF;
	if (lma != !!(paging->efer & EFER_LME) || (pcide && !lma))
		return MODES;
	if (!(paging->cr4 & CR4_PAE))
		return lma ? MODES : paging->cr4 & CR4_PSE ? MODE_PSE : MODE_32;
	if (!lma)
		return MODE_PAE;
	return paging->cr4 & CR4_LA57 ? MODE_5 : MODE_4;
}

/* SDM vol. 3 §4.4.1: whether a change of registers makes the processor read PDPTEs. */
static bool is_pdpte_load(const struct umbra_paging *old, const struct umbra_paging *new)
{
	uint64_t cr0 = old->cr0 ^ new->cr0, cr4 = old->cr4 ^ new->cr4;

	return (!cr0 && !cr4 && old->efer == new->efer) || cr0 & CR0_PG ||
	       cr4 & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP) || (old->efer ^ new->efer) & EFER_LMA;
}

/* Read the PDPTEs at @cr3. 0, or an error of the host, or UMBRA_EPDPTE. */
static int pdptes_read(struct umbra_mmu *mmu, uint64_t cr3, uint64_t pdpte[PAE_ROOTS])
{
	uint64_t table = cr3 & modes[MODE_PAE].cr3, implied;
	const char *entries;
	int error;

	entries = walk_table(mmu, (umbra_gfn){table >> UMBRA_PAGE_SHIFT}, UMBRA_WANT_READ, &implied,
			     &error);
	if (!entries && error != UMBRA_ENOENT)
		return error;
	for (unsigned i = 0; i < PAE_ROOTS; i++) {
		pdpte[i] = entries ? walk_read(mmu, MODE_PAE, table,
					       entries + (table & (UMBRA_PAGE_SIZE - 1)), i)
				   : ~0ull;
		if (mmu->config.nested) /* the hardware loads none, and may set their A */
			pdpte[i] &= PTE_ADDRESS | PTE_P;
		else if (pdpte[i] & PTE_P &&
			 pdpte[i] & mode_reserved_mask(&mmu->reserved, MODE_PAE, 3, pdpte[i], true))
			return UMBRA_EPDPTE;
	}
	return 0;
}

/*
 * The hardware reads PDPTEs when the guest is entered, and who takes a root away has the vcpu
 * flushed, so a copy is never too old.
 */
static void pae_copy(struct umbra_vcpu *vcpu)
{
	uint64_t *pae = vcpu->pae.va;

	for (unsigned i = 0; i < PAE_ROOTS; i++) {
		uint32_t root = vcpu->root[i];

		spte_write(&pae[i], root ? shadow_of(vcpu->mmu, root)->hpa | PTE_P : 0);
	}
}

/* Note what the hardware is to load, if no root is missing. */
static void roots_finish(struct umbra_vcpu *vcpu)
{
	for (unsigned i = 0; i < vcpu->roots; i++)
		if (!vcpu->root[i] && vcpu->key[i].role.word)
			return;
	if (vcpu->levels == 3)
		pae_copy(vcpu);
	vcpu->loaded = (struct umbra_root){
	    .hpa = vcpu->levels == 3 ? vcpu->pae.hpa : shadow_of(vcpu->mmu, vcpu->root[0])->hpa,
	    .levels = vcpu->levels,
	};
}

/* Find the roots that the registers name, and synchronise what a flush must show. */
static void roots_load(struct umbra_vcpu *vcpu, bool keep, struct flush *flush)
{
	struct umbra_mmu *mmu = vcpu->mmu;

	for (unsigned i = 0; i < vcpu->roots; i++) {
		const struct root_key *key = &vcpu->key[i];
		struct shadow *root = key->role.word ? shadow_find(mmu, key->gfn, key->role) : NULL;

		root_set(vcpu, i, root);
		if (keep && pcid_knows(vcpu, key)) {
			mmu->stats.root_kept++;
			continue;
		}
		if (root)
			sync_below(mmu, root, flush);
		pcid_remember(vcpu, key);
	}
	roots_finish(vcpu);
}

static void keys_renew(struct umbra_vcpu *vcpu)
{
	unsigned before = vcpu->roots;

	keys_make(vcpu);
	for (unsigned i = vcpu->roots; i < before; i++)
		root_set(vcpu, i, NULL);
}

/* The hardware walks the guest's tables; we do for umbra_translate() alone. */
static void nested_set(struct umbra_vcpu *vcpu, const struct umbra_paging *paging,
		       enum paging_mode mode, const uint64_t pdpte[PAE_ROOTS])
{
	vcpu->paging = *paging;
	vcpu->mode = mode;
	if (mode == MODE_PAE)
		memcpy(vcpu->pdpte, pdpte, sizeof(vcpu->pdpte));
}

/* What of the registers paging depends on: a change elsewhere (CR0.TS, say) is none to us. */
static struct umbra_paging paging_bits(const struct umbra_paging *paging)
{
	return (struct umbra_paging){
	    .cr0 = paging->cr0 & (CR0_PG | CR0_WP),
	    .cr3 = paging->cr3,
	    .cr4 = paging->cr4 & (CR4_PSE | CR4_PAE | CR4_PGE | CR4_LA57 | CR4_PCIDE | CR4_SMEP |
				  CR4_SMAP | CR4_PKE | CR4_PKS),
	    .efer = paging->efer & (EFER_LME | EFER_LMA | EFER_NXE),
	};
}

int umbra_vcpu_set_paging(struct umbra_vcpu *vcpu, const struct umbra_paging *told)
{
	struct umbra_mmu *mmu = vcpu->mmu;
	const struct umbra_paging old = vcpu->paging, bits = paging_bits(told), *paging = &bits;
	enum paging_mode mode = mode_of(paging);
	uint64_t pdpte[PAE_ROOTS] = {0};
	struct flush flush = {0};
	bool keep = paging->cr4 & CR4_PCIDE && paging->cr3 & CR3_KEEP;
	bool load;
	int error = 0;

	if (mode == MODES)
		return UMBRA_EINVAL;
	port_lock(&mmu->lock);
	load = mode == MODE_PAE && (mmu->config.nested || is_pdpte_load(&old, paging));
	if (load)
		error = pdptes_read(mmu, paging->cr3, pdpte);
	if (mmu->config.nested && !error) {
		nested_set(vcpu, paging, mode, pdpte);
	} else if (!error) {
		mmu->stats.root_loads++;
		vcpu->paging = *paging;
		vcpu->mode = mode;
		if (load)
			memcpy(vcpu->pdpte, pdpte, sizeof(pdpte));
		if (paging->cr4 & CR4_PCIDE)
			vcpu->paging.cr3 &= ~CR3_KEEP;
		if (old.cr0 != paging->cr0 || old.cr4 != paging->cr4 || old.efer != paging->efer) {
			pcid_forget_all(vcpu);
			keys_renew(vcpu);
		} else {
			if (!keep)
				pcid_forget(vcpu, vcpu_pcid(vcpu));
			tables_set(vcpu);
		}
		roots_load(vcpu, keep, &flush);
		flush_vcpu(vcpu, &flush);
	}
	flush_commit(mmu, &flush);
	port_unlock(&mmu->lock);
	return error;
}

void umbra_vcpu_set_keys(struct umbra_vcpu *vcpu, uint32_t pkru, uint32_t pkrs)
{
	port_lock(&vcpu->mmu->lock);
	vcpu->pkru = pkru;
	vcpu->pkrs = pkrs;
	port_unlock(&vcpu->mmu->lock);
}

int umbra_vcpu_root(struct umbra_vcpu *vcpu, struct umbra_root *out)
{
	struct umbra_mmu *mmu = vcpu->mmu;
	struct flush flush = {0};

	int error;

	port_lock(&mmu->lock);
	if (!vcpu->loaded.levels) {
		port_unlock(&mmu->lock);
		error = pool_lock(mmu, &root_need);
		if (error)
			return error;
		for (unsigned i = 0; i < vcpu->roots; i++)
			root_make(vcpu, i, &flush);
		roots_finish(vcpu);
		flush_commit(mmu, &flush);
	}
	*out = vcpu->loaded;
	port_unlock(&mmu->lock);
	return 0;
}
