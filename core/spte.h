/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Page-table entry bits (AMD64 APM vol. 2 §5.4.1), the same in guest tables and in ours, and
 * the rights that they grant.
 *
 * Our entries rarely wait for the hardware: A is set when an entry is made, and W is granted
 * only together with D. The hardware has nothing left to write to such an entry, so a plain
 * store clears it. A is clear where somebody asked who is in use: of entries to lower tables the
 * clock of shadow.c, of leaves umbra_age(). Then the head of their chain says so.
 *
 * A leaf carries the guest's *marks* for the hardware to obey: memory type (PAT, PCD, PWT) and
 * protection key. They are kept as a 4K entry has them; PAT stands elsewhere in a large one.
 *
 * An entry that is not present is 0, or a *note*: the page is known to be no memory. It holds the
 * gpa and rights where a leaf has them, and the generation of the slots that it was true for.
 */
#ifndef UMBRA_SPTE_H
#define UMBRA_SPTE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PTE_P   (1ull << 0)
#define PTE_W   (1ull << 1)
#define PTE_U   (1ull << 2)
#define PTE_PWT (1ull << 3)
#define PTE_PCD (1ull << 4)
#define PTE_A   (1ull << 5)
#define PTE_D   (1ull << 6)
#define PTE_PS  (1ull << 7)
#define PTE_PAT (1ull << 7) /* of a 4K page; else bit 12 */
#define PTE_G   (1ull << 8)
#define PTE_KEY (15ull << 59)
#define PTE_NX  (1ull << 63)

#define PTE_MARKS (PTE_PWT | PTE_PCD | PTE_PAT | PTE_KEY)
#define KEY_SHIFT 59

#define PTE_ADDRESS 0x000ffffffffff000ull

#define PTE_ENTRIES 512u

/* Rights of a mapping, all levels taken together. Reading needs no bit: present is enough. */
enum access {
	ACCESS_W = 1,
	ACCESS_U = 2,
	ACCESS_X = 4,
	ACCESS_ALL = 7,
};

/*
 * The rights that one entry leaves of those of the levels above: W and U stand side by side in
 * both, and X is the opposite of NX.
 */
static inline unsigned pte_access(uint64_t pte)
{
	return (pte >> 1 & (ACCESS_W | ACCESS_U)) | (~pte >> 61 & ACCESS_X);
}

/* The other way round. */
static inline uint64_t access_pte(unsigned access)
{
	return (uint64_t)(access & (ACCESS_W | ACCESS_U)) << 1 | (uint64_t)(~access & ACCESS_X)
								     << 61;
}

/* Marks of a leaf, a guest's or ours. */
static inline uint64_t pte_marks(uint64_t pte, unsigned level)
{
	if (level == 1)
		return pte & PTE_MARKS;
	return (pte & PTE_MARKS & ~PTE_PAT) | (pte >> 5 & PTE_PAT);
}

/* @pfn: of the first 4K page. */
static inline uint64_t spte_leaf(unsigned level, uint64_t pfn, unsigned access, uint64_t marks)
{
	if (level > 1)
		marks = (marks & ~PTE_PAT) | (marks & PTE_PAT) << 5 | PTE_PS;
	return pfn << 12 | PTE_P | PTE_A | access_pte(access) |
	       (uint64_t)(access & ACCESS_W) << 6 /* D */ | marks;
}

/* Whether a present entry of ours maps a page. */
static inline bool spte_is_leaf(unsigned level, uint64_t value)
{
	return level == 1 || value & PTE_PS;
}

#define NOTE             (1ull << 9) /* so that none is 0 */
#define NOTE_GENERATIONS (1u << 13)
#define NOTE_GENERATION  (127ull << 52 | 63ull << 3)

static inline uint64_t note_generation(uint32_t generation)
{
	return (uint64_t)(generation >> 6 & 127) << 52 | (uint64_t)(generation & 63) << 3;
}

static inline uint64_t note_make(uint64_t gfn, unsigned access, uint64_t key, uint32_t generation)
{
	return gfn << 12 | NOTE | access_pte(access) | (key & PTE_KEY) |
	       note_generation(generation);
}

static inline bool is_note(uint64_t value)
{
	return value && !(value & PTE_P);
}

/*
 * Rights are the leaf's business: entries to tables grant all of them. The hardware ignores D
 * there (APM vol. 2 §5.4.1); it is set so that one rule tells what is volatile.
 */
static inline uint64_t spte_table(uint64_t hpa)
{
	return hpa | PTE_P | PTE_W | PTE_U | PTE_A | PTE_D;
}

static inline uint64_t spte_read(const uint64_t *spte)
{
	return atomic_load_explicit((const _Atomic uint64_t *)spte, memory_order_relaxed);
}

static inline void spte_write(uint64_t *spte, uint64_t value)
{
	atomic_store_explicit((_Atomic uint64_t *)spte, value, memory_order_relaxed);
}

/* Whether one of eight entries is not 0. */
static inline bool spte_any(const uint64_t *eight)
{
	return spte_read(&eight[0]) | spte_read(&eight[1]) | spte_read(&eight[2]) |
	       spte_read(&eight[3]) | spte_read(&eight[4]) | spte_read(&eight[5]) |
	       spte_read(&eight[6]) | spte_read(&eight[7]);
}

/* The first entry of @table from @index on that is not 0; PTE_ENTRIES: none. Most are. */
static inline unsigned spte_next(const uint64_t *table, unsigned index)
{
	for (; index % 8; index++)
		if (spte_read(&table[index]))
			return index;
	while (index < PTE_ENTRIES && !spte_any(&table[index]))
		index += 8;
	while (index < PTE_ENTRIES && !spte_read(&table[index]))
		index++;
	return index;
}

/* Whether a processor may still set A or D in an entry of that value. */
static inline bool spte_is_volatile(uint64_t value)
{
	return !(value & PTE_A) || (value & (PTE_W | PTE_D)) == PTE_W;
}

/* Clear an entry and lose no bit that the hardware wrote; an exchange only where it may. */
static inline uint64_t spte_clear(uint64_t *spte)
{
	uint64_t value = spte_read(spte);

	if (spte_is_volatile(value))
		return atomic_exchange_explicit((_Atomic uint64_t *)spte, 0, memory_order_relaxed);
	spte_write(spte, 0);
	return value;
}

#endif
