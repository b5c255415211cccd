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

extern struct host *host;
extern struct vm vm[GUESTS];
extern struct umbra_machine machine[GUESTS];
extern uint64_t now; /* TSC */

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

/* Word k of the page becomes, or is, @value + k. */
void fill(unsigned i, uint64_t gfn, uint64_t value);
void assert_has(unsigned i, uint64_t gfn, uint64_t value);

/* memory.h's entry of the page. */
uint32_t entry_of(unsigned i, uint64_t gfn);

#endif
