/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Virtual processors: their control registers and their root.
 *
 * A root is a shadow page like any other, counted in shadow.roots by the vcpus that have it. It
 * is looked up when the guest loads CR3 and made when the vcpu is about to run; who zaps it sets
 * vcpu.root to 0. A guest with paging off runs on a direct root of level 3, whose first four
 * entries are copied to the vcpu's own PAE root (AMD64 APM vol. 2 §5.2.3) below 4 GiB.
 *
 * Lock: the MMU's, taken in the umbra_* functions.
 */
#include "mmu.h"

#define CR0_WP    (1ull << 16)
#define CR0_PG    (1ull << 31)
#define CR4_PAE   (1ull << 5)
#define CR4_LA57  (1ull << 12)
#define CR4_PCIDE (1ull << 17)
#define CR4_SMEP  (1ull << 20)
#define CR4_SMAP  (1ull << 21)
#define EFER_LME  (1ull << 8)
#define EFER_LMA  (1ull << 10)
#define EFER_NXE  (1ull << 11)

#define PAE_ROOTS 4u

static const struct need root_need = {.shadows = 1};

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

static void root_set(struct umbra_vcpu *vcpu, struct shadow *root)
{
	if (vcpu->root)
		shadow_of(vcpu->mmu, vcpu->root)->roots--;
	vcpu->root = root ? root->id : 0;
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
	root_set(vcpu, NULL);
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
	for (unsigned i = 0; i < UMBRA_VCPUS_MAX; i++)
		if (mmu->vcpu[i] && mmu->vcpu[i]->root == shadow->id)
			root_set(mmu->vcpu[i], NULL);
}

/* The key of the vcpu's root. */
static umbra_gfn root_key(const struct umbra_vcpu *vcpu, union role *role)
{
	const struct umbra_paging *paging = &vcpu->paging;
	bool wp = paging->cr0 & CR0_WP;

	*role = (union role){.access = ACCESS_ALL};
	if (!is_paging(vcpu)) {
		role->level = LEVEL_ROOT_PAE;
		role->direct = 1;
		return (umbra_gfn){0};
	}
	role->level = LEVEL_ROOT;
	role->nxe = !!(paging->efer & EFER_NXE);
	role->wp = wp;
	role->smep = !wp && paging->cr4 & CR4_SMEP;
	role->smap = !wp && paging->cr4 & CR4_SMAP;
	return (umbra_gfn){(paging->cr3 & PTE_ADDRESS) >> UMBRA_PAGE_SHIFT};
}

/* The vcpu's root; a new one needs a free page in stock. */
struct shadow *vcpu_root(struct umbra_vcpu *vcpu, struct flush *flush)
{
	struct shadow *root;
	union role role;
	umbra_gfn gfn;

	if (vcpu->root)
		return shadow_of(vcpu->mmu, vcpu->root);
	gfn = root_key(vcpu, &role);
	root = shadow_get(vcpu->mmu, gfn, role, flush);
	root_set(vcpu, root);
	track_sync_below(vcpu->mmu, root, flush);
	return root;
}

static bool is_supported(const struct umbra_paging *paging)
{
	if (!(paging->cr0 & CR0_PG))
		return true;
	return paging->cr4 & CR4_PAE && !(paging->cr4 & (CR4_LA57 | CR4_PCIDE)) &&
	       (paging->efer & (EFER_LME | EFER_LMA)) == (EFER_LME | EFER_LMA);
}

int umbra_vcpu_set_paging(struct umbra_vcpu *vcpu, const struct umbra_paging *paging)
{
	struct umbra_mmu *mmu = vcpu->mmu;
	struct flush flush = {0};
	struct shadow *root;
	union role role;
	umbra_gfn gfn;

	if (!is_supported(paging))
		return UMBRA_EINVAL;
	port_lock(&mmu->lock);
	mmu->stats.root_loads++;
	vcpu->paging = *paging;
	gfn = root_key(vcpu, &role);
	root = shadow_find(mmu, gfn, role);
	root_set(vcpu, root);
	if (root)
		track_sync_below(mmu, root, &flush);
	flush_vcpu(vcpu, &flush);
	flush_commit(mmu, &flush);
	port_unlock(&mmu->lock);
	return 0;
}

/*
 * The hardware reads PDPTEs once, when CR3 is loaded, so a copy at each entry is what it would
 * see anyway. Only P and the address may be set in them.
 */
static void pae_copy(struct umbra_vcpu *vcpu, const struct shadow *root)
{
	uint64_t *pae = vcpu->pae.va;

	for (unsigned i = 0; i < PAE_ROOTS; i++)
		spte_write(&pae[i], spte_read(&root->table[i]) & (PTE_ADDRESS | PTE_P));
}

int umbra_vcpu_root(struct umbra_vcpu *vcpu, struct umbra_root *out)
{
	struct umbra_mmu *mmu = vcpu->mmu;
	struct flush flush = {0};
	struct shadow *root;

	port_lock(&mmu->lock);
	if (!vcpu->root) {
		int error;

		port_unlock(&mmu->lock);
		error = pool_lock(mmu, &root_need);
		if (error)
			return error;
	}
	root = vcpu_root(vcpu, &flush);
	if (!is_paging(vcpu))
		pae_copy(vcpu, root);
	*out = (struct umbra_root){
	    .hpa = is_paging(vcpu) ? root->hpa : vcpu->pae.hpa,
	    .levels = is_paging(vcpu) ? 4 : 3,
	};
	flush_commit(mmu, &flush);
	port_unlock(&mmu->lock);
	return 0;
}
