/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The reference: how an x86-64 processor translates an address, written straight from the
 * manual (AMD64 APM vol. 2 §5.3 to §5.6 and §8.4.2), slow and obvious. Tests ask it what should
 * have happened. It shares nothing with core/: it includes none of its headers, nor the
 * public one, and knows no shadow pages.
 *
 * Known here: paging off, and 4-level long mode with pages of 4 KiB, 2 MiB and 1 GiB.
 *
 * Where the manual leaves a choice, ref_walk() chooses:
 *   - accessed and dirty bits are due only if the whole walk is permitted (a processor may
 *     set the upper accessed bits in a walk that faults later; none has to);
 *   - "reserved" are the bits from maxphyaddr to 51, bit 63 while EFER.NXE = 0, bit 7 of a
 *     PML4E, and the address bits below a large page's size. Bit 8 of an entry that is not a
 *     leaf is ignored;
 *   - rights of all levels are judged at the end: an entry that is not present, or has a
 *     reserved bit, on a lower level wins over a rights violation on an upper one.
 */
#ifndef REF_H
#define REF_H

#include <stdbool.h>
#include <stdint.h>

#define REF_P    (1ull << 0)
#define REF_W    (1ull << 1)
#define REF_U    (1ull << 2)
#define REF_A    (1ull << 5)
#define REF_D    (1ull << 6)
#define REF_PS   (1ull << 7)
#define REF_PAT  (1ull << 12) /* of a large page */
#define REF_NX   (1ull << 63)
#define REF_ADDR 0x000ffffffffff000ull

#define REF_CR0_WP   (1ull << 16)
#define REF_CR0_PG   (1ull << 31)
#define REF_CR4_PAE  (1ull << 5)
#define REF_CR4_PGE  (1ull << 7)
#define REF_CR4_SMEP (1ull << 20)
#define REF_CR4_SMAP (1ull << 21)
#define REF_EFER_LME (1ull << 8)
#define REF_EFER_LMA (1ull << 10)
#define REF_EFER_NXE (1ull << 11)

/* Page-fault error code. */
#define REF_PF_P    (1u << 0)
#define REF_PF_W    (1u << 1)
#define REF_PF_U    (1u << 2)
#define REF_PF_RSVD (1u << 3)
#define REF_PF_I    (1u << 4)

/* Guest-physical memory: reads the aligned 8-byte word at @gpa; false: there is no memory. */
struct ref_memory {
	bool (*read)(void *ctx, uint64_t gpa, uint64_t *word);
	void *ctx;
};

struct ref_cpu {
	uint64_t cr0;
	uint64_t cr3;
	uint64_t cr4;
	uint64_t efer;
	unsigned maxphyaddr;
	bool ac; /* EFLAGS.AC */
};

struct ref_access {
	bool write;
	bool user;
	bool fetch;
};

enum ref_kind {
	REF_OK,       /* translated; whether there is memory at .gpa is the caller's to look up */
	REF_FAULT,    /* #PF with .error_code */
	REF_GP,       /* not canonical: #GP, or #SS */
	REF_UNMAPPED, /* a table lies outside memory; .gpa is the word that could not be read */
};

struct ref_result {
	enum ref_kind kind;
	uint64_t gpa;
	uint64_t page_size; /* 4096, 2 MiB, 1 GiB; paging off: 4096 */
	bool writable;      /* the W bits of all levels, ANDed */
	bool user;          /* the U bits */
	bool no_execute;    /* the NX bits, ORed; false while EFER.NXE = 0 */
	uint32_t error_code;

	/* Accessed and dirty bits that are due: OR .set into the word at .gpa. REF_OK only. */
	unsigned updates;
	struct {
		uint64_t gpa;
		uint64_t set;
	} update[4];

	/* The words that were read, root first. */
	unsigned depth;
	struct {
		uint64_t gpa;
		uint64_t word;
	} path[4];
};

struct ref_result ref_walk(const struct ref_memory *memory, const struct ref_cpu *cpu, uint64_t gva,
			   struct ref_access access);

/*
 * Is access permitted to a page with the given combined rights? *code gets the W, U and I
 * bits that an error code of this access carries.
 */
bool ref_permitted(const struct ref_cpu *cpu, struct ref_access access, bool writable, bool user,
		   bool no_execute, uint32_t *code);

#endif
