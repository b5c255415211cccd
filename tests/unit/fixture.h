/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What unit tests of core files start from: an MMU over the arena, one vcpu, a guest of 128 pages
 * with tables 1 -> 2 -> 3 -> 4, of which table 4 maps gfns 16..31 at DATA. PD 5 leads to table 4
 * as well, at OTHER. Sizes are those of tuning/small.
 */
#ifndef FIXTURE_H
#define FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "arena.h"
#include "failing.h"
#include "vcpu.h"

#define RIGHTS (PTE_P | PTE_W | PTE_U)
#define DATA   0x400000ull   /* PDPT 2 entry 0, PD 3 entry 2, table 4 */
#define OTHER  0x40000000ull /* PDPT 2 entry 1, PD 5 entry 0, table 4 */
#define FIRST  16u           /* gfn at DATA */
#define GFNS   128u

struct fixture {
	struct arena *arena;
	struct failing failing; /* between the arena and the library */
	struct umbra_host host;
	struct umbra_mmu *mmu;
	struct umbra_vcpu *vcpu;
	struct umbra_flush flushed; /* the last one */
	unsigned flushes;
	void (*on_flush)(void);
	bool shared; /* frames are not writable until asked for as such */
};

extern struct fixture fix;
extern const struct umbra_paging long_mode_on, paging_off;

int fixture_setup(void **state);
int fixture_teardown(void **state);

/* The guest's entry @index of table @gfn; written behind the library's back. */
uint64_t *guest_entry(uint64_t gfn, unsigned index);

/* The same, as a device or an emulated instruction does. */
void guest_write(uint64_t gfn, unsigned index, uint64_t value);

enum umbra_verdict fault(uint64_t gva, uint32_t code);

/* umbra_drop(); how many sptes went. */
uint64_t drop(uint64_t gfn, uint64_t pages);

/* The shadow page of @level on the way to @gva, and the spte there; NULL and 0: none. */
struct shadow *shadow_at_level(uint64_t gva, unsigned level);
uint64_t spte_at(uint64_t gva);

void assert_sound(void);

#define FIXTURE_TEST(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)

#endif
