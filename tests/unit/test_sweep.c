/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tests of core/sweep.c and of the ranges of core/drop.c. Neighbouring chains, lined up as address
 * spaces make them, shifted, with gaps, emptied here and there; swept whole, in part, in pieces,
 * against a list of who maps what.
 *
 * And a hardware that sets A and D meanwhile: what it set in an spte before that was cleared is in
 * what the sweep gathered. Once as a second thread, and once between any two instructions.
 *
 * Built twice: with descriptors of three handles, and with the real ones.
 */
#define _GNU_SOURCE /* affinity */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "arena.h"
#include "head.h"

#define GFNS   1536u /* three regions, the first and last in part */
#define FIRST  100u
#define SPACES (unsigned)(SMALL_HANDLES + LARGE_HANDLES + 5)
#define RACES  20000u

static struct arena *arena;
static struct umbra_mmu *mmu;
static uint64_t seed;

/* The oracle: all sptes that were added. gfn == GFNS: gone. */
static struct entry {
	handle h;
	unsigned gfn;
	uint64_t value;
} * entry;
static unsigned entries;

static int setup(void **state)
{
	const struct arena_options options = {
	    .gfns = GFNS, .frames = 64, .high = 128ull << 20, .low = 1u << 20};
	const struct umbra_config config = {.shadow_quota = 4096, .maxphyaddr = 40};
	const struct umbra_slot slot = {.first = {FIRST}, .pages = GFNS - FIRST - 40};

	(void)state;
	entry = calloc((size_t)SPACES * GFNS, sizeof(*entry));
	entries = 0;
	seed = 1;
	return !entry || arena_create(&options, &arena) ||
	       umbra_mmu_create(&arena_host, arena, &config, &mmu) || umbra_slot_add(mmu, &slot);
}

static int teardown(void **state)
{
	uint64_t left;

	(void)state;
	umbra_mmu_destroy(mmu);
	left = arena_in_use(arena);
	arena_destroy(arena);
	free(entry);
	return left != 0;
}

static unsigned dice(unsigned below)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (unsigned)(seed >> 33) % below;
}

static void add(unsigned gfn, handle h, uint64_t value)
{
	struct slot *slot = slot_find(mmu, (umbra_gfn){gfn});

	rmap_add(mmu, slot_head_make(mmu, slot, (umbra_gfn){gfn}, 1), h, value);
	spte_write(handle_spte(mmu, h), value);
	mmu->stats.sptes++;
	entry[entries++] = (struct entry){h, gfn, value};
}

/* A fresh table in which one can play. => lock held on exit */
static struct shadow *table(unsigned number)
{
	const struct need need = {.shadows = 1, .descs = 1024, .spares = 4, .regions = 1};
	const union role role = {.level = 1, .direct = 1, .access = ACCESS_ALL};
	struct flush flush = {0};

	assert_int_equal(pool_lock(mmu, &need), 0);
	return shadow_get(mmu, (umbra_gfn){512ull * number}, role, &flush);
}

static uint64_t some_value(bool is_volatile)
{
	static const uint64_t quiet[] = {PTE_A, PTE_A | PTE_W | PTE_D, PTE_A | PTE_D};
	static const uint64_t open[] = {0, PTE_W, PTE_A | PTE_W, PTE_W | PTE_D};

	return PTE_P | (uint64_t)dice(1000) << 12 |
	       (is_volatile && dice(4) == 0 ? open[dice(4)] : quiet[dice(3)]);
}

static bool is_memory(unsigned gfn)
{
	return slot_find(mmu, (umbra_gfn){gfn}) != NULL;
}

/* Address spaces that map gfns in order, each with its own shift and its own gaps. */
static void populate(unsigned spaces, unsigned gaps, bool shifted, bool is_volatile)
{
	for (unsigned space = 0; space < spaces; space++) {
		unsigned shift = shifted ? dice(512) : 0;
		struct shadow *shadow = NULL;

		for (unsigned i = 0; i < GFNS; i++) {
			unsigned index = (i + shift) % 512;

			if (!shadow || !index) {
				if (shadow)
					port_unlock(&mmu->lock);
				shadow = table(space * 8 + (i + shift) / 512 + 1);
			}
			if (is_memory(i) && !(gaps && dice(gaps) == 0))
				add(i, handle_of(shadow, index), some_value(is_volatile));
		}
		port_unlock(&mmu->lock);
	}
}

static void check_chains(void)
{
	struct umbra_stats stats;
	struct rmap_cursor cursor;
	uint64_t live = 0, descs = 0;

	for (unsigned gfn = 0; gfn < GFNS; gfn++) {
		uint64_t *head =
		    is_memory(gfn) ? slot_head_find(mmu, &mmu->slot[0], (umbra_gfn){gfn}, 1) : NULL;

		if (!head)
			continue;
		live += rmap_count(*head);
		rmap_for_each(mmu, *head, &cursor, h)
		{
			assert_true(rmap_covers(*head, spte_read(handle_spte(mmu, h))));
		}
		assert_null(rmap_check(mmu, slot_head_make(mmu, &mmu->slot[0], (umbra_gfn){gfn}, 1),
				       &descs));
	}
	assert_int_equal(live, mmu->stats.sptes);
	assert_int_equal(descs, mmu->stats.descs);
	umbra_stats_get(mmu, &stats);
	assert_int_equal(stats.sptes, live);
}

/* Forget entries in [@first, @end) and see that they are gone and all others as they were. */
static uint64_t expect_gone(uint64_t first, uint64_t end)
{
	uint64_t gone = 0;

	for (unsigned i = 0; i < entries; i++) {
		uint64_t value = spte_read(handle_spte(mmu, entry[i].h));

		if (entry[i].gfn == GFNS)
			continue;
		if (entry[i].gfn >= first && entry[i].gfn < end) {
			assert_int_equal(value, 0);
			entry[i].gfn = GFNS;
			gone++;
		} else {
			assert_int_equal(value, entry[i].value);
		}
	}
	return gone;
}

/* No A or D may be lost; one more, of an spte that is long gone from its chain, is no harm. */
static void expect_bits(const struct umbra_dropped *dropped, uint64_t first, uint64_t end)
{
	uint64_t accessed = 0, written = 0;

	for (unsigned i = 0; i < entries; i++) {
		if (entry[i].gfn < first || entry[i].gfn >= end || entry[i].gfn == GFNS)
			continue;
		accessed |= entry[i].value & PTE_A;
		written |= (entry[i].value & (PTE_W | PTE_D)) == (PTE_W | PTE_D);
	}
	assert_true(dropped->accessed || !accessed);
	assert_true(dropped->dirty || !written);
}

static void remove_some(unsigned one_in)
{
	for (unsigned i = 0; i < entries; i++)
		if (dice(one_in) == 0 && entry[i].gfn != GFNS) {
			rmap_remove(mmu, entry[i].h);
			spte_write(handle_spte(mmu, entry[i].h), 0);
			mmu->stats.sptes--;
			entry[i].gfn = GFNS;
		}
}

static void drop(uint64_t first, uint64_t end)
{
	struct umbra_dropped dropped, other;

	assert_int_equal(umbra_drop(mmu, (umbra_gfn){first}, end - first, &dropped), 0);
	expect_bits(&dropped, first, end);
	assert_int_equal(dropped.sptes, expect_gone(first, end));
	check_chains();
	assert_int_equal(umbra_drop(mmu, (umbra_gfn){first}, end - first, &other), 0);
	assert_int_equal(other.sptes, 0);
	assert_false(other.accessed || other.dirty);
}

/* In pieces: none too long, each goes on where the last one ended, all together are all. */
static void drop_in_pieces(uint64_t first, uint64_t end, uint64_t budget)
{
	struct umbra_range range = {{first}, end - first};
	uint64_t pieces = 0, before;
	struct umbra_dropped dropped, all = {0};

	do {
		before = range.first.n;
		assert_int_equal(umbra_drop_some(mmu, &range, budget, &dropped), 0);
		assert_true(dropped.sptes < budget + LARGE_HANDLES);
		assert_true(range.first.n >= before);
		assert_int_equal(range.first.n + range.pages, end);
		all.sptes += dropped.sptes;
		all.accessed |= dropped.accessed;
		all.dirty |= dropped.dirty;
		/* Every piece clears something or passes lines of heads. */
		if (pieces < 3)
			check_chains();
		assert_true(++pieces < 100 * (uint64_t)GFNS * SPACES);
	} while (range.pages);
	expect_bits(&all, first, end);
	assert_int_equal(all.sptes, expect_gone(first, end));
	check_chains();
}

static void scenario(unsigned spaces, unsigned gaps, bool shifted, bool is_volatile,
		     unsigned removed)
{
	void *state = NULL;

	populate(spaces, gaps, shifted, is_volatile);
	if (removed)
		remove_some(removed);
	check_chains();
	for (unsigned i = 0; i < 6; i++) {
		uint64_t first = dice(GFNS), end = first + dice(i < 3 ? 20 : GFNS);

		drop(first, end);
		first = dice(GFNS);
		drop_in_pieces(first, first + dice(600), 1 + dice(i % 2 ? 7 : 300));
	}
	drop(0, UINT64_MAX);
	assert_int_equal(mmu->stats.descs, 0);
	teardown(&state);
	setup(&state);
}

#define LINE 512u /* heads of its first eight gfns share a cache line */

/* One chain of eight may still be written by the hardware, and is, before the others' sake ends. */
static void test_one_volatile(void **state)
{
	struct umbra_dropped dropped;

	(void)state;
	for (unsigned open = 0; open < 8; open++) {
		for (unsigned space = 0; space < 3; space++) {
			struct shadow *shadow = table(open * 3 + space + 1);

			for (unsigned i = 0; i < 8; i++)
				add(LINE + i, handle_of(shadow, i),
				    PTE_P | PTE_A | (i == open ? PTE_W : 0));
			*handle_spte(mmu, handle_of(shadow, open)) |= PTE_D;
			port_unlock(&mmu->lock);
		}
		assert_int_equal(umbra_drop(mmu, (umbra_gfn){LINE}, 8, &dropped), 0);
		assert_int_equal(dropped.sptes, 24);
		assert_true(dropped.dirty);
	}
	entries = 0;
}

static void test_lined_up(void **state)
{
	(void)state;
	for (unsigned spaces = 1; spaces <= SPACES; spaces += spaces < 4 ? 1 : 5)
		scenario(spaces, 0, false, false, 0);
}

static void test_ragged(void **state)
{
	(void)state;
	scenario(3, 3, false, false, 0);
	scenario(SPACES, 9, false, false, 0);
	scenario(SPACES, 200, true, false, 0);
	scenario(SPACES, 0, true, true, 5);
	scenario(SPACES, 0, false, false, 30);
	scenario(SPACES, 50, false, true, 2);
	scenario(2, 0, false, true, 0);
}

/* Real calls' errors. */
static void test_arguments(void **state)
{
	struct umbra_range range = {{8}, UINT64_MAX - 4};

	(void)state;
	assert_int_equal(umbra_drop(mmu, (umbra_gfn){8}, UINT64_MAX - 4, NULL), UMBRA_EINVAL);
	assert_int_equal(umbra_drop_some(mmu, &range, 1, NULL), UMBRA_EINVAL);
	range = (struct umbra_range){{FIRST}, 4};
	assert_int_equal(umbra_drop_some(mmu, &range, 0, NULL), UMBRA_EINVAL);
	assert_int_equal(range.pages, 4);
	assert_int_equal(umbra_drop_some(mmu, &range, 1, NULL), 0);
	assert_int_equal(range.pages, 0);
}

/* ---- the hardware, on another processor ---- */

/*
 * Each spte of the chain has a bit of its own that the hardware sets: they stand for A and D, which
 * would not tell one spte from the other.
 */
#define RACE_SPTES 40u
#define RACE_BIT   12u

static struct race {
	_Atomic unsigned round, armed, done;
	_Atomic uint64_t *spte; /* RACE_SPTES of them */
	uint64_t won;           /* the bits that were set while their sptes were present */
} race;

static void wait_for(_Atomic unsigned *word, unsigned value)
{
	for (unsigned spins = 0; atomic_load(word) != value; spins++)
		if (spins > 1000)
			port_pause();
}

static void dawdle(unsigned turns)
{
	while (turns--)
		atomic_signal_fence(memory_order_seq_cst);
}

/* To different processors, if there are two: else the threads only take turns. */
static void settle(unsigned number)
{
	cpu_set_t all, one;

	CPU_ZERO(&one);
	sched_getaffinity(0, sizeof(all), &all);
	for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &all) && !number--)
			CPU_SET(cpu, &one);
	if (CPU_COUNT(&one))
		pthread_setaffinity_np(pthread_self(), sizeof(one), &one);
}

static void *hardware(void *arg)
{
	(void)arg;
	settle(1);
	for (unsigned round = 1; round <= RACES; round++) {
		wait_for(&race.round, round);
		atomic_store(&race.armed, round);
		dawdle(round % 1024);
		for (unsigned i = 0; i < RACE_SPTES; i++) {
			uint64_t bit = 1ull << (RACE_BIT + i), value = atomic_load(&race.spte[i]);

			while (value & PTE_P &&
			       !atomic_compare_exchange_weak(&race.spte[i], &value, value | bit))
				;
			race.won |= value & PTE_P ? bit : 0;
		}
		atomic_store(&race.done, round);
	}
	return NULL;
}

/*
 * A chain is swept at about the time when the hardware walks along its sptes. What it set came too
 * late, or the sweep tells of it.
 */
static void test_hardware(void **state)
{
	unsigned in_time = 0;
	struct shadow *shadow;
	pthread_t thread;

	(void)state;
	shadow = table(1);
	race.spte = (_Atomic uint64_t *)shadow->table;
	assert_int_equal(pthread_create(&thread, NULL, hardware, NULL), 0);
	settle(0);
	for (unsigned round = 1; round <= RACES; round++) {
		struct sweep sweep = SWEEP_ALL;

		entries = 0;
		for (unsigned i = 0; i < RACE_SPTES; i++)
			add(FIRST, handle_of(shadow, RACE_SPTES - 1 - i), PTE_P | PTE_W);
		race.won = 0;
		atomic_store(&race.round, round);
		wait_for(&race.armed, round);
		dawdle(dice(1024));
		assert_true(sweep_chain(
		    mmu, slot_head_find(mmu, &mmu->slot[0], (umbra_gfn){FIRST}, 1), &sweep));
		mmu->stats.sptes -= RACE_SPTES;
		wait_for(&race.done, round);
		assert_int_equal(sweep.bits >> RACE_BIT, race.won >> RACE_BIT);
		in_time += (unsigned)__builtin_popcountll(race.won);
		for (unsigned i = 0; i < RACE_SPTES; i++)
			assert_int_equal(spte_read(&shadow->table[i]), 0);
	}
	pthread_join(thread, NULL);
	print_message("# the hardware came in time for %u of %u sptes\n", in_time,
		      RACES * RACE_SPTES);
	port_unlock(&mmu->lock);
}

/* ---- the hardware, between two instructions ---- */

#define STEP_SPTES 5u
#define TRAP_FLAG  0x100ull

static volatile sig_atomic_t steps, strike;

/* The trap after each instruction: at number @strike the hardware writes every present entry. */
static void on_trap(int number, siginfo_t *info, void *context)
{
	(void)number;
	(void)info;
	(void)context;
	if (++steps != strike)
		return;
	for (unsigned i = 0; i < STEP_SPTES; i++) {
		uint64_t bit = 1ull << (RACE_BIT + i);

		if (race.spte[i] & PTE_P) {
			race.spte[i] |= bit;
			race.won |= bit;
		}
	}
}

static void step_on(void)
{
	__asm__ volatile("pushfq; orq %0, (%%rsp); popfq" : : "i"(TRAP_FLAG) : "memory", "cc");
}

static void step_off(void)
{
	__asm__ volatile("pushfq; andq %0, (%%rsp); popfq" : : "i"(~TRAP_FLAG) : "memory", "cc");
}

static void test_every_instruction(void **state)
{
	struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO}, before;
	unsigned in_time = 0, too_late = 0, last = 1;
	struct shadow *shadow;

	(void)state;
	shadow = table(1);
	race.spte = (_Atomic uint64_t *)shadow->table;
	sigaction(SIGTRAP, &action, &before);
	for (unsigned at = 1; at <= last; at++) {
		struct sweep sweep = SWEEP_ALL;
		uint64_t *head;

		entries = 0;
		for (unsigned i = 0; i < STEP_SPTES; i++)
			add(FIRST, handle_of(shadow, i), i % 2 ? PTE_P | PTE_A | PTE_W : PTE_P);
		head = slot_head_find(mmu, &mmu->slot[0], (umbra_gfn){FIRST}, 1);
		race.won = 0;
		steps = 0;
		strike = (sig_atomic_t)at;
		step_on();
		sweep_chain(mmu, head, &sweep);
		step_off();
		last = (unsigned)steps;
		mmu->stats.sptes -= STEP_SPTES;
		assert_int_equal(sweep.bits >> RACE_BIT, race.won >> RACE_BIT);
		for (unsigned i = 0; i < STEP_SPTES; i++) {
			assert_int_equal(spte_read(&shadow->table[i]), 0);
			in_time += race.won >> (RACE_BIT + i) & 1;
			too_late += !(race.won >> (RACE_BIT + i) & 1);
		}
	}
	sigaction(SIGTRAP, &before, NULL);
	port_unlock(&mmu->lock);
	print_message("# %u instructions; in time %u, too late %u\n", last, in_time, too_late);
	assert_true(in_time > 10 * STEP_SPTES && too_late > 10 * STEP_SPTES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_one_volatile, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_lined_up, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_ragged, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_arguments, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_hardware, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_every_instruction, setup, teardown),
	};

#ifdef __SANITIZE_THREAD__ /* it keeps signals back: nothing comes between two instructions */
	cmocka_set_skip_filter("test_every_instruction");
#endif
	return cmocka_run_group_tests_name("sweep", tests, NULL, NULL);
}
