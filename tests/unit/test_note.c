/* SPDX-License-Identifier: BSD-2-Clause */
/* Tests of notes: what is remembered of accesses to no memory, and what makes it void. */
#include "wide.h"

#define USER_WRITE (UMBRA_PF_U | UMBRA_PF_W)
#define GVA        0x600000ull /* PDE 3, table 4 */
#define TABLE      0x4000ull
#define HOLE       0xf0000000ull /* in no slot */
#define MEMORY     0x900000ull

static uint64_t cached(void)
{
	struct umbra_stats stats;

	umbra_stats_get(wide.mmu, &stats);
	return stats.mmio_cached;
}

/* @entry: of the table that maps GVA. */
static void map(uint64_t entry)
{
	wide.level = 1;
	wide_poke(TABLE, entry);
	wide_map(GVA, TABLE | RIGHTS);
}

/* An access to no memory at @gva; returns whether a note told it. */
static bool is_told(uint64_t gva, uint32_t code, uint64_t gpa)
{
	uint64_t before = cached();
	struct umbra_answer answer = umbra_fault(wide.vcpu, gva, code);

	assert_int_equal(answer.verdict, UMBRA_MMIO);
	assert_int_equal(answer.gpa, gpa);
	wide_sound();
	return cached() != before;
}

static bool has_note(uint64_t gva)
{
	unsigned level;

	return is_note(wide_leaf(gva, &level));
}

static void test_second_time(void **state)
{
	(void)state;
	map(HOLE | RIGHTS);
	assert_false(is_told(GVA | 0x10, UMBRA_PF_U, HOLE | 0x10));
	assert_true(is_told(GVA | 0x18, UMBRA_PF_U, HOLE | 0x18));
	assert_false(is_told(GVA, USER_WRITE, HOLE)); /* D has to be set */
	assert_int_equal(wide_word(TABLE) & (PTE_A | PTE_D), PTE_A | PTE_D);
	assert_true(is_told(GVA, USER_WRITE, HOLE));
	assert_true(is_told(GVA, UMBRA_PF_W, HOLE));
}

/* A note has rights, as a leaf has. */
static void test_rights(void **state)
{
	const struct {
		uint64_t entry;
		uint32_t code, error;
	} cases[] = {
	    {PTE_P | PTE_W, UMBRA_PF_U, UMBRA_PF_P | UMBRA_PF_U},
	    {PTE_P | PTE_U, USER_WRITE, UMBRA_PF_P | USER_WRITE},
	    {RIGHTS | PTE_NX, UMBRA_PF_I, UMBRA_PF_P | UMBRA_PF_I},
	};

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		struct umbra_answer answer;

		map(HOLE | cases[i].entry);
		umbra_guest_write(wide.mmu, TABLE, 8);
		assert_false(is_told(GVA, 0, HOLE));
		assert_true(is_told(GVA, 0, HOLE));
		answer = umbra_fault(wide.vcpu, GVA, cases[i].code);
		assert_int_equal(answer.verdict, UMBRA_INJECT);
		assert_int_equal(answer.error_code, cases[i].error);
		wide_sound();
	}
}

static void test_key(void **state)
{
	struct umbra_paging paging = wide_4_levels;

	(void)state;
	paging.cr4 |= CR4_PKE;
	map(HOLE | RIGHTS | 5ull << KEY_SHIFT);
	assert_int_equal(umbra_vcpu_set_paging(wide.vcpu, &paging), 0);
	assert_false(is_told(GVA, 0, HOLE));
	assert_true(is_told(GVA, 0, HOLE));
	umbra_vcpu_set_keys(wide.vcpu, 1u << 10, 0);
	assert_int_equal(umbra_fault(wide.vcpu, GVA, 0).error_code, UMBRA_PF_P | UMBRA_PF_PK);
	umbra_vcpu_set_keys(wide.vcpu, 1u << 8, 0);
	assert_true(is_told(GVA, 0, HOLE));
}

/* Memory comes where none was. */
static void test_slot_added(void **state)
{
	const struct umbra_slot slot = {.id = 9, .first = {0x90000}, .pages = 1};

	(void)state;
	map(0x90000000 | RIGHTS);
	assert_false(is_told(GVA, UMBRA_PF_U, 0x90000000));
	assert_int_equal(umbra_slot_add(wide.mmu, &slot), 0);
	wide_sound();
	assert_int_equal(wide_fault(GVA, UMBRA_PF_U), UMBRA_RESUME);
	assert_int_equal(wide_count(0x90000), 1);
	assert_int_equal(umbra_slot_delete(wide.mmu, 9), 0);
	assert_false(is_told(GVA, UMBRA_PF_U, 0x90000000));
}

/* The generation comes round: a note of long ago would be believed again. */
static void test_generations(void **state)
{
	struct umbra_slot slot = {.id = 9, .first = {0xa0000}, .pages = 1};
	struct umbra_stats stats;

	(void)state;
	map(0x90000000 | RIGHTS);
	assert_false(is_told(GVA, UMBRA_PF_U, 0x90000000)); /* of generation 3 */
	for (unsigned i = wide.mmu->generation; i < NOTE_GENERATIONS + 3; i++) {
		slot.first.n = i == NOTE_GENERATIONS ? 0x90000 : 0xa0000;
		if (i != NOTE_GENERATIONS)
			slot.id = 10;
		else
			slot.id = 9;
		assert_int_equal(umbra_slot_add(wide.mmu, &slot), 0);
		if (slot.id == 10)
			assert_int_equal(umbra_slot_delete(wide.mmu, 10), 0);
	}
	umbra_stats_get(wide.mmu, &stats);
	assert_int_equal(wide.mmu->generation, 3);
	assert_int_equal(wide_fault(GVA, UMBRA_PF_U), UMBRA_RESUME);
	wide_sound();
}

/* Told of a write, or not: a note is as good as a leaf would be. */
static void test_written(void **state)
{
	(void)state;
	map(HOLE | RIGHTS);
	assert_false(is_told(GVA, UMBRA_PF_U, HOLE));
	wide_write(TABLE, (HOLE + 0x1000) | RIGHTS | PTE_A);
	assert_false(has_note(GVA));
	assert_false(is_told(GVA, UMBRA_PF_U, HOLE + 0x1000));
	wide_write(TABLE, 0);
	assert_false(has_note(GVA));
	assert_int_equal(wide_fault(GVA, UMBRA_PF_U), UMBRA_INJECT);
	wide_write(TABLE, HOLE | RIGHTS);
	assert_false(is_told(GVA, UMBRA_PF_U, HOLE));
	wide_write(0x3018, 0);
	assert_int_equal(wide_fault(GVA, UMBRA_PF_U), UMBRA_INJECT);
}

/* In a table that the guest may be writing, nothing is told; what it synchronises is compared. */
static void test_unsync(void **state)
{
	(void)state;
	map(HOLE | RIGHTS);
	wide_poke(TABLE + 8, TABLE | RIGHTS); /* the table maps itself */
	assert_false(is_told(GVA, UMBRA_PF_U, HOLE));
	assert_int_equal(wide_fault(GVA + 0x1000, USER_WRITE), UMBRA_RESUME);
	assert_false(is_told(GVA, UMBRA_PF_U, HOLE));
	wide_poke(TABLE, MEMORY | RIGHTS | PTE_A); /* by the guest's own store */
	assert_true(has_note(GVA));
	umbra_invlpg(wide.vcpu, GVA);
	assert_false(has_note(GVA));
	wide_poke(TABLE, HOLE | RIGHTS);
	assert_false(is_told(GVA, UMBRA_PF_U, HOLE));
	wide_poke(TABLE, MEMORY | RIGHTS | PTE_A);
	assert_int_equal(wide_fault(GVA, UMBRA_PF_U), UMBRA_RESUME);
	wide_poke(TABLE, HOLE | RIGHTS);
	assert_int_equal(umbra_vcpu_set_paging(wide.vcpu, &wide_4_levels), 0);
	assert_int_equal(wide_count(MEMORY >> 12), 0);
	wide_sound();
}

/* A large page of the guest's over nothing; and what is not translated is not noted. */
static void test_direct(void **state)
{
	(void)state;
	wide_map(GVA, 0xf0000000 | RIGHTS | PTE_PS);
	assert_false(is_told(GVA + 0x5000, UMBRA_PF_U, 0xf0005000));
	assert_true(is_told(GVA + 0x5000, UMBRA_PF_U, 0xf0005000));
	assert_false(is_told(GVA + 0x6000, UMBRA_PF_U, 0xf0006000));
	assert_int_equal(umbra_vcpu_set_paging(wide.vcpu, &wide_off), 0);
	assert_false(is_told(0xf0000000, UMBRA_PF_W, 0xf0000000));
	assert_false(is_told(0xf0000000, UMBRA_PF_W, 0xf0000000));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    WIDE_TEST(test_second_time), WIDE_TEST(test_rights),      WIDE_TEST(test_key),
	    WIDE_TEST(test_slot_added),  WIDE_TEST(test_generations), WIDE_TEST(test_written),
	    WIDE_TEST(test_unsync),      WIDE_TEST(test_direct),
	};

	return cmocka_run_group_tests_name("note", tests, NULL, NULL);
}
