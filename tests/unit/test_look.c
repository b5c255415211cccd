/* SPDX-License-Identifier: BSD-2-Clause */
/* Tests of core/look.c: who maps a gfn, where; one gva side by side; the shadow pages. */
#include "fixture.h"

#define USER_WRITE (UMBRA_PF_U | UMBRA_PF_W)

struct list {
	struct umbra_mapping mapping[8];
	unsigned count, enough;
};

static bool keep(void *ctx, const struct umbra_mapping *mapping)
{
	struct list *list = ctx;

	list->mapping[list->count++] = *mapping;
	return list->count != list->enough;
}

static struct list mappings(uint64_t gfn, unsigned enough)
{
	struct list list = {.enough = enough};

	assert_int_equal(umbra_rmap_visit(fix.mmu, (umbra_gfn){gfn}, keep, &list), 0);
	return list;
}

/* One spte, in a table with two parents: two places of the guest's. */
static void test_shared_table(void **state)
{
	struct list list;
	uint64_t count;

	(void)state;
	assert_int_equal(fault(DATA + 0x3000, USER_WRITE), UMBRA_RESUME);
	assert_int_equal(fault(OTHER + 0x3000, USER_WRITE), UMBRA_RESUME);
	assert_int_equal(umbra_rmap_count(fix.mmu, (umbra_gfn){FIRST + 3}, &count), 0);
	list = mappings(FIRST + 3, 0);
	assert_int_equal(count, 1);
	assert_int_equal(list.count, 2);
	for (unsigned i = 0; i < 2; i++) {
		const struct umbra_mapping *mapping = &list.mapping[i];

		assert_int_equal(mapping->gfn.n, FIRST + 3);
		assert_int_equal(mapping->root, 0x1000);
		assert_int_equal(mapping->level, 1);
		assert_int_equal(mapping->gva_bits, 48);
		assert_int_equal(mapping->index, 3);
		assert_int_equal(mapping->spte, spte_at(DATA + 0x3000));
	}
	assert_true(
	    (list.mapping[0].gva == DATA + 0x3000 && list.mapping[1].gva == OTHER + 0x3000) ||
	    (list.mapping[1].gva == DATA + 0x3000 && list.mapping[0].gva == OTHER + 0x3000));
	assert_int_equal(mappings(FIRST + 3, 1).count, 1); /* enough */
}

static void test_high_half(void **state)
{
	(void)state;
	guest_write(1, 511, 0x2000 | RIGHTS);
	assert_int_equal(fault(0xffffff8000000000ull | DATA, USER_WRITE), UMBRA_RESUME);
	assert_int_equal(mappings(FIRST, 0).mapping[0].gva, 0xffffff8000000000ull | DATA);
}

/* The link from above goes; the page stays for whoever comes by again. */
static void test_no_root(void **state)
{
	struct list list;

	(void)state;
	assert_int_equal(fault(DATA, USER_WRITE), UMBRA_RESUME);
	guest_write(3, 2, 0);
	list = mappings(FIRST, 0);
	if (list.count) { /* it may as well have been zapped */
		assert_int_equal(list.mapping[0].root, UMBRA_NO_ROOT);
		assert_int_equal(list.mapping[0].gva_bits, 21);
		assert_int_equal(list.mapping[0].gva, 0);
	}
}

static void test_no_memory_there(void **state)
{
	struct list list = {0};

	(void)state;
	assert_int_equal(umbra_rmap_visit(fix.mmu, (umbra_gfn){GFNS}, keep, &list), UMBRA_ENOENT);
	assert_int_equal(mappings(FIRST, 0).count, 0);
}

static void test_paging_off(void **state)
{
	struct list list;

	(void)state;
	assert_int_equal(umbra_vcpu_set_paging(fix.vcpu, &paging_off), 0);
	assert_int_equal(fault(FIRST << 12, UMBRA_PF_W), UMBRA_RESUME);
	list = mappings(FIRST, 0);
	assert_int_equal(list.count, 1);
	assert_int_equal(list.mapping[0].root, 0);
	assert_int_equal(list.mapping[0].gva, FIRST << 12);
	assert_int_equal(list.mapping[0].gva_bits, 32);
}

/* A page directory at two of the four PDPTEs; then no vcpu has it. */
static void test_pae(void **state)
{
	struct umbra_paging pae = {0x80010001, 0x6020, 0x20, 0};
	struct list list;

	(void)state;
	*guest_entry(6, 4 + 1) = 0x3000 | PTE_P; /* at 6020: the second of four, */
	*guest_entry(6, 4 + 3) = 0x3000 | PTE_P; /*   and the last */
	assert_int_equal(umbra_vcpu_set_paging(fix.vcpu, &pae), 0);
	assert_int_equal(fault(0x40000000 | DATA, USER_WRITE), UMBRA_RESUME);
	list = mappings(FIRST, 0);
	assert_int_equal(list.count, 2);
	assert_int_equal(list.mapping[0].gva | list.mapping[1].gva, 0xc0000000 | DATA);
	assert_int_equal(list.mapping[0].gva & list.mapping[1].gva, 0x40000000 | DATA);
	assert_int_equal(list.mapping[0].root, 0x6020);
	assert_int_equal(umbra_vcpu_set_paging(fix.vcpu, &long_mode_on), 0);
	list = mappings(FIRST, 0);
	if (list.count) {
		assert_int_equal(list.mapping[0].root, UMBRA_NO_ROOT);
		assert_int_equal(list.mapping[0].gva_bits, 30);
	}
}

static void test_view(void **state)
{
	struct umbra_view view;
	struct umbra_stats before, after;

	(void)state;
	guest_write(1, 3, 0x99000 | RIGHTS); /* a table where there is no memory */
	assert_int_equal(fault(DATA + 0x1000, UMBRA_PF_U), UMBRA_RESUME);
	umbra_stats_get(fix.mmu, &before);
	assert_int_equal(umbra_view(fix.vcpu, DATA + 0x1000, &view), 0);
	assert_int_equal(view.mode, UMBRA_MODE_4);
	assert_int_equal(view.cr3, 0x1000);
	assert_int_equal(view.guest_top, 4);
	assert_int_equal(view.guest_end, 1);
	assert_int_equal(view.guest[4].address, 0x1000);
	assert_int_equal(view.guest[1].address, 0x4008);
	assert_int_equal(view.guest[1].value, *guest_entry(4, 1));
	assert_int_equal(view.shadow_top, 4);
	assert_int_equal(view.shadow_end, 1);
	assert_int_equal(view.shadow[1].value, spte_at(DATA + 0x1000));

	assert_int_equal(umbra_view(fix.vcpu, 3ull << 39, &view), 0);
	assert_int_equal(view.guest_end, 3);
	assert_true(view.guest[3].missing);
	assert_int_equal(view.shadow_end, 4);
	assert_int_equal(umbra_view(fix.vcpu, 1ull << 47, &view), UMBRA_EINVAL);

	/* A look leaves A alone. */
	assert_int_equal(umbra_view(fix.vcpu, DATA + 0x2000, &view), 0);
	assert_false(*guest_entry(4, 2) & PTE_A);
	umbra_stats_get(fix.mmu, &after);
	assert_memory_equal(&before, &after, sizeof(before));
}

static void test_slots(void **state)
{
	const struct umbra_slot more = {7, UMBRA_SLOT_READONLY, {GFNS + 100}, 3};
	struct umbra_slot slots[UMBRA_SLOTS_MAX];

	(void)state;
	assert_int_equal(umbra_slot_add(fix.mmu, &more), 0);
	assert_int_equal(umbra_slots_get(fix.mmu, slots), 2);
	assert_int_equal(slots[0].pages, GFNS);
	assert_memory_equal(&slots[1], &more, sizeof(more));
}

struct tables {
	struct umbra_table table[16];
	unsigned count;
};

static bool keep_table(void *ctx, const struct umbra_table *table)
{
	struct tables *tables = ctx;

	tables->table[tables->count++] = *table;
	return true;
}

static void test_tables(void **state)
{
	struct tables tables = {0};
	uint64_t gfns = 0;

	(void)state;
	assert_int_equal(fault(DATA, USER_WRITE), UMBRA_RESUME);
	umbra_tables_visit(fix.mmu, keep_table, &tables);
	assert_int_equal(tables.count, 4);
	for (unsigned i = 0; i < tables.count; i++) {
		const struct umbra_table *table = &tables.table[i];

		gfns |= 1ull << table->gfn.n;
		assert_int_equal(table->level, 5 - table->gfn.n);
		assert_int_equal(table->mode, UMBRA_MODE_4);
		assert_int_equal(table->parents, table->level == 4 ? 0 : 1);
		assert_int_equal(table->roots, table->level == 4 ? 1 : 0);
		assert_true(table->sptes >= 1);
		assert_false(table->direct);
	}
	assert_int_equal(gfns, 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    FIXTURE_TEST(test_shared_table), FIXTURE_TEST(test_high_half),
	    FIXTURE_TEST(test_no_root),      FIXTURE_TEST(test_no_memory_there),
	    FIXTURE_TEST(test_paging_off),   FIXTURE_TEST(test_pae),
	    FIXTURE_TEST(test_view),         FIXTURE_TEST(test_tables),
	    FIXTURE_TEST(test_slots),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
