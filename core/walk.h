/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the guest's tables say: of a gva (walk.c), and of one entry of a shadow page, whose guest
 * entry may have changed since.
 *
 * Lock: the MMU's.
 */
#ifndef UMBRA_WALK_H
#define UMBRA_WALK_H

#include "vcpu.h"

/* A finished walk of the guest's tables. */
struct walk {
	uint64_t pte[LEVELS_MAX + 1]; /* by level, down to the leaf: A and D set as they are now */
	umbra_gfn gfn;                /* 4K page of the access */
	unsigned rights;              /* all levels; W only where D is set */
	unsigned level;               /* of the leaf */
	uint64_t marks;
};

struct umbra_answer walk_direct(uint64_t gva, struct walk *walk);
struct umbra_answer walk_guest(struct umbra_vcpu *vcpu, uint64_t gva, uint32_t error_code,
			       struct walk *walk, struct flush *flush);
struct shadow *walk_shadowed(struct umbra_vcpu *vcpu, uint64_t gva, uint32_t error_code,
			     struct walk *walk, struct umbra_answer *answer);
void *walk_table(struct umbra_mmu *mmu, umbra_gfn gfn, enum umbra_want want, uint64_t *implied,
		 int *error);
bool walk_child_key(const struct umbra_mmu *mmu, const struct shadow *shadow, unsigned index,
		    uint64_t pte, umbra_gfn *gfn, union role *role);
unsigned walk_key_denies(const struct umbra_vcpu *vcpu, unsigned access, uint64_t marks);

/* What an entry of a shadow page maps, if it is a leaf. */
struct leaf {
	umbra_gfn gfn; /* its first 4K page */
	unsigned access;
	uint64_t marks;
};

/* Entry @index of the guest's table at gpa @table, which is at @entries. */
static inline uint64_t walk_read(const struct umbra_mmu *mmu, enum paging_mode mode, uint64_t table,
				 const void *entries, unsigned index)
{
	unsigned shift = modes[mode].entry_shift;

	return mmu_input(mmu, shift == 2 ? UMBRA_INPUT_WORD4 : UMBRA_INPUT_WORD8,
			 table + ((uint64_t)index << shift), mode_entry_read(mode, entries, index));
}

/*
 * The guest's entry behind entry @index of @shadow; @entries: its table, NULL: gone.
 */
static inline uint64_t walk_entry(const struct umbra_mmu *mmu, const struct shadow *shadow,
				  const void *entries, uint64_t implied, unsigned index)
{
	union role role = shadow->role;

	if (!entries)
		return 0;
	index = mode_guest_index(role.mode, role.level, role.quadrant * PTE_ENTRIES + index);
	return walk_read(mmu, role.mode, shadow->gfn.n << UMBRA_PAGE_SHIFT, entries, index) |
	       implied;
}

/* Whether a present entry may be used without a walk: accessed, and nothing reserved set. */
static inline bool walk_is_usable(const struct umbra_mmu *mmu, union role role, uint64_t pte)
{
	uint64_t reserved =
	    mode_reserved_mask(&mmu->reserved, role.mode, role.level, pte, role.nxe);

	return (pte & (PTE_P | PTE_A | reserved)) == (PTE_P | PTE_A);
}

/* The first gfn that entry @index maps, where the guest's leaf @pte covers more than one of ours.
 */
static inline umbra_gfn walk_part_gfn(union role role, unsigned index, uint64_t pte)
{
	uint64_t part = mode_part(role.mode, role.level, index);

	return (umbra_gfn){(mode_page(role.mode, role.level, pte) >> UMBRA_PAGE_SHIFT) +
			   part * level_pages(role.level)};
}

/*
 * What entry @index of @shadow would map as a leaf, when the guest's entry there is @pte (of no
 * meaning for a direct page). false: nothing that may be mapped without a walk.
 */
static inline bool walk_leaf_decode(const struct umbra_mmu *mmu, const struct shadow *shadow,
				    unsigned index, uint64_t pte, struct leaf *leaf)
{
	union role role = shadow->role;

	if (role.direct) {
		leaf->gfn.n = shadow->gfn.n + index * level_pages(role.level);
		leaf->access = role.access;
		leaf->marks = role_marks(role);
		return true;
	}
	if (!walk_is_usable(mmu, role, pte) || !mode_is_leaf(role.mode, role.level, pte))
		return false;
	leaf->gfn = walk_part_gfn(role, index, pte);
	leaf->access = role.access & pte_access(pte) & (pte & PTE_D ? ACCESS_ALL : ~ACCESS_W);
	leaf->marks = pte_marks(pte, role.level);
	return true;
}

#endif
