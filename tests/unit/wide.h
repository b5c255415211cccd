/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What tests of large pages start from: a guest of 2 GiB in two slots, memory that exists where it
 * is touched, and a host that has it in pieces as large as .level says. No tables are in place.
 *
 *     gfn  0..0x3ffff      a slot; tables go into the first 2 MiB
 *          0x40000..7ffff  another
 *          from 0x80100    a third one of 4 MiB, which begins and ends in the middle of large pages
 */
#ifndef WIDE_H
#define WIDE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "walk.h"

#define RIGHTS   (PTE_P | PTE_W | PTE_U)
#define PFN_BASE 0x1000000ull
#define ODD_SLOT 0x80100ull

struct wide {
	struct umbra_mmu *mmu;
	struct umbra_vcpu *vcpu;
	char *ram;
	unsigned level; /* what frames are part of */
	uint64_t askew; /* frames lie so much further on */
	bool protected; /* frames are not writable */
	uint64_t gone;  /* gfn whose frame the host has away; 0: none */
	unsigned flushes;
	struct umbra_flush flushed; /* the last one */
};

extern struct wide wide;

/* Registers of the modes, CR3 = 0x1000. */
extern const struct umbra_paging wide_4_levels, wide_5_levels, wide_pae, wide_pse, wide_off;

int wide_setup(void **state); /* 4 levels, paging on */
int wide_setup_nested(void **state);
int wide_teardown(void **state);
void wide_create(const struct umbra_config *config);

/* The guest's entry of 8 bytes at @gpa: written in memory alone, or told to umbra too. */
void wide_poke(uint64_t gpa, uint64_t value);
void wide_write(uint64_t gpa, uint64_t value);
uint64_t wide_word(uint64_t gpa);

/* PML4 1, PDPT 2 and PD 3, all with index 0; the PDE of @gva there is @pde. */
void wide_map(uint64_t gva, uint64_t pde);

enum umbra_verdict wide_fault(uint64_t gva, uint32_t code);
uint64_t wide_drop(uint64_t gfn, uint64_t pages);
uint64_t wide_count(uint64_t gfn); /* sptes that map it */

/* Our table of that level on the way to @gva, or NULL. */
struct shadow *wide_shadow(uint64_t gva, unsigned level);

/* The entry of our tables that says where @gva is, and on what level. */
uint64_t wide_leaf(uint64_t gva, unsigned *level);

/* Large leaves now: of 2 MiB, of 1 GiB. */
uint64_t wide_large(unsigned level);
void wide_sound(void);

#define WIDE_TEST(test) cmocka_unit_test_setup_teardown(test, wide_setup, wide_teardown)

#endif
