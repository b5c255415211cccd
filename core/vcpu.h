/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A virtual processor: the guest's registers that paging depends on, its roots, and which roots
 * its PCIDs keep.
 *
 * Roots, by the mode of the guest (mode.h):
 *
 *     4, 5 levels, nested     root[0]
 *     off, 32-bit, PAE        root[0..3], of level 2, a GiB of gva each, below vcpu.pae
 *
 * Lock: the MMU's.
 */
#ifndef UMBRA_VCPU_H
#define UMBRA_VCPU_H

#include "mmu.h"

#define FAULT_TABLES 5u /* shadow pages a fault makes at most: a root and what it links */
#define PAE_ROOTS    4u /* roots of a vcpu outside of long mode; else one */

struct root_key {
	umbra_gfn gfn;
	union role role; /* .word 0: there is no such root */
};

/*
 * A root that need not be synchronised when the guest loads it without a flush: it was, or did not
 * exist, since this vcpu last flushed that PCID.
 */
struct known_root {
	struct root_key key;
	uint32_t pcid;
};
#define KNOWN_ROOTS 8u

struct umbra_vcpu {
	struct umbra_mmu *mmu;
	struct umbra_memory memory;
	struct umbra_memory pae; /* the PAE root that the hardware sees, below 4 GiB */
	uint32_t number;

	struct umbra_paging paging;
	uint64_t pdpte[PAE_ROOTS]; /* PAE paging: as loaded */
	uint32_t pkru, pkrs;

	/* What follows from them. */
	enum paging_mode mode;
	uint32_t levels; /* of the hardware's tables: 3 is a PAE root of four */
	uint32_t roots;  /* 1 or PAE_ROOTS */
	union role role; /* what their roles have in common */
	struct root_key key[PAE_ROOTS];

	uint32_t root[PAE_ROOTS]; /* shadow page ids; 0: to be made, or none */
	struct umbra_root loaded; /* what umbra_vcpu_root() said; .levels 0: a root has changed */

	/* pcid.c */
	struct known_root known[KNOWN_ROOTS];
	uint32_t known_next; /* to be replaced */
};

/* ---- root.c ---- */

/* Which root leads to @gva, which can be translated. */
static inline unsigned vcpu_root_index(const struct umbra_vcpu *vcpu, uint64_t gva)
{
	return vcpu->roots == 1 ? 0 : gva >> 30 & 3;
}

/* The PCID that the vcpu's translations are tagged with. */
static inline uint32_t vcpu_pcid(const struct umbra_vcpu *vcpu)
{
	return vcpu->paging.cr4 & CR4_PCIDE ? vcpu->paging.cr3 & CR3_PCID : 0;
}

/* Whether the hardware judges the kernel's accesses to users' pages by more than W. */
static inline bool vcpu_is_strict(const struct umbra_vcpu *vcpu)
{
	return vcpu->paging.cr4 & CR4_SMAP ||
	       (modes[vcpu->mode].keys && vcpu->paging.cr4 & (CR4_PKE | CR4_PKS));
}

struct shadow *vcpu_root(struct umbra_vcpu *vcpu, uint64_t gva, struct flush *flush);

/* ---- pcid.c ---- */

bool pcid_knows(struct umbra_vcpu *vcpu, const struct root_key *key);
void pcid_remember(struct umbra_vcpu *vcpu, const struct root_key *key);
void pcid_forget(struct umbra_vcpu *vcpu, uint32_t pcid);
void pcid_forget_all(struct umbra_vcpu *vcpu);

#endif
