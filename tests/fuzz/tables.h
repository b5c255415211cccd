/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest of the fuzz targets: 64 pages of memory with page tables for every paging mode in
 * place, 2 MiB of memory that the host may have in one piece, and the decoding of input bytes into
 * registers, entries and addresses that fit them. Raw bytes would hardly ever make a walk that
 * reaches its page; here a few bytes change a guest that works. Nothing is out of reach, though:
 * each decoder has an escape to raw words.
 *
 *     gfn   0      data            17..31  data
 *           1      PML5            32..39  read-only slot; 36 a PT, 37 a PD
 *           2, 3   PML4            40..47  no slot
 *           4, 5   PDPT            48..63  a slot that may go; 48 a PT, 49 a PD, 50 a PML4
 *           6, 7   PD
 *           8..11  PT
 *           12     8 PDPTs of PAE paging, 32 bytes each
 *           13, 14 PD of 32-bit paging
 *           15, 16 PT of 32-bit paging      512..1023  a large page, often
 */
#ifndef TABLES_H
#define TABLES_H

#include "input.h"
#include "sim.h"

#define TABLES_GFNS 64u
#define TABLES_BIG  512u /* first of the 512 large ones */

enum tables_slot {
	TABLES_LOW,
	TABLES_ROM,
	TABLES_PLUGGED,
	TABLES_LARGE,
};

/*
 * A sim whose config comes from the input, with tables in place, slots, and registers of all
 * processors set. It aborts at a violation.
 */
struct sim *tables_create(struct input *input, const char *name);

int tables_plug(struct sim *sim, uint64_t first, uint64_t pages, uint32_t flags);

/* Two bytes: registers of one of the modes, with one of the roots; rarely nonsense. */
struct umbra_paging tables_paging(struct input *input);

/* Three bytes: an address made of the few indices that the tables use. Canonical on @cpu. */
uint64_t tables_gva(struct input *input, const struct sim_cpu *cpu);

/* One byte: the kind of an access, and cpu->ac. */
struct ref_access tables_access(struct input *input, struct sim_cpu *cpu);

/* Two bytes: PKRU and PKRS; which PCIDs INVPCID names, and how (with an address: five bytes). */
void tables_keys(struct input *input, struct sim_cpu *cpu);
void tables_invpcid(struct input *input, struct sim_cpu *cpu);

/* One byte: any gfn, mostly a table's; or one of the large area. */
uint64_t tables_gfn(struct input *input);

/* A word for @gpa as a guest would write it there: an entry, or raw. */
uint64_t tables_entry(struct input *input, struct sim *sim, uint64_t gpa);

/* Where entries lie that count: the gpa of one of them. *size: 4 or 8. Two bytes. */
uint64_t tables_place(struct input *input, size_t *size);

/* One write to an entry, by the guest's hands elsewhere. */
void tables_patch(struct input *input, struct sim *sim);

/*
 * A guest that never flushes gives the oracle ever more combinations of old words to think of:
 * to be called after each store; reloads CR3 everywhere after some.
 */
void tables_calm(struct sim *sim, unsigned *stores);

#endif
