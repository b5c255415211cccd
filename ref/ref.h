/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The reference: how an x86 processor translates an address, written straight from the
 * manuals (Intel SDM vol. 3 ch. 4; AMD64 APM vol. 2 §5.2 to §5.6 and §8.4.2), slow and obvious.
 * Tests ask it what should have happened. It shares nothing with core/: it includes none of its
 * headers, nor the public one, and knows no shadow pages.
 *
 * Known here, by CR0.PG, CR4.PAE, EFER.LMA and CR4.LA57: paging off; 32-bit paging (2 levels of
 * 4-byte entries; pages of 4 KiB, with CR4.PSE of 4 MiB too); PAE paging (4 PDPTEs held in the
 * processor, 2 levels; 4 KiB and 2 MiB); 4 and 5 levels (4 KiB, 2 MiB, 1 GiB). No TLB: what a
 * processor may remember, and so PCIDs and global pages, is the caller's affair.
 *
 * Where the manuals leave a choice, ref_walk() chooses:
 *   - outside of long mode linear addresses have 32 bits; higher ones of gva are ignored;
 *   - accessed and dirty bits are due only if the whole walk is permitted (a processor may
 *     set the upper accessed bits in a walk that faults later; none has to). PDPTEs of PAE paging
 *     have none;
 *   - "reserved" are the bits from maxphyaddr to 51, with PAE paging to 62; bit 63 while
 *     EFER.NXE = 0; bit 7 of a PML5E and PML4E, and of a PDPE where the processor has no 1 GiB
 *     pages; and the address bits below a large page's size. Bit 8 of a PML5E, of a PML4E and
 *     of a PDPE that is not a leaf is reserved if .amd is set, else ignored;
 *   - 32-bit paging: a 4 MiB page's address has min(maxphyaddr, 40) bits, of which those above
 *     31 stand in bits 20:13 (PSE-36; .no_pse36: 32 bits); the others up to bit 21 are
 *     reserved. Without CR4.PSE bit 7 of a PDE is ignored;
 *   - rights of all levels are judged at the end: an entry that is not present, or has a
 *     reserved bit, on a lower level wins over a rights violation on an upper one;
 *   - a protection key's WD forbids writes of user mode always, those of the supervisor with
 *     CR0.WP, with PKRS as with PKRU; error code bit PK is set whenever the key forbids the
 *     access, whatever else forbids it too;
 *   - PDPTEs that lie outside memory are read as all ones.
 */
#ifndef REF_H
#define REF_H

#include <stdbool.h>
#include <stdint.h>

#define REF_P    (1ull << 0)
#define REF_W    (1ull << 1)
#define REF_U    (1ull << 2)
#define REF_PWT  (1ull << 3)
#define REF_PCD  (1ull << 4)
#define REF_A    (1ull << 5)
#define REF_D    (1ull << 6)
#define REF_PS   (1ull << 7)
#define REF_G    (1ull << 8)
#define REF_PAT  (1ull << 12) /* of a large page */
#define REF_NX   (1ull << 63)
#define REF_ADDR 0x000ffffffffff000ull

#define REF_CR0_WP    (1ull << 16)
#define REF_CR0_PG    (1ull << 31)
#define REF_CR4_PSE   (1ull << 4)
#define REF_CR4_PAE   (1ull << 5)
#define REF_CR4_PGE   (1ull << 7)
#define REF_CR4_LA57  (1ull << 12)
#define REF_CR4_PCIDE (1ull << 17)
#define REF_CR4_SMEP  (1ull << 20)
#define REF_CR4_SMAP  (1ull << 21)
#define REF_CR4_PKE   (1ull << 22)
#define REF_CR4_PKS   (1ull << 24)
#define REF_EFER_LME  (1ull << 8)
#define REF_EFER_LMA  (1ull << 10)
#define REF_EFER_NXE  (1ull << 11)

/* Page-fault error code. */
#define REF_PF_P    (1u << 0)
#define REF_PF_W    (1u << 1)
#define REF_PF_U    (1u << 2)
#define REF_PF_RSVD (1u << 3)
#define REF_PF_I    (1u << 4)
#define REF_PF_PK   (1u << 5)

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
	bool ac;           /* EFLAGS.AC */
	uint32_t pkru;     /* two bits for each key: AD, WD */
	uint32_t pkrs;     /* IA32_PKRS */
	uint64_t pdpte[4]; /* PAE paging: as ref_load_pdptes() left them */

	/* Where processors differ. */
	bool amd;
	bool no_1g;
	bool no_pse36;
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
	uint64_t page_size; /* 4096, 2 MiB, 4 MiB, 1 GiB; paging off: 4096 */
	bool writable;      /* the W bits of all levels, ANDed */
	bool user;          /* the U bits */
	bool no_execute;    /* the NX bits, ORed; false while EFER.NXE = 0 */
	uint8_t key;        /* bits 62:59 of the leaf in long mode, else 0 */
	uint8_t type;       /* PAT << 2 | PCD << 1 | PWT of the leaf; paging off: 0 */
	uint32_t error_code;

	/*
	 * Accessed and dirty bits that are due: OR .set into the aligned 8-byte word at .gpa (for
	 * a 4-byte entry that is the upper half, .set is shifted into place). One note per word.
	 * REF_OK only.
	 */
	unsigned updates;
	struct {
		uint64_t gpa;
		uint64_t set;
	} update[5];

	/* The entries that were read, root first; those of 4 bytes are zero-extended. */
	unsigned depth;
	struct {
		uint64_t gpa;
		uint64_t word;
	} path[5];
};

struct ref_result ref_walk(const struct ref_memory *memory, const struct ref_cpu *cpu, uint64_t gva,
			   struct ref_access access);

/*
 * Load the PDPTEs that the CR3 of PAE paging points at (SDM vol. 3 §4.4.1). false: one that is
 * present has a reserved bit set: #GP(0), and pdpte[] is untouched.
 */
bool ref_load_pdptes(const struct ref_memory *memory, const struct ref_cpu *cpu, uint64_t pdpte[4]);

/* The W, U and I bits that an error code of this access carries. */
uint32_t ref_code(const struct ref_cpu *cpu, struct ref_access access);

/*
 * Is access permitted to a page with the given combined rights and protection key? *code gets
 * what ref_code() says, and PK if the key forbids it.
 */
bool ref_permitted(const struct ref_cpu *cpu, struct ref_access access, bool writable, bool user,
		   bool no_execute, unsigned key, uint32_t *code);

#endif
