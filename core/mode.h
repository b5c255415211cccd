/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Paging modes: what the guest's tables look like in each (mode.c has the table of them), and how
 * their entries and those of our tables correspond.
 *
 * Our tables always have 512 entries of 8 bytes. A guest's 32-bit table has 1024 of 4 bytes, so one
 * is shadowed by two or four of ours, which differ in role.quadrant:
 *
 *     page directory, 4 MiB an entry        four of ours, 2 MiB an entry: guest's n = ours 2n, 2n+1
 *     page table, 4 KiB an entry            two of ours
 */
#ifndef UMBRA_MODE_H
#define UMBRA_MODE_H

#include <umbra/umbra.h>

#include "spte.h"

#define CR0_WP    (1ull << 16)
#define CR0_PG    (1ull << 31)
#define CR3_KEEP  (1ull << 63)
#define CR3_PCID  0xfffull
#define CR4_PSE   (1ull << 4)
#define CR4_PAE   (1ull << 5)
#define CR4_PGE   (1ull << 7)
#define CR4_LA57  (1ull << 12)
#define CR4_PCIDE (1ull << 17)
#define CR4_SMEP  (1ull << 20)
#define CR4_SMAP  (1ull << 21)
#define CR4_PKE   (1ull << 22)
#define CR4_PKS   (1ull << 24)
#define EFER_LME  (1ull << 8)
#define EFER_LMA  (1ull << 10)
#define EFER_NXE  (1ull << 11)

#define LEVELS_MAX 5u /* of tables */

enum paging_mode {
	MODE_OFF = UMBRA_MODE_OFF,
	MODE_32 = UMBRA_MODE_32,
	MODE_PSE = UMBRA_MODE_PSE,
	MODE_PAE = UMBRA_MODE_PAE,
	MODE_4 = UMBRA_MODE_4, /* long mode */
	MODE_5 = UMBRA_MODE_5,
	MODES
};

/* What an entry of a level may be. Bits of physical addresses, and NX, are judged apart. */
struct level {
	uint8_t shift;           /* the lowest bit of a gva that chooses the entry */
	uint8_t bits;            /* how many do */
	bool leaf;               /* may map a page, if it has PS; the last level does without */
	bool bare;               /* grants everything and has no A bit: a PDPTE of PAE paging */
	uint64_t reserved;       /* bits that must be 0 whatever the entry is, */
	uint64_t reserved_leaf;  /*   and if it maps a page, */
	uint64_t reserved_table; /*   or leads to a table of an AMD processor's */
	uint64_t high;           /* of a page: bits 39:32 of its address, 19 bits too low */
};

struct mode {
	struct level level[LEVELS_MAX + 1];
	uint8_t root;        /* level of what CR3 leads to; 0: paging is off */
	uint8_t shadow_root; /* level of our roots; 2: four of them, below a PAE root */
	uint8_t entry_shift; /* log2 of the bytes of an entry */
	bool parts;          /* an entry of the guest's may be several of ours */
	bool keys;           /* protection keys, in bits 62:59 */
	uint64_t cr3;        /* bits of CR3 that are an address */
	uint64_t sign;       /* bits of a gva that are alike: all clear, or in long mode all set */
};

extern const struct mode modes[MODES];

/*
 * Bits that must be 0 in a present entry, for one guest's processor: by mode, level, EFER.NXE, and
 * whether it maps a page.
 */
struct reserved {
	uint64_t of[MODES][LEVELS_MAX + 1][2][2];
};

void mode_reserved_make(struct reserved *reserved, unsigned maxphyaddr, uint32_t cpu);

/* The lowest bit of a gva that chooses an entry of ours. */
static inline unsigned shadow_shift(unsigned level)
{
	return 12 + 9 * (level - 1);
}

static inline bool mode_is_leaf(enum paging_mode mode, unsigned level, uint64_t pte)
{
	return level == 1 || (pte & PTE_PS && modes[mode].level[level].leaf);
}

/* The bits of a present entry that must be clear. */
static inline uint64_t mode_reserved_mask(const struct reserved *reserved, enum paging_mode mode,
					  unsigned level, uint64_t pte, bool nxe)
{
	return reserved->of[mode][level][nxe][mode_is_leaf(mode, level, pte)];
}

/* gpa of the first byte of the page that leaf @pte maps. */
static inline uint64_t mode_page(enum paging_mode mode, unsigned level, uint64_t pte)
{
	const struct level *at = &modes[mode].level[level];

	if (level == 1)
		return pte & PTE_ADDRESS;
	return (pte & PTE_ADDRESS & ~0ull << at->shift) | (pte & at->high) << 19;
}

/* Whether a gva can be translated in that mode at all. */
static inline bool mode_is_canonical(enum paging_mode mode, uint64_t gva)
{
	uint64_t sign = gva & modes[mode].sign;

	return !sign || (sign == modes[mode].sign && modes[mode].keys);
}

/* The guest's entry behind ours; @index counts through all quadrants. */
static inline unsigned mode_guest_index(enum paging_mode mode, unsigned level, unsigned index)
{
	if (!modes[mode].parts)
		return index;
	return index >> (modes[mode].level[level].shift - shadow_shift(level));
}

/* Which part of what the guest's entry covers ours does. */
static inline unsigned mode_part(enum paging_mode mode, unsigned level, unsigned index)
{
	if (!modes[mode].parts)
		return 0;
	return index & ((1u << (modes[mode].level[level].shift - shadow_shift(level))) - 1);
}

/* Read entry @index of a guest's table. */
static inline uint64_t mode_entry_read(enum paging_mode mode, const void *table, unsigned index)
{
	if (modes[mode].entry_shift == 2)
		return atomic_load_explicit((const _Atomic uint32_t *)table + index,
					    memory_order_acquire);
	return atomic_load_explicit((const _Atomic uint64_t *)table + index, memory_order_acquire);
}

bool mode_entry_exchange(enum paging_mode mode, void *entry, uint64_t old, uint64_t new);

#endif
