/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tests of core/rmap.c: chains of every length around the descriptors' borders, sptes removed in
 * every order, random traffic against an obvious list, a million aliases of one gfn. After
 * each change the chain must hold exactly what the list does, and rmap_check() must agree.
 *
 * Built twice: with descriptors of three handles, and with the real ones.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "arena.h"
#include "head.h"

#define GFNS    8u
#define MILLION 1000000u
#define LONGEST (unsigned)(SMALL_HANDLES + 3 * LARGE_HANDLES + 3)

static struct arena *arena;
static struct umbra_mmu *mmu;
static uint64_t seed;

/* The oracle: who maps what. */
static handle list[GFNS][4096];
static unsigned length[GFNS];

static int setup(void **state)
{
	const struct arena_options options = {
	    .gfns = 64, .frames = 64, .high = 256ull << 20, .low = 1u << 20};
	const struct umbra_config config = {.shadow_quota = 4096, .maxphyaddr = 40};
	const struct umbra_slot slot = {.id = 0, .first = {0}, .pages = 64};

	(void)state;
	memset(length, 0, sizeof(length));
	seed = 1;
	return arena_create(&options, &arena) ||
	       umbra_mmu_create(&arena_host, arena, &config, &mmu) || umbra_slot_add(mmu, &slot);
}

static int teardown(void **state)
{
	uint64_t left;

	(void)state;
	if (mmu->lock.next != mmu->lock.owner) /* the test has failed */
		port_unlock(&mmu->lock);
	umbra_mmu_destroy(mmu);
	left = arena_in_use(arena);
	arena_destroy(arena);
	return left != 0;
}

static unsigned dice(unsigned below)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (unsigned)(seed >> 33) % below;
}

/* Stock for @descs more descriptors and a shadow page; the lock stays held. */
static void stock(uint32_t descs)
{
	const struct need need = {.shadows = 1, .descs = descs, .spares = 2, .regions = 1};

	assert_int_equal(pool_lock(mmu, &need), 0);
}

/* A fresh table, whose entries are sptes to play with. => lock held */
static struct shadow *table(unsigned number)
{
	const union role role = {.level = 1, .direct = 1, .access = ACCESS_ALL};
	struct flush flush = {0};

	return shadow_get(mmu, (umbra_gfn){512ull * number}, role, &flush);
}

static head_ref head_of(unsigned gfn)
{
	return slot_head_make(mmu, slot_find(mmu, (umbra_gfn){gfn}), (umbra_gfn){gfn}, 1);
}

static int compare(const void *a, const void *b)
{
	handle x = *(const handle *)a, y = *(const handle *)b;

	return (x > y) - (x < y);
}

/* Units that a chain of @count takes: one small descriptor, then large ones. */
static uint64_t units_of(uint64_t count)
{
	if (count <= 2)
		return 0;
	if (count <= SMALL_HANDLES)
		return 1;
	return 1 + 2 * ((count - SMALL_HANDLES + LARGE_HANDLES - 1) / LARGE_HANDLES);
}

/* The chain of @gfn holds what the list does. */
static void check(unsigned gfn)
{
	static handle found[4096], wanted[4096];
	uint64_t head = *rmap_head_of(mmu, head_of(gfn)), descs = 0;
	struct rmap_cursor cursor;
	unsigned count = 0;

	assert_null(rmap_check(mmu, head_of(gfn), &descs));
	assert_int_equal(rmap_count(head), length[gfn]);
	if (length[gfn] <= 2)
		assert_int_equal(descs, 0);
	else
		assert_int_equal(descs, units_of(length[gfn]));
	rmap_for_each(mmu, head, &cursor, h)
	{
		assert_true(count < length[gfn]);
		assert_int_equal(rmap_owner(mmu, h), head_of(gfn));
		assert_int_equal(rmap_gfn(mmu, h).n, gfn);
		found[count++] = h;
	}
	assert_int_equal(count, length[gfn]);
	memcpy(wanted, list[gfn], count * sizeof(handle));
	qsort(found, count, sizeof(handle), compare);
	qsort(wanted, count, sizeof(handle), compare);
	assert_memory_equal(found, wanted, count * sizeof(handle));
}

static void add(unsigned gfn, handle h)
{
	rmap_add(mmu, head_of(gfn), h, spte_leaf(1, gfn, ACCESS_ALL, 0));
	spte_write(handle_spte(mmu, h), spte_leaf(1, gfn, ACCESS_ALL, 0));
	list[gfn][length[gfn]++] = h;
}

static handle remove_at(unsigned gfn, unsigned at)
{
	handle h = list[gfn][at];

	rmap_remove(mmu, h);
	spte_write(handle_spte(mmu, h), 0);
	list[gfn][at] = list[gfn][--length[gfn]];
	return h;
}

static void drop(unsigned gfn)
{
	uint64_t used = mmu->stats.descs;
	struct sweep sweep = SWEEP_ALL;

	assert_true(sweep_chain(mmu, rmap_head_of(mmu, head_of(gfn)), &sweep));
	assert_int_equal(sweep.sptes, length[gfn]);
	for (unsigned i = 0; i < length[gfn]; i++)
		assert_int_equal(spte_read(handle_spte(mmu, list[gfn][i])), 0);
	assert_int_equal(mmu->stats.descs, used - units_of(length[gfn]));
	length[gfn] = 0;
	check(gfn);
}

/* Lengths 0..LONGEST; emptied from the front, the back, the middle, and dropped. */
static void test_lengths(void **state)
{
	struct shadow *shadow;

	(void)state;
	stock(2 * LONGEST);
	shadow = table(1);
	for (unsigned n = 0; n <= LONGEST; n++) {
		for (unsigned order = 0; order < 4; order++) {
			for (unsigned i = 0; i < n; i++) {
				add(1, handle_of(shadow, i));
				check(1);
			}
			while (order < 3 && length[1]) {
				unsigned last = length[1] - 1;

				remove_at(1, order == 0 ? 0 : order == 1 ? last : last / 2);
				check(1);
			}
			drop(1);
		}
	}
	assert_int_equal(mmu->stats.descs, 0);
	port_unlock(&mmu->lock);
}

/* Chains of neighbours do not touch each other. */
static void test_random(void **state)
{
	static handle unused[2048];
	unsigned left = 0;

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct shadow *shadow;

		stock(2048);
		shadow = table(i);
		for (unsigned index = 0; index < 512; index++)
			unused[left++] = handle_of(shadow, index);
		if (i < 3)
			port_unlock(&mmu->lock);
	}
	for (unsigned step = 0; step < 60000; step++) {
		unsigned gfn = dice(4) ? dice(2) : dice(GFNS);
		/* The mood swings between growing and shrinking. */
		bool grow = dice(100) < (step / 3000 % 2 ? 35u : 65u);

		if (dice(2000) == 0) {
			for (unsigned i = 0; i < length[gfn]; i++)
				unused[left++] = list[gfn][i];
			drop(gfn);
		} else if (grow && left) {
			unsigned at = dice(left);
			handle h = unused[at];

			unused[at] = unused[--left];
			add(gfn, h);
		} else if (!grow && length[gfn]) {
			unused[left++] = remove_at(gfn, dice(length[gfn]));
		}
		if (length[gfn] < 40 || step % 64 == 0)
			check(gfn);
	}
	port_unlock(&mmu->lock);
}

static void replace(handle h, unsigned access)
{
	uint64_t *spte = handle_spte(mmu, h);

	rmap_replace(mmu, h, spte, spte_read(spte), spte_leaf(1, 1, access, 0));
}

/* Take W from the chain of gfn 1, in which @writable have it. Returns the budget that it took. */
static uint64_t take_write(unsigned writable)
{
	uint64_t budget = 1u << 20, had = budget, number = 0;
	struct rmap_piece piece = {0};

	assert_true(
	    rmap_protect_some(mmu, rmap_head_of(mmu, head_of(1)), &piece, &budget, false, &number));
	assert_int_equal(number, writable);
	for (unsigned i = 0; i < length[1]; i++)
		assert_int_equal(spte_read(handle_spte(mmu, list[1][i])) & PTE_W, 0);
	check(1);
	return had - budget;
}

/*
 * One of many is writable: the first descriptor is looked at, and its own. So, too, where it has
 * moved since, and in a chain whose first one was not the first before.
 */
static void test_one_writable(void **state)
{
	struct shadow *shadow;

	(void)state;
	stock(2 * LONGEST);
	shadow = table(1);
	for (unsigned n = 1; n <= LONGEST; n++) {
		uint64_t most = 2 * LARGE_HANDLES + 1 + n / LARGE_HANDLES;

		for (unsigned i = 0; i < n; i++)
			add(1, handle_of(shadow, i));
		take_write(n);
		assert_int_equal(take_write(0), 0);
		for (unsigned i = 0; i < n; i++) {
			replace(list[1][i], ACCESS_ALL);
			check(1);
			assert_true(take_write(1) <= most);
		}
		replace(list[1][n - 1], ACCESS_ALL);
		while (length[1] > 1) {
			remove_at(1, dice(length[1] - 1));
			check(1);
		}
		take_write(n > 1 ? spte_read(handle_spte(mmu, list[1][0])) >> 1 & 1 : 1);
		drop(1);
	}
	port_unlock(&mmu->lock);
}

/* Sptes come, go, become writable, and lose that together. */
static void test_marks(void **state)
{
	unsigned next = 0, writable = 0;
	struct shadow *shadow;

	(void)state;
	stock(2 * LONGEST);
	shadow = table(1);
	for (unsigned step = 0; step < 60000; step++) {
		bool grow = dice(100) < (step / 1000 % 2 ? 35u : 65u);
		unsigned what = dice(length[1] + 8);

		if (what == 0) {
			take_write(writable);
			writable = 0;
		} else if (what < 3 && length[1]) {
			handle h = list[1][dice(length[1])];

			writable += !(spte_read(handle_spte(mmu, h)) & PTE_W);
			replace(h, ACCESS_ALL);
		} else if (grow && length[1] < LONGEST) {
			while (spte_read(&shadow->table[next]))
				next = (next + 1) % 512;
			rmap_add(mmu, head_of(1), handle_of(shadow, next), spte_leaf(1, 1, 0, 0));
			spte_write(&shadow->table[next], spte_leaf(1, 1, 0, 0));
			list[1][length[1]++] = handle_of(shadow, next);
		} else if (!grow && length[1]) {
			unsigned at = dice(length[1]);

			writable -= spte_read(handle_spte(mmu, list[1][at])) >> 1 & 1;
			remove_at(1, at);
		}
		check(1);
	}
	port_unlock(&mmu->lock);
}

/* What a walk in pieces does to the sptes of gfn 1. */
struct walker {
	bool (*some)(uint64_t *head, struct rmap_piece *piece, uint64_t *budget);
	uint64_t gone; /* of every spte in the end */
};

static uint64_t changed;
static bool used;

static bool protect(uint64_t *head, struct rmap_piece *piece, uint64_t *budget)
{
	return rmap_protect_some(mmu, head, piece, budget, false, &changed);
}

static bool clean(uint64_t *head, struct rmap_piece *piece, uint64_t *budget)
{
	return rmap_protect_some(mmu, head, piece, budget, true, &changed);
}

static bool age(uint64_t *head, struct rmap_piece *piece, uint64_t *budget)
{
	return rmap_age_some(mmu, head, piece, budget, false, &used);
}

/*
 * From piece to piece sptes go, here and there or from one end, to another chain, which may be
 * given the descriptors; or the chain is dropped in part.
 */
static void shorten(unsigned how)
{
	struct sweep sweep = {.budget = 1 + dice(4)};

	if (how == 3 && length[1]) {
		sweep_chain(mmu, rmap_head_of(mmu, head_of(1)), &sweep);
		for (unsigned i = 0; i < length[1];)
			if (spte_read(handle_spte(mmu, list[1][i])))
				i++;
			else
				list[1][i] = list[1][--length[1]];
	}
	for (unsigned i = dice(4 * LARGE_HANDLES); how < 3 && i && length[1]; i--)
		add(2, remove_at(1, how == 0 ? 0 : how == 1 ? length[1] - 1 : dice(length[1])));
	check(1);
}

static void walk_in_pieces(const struct walker *walker, unsigned n, unsigned how,
			   struct shadow *shadow)
{
	uint64_t *head = rmap_head_of(mmu, head_of(1));
	struct rmap_piece piece = {0};
	bool over = false;

	for (unsigned i = 0; i < n; i++)
		add(1, handle_of(shadow, i));
	changed = 0;
	while (!over) {
		uint64_t budget = 1 + dice(LARGE_HANDLES), before = changed, had = budget;

		over = walker->some(head, &piece, &budget);
		assert_true(changed - before < had + LARGE_HANDLES);
		if (!over && dice(3) == 0) /* or nothing is left to be missed */
			shorten(how);
	}
	assert_true(how < 4 || walker->some == age || changed == n);
	for (unsigned i = 0; i < length[1]; i++)
		assert_int_equal(spte_read(handle_spte(mmu, list[1][i])) & walker->gone, 0);
	for (unsigned i = 0; i < length[1]; i++)
		assert_true(rmap_covers(*head, spte_read(handle_spte(mmu, list[1][i]))));
	for (unsigned i = 0; i < length[2]; i++)
		assert_true(spte_read(handle_spte(mmu, list[2][i])) & walker->gone);
	drop(1);
	drop(2);
}

/* None is missed, whatever goes in between; and each piece ends. */
static void test_pieces(void **state)
{
	static const struct walker walkers[] = {{protect, PTE_W}, {clean, PTE_D}, {age, PTE_A}};
	struct shadow *shadow;

	(void)state;
	stock(4 * LONGEST);
	shadow = table(1);
	for (unsigned n = 1; n <= LONGEST + 4 * LARGE_HANDLES; n += 1 + n / 40)
		for (unsigned round = 0; round < 90; round++)
			walk_in_pieces(&walkers[round % 3], n, round / 3 % 5, shadow);
	port_unlock(&mmu->lock);
}

/* A million sptes of one gfn; half of them removed one by one, the rest dropped. */
static void test_million(void **state)
{
	handle *all = test_malloc(MILLION * sizeof(*all));
	uint64_t descs = 0, count = MILLION;
	struct sweep sweep = SWEEP_ALL;
	head_ref ref;

	(void)state;
	for (unsigned i = 0; i < MILLION; i += 512) {
		struct shadow *shadow;

		stock(512);
		shadow = table(i / 512);
		for (unsigned index = 0; index < 512 && i + index < MILLION; index++) {
			all[i + index] = handle_of(shadow, index);
			rmap_add(mmu, head_of(5), all[i + index], PTE_P | PTE_A);
			spte_write(handle_spte(mmu, all[i + index]), PTE_P | PTE_A);
		}
		port_unlock(&mmu->lock);
	}
	port_lock(&mmu->lock);
	ref = head_of(5);
	assert_int_equal(rmap_count(*rmap_head_of(mmu, ref)), MILLION);
	assert_null(rmap_check(mmu, ref, &descs));
	for (unsigned i = 0; i < MILLION / 2; i++, count--) {
		unsigned at = dice((unsigned)count);

		rmap_remove(mmu, all[at]);
		spte_write(handle_spte(mmu, all[at]), 0);
		all[at] = all[count - 1];
	}
	descs = 0;
	assert_null(rmap_check(mmu, ref, &descs));
	assert_int_equal(rmap_count(*rmap_head_of(mmu, ref)), count);
	assert_true(sweep_chain(mmu, rmap_head_of(mmu, ref), &sweep));
	assert_int_equal(sweep.sptes, count);
	for (unsigned i = 0; i < count; i++)
		assert_int_equal(spte_read(handle_spte(mmu, all[i])), 0);
	assert_int_equal(mmu->stats.descs, 0);
	port_unlock(&mmu->lock);
	test_free(all);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_lengths, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_random, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_one_writable, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_marks, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_pieces, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_million, setup, teardown),
	};

	return cmocka_run_group_tests_name("rmap", tests, NULL, NULL);
}
