/* SPDX-License-Identifier: BSD-2-Clause */
/* Tests of core/slot.c: which slots can be added, what lies in them, what goes with them. */
#include "fixture.h"

#define USER_WRITE (UMBRA_PF_U | UMBRA_PF_W)
#define LIMIT      (1ull << 28) /* gfns with maxphyaddr 40 */

static int add(uint32_t id, uint64_t first, uint64_t pages)
{
	const struct umbra_slot slot = {.id = id, .first = {first}, .pages = pages};
	int result = umbra_slot_add(fix.mmu, &slot);

	assert_sound();
	return result;
}

static int delete (uint32_t id)
{
	int result = umbra_slot_delete(fix.mmu, id);

	assert_sound();
	return result;
}

static bool is_memory(uint64_t gfn)
{
	uint64_t sptes = 77;
	int error = umbra_rmap_count(fix.mmu, (umbra_gfn){gfn}, &sptes);

	assert_int_equal(sptes, error ? 77 : 0);
	return !error;
}

static void touch(uint64_t gva)
{
	assert_int_equal(fault(gva, USER_WRITE), UMBRA_RESUME);
	assert_sound();
}

static uint64_t count(uint64_t gfn)
{
	uint64_t sptes;

	assert_int_equal(umbra_rmap_count(fix.mmu, (umbra_gfn){gfn}, &sptes), 0);
	return sptes;
}

static void test_arguments(void **state)
{
	const struct umbra_slot flag = {.id = 9, .first = {200}, .pages = 1, .flags = 2};
	uint64_t before, cost;

	(void)state;
	assert_int_equal(add(9, 200, 0), UMBRA_EINVAL);
	assert_int_equal(add(9, 200, LIMIT - 199), UMBRA_EINVAL);
	assert_int_equal(add(9, LIMIT, 1), UMBRA_EINVAL);
	assert_int_equal(add(9, LIMIT - 1, 2), UMBRA_EINVAL);
	assert_int_equal(add(9, UINT64_MAX, 1), UMBRA_EINVAL);
	assert_int_equal(add(9, 1, UINT64_MAX), UMBRA_EINVAL);
	assert_int_equal(umbra_slot_add(fix.mmu, &flag), UMBRA_EINVAL);
	assert_int_equal(umbra_slot_delete(fix.mmu, 9), UMBRA_ENOENT);
	before = arena_in_use(fix.arena);
	assert_int_equal(add(8, 200, 1), 0);
	cost = arena_in_use(fix.arena) - before;
	assert_int_equal(add(9, LIMIT - 1, 1), 0);
	assert_int_equal(arena_in_use(fix.arena) - before, 2 * cost); /* wherever it lies */
	assert_true(is_memory(LIMIT - 1));
	assert_false(is_memory(LIMIT));
}

/* Every way in which two ranges can meet. */
static void test_overlaps(void **state)
{
	(void)state;
	assert_int_equal(add(1, 200, 10), 0);
	assert_int_equal(add(1, 300, 10), UMBRA_EEXIST); /* the name */
	assert_int_equal(add(2, 200, 10), UMBRA_EEXIST);
	assert_int_equal(add(2, 195, 6), UMBRA_EEXIST);
	assert_int_equal(add(2, 209, 6), UMBRA_EEXIST);
	assert_int_equal(add(2, 203, 2), UMBRA_EEXIST);
	assert_int_equal(add(2, 195, 100), UMBRA_EEXIST);
	assert_int_equal(add(2, GFNS - 1, 1), UMBRA_EEXIST);
	assert_int_equal(add(2, 195, 5), 0);
	assert_int_equal(add(3, 210, 5), 0);
	for (uint64_t gfn = 190; gfn < 220; gfn++)
		assert_int_equal(is_memory(gfn), gfn >= 195 && gfn < 215);
}

/* As many as there can be, added in no order, found at both ends, deleted in another order. */
static void test_many(void **state)
{
	(void)state;
	assert_int_equal(delete (0), 0);
	for (uint32_t i = 0; i < UMBRA_SLOTS_MAX; i++)
		assert_int_equal(add(i, 1000 + (i * 37 % UMBRA_SLOTS_MAX) * 10, 4), 0);
	assert_int_equal(add(UMBRA_SLOTS_MAX, 5000, 1), UMBRA_EEXIST);
	for (uint32_t deleted = 0; deleted <= UMBRA_SLOTS_MAX; deleted++) {
		for (uint64_t gfn = 995; gfn < 1000 + UMBRA_SLOTS_MAX * 10; gfn++) {
			uint64_t at =
			    (gfn - 1000) / 10; /* slot i with i * 37 = at, so i = at * 45 */
			bool there = gfn >= 1000 && (gfn - 1000) % 10 < 4;
			uint32_t id = (uint32_t)(at * 45 % UMBRA_SLOTS_MAX);

			/* deleted so far: ids 29 * 0, 29 * 1, ...; 29 * 53 = 1 modulo 64 */
			there &= id * 53 % UMBRA_SLOTS_MAX >= deleted;
			assert_int_equal(is_memory(gfn), there);
		}
		if (deleted < UMBRA_SLOTS_MAX)
			assert_int_equal(delete (deleted * 29 % UMBRA_SLOTS_MAX), 0);
	}
}

/* A slot takes with it what it backed: mappings, in one flush, and the guest's tables. */
static void test_delete(void **state)
{
	unsigned flushes;

	(void)state;
	assert_int_equal(delete (0), 0);
	assert_int_equal(add(1, 0, FIRST), 0);
	assert_int_equal(add(2, FIRST, GFNS - FIRST), 0);
	for (unsigned i = 0; i < 8; i++)
		touch(DATA + i * 0x1000);
	flushes = fix.flushes;
	assert_int_equal(delete (2), 0);
	assert_int_equal(fix.flushes, flushes + 1);
	assert_int_equal(fault(DATA, USER_WRITE), UMBRA_MMIO);
	assert_int_equal(delete (2), UMBRA_ENOENT);
	assert_int_equal(add(3, FIRST, GFNS - FIRST), 0);
	touch(DATA);
	assert_int_equal(delete (1), 0); /* where the tables are */
	assert_int_equal(spte_at(DATA), 0);
	assert_int_equal(count(FIRST), 0);
	assert_int_equal(fault(DATA, UMBRA_PF_U), UMBRA_INJECT); /* all ones: reserved bits */
	assert_int_equal(add(1, 0, FIRST), 0);
	touch(DATA);
}

/* A root where no memory is maps nothing; when memory comes there, it is looked at anew. */
static void test_add_below_root(void **state)
{
	struct umbra_root root;

	(void)state;
	assert_int_equal(delete (0), 0);
	assert_int_equal(umbra_vcpu_root(fix.vcpu, &root), 0);
	assert_int_equal(fault(DATA, UMBRA_PF_U), UMBRA_INJECT);
	assert_int_equal(add(0, 0, GFNS), 0);
	touch(DATA);
}

static void test_read_only(void **state)
{
	const struct umbra_slot slot = {
	    .id = 2, .first = {FIRST}, .pages = GFNS - FIRST, .flags = UMBRA_SLOT_READONLY};

	(void)state;
	assert_int_equal(delete (0), 0);
	assert_int_equal(add(1, 0, FIRST), 0);
	assert_int_equal(umbra_slot_add(fix.mmu, &slot), 0);
	assert_int_equal(fault(DATA, USER_WRITE), UMBRA_MMIO);
	assert_int_equal(fault(DATA, UMBRA_PF_U), UMBRA_RESUME);
	assert_int_equal(spte_at(DATA) & (PTE_P | PTE_W), PTE_P);
	assert_sound();
}

/* The last 2 GiB of a slot of 1 TiB: the arena's few pages, seen again and again. */
static int (*frame_get_near)(void *ctx, umbra_gfn gfn, enum umbra_want want,
			     struct umbra_frame *frame);

static int frame_get_far(void *ctx, umbra_gfn gfn, enum umbra_want want, struct umbra_frame *frame)
{
	gfn.n %= GFNS;
	return frame_get_near(ctx, gfn, want, frame);
}

static void map(unsigned index, uint64_t gfn)
{
	guest_write(4, index, gfn << 12 | RIGHTS);
	touch(DATA + index * 0x1000);
	assert_int_equal(count(gfn), 1);
}

/* Chains at both sides of every border of the directory: 2 MiB, 2 GiB, 512 GiB, the end. */
static void test_large(void **state)
{
	static const uint64_t gfn[] = {511,           512,           1023,
				       1024,          (1 << 19) - 1, 1 << 19,
				       (1 << 27) - 1, 1 << 27,       LIMIT - (1 << 19),
				       LIMIT - 513,   LIMIT - 512,   LIMIT - 1};
	const unsigned all = sizeof(gfn) / sizeof(gfn[0]);

	(void)state;
	frame_get_near = fix.mmu->host.frame_get;
	fix.mmu->host.frame_get = frame_get_far;
	assert_int_equal(delete (0), 0);
	assert_int_equal(add(1, 0, LIMIT), 0);
	for (unsigned i = 0; i < all; i++)
		map(i, gfn[i]);
	for (unsigned i = 0; i < all; i++) {
		assert_int_equal(drop(gfn[i], 1), 1);
		assert_int_equal(count(gfn[i]), 0);
		for (unsigned j = i + 1; j < all; j++)
			assert_int_equal(count(gfn[j]), 1);
	}
	for (unsigned i = 0; i < all; i++)
		map(i, gfn[i]);
	assert_int_equal(drop(1024, LIMIT - 1024 - 512), 7);
	for (unsigned i = 0; i < all; i++)
		assert_int_equal(count(gfn[i]), gfn[i] < 1024 || gfn[i] >= LIMIT - 512);
	assert_int_equal(delete (1), 0);
	fix.mmu->host.frame_get = frame_get_near;
}

/* A slot that begins in the middle of everything. */
static void test_unaligned(void **state)
{
	const uint64_t first = (1 << 19) - 3, pages = (1 << 19) + 4;
	const uint64_t gfn[] = {first, first + 2, first + 3, first + pages - 1};

	(void)state;
	frame_get_near = fix.mmu->host.frame_get;
	fix.mmu->host.frame_get = frame_get_far;
	assert_int_equal(add(1, first, pages), 0);
	assert_false(is_memory(first - 1));
	assert_false(is_memory(first + pages));
	for (unsigned i = 0; i < 4; i++)
		map(i, gfn[i]);
	assert_int_equal(delete (1), 0);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(spte_at(DATA + i * 0x1000), 0);
	assert_int_equal(fault(DATA, USER_WRITE), UMBRA_MMIO);
	fix.mmu->host.frame_get = frame_get_near;
}

/* Memory for a slot comes and goes with it. */
static void test_coming_and_going(void **state)
{
	uint64_t kept = 0;

	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		touch(DATA);
		touch(OTHER);
		assert_int_equal(delete (0), 0);
		if (i == 1)
			kept = arena_in_use(fix.arena);
		else if (i)
			assert_int_equal(arena_in_use(fix.arena), kept);
		assert_int_equal(add(0, 0, GFNS), 0);
	}
}

/* Each allocation of a new slot fails once: nothing has changed then. */
static void test_no_memory(void **state)
{
	uint64_t before = arena_in_use(fix.arena);
	unsigned failed = 0;
	int error;

	(void)state;
	touch(DATA);
	before = arena_in_use(fix.arena);
	do {
		failing_rule_set(&fix.failing.alloc, failed + 1, 0, UMBRA_ENOMEM);
		error = add(1, 1000, LIMIT - 1000);
		if (!error)
			break;
		failed++;
		assert_int_equal(error, UMBRA_ENOMEM);
		assert_int_equal(arena_in_use(fix.arena), before);
		assert_false(is_memory(1000));
	} while (failed < 100);
	assert_true(failed >= 1 && failed < 100);
	assert_true(is_memory(1000));
	assert_int_equal(delete (1), 0);
	assert_int_equal(arena_in_use(fix.arena), before);
}

/* What is mapped stays, but for the right to write; and comes back. */
static void test_flags(void **state)
{
	uint64_t count;

	(void)state;
	assert_int_equal(fault(DATA, UMBRA_PF_U | UMBRA_PF_W), UMBRA_RESUME);
	assert_int_equal(umbra_slot_flags_set(fix.mmu, 7, 0), UMBRA_ENOENT);
	assert_int_equal(umbra_slot_flags_set(fix.mmu, 0, 2), UMBRA_EINVAL);
	assert_true(spte_at(DATA) & PTE_W);
	assert_int_equal(umbra_slot_flags_set(fix.mmu, 0, 0), 0);
	assert_true(spte_at(DATA) & PTE_W);
	assert_int_equal(umbra_slot_flags_set(fix.mmu, 0, UMBRA_SLOT_READONLY), 0);
	assert_int_equal(umbra_rmap_count(fix.mmu, (umbra_gfn){FIRST}, &count), 0);
	assert_false(spte_at(DATA) & PTE_W);
	assert_int_equal(fault(DATA, UMBRA_PF_U), UMBRA_RESUME);
	assert_int_equal(fault(DATA, UMBRA_PF_U | UMBRA_PF_W), UMBRA_MMIO);
	assert_sound();
	assert_int_equal(umbra_slot_flags_set(fix.mmu, 0, 0), 0);
	assert_int_equal(fault(DATA, UMBRA_PF_U | UMBRA_PF_W), UMBRA_RESUME);
	assert_sound();
}

/* Its log's memory goes with it (fixture_teardown() counts). */
static void test_logged(void **state)
{
	(void)state;
	failing_rule_set(&fix.failing.alloc, 1, 0, UMBRA_ENOMEM);
	assert_int_equal(umbra_log_start(fix.mmu, 0, 0), UMBRA_ENOMEM);
	assert_int_equal(umbra_log_stop(fix.mmu, 0), UMBRA_ENOENT);
	assert_int_equal(umbra_log_start(fix.mmu, 0, 0), 0);
	assert_int_equal(umbra_slot_delete(fix.mmu, 0), 0);
	assert_int_equal(umbra_log_stop(fix.mmu, 0), UMBRA_ENOENT);
}

static int move(uint32_t id, uint64_t first)
{
	int result = umbra_slot_move(fix.mmu, id, (umbra_gfn){first});

	assert_sound();
	return result;
}

static void ignore(void *ctx, const struct umbra_touch *touch)
{
	(void)ctx;
	(void)touch;
}

static int (*arena_get)(void *ctx, umbra_gfn gfn, enum umbra_want want, struct umbra_frame *frame);

/* Beyond the arena, its pages come again. */
static int wrapped_get(void *ctx, umbra_gfn gfn, enum umbra_want want, struct umbra_frame *frame)
{
	return arena_get(ctx, (umbra_gfn){gfn.n % GFNS}, want, frame);
}

static void wrap(void)
{
	arena_get = fix.mmu->host.frame_get;
	fix.mmu->host.frame_get = wrapped_get;
}

/* What is mapped goes, once, and only there; log bits come along, watches do not. */
static void test_move(void **state)
{
	const struct umbra_slot extra = {.id = 5, .first = {200}, .pages = 100};
	uint64_t dirty;

	(void)state;
	wrap();
	fix.mmu->host.touched = ignore;
	assert_int_equal(umbra_slot_add(fix.mmu, &extra), 0);
	assert_int_equal(umbra_log_start(fix.mmu, 5, 0), 0);
	assert_int_equal(umbra_guest_write(fix.mmu, 207ull << 12, 1), 0);
	assert_int_equal(umbra_watch(fix.mmu, (umbra_gfn){210}, UMBRA_WATCH_W), 0);
	touch(DATA);
	guest_write(4, 1, 205ull << 12 | RIGHTS);
	guest_write(4, 2, 405ull << 12 | RIGHTS);
	assert_int_equal(fault(DATA + 0x1000, UMBRA_PF_U), UMBRA_RESUME);
	assert_int_equal(fault(DATA + 0x2000, UMBRA_PF_U), UMBRA_MMIO);
	fix.flushes = 0;
	assert_int_equal(move(5, 400), 0);
	assert_int_equal(fix.flushes, 1);
	assert_int_equal(fix.mmu->watches, 0);
	assert_true(spte_at(DATA) & PTE_P);
	assert_false(spte_at(DATA + 0x1000) & PTE_P);
	assert_false(is_memory(299) || is_memory(399) || is_memory(500));
	assert_true(is_memory(400) && is_memory(499));
	assert_int_equal(fault(DATA + 0x1000, UMBRA_PF_U), UMBRA_MMIO);
	assert_int_equal(umbra_log_collect(fix.mmu, (umbra_gfn){400}, 64, &dirty), 0);
	assert_int_equal(dirty, 1 << 7);
	/* The table in order, over itself, there already. */
	assert_int_equal(move(5, 150), 0);
	assert_int_equal(add(6, 300, 10), 0);
	assert_int_equal(move(5, 199), 0);
	assert_true(is_memory(199) && is_memory(298));
	assert_int_equal(move(5, 199), 0);
	assert_int_equal(move(0, 1000), 0);
	assert_true(is_memory(1000) && is_memory(199) && is_memory(300));
	assert_int_equal(move(0, 0), 0);
}

static void test_move_refused(void **state)
{
	uint64_t before;

	(void)state;
	assert_int_equal(add(5, 200, 100), 0);
	before = arena_in_use(fix.arena);
	assert_int_equal(move(77, 1000), UMBRA_ENOENT);
	assert_int_equal(move(5, LIMIT - 99), UMBRA_EINVAL);
	assert_int_equal(move(5, UINT64_MAX), UMBRA_EINVAL);
	assert_int_equal(move(5, 100), UMBRA_EEXIST);
	failing_rule_set(&fix.failing.alloc, 0, 1, UMBRA_ENOMEM);
	assert_int_equal(move(5, 1000), UMBRA_ENOMEM);
	failing_rule_set(&fix.failing.alloc, 0, 0, 0);
	assert_true(is_memory(200));
	assert_int_equal(arena_in_use(fix.arena), before);
	assert_int_equal(move(5, 1000), 0);
	assert_int_equal(arena_in_use(fix.arena), before);
	/* Where it goes is taken while it moves. */
	fix.mmu->slot[1].moves = true;
	fix.mmu->slot[1].to = 3000;
	assert_int_equal(add(6, 3050, 1), UMBRA_EEXIST);
	fix.mmu->slot[1].moves = false;
	assert_int_equal(add(6, 3050, 1), 0);
}

/* The guest's tables in the old place, by all their roles, and one where no memory was. */
static void test_move_tables(void **state)
{
	static const uint64_t rights[] = {RIGHTS, PTE_P | PTE_W, PTE_P | PTE_U, PTE_P};
	struct umbra_paging outside = long_mode_on;
	struct umbra_root root;

	(void)state;
	wrap();
	assert_int_equal(add(5, 200, 100), 0);
	*guest_entry(200 % GFNS, 0) = (uint64_t)FIRST << 12 | RIGHTS;
	for (unsigned i = 0; i < 4; i++)
		*guest_entry(3, 3 + i) = 200ull << 12 | rights[i];
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(fault((3ull + i) << 21, 0), UMBRA_RESUME);
	for (unsigned i = 0; i < 4; i++)
		assert_non_null(shadow_at_level((3ull + i) << 21, 1));
	touch(DATA);
	assert_int_equal(move(5, 390), 0);
	assert_null(shadow_first_of(fix.mmu, (umbra_gfn){200}));
	outside.cr3 = 600ull << 12;
	assert_int_equal(umbra_vcpu_set_paging(fix.vcpu, &outside), 0);
	assert_int_equal(umbra_vcpu_root(fix.vcpu, &root), 0);
	assert_int_equal(fix.mmu->tables_outside, 1);
	assert_int_equal(move(5, 590), 0);
	assert_null(shadow_first_of(fix.mmu, (umbra_gfn){600}));
	assert_int_equal(fix.mmu->tables_outside, 0);
	assert_int_equal(umbra_vcpu_set_paging(fix.vcpu, &long_mode_on), 0);
	assert_int_equal(umbra_vcpu_root(fix.vcpu, &root), 0);
	assert_true(spte_at(DATA) & PTE_P);
	assert_int_equal(fault(3ull << 21, 0), UMBRA_INJECT); /* it reads as ones */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    FIXTURE_TEST(test_flags),       FIXTURE_TEST(test_logged),
	    FIXTURE_TEST(test_arguments),   FIXTURE_TEST(test_overlaps),
	    FIXTURE_TEST(test_move),        FIXTURE_TEST(test_move_refused),
	    FIXTURE_TEST(test_move_tables), FIXTURE_TEST(test_many),
	    FIXTURE_TEST(test_delete),      FIXTURE_TEST(test_add_below_root),
	    FIXTURE_TEST(test_read_only),   FIXTURE_TEST(test_large),
	    FIXTURE_TEST(test_unaligned),   FIXTURE_TEST(test_coming_and_going),
	    FIXTURE_TEST(test_no_memory),
	};

	return cmocka_run_group_tests_name("slot", tests, NULL, NULL);
}
