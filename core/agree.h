/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * When an spte and the guest's entry behind it agree, so that sync_entry() would do nothing: seen
 * in a few instructions, for tables of the last level each of whose entries (8 bytes) is one of
 * ours. Most entries of a table that was unsync do. Where it says no, sync_entry() decides.
 *
 * Whether it is the same gfn is not told here.
 */
#ifndef UMBRA_AGREE_H
#define UMBRA_AGREE_H

#include "mmu.h"

/*
 * Worked out once for a table. U and X that the levels above withhold no spte of the table has; W
 * some may (fault.c, kernel_rights()).
 */
struct agreement {
	uint64_t
	    alike; /* bits that both have, or neither; U only where the levels above grant it */
	uint64_t judged; /* P, A and what is reserved: the first two only */
	uint64_t writes; /* W, if the levels above grant it */
};

static inline struct agreement agreement_make(const struct umbra_mmu *mmu,
					      const struct shadow *shadow)
{
	union role role = shadow->role;
	uint64_t rights = access_pte(role.access);

	return (struct agreement){
	    .alike = PTE_P | PTE_MARKS | (rights & PTE_U),
	    .judged = PTE_P | PTE_A | mode_reserved_mask(&mmu->reserved, role.mode, 1, 0, role.nxe),
	    .writes = rights & PTE_W,
	};
}

static inline bool agree(const struct agreement *agreement, uint64_t spte, uint64_t pte)
{
	uint64_t differs = (spte ^ pte) & agreement->alike;

	differs |= (pte ^ (PTE_P | PTE_A)) & agreement->judged;
	differs |= spte & PTE_W & ~(pte & pte >> 5 /* D */ & agreement->writes);
	differs |= ~spte & pte & PTE_NX;
	return !differs;
}

#endif
