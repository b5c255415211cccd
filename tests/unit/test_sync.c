/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tests of core/sync.c: what becomes of an spte when the guest's entry behind it has changed in any
 * way while its table was unsync. (Which tables go unsync, and when they are looked at:
 * test_track.)
 *
 * Entries anywhere in a table map memory, one of them none (a note), entry 15 the table itself.
 */
#include <inttypes.h>

#include "agree.h"
#include "wide.h"

#define DATA     0x400000ull
#define TABLE    0x4000ull /* maps DATA */
#define MORE     0x5000ull /* what lies behind */
#define TOP      0x6000ull /* a fifth level */
#define WINDOW   (DATA | 0xf000)
#define CASES    15u
#define NOTED    200u
#define NOWHERE  0x80000000ull /* in no slot */
#define RESERVED (1ull << 51)
#define KEY(bit) (1ull << (59 + (bit)))
#define KEYS     (15ull << 59)
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const unsigned entries[CASES] = {0,     1,   7,   8,   14,  16,  63, 64,
					NOTED, 255, 256, 447, 503, 504, 511};

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
	    is->user != !!(spte & PTE_U))
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

/* Map entry @index, which is @pte, with all rights that it has below @upper; or that a kernel has
 * without CR0.WP. */
static void map(unsigned index, uint64_t pte, uint64_t upper, bool wp)
{
	uint32_t code = pte & upper & PTE_U && wp ? UMBRA_PF_U : 0;

	code |= (pte & upper & PTE_W && pte & PTE_D) || (!wp && index != NOTED) ? UMBRA_PF_W : 0;
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

/* Memory of the @n-th case: in three areas of 2 MiB. */
static uint64_t page_of(unsigned n)
{
	return entries[n] == NOTED ? NOWHERE : 0x10000000 + n * 0x1000 + (n % 3 << 21);
}

static void changes_make(struct change *change, uint64_t number, uint64_t upper, uint64_t reserved,
			 bool wp)
{
	for (unsigned i = 0; i < CASES; i++, number++) {
		uint64_t be = chosen(may_be, COUNT(may_be), number >> COUNT(may_change));

		change[i].before = (page_of(i) | PTE_P | PTE_A | be) & ~reserved;
		change[i].after = change[i].before ^ chosen(may_change, COUNT(may_change), number);
		wide_poke(TABLE + entries[i] * 8, change[i].before);
		map(entries[i], change[i].before, upper, wp);
		change[i].spte = spte_of(entries[i]);
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

/*
 * What an spte was made for, it agrees with: a table of which little changed is not gone through
 * the long way. Not so notes, and what a kernel writes without CR0.WP.
 */
static void check_agreement(const struct change *change, unsigned index, bool wp)
{
	const struct agreement agreement = agreement_make(wide.mmu, wide_shadow(DATA, 1));

	if (wp && index != NOTED && !agree(&agreement, change->spte, change->before))
		fail_msg("entry %u: %#" PRIx64 " does not agree with its spte, %#" PRIx64, index,
			 change->before, change->spte);
}

/* A third of the pages are mapped twice besides, by the next table, and a third forty times. */
static void map_besides(void)
{
	static const unsigned times[] = {0, 2, 40};
	unsigned at = 0;

	wide_write(0x3000 + 3 * 8, MORE | RIGHTS | PTE_A);
	for (unsigned i = 0; i < CASES; i++)
		for (unsigned n = 0; n < times[i % 3] && entries[i] != NOTED; n++, at++) {
			wide_poke(MORE + at * 8, page_of(i) | RIGHTS | PTE_A | PTE_D);
			assert_int_equal(wide_fault(DATA + (1 << 21) + at * 0x1000, UMBRA_PF_U),
					 UMBRA_RESUME);
		}
}

/* Every @step-th change of every entry, below an entry with the bits @upper. */
static void all_changes(struct umbra_paging paging, uint64_t upper, uint64_t reserved,
			uint64_t step)
{
	const bool wp = paging.cr0 & CR0_WP;
	struct change change[CASES];

	wide_map(DATA, TABLE | PTE_P | PTE_A | upper);
	wide_write(TOP, 0x1000 | RIGHTS | PTE_A);
	if (paging.efer == wide_pae.efer)
		wide_write(0x1000, 0x3000 | PTE_P);
	wide_poke(TABLE + 15 * 8, TABLE | RIGHTS | PTE_A | PTE_D);
	assert_int_equal(umbra_vcpu_set_paging(wide.vcpu, &paging), 0);
	map_besides();
	for (uint64_t n = 0; n < 1ull << (COUNT(may_be) + COUNT(may_change)); n += CASES * step) {
		changes_make(change, n, upper, reserved, wp);
		for (unsigned i = 0; i < CASES; i++)
			check_agreement(&change[i], entries[i], wp);
		let_go(wp ? upper : 0);
		for (unsigned i = 0; i < CASES; i++)
			wide_poke(TABLE + entries[i] * 8, change[i].after);
		assert_int_equal(umbra_vcpu_set_paging(wide.vcpu, &paging), 0);
		for (unsigned i = 0; i < CASES; i++)
			check(&change[i], entries[i], upper, reserved);
		if (n % (64 * CASES) == 0)
			wide_sound();
	}
}

static void test_every_change(void **state)
{
	(void)state;
	all_changes(wide_4_levels, PTE_W | PTE_U, RESERVED, 1);
}

static void test_5_levels(void **state)
{
	struct umbra_paging paging = wide_5_levels;

	(void)state;
	paging.cr3 = TOP;
	all_changes(paging, PTE_W | PTE_U, RESERVED, 7);
}

/* What the levels above withhold is not missed. */
static void test_below_less(void **state)
{
	(void)state;
	all_changes(wide_4_levels, PTE_W, RESERVED, 3);
	all_changes(wide_4_levels, PTE_W | PTE_U | PTE_NX, RESERVED, 3);
}

/* Without CR0.WP a kernel writes what no level lets it: its spte has more than they grant. */
static void test_no_wp(void **state)
{
	struct umbra_paging paging = wide_4_levels;

	(void)state;
	paging.cr0 &= ~CR0_WP;
	all_changes(paging, 0, RESERVED, 3);
	all_changes(paging, PTE_U, RESERVED, 3);
	all_changes(paging, PTE_W | PTE_U, RESERVED, 3);
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

/* A table in an ordinary place, all of it as @pte, unsync. */
static void one_entry(uint64_t pte)
{
	wide_map(DATA, TABLE | RIGHTS | PTE_A);
	wide_poke(TABLE + 15 * 8, TABLE | RIGHTS | PTE_A | PTE_D);
	wide_poke(TABLE, pte);
	assert_int_equal(umbra_vcpu_set_paging(wide.vcpu, &wide_4_levels), 0);
	map(0, pte, PTE_U, true);
	let_go(PTE_U);
}

/* The host has the table's frame away when it is to be compared: nothing is known of it. */
static void test_table_away(void **state)
{
	(void)state;
	one_entry(0x10000000 | RIGHTS | PTE_A);
	wide.gone = TABLE >> 12;
	assert_int_equal(umbra_vcpu_set_paging(wide.vcpu, &wide_4_levels), 0);
	wide.gone = 0;
	assert_int_equal(spte_of(0), 0);
	wide_sound();
}

/* A page, then none, then the page again with marks as the note has its generation. */
static void test_note_and_page(void **state)
{
	const uint64_t page = 0x10000000 | RIGHTS | PTE_A, nothing = NOWHERE | RIGHTS | PTE_A;

	(void)state;
	one_entry(page);
	for (unsigned marks = 0; marks < 4; marks++) {
		wide_poke(TABLE, nothing);
		assert_int_equal(umbra_vcpu_set_paging(wide.vcpu, &wide_4_levels), 0);
		assert_int_equal(wide_fault(DATA, UMBRA_PF_U), UMBRA_MMIO);
		assert_true(spte_of(0) && !(spte_of(0) & PTE_P));
		let_go(PTE_U);
		wide_poke(TABLE, page | marks * PTE_PWT);
		assert_int_equal(umbra_vcpu_set_paging(wide.vcpu, &wide_4_levels), 0);
		assert_int_equal(spte_of(0), 0);
		assert_int_equal(wide_fault(DATA, UMBRA_PF_U), UMBRA_RESUME);
		let_go(PTE_U);
	}
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
	map(0, entry, PTE_U, true);
	map(1, entry, PTE_U, true);
	map(511, entry, PTE_U, true);
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
	    WIDE_TEST(test_every_change), WIDE_TEST(test_5_levels),      WIDE_TEST(test_below_less),
	    WIDE_TEST(test_no_wp),        WIDE_TEST(test_no_nxe),        WIDE_TEST(test_pae),
	    WIDE_TEST(test_table_away),   WIDE_TEST(test_note_and_page), WIDE_TEST(test_32_bits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
