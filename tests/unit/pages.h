/* SPDX-License-Identifier: BSD-2-Clause */
/* Guests of a machine in user space, for tests of what is done to their frames. See pages.c. */
#ifndef PAGES_H
#define PAGES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "host.h"
#include "vm.h"

#define GUESTS 2u
#define FIRST  0x100u /* gfn, of the slot that is looked up first; 3840 pages */
#define HZ     1000000000ull
#define MEMORY (16ull << 20) /* of each guest */

extern struct host *host;
extern struct vm vm[GUESTS];
extern struct umbra_machine machine[GUESTS];
extern uint64_t now; /* TSC */

/* Where a test goes on when a machine ends, and why it did; NULL: then the test has failed. */
extern jmp_buf *ends;
extern enum umbra_end end_seen;

/* So many guests, frames for them, and places in a swap file; 0: there is none. */
void pages_begin(unsigned guests, uint64_t frames, uint64_t slots);

/* All guests, a frame for each page. */
int pages_setup(void **state);
int pages_teardown(void **state);

/* A random number, the same row of them for each test. */
uint64_t below(uint64_t bound);

/* Nothing is wrong, as far as the audits see. */
void assert_sound(void);

/* The spte for @gfn of guest @i, as the processor finds it; 0: none that lets the access pass. */
uint64_t spte_of(unsigned i, uint64_t gfn, bool write);

/* Is it one of 2 MiB? */
bool is_large(unsigned i, uint64_t gfn);

/* Where guest @i's access to @gfn goes, after the faults that it takes. */
uint64_t *access(unsigned i, uint64_t gfn, bool write);

/* Word k of the page becomes, or is, @value + k; @value 0: all of them 0. */
void fill(unsigned i, uint64_t gfn, uint64_t value);
void assert_has(unsigned i, uint64_t gfn, uint64_t value);

/* The same of @pages pages from @gfn on. */
void fill_each(unsigned i, uint64_t gfn, unsigned pages, const uint64_t *values);
void assert_each(unsigned i, uint64_t gfn, unsigned pages, const uint64_t *values);

/* The merging that is on goes on, so often. */
void merge_on(unsigned pieces);

/* memory.h's entry of the page. */
uint32_t entry_of(unsigned i, uint64_t gfn);

#endif
