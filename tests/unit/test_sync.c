/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tests of core/sync.c: what becomes of an spte when the guest's entry behind it has changed in any
 * way while its table was unsync. (Which tables go unsync, and when they are looked at:
 * test_track.)
 *
 * Entries 0 to 13 of a table map memory, entry 14 none (a note), entry 15 the table itself.
 */
#include <inttypes.h>

#include "wide.h"

#define DATA     0x400000ull
#define TABLE    0x4000ull /* maps DATA */
#define WINDOW   (DATA | 0xf000)
#define NOTED    14u
#define CASES    15u
#define NOWHERE  0x80000000ull /* in no slot */
#define RESERVED (1ull << 51)
#define KEY(bit) (1ull << (59 + (bit)))
#define KEYS     (15ull << 59)
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* What an entry may be when it is mapped, and what may change of it. */
static const uint64_t may_be[] = {PTE_W, PTE_U, PTE_NX, PTE_D, PTE_PAT, KEY(0)};
static const uint64_t may_change[] = {PTE_P,   PTE_W,   PTE_U,    PTE_A,      PTE_D,
				      PTE_PWT, PTE_PCD, PTE_PAT,  PTE_G,      1ull << 53,
				      PTE_NX,  KEY(1),  RESERVED, 1ull << 12, 1ull << 21};

/* Those of @bits that the bits of @choice name. */
static uint64_t chosen(const uint64_t *bits, size_t count, uint64_t choice)
{
	uint64_t all = 0;

	for (size_t i = 0; i < count; i++)
		all |= choice >> i & 1 ? bits[i] : 0;
	return all;
}

/* What a leaf grants below @upper: W only with D, for its next write has to set that. */
struct grant {
	bool there, write, user, execute;
	uint64_t page, kind;
};

static struct grant grant_of(uint64_t pte, uint64_t upper, uint64_t reserved)
{
	return (struct grant){
	    .there = pte & PTE_P && pte & PTE_A && !(pte & reserved),
	    .write = pte & upper & PTE_W && pte & PTE_D,
	    .user = pte & upper & PTE_U,
	    .execute = !((pte | upper) & PTE_NX),
	    .page = pte & PTE_ADDRESS & ~RESERVED,
	    .kind = pte & (PTE_PWT | PTE_PCD | PTE_PAT | KEYS),
	};
}

/* What @spte, made for @was, has to be where the guest's entry grants @is. */
static uint64_t expected(uint64_t spte, const struct grant *was, const struct grant *is)
{
	uint64_t kind = spte & PTE_P ? ~0ull : KEYS; /* no memory, no memory type */

	if (!is->there || is->page != was->page || (is->kind ^ was->kind) & kind ||
	    is->user != was->user)
		return 0;
	if (!(spte & PTE_P))
		return is->write == was->write && is->execute == was->execute ? spte : 0;
	if (!(spte & PTE_NX) && !is->execute)
		return 0;
	return is->write ? spte : spte & ~PTE_W;
}

static uint64_t spte_of(unsigned index)
{
	struct shadow *shadow = wide_shadow(DATA, 1);

	return shadow ? shadow->table[index] : 0;
}

/* Map entry @index, which is @pte, with all rights that it has below @upper. */
static void map(unsigned index, uint64_t pte, uint64_t upper)
{
	uint32_t code = pte & upper & PTE_U ? UMBRA_PF_U : 0;

	code |= pte & upper & PTE_W && pte & PTE_D ? UMBRA_PF_W : 0;
	assert_int_equal(wide_fault(DATA + index * 0x1000, code),
			 index == NOTED ? UMBRA_MMIO : UMBRA_RESUME);
}

/* The table can be written, and what was written counts only when it is compared. */
static void let_go(uint64_t upper)
{
	uint32_t code = upper & PTE_U ? UMBRA_PF_U : 0;

	if (!wide_shadow(DATA, 1)->unsync) {
		assert_int_equal(wide_fault(WINDOW, code), UMBRA_RESUME);
		assert_int_equal(wide_fault(WINDOW, code | UMBRA_PF_W), UMBRA_RESUME);
	}
	assert_true(wide_shadow(DATA, 1)->unsync);
}

/* One entry that is @before, and then @after. */
struct change {
	uint64_t before, after, spte;
};

static void changes_make(struct change *change, uint64_t number, uint64_t upper, uint64_t reserved)
{
	for (unsigned i = 0; i < CASES; i++, number++) {
		uint64_t be = chosen(may_be, COUNT(may_be), number >> COUNT(may_change));
		uint64_t page = i == NOTED ? NOWHERE : 0x10000000 + i * 0x1000 + (i % 3 << 21);

		change[i].before = (page | PTE_P | PTE_A | be) & ~reserved;
		change[i].after = change[i].before ^ chosen(may_change, COUNT(may_change), number);
		wide_poke(TABLE + i * 8, change[i].before);
		map(i, change[i].before, upper);
		change[i].spte = spte_of(i);
		assert_true(change[i].spte);
	}
}

static void check(const struct change *change, unsigned index, uint64_t upper, uint64_t reserved)
{
	struct grant was = grant_of(change->before, upper, reserved);
	struct grant is = grant_of(change->after, upper, reserved);
	uint64_t wanted = expected(change->spte, &was, &is);

	if (spte_of(index) != wanted)
		fail_msg("entry %u: %#" PRIx64 " became %#" PRIx64 " below %#" PRIx64
			 ": spte %#" PRIx64 " became %#" PRIx64 ", not %#" PRIx64,
			 index, change->before, change->after, upper, change->spte, spte_of(index),
			 wanted);
}

/* Every @step-th change of every entry, below an entry with the bits @upper. */
static void all_changes(struct umbra_paging paging, uint64_t upper, uint64_t reserved,
			uint64_t step)
{
	struct change change[CASES];

	wide_map(DATA, TABLE | PTE_P | PTE_A | upper);
	if (paging.efer == wide_pae.efer)
		wide_write(0x1000, 0x3000 | PTE_P);
	wide_poke(TABLE + 15 * 8, TABLE | RIGHTS | PTE_A | PTE_D);
	assert_int_equal(umbra_vcpu_set_paging(wide.vcpu, &paging), 0);
	for (uint64_t n = 0; n < 1ull << (COUNT(may_be) + COUNT(may_change)); n += CASES * step) {
		changes_make(change, n, upper, reserved);
		let_go(upper);
		for (unsigned i = 0; i < CASES; i++)
			wide_poke(TABLE + i * 8, change[i].after);
		assert_int_equal(umbra_vcpu_set_paging(wide.vcpu, &paging), 0);
		for (unsigned i = 0; i < CASES; i++)
			check(&change[i], i, upper, reserved);
		if (n % (64 * CASES) == 0)
			wide_sound();
	}
}

static void test_every_change(void **state)
{
	(void)state;
	all_changes(wide_4_levels, PTE_W | PTE_U, RESERVED, 1);
}

/* What the levels above withhold is not missed. */
static void test_below_less(void **state)
{
	(void)state;
	all_changes(wide_4_levels, PTE_W, RESERVED, 3);
	all_changes(wide_4_levels, PTE_W | PTE_U | PTE_NX, RESERVED, 3);
}

/* Without EFER.NXE bit 63 is reserved. */
static void test_no_nxe(void **state)
{
	struct umbra_paging paging = wide_4_levels;

	(void)state;
	paging.efer &= ~EFER_NXE;
	all_changes(paging, PTE_W | PTE_U, RESERVED | PTE_NX, 3);
}

/* PAE paging has more that is reserved. */
static void test_pae(void **state)
{
	(void)state;
	all_changes(wide_pae, PTE_W | PTE_U, RESERVED | 0x7ffull << 52, 3);
}

/* Tables of 32-bit entries are compared too, from the first entry to the last. */
static void test_32_bits(void **state)
{
	const uint64_t entry = 0x10000000 | RIGHTS | PTE_A | PTE_D;
	struct umbra_paging paging = wide_pse;

	(void)state;
	wide_write(0x1000, (TABLE | RIGHTS | PTE_A) << 32);
	wide_poke(TABLE, entry | entry << 32);
	wide_poke(TABLE + 7 * 8, (TABLE | RIGHTS | PTE_A | PTE_D) << 32);
	wide_poke(TABLE + 255 * 8, entry << 32); /* the last one of our first table */
	assert_int_equal(umbra_vcpu_set_paging(wide.vcpu, &paging), 0);
	map(0, entry, PTE_U);
	map(1, entry, PTE_U);
	map(511, entry, PTE_U);
	let_go(PTE_U);
	wide_poke(TABLE, entry << 32);
	wide_poke(TABLE + 255 * 8, 0);
	assert_int_equal(umbra_vcpu_set_paging(wide.vcpu, &paging), 0);
	assert_int_equal(spte_of(0), 0);
	assert_true(spte_of(1) & PTE_P);
	assert_int_equal(spte_of(511), 0);
	wide_sound();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    WIDE_TEST(test_every_change), WIDE_TEST(test_below_less), WIDE_TEST(test_no_nxe),
	    WIDE_TEST(test_pae),          WIDE_TEST(test_32_bits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
