/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Umbra's side of bench-rmap under callgrind: each operation once, its instructions in a dump of
 * their own whose name is "operation, state, chain N/entries". scripts/bench-compare compiles it
 * against two revisions and runs it.
 */
#include <stdio.h>
#include <valgrind/callgrind.h>

#include "bench_rmap.h"

#define SPTES 16384u

static struct set set;
static size_t some; /* sptes that are removed: of long chains a part, as bench-rmap does */

static void fresh(enum state state, bool is_built)
{
	impl_umbra.age(true, state);
	set_restore(&set, state);
	if (is_built)
		impl_umbra.add(set.seq, set.sptes);
}

static void clear(void)
{
	impl_umbra.drop(set.gfn_seq, set.shape.gfns);
}

static void add_rand(void)
{
	impl_umbra.add(set.rand, set.sptes);
}

static void map_rand(void)
{
	impl_umbra.map(set.rand, set.sptes);
}

static void remove_rand(void)
{
	impl_umbra.remove(set.rand, some);
}

static void remove_many(void)
{
	impl_umbra.remove_many(set.rand, some);
}

static void unmap(void)
{
	impl_umbra.unmap(set.rand, some);
}

static void drop(void)
{
	impl_umbra.drop(set.gfn_rand, set.shape.gfns);
}

static void drop_range(void)
{
	impl_umbra.drop_range(0, set.shape.slot_pages);
}

static void walk(void)
{
	impl_umbra.walk(set.gfn_seq, set.shape.gfns);
}

static const struct {
	const char *name;
	void (*run)(void);
	bool on_built, is_partial;
} ops[] = {
    {"add", add_rand, false, false},
    {"map", map_rand, false, false},
    {"remove", remove_rand, true, true},
    {"remove together", remove_many, true, true},
    {"unmap", unmap, true, true},
    {"drop", drop, true, false},
    {"drop range", drop_range, true, false},
    {"walk", walk, true, false},
};

static void dump(const char *op, enum state state, uint64_t entries)
{
	char name[80];

	snprintf(name, sizeof(name), "%s, %s, chain %lu/%lu", op,
		 state == QUIET ? "quiet" : "volatile", (unsigned long)set.shape.chain,
		 (unsigned long)entries);
	CALLGRIND_DUMP_STATS_AT(name);
}

static void measure_all(enum state state)
{
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		fresh(state, ops[i].on_built);
		CALLGRIND_ZERO_STATS;
		CALLGRIND_TOGGLE_COLLECT;
		ops[i].run();
		CALLGRIND_TOGGLE_COLLECT;
		dump(ops[i].name, state, ops[i].is_partial ? some : set.sptes);
		clear();
	}
}

int main(void)
{
	static const unsigned chains[] = {1, 2, 3, 8, 15, 64, 200, 1000};

	memory_open(1ull << 30);
	for (size_t i = 0; i < sizeof(chains) / sizeof(chains[0]); i++) {
		struct shape shape = {
		    .name = "insns", .gfns = SPTES / chains[i], .chain = chains[i]};

		memory_reset();
		set_open(&set, &shape);
		impl_umbra.open(&set);
		some = shape.chain < 64 ? set.sptes : set.sptes / 4;
		measure_all(QUIET);
		measure_all(VOLATILE);
	}
	return 0;
}
