/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a guest makes its TLB forget: INVLPG, INVPCID, and which PCIDs need not be forgotten.
 *
 * The hardware runs without PCIDs and is flushed at each change of the root, so PCIDs save no TLB
 * misses here. They save the work before: a root that the guest loads without a flush may show what
 * its tables said when that PCID was last flushed. So vcpus keep a list of roots that were
 * synchronised since; the ones on it are loaded as they are. INVLPG and INVPCID of one address go
 * through the list, since a root that is left as it is must show what they ask for.
 *
 * AMD64 APM vol. 2 §5.5; Intel SDM vol. 3 §4.10.4.1, vol. 2 INVPCID.
 *
 * Lock: the MMU's, taken in the umbra_* functions.
 */
#include "vcpu.h"

static struct known_root *find(struct umbra_vcpu *vcpu, const struct root_key *key)
{
	uint32_t pcid = vcpu_pcid(vcpu);

	for (unsigned i = 0; i < KNOWN_ROOTS; i++) {
		struct known_root *known = &vcpu->known[i];

		if (known->key.role.word == key->role.word && known->key.gfn.n == key->gfn.n &&
		    known->pcid == pcid)
			return known;
	}
	return NULL;
}

/* Whether that root is synchronised as far as the vcpu's present PCID asks for. */
bool pcid_knows(struct umbra_vcpu *vcpu, const struct root_key *key)
{
	return vcpu->paging.cr4 & CR4_PCIDE && find(vcpu, key);
}

/* That root has been synchronised, for the vcpu's present PCID. */
void pcid_remember(struct umbra_vcpu *vcpu, const struct root_key *key)
{
	if (!(vcpu->paging.cr4 & CR4_PCIDE) || find(vcpu, key))
		return;
	vcpu->known[vcpu->known_next++ % KNOWN_ROOTS] =
	    (struct known_root){.key = *key, .pcid = vcpu_pcid(vcpu)};
}

/* That PCID is flushed. */
void pcid_forget(struct umbra_vcpu *vcpu, uint32_t pcid)
{
	if (!(vcpu->paging.cr4 & CR4_PCIDE))
		return;
	for (unsigned i = 0; i < KNOWN_ROOTS; i++)
		if (vcpu->known[i].pcid == pcid)
			vcpu->known[i].key.role.word = 0;
}

/* All are. */
void pcid_forget_all(struct umbra_vcpu *vcpu)
{
	memset(vcpu->known, 0, sizeof(vcpu->known));
}

static void sync_current(struct umbra_vcpu *vcpu, uint64_t gva)
{
	uint32_t root = vcpu->root[vcpu_root_index(vcpu, gva)];

	if (root)
		sync_gva(vcpu->mmu, shadow_of(vcpu->mmu, root), gva);
}

/* Roots that the vcpu may come back to as they are; @pcid: of that PCID alone, -1: of any. */
static void sync_known(struct umbra_vcpu *vcpu, int pcid, uint64_t gva)
{
	for (unsigned i = 0; i < KNOWN_ROOTS; i++) {
		const struct known_root *known = &vcpu->known[i];
		struct shadow *root;

		if (!known->key.role.word || (pcid >= 0 && known->pcid != (uint32_t)pcid))
			continue;
		root = shadow_find(vcpu->mmu, known->key.gfn, known->key.role);
		if (root)
			sync_gva(vcpu->mmu, root, gva);
	}
}

/* Global translations are invalidated for every PCID, so all roots are looked at. */
void umbra_invlpg(struct umbra_vcpu *vcpu, uint64_t gva)
{
	struct umbra_mmu *mmu = vcpu->mmu;
	struct flush flush = {0};

	port_lock(&mmu->lock);
	mmu->stats.invlpgs++;
	if (mode_is_canonical(vcpu->mode, gva) && !mmu->config.nested) {
		sync_current(vcpu, gva);
		sync_known(vcpu, -1, gva);
	}
	flush_page(vcpu, &flush, gva);
	flush_commit(mmu, &flush);
	port_unlock(&mmu->lock);
}

static void invalidate_address(struct umbra_vcpu *vcpu, uint32_t pcid, uint64_t gva,
			       struct flush *flush)
{
	vcpu->mmu->stats.invlpgs++;
	sync_known(vcpu, (int)pcid, gva);
	if (pcid != vcpu_pcid(vcpu))
		return;
	sync_current(vcpu, gva);
	flush_page(vcpu, flush, gva);
}

static void sync_roots(struct umbra_vcpu *vcpu, struct flush *flush)
{
	for (unsigned i = 0; i < PAE_ROOTS; i++)
		if (vcpu->root[i])
			sync_below(vcpu->mmu, shadow_of(vcpu->mmu, vcpu->root[i]), flush);
	flush_vcpu(vcpu, flush);
}

static bool is_descriptor_valid(const struct umbra_vcpu *vcpu, enum umbra_invpcid type,
				uint16_t pcid, uint64_t gva)
{
	if (type > UMBRA_INVPCID_ALL || pcid > CR3_PCID)
		return false;
	if (type == UMBRA_INVPCID_ADDRESS && !mode_is_canonical(vcpu->mode, gva))
		return false;
	return !pcid || vcpu->paging.cr4 & CR4_PCIDE || type > UMBRA_INVPCID_PCID;
}

int umbra_invpcid(struct umbra_vcpu *vcpu, enum umbra_invpcid type, uint16_t pcid, uint64_t gva)
{
	struct umbra_mmu *mmu = vcpu->mmu;
	struct flush flush = {0};

	if (!is_descriptor_valid(vcpu, type, pcid, gva))
		return UMBRA_EINVAL;
	port_lock(&mmu->lock);
	if (type == UMBRA_INVPCID_ADDRESS) {
		invalidate_address(vcpu, pcid, gva, &flush);
	} else if (type == UMBRA_INVPCID_PCID) {
		pcid_forget(vcpu, pcid);
		if (pcid == vcpu_pcid(vcpu))
			sync_roots(vcpu, &flush);
	} else {
		pcid_forget_all(vcpu);
		sync_roots(vcpu, &flush);
	}
	flush_commit(mmu, &flush);
	port_unlock(&mmu->lock);
	return 0;
}
