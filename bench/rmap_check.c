/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Do the implementations of the reverse-map benchmark agree? Small sets, no clock: each counts and
 * walks what was added, in part and in whole, and drops what it should and nothing else.
 */
#include <stdio.h>

#include "bench_rmap.h"

static const struct shape shapes[] = {
    {.name = "single", .gfns = 100, .chain = 1},
    {.name = "pairs", .gfns = 600, .chain = 2, .aligned = true},
    {.name = "three", .gfns = 100, .chain = 3},
    {.name = "full", .gfns = 40, .chain = 14},
    {.name = "over", .gfns = 40, .chain = 15},
    {.name = "long", .gfns = 17, .chain = 200},
    {.name = "aliases", .gfns = 2, .chain = 20000},
    {.name = "area", .gfns = 1024, .chain = 4},
    {.name = "sparse", .gfns = 50, .chain = 5, .stride_shift = 10},
};

static struct set set;
static const struct impl *impl;
static bool sound;

static void expect(const char *what, uint64_t is, uint64_t should)
{
	if (is == should)
		return;
	fprintf(stderr, "bench-rmap: %s, set %s: %s: %llu, not %llu\n", impl->name, set.shape.name,
		what, (unsigned long long)is, (unsigned long long)should);
	sound = false;
}

/* What is in the map must be the sptes of @list. */
static void expect_list(const char *what, const struct entry *list, size_t count)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < count; i++)
		sum += *list[i].spte;
	if (impl->count)
		expect(what, impl->count(set.gfn_rand, set.shape.gfns), count);
	if (impl->walk)
		expect(what, impl->walk(set.gfn_rand, set.shape.gfns), sum);
}

static void begin(enum state state, const struct entry *list)
{
	impl->age(state == VOLATILE, state);
	set_restore(&set, state);
	(impl->build ? impl->build : impl->add)(list, set.sptes);
}

/* Half of the gfns first: the other half's sptes stay. */
static void check_drop(enum state state)
{
	uint64_t half = set.shape.gfns / 2;

	begin(state, set.rand);
	expect_list("all, built", set.seq, set.sptes);
	impl->drop(set.gfn_rand, half);
	expect("sptes after half was dropped", set_present(&set),
	       set.sptes - half * set.shape.chain);
	for (uint64_t i = 0; i < half; i++)
		if (impl->count)
			expect("a dropped gfn's count", impl->count(&set.gfn_rand[i], 1), 0);
	impl->drop(set.gfn_rand, set.shape.gfns);
	expect("sptes after all were dropped", set_present(&set), 0);
}

static void check_range(enum state state)
{
	uint64_t part = (set.shape.gfns + 2) / 3, middle = part << set.shape.stride_shift;

	begin(state, set.seq);
	impl->drop_range(0, middle);
	expect("sptes after a range was dropped", set_present(&set),
	       set.sptes - part * set.shape.chain);
	impl->drop_range(middle, set.shape.slot_pages);
	expect("sptes after both ranges", set_present(&set), 0);
}

static void check_add_remove(void)
{
	size_t half = set.sptes / 2;

	if (!impl->add)
		return;
	impl->age(false, QUIET);
	set_restore(&set, QUIET);
	impl->add(set.seq, half);
	impl->add(set.seq + half, set.sptes - half);
	expect_list("all, added", set.seq, set.sptes);
	impl->remove(set.rand, half);
	expect_list("half of them removed", set.rand + half, set.sptes - half);
	impl->add(set.rand, half);
	expect_list("added again", set.seq, set.sptes);
	impl->remove_many(set.rand, half);
	expect_list("half of them removed together", set.rand + half, set.sptes - half);
	impl->remove_many(set.rand + half, set.sptes - half);
	expect_list("all removed", NULL, 0);
	expect("sptes after removing", set_present(&set), set.sptes);
	if (impl->bytes)
		expect("descriptors left", impl->bytes(), 0);
}

static void check_map(void)
{
	if (!impl->map || set.shape.chain > 1000)
		return;
	impl->age(true, QUIET);
	set_restore(&set, QUIET);
	impl->map(set.rand, set.sptes);
	expect_list("all, mapped", set.seq, set.sptes);
	impl->unmap(set.seq, set.sptes);
	expect_list("all, unmapped", NULL, 0);
	expect("sptes after unmapping", set_present(&set), 0);
}

/* Bits that no spte has after the operation; 0: it has to leave them all alone, or take them whole.
 */
static const uint64_t taken[HOST_OPS] = {
    [HOST_AGE] = 0x20,    [HOST_PROTECT] = 2,   [HOST_LOG_W] = 2,
    [HOST_LOG_D] = 0x40,  [HOST_COLLECT_W] = 2, [HOST_COLLECT_D] = 0x40,
    [HOST_REMAP] = ~0ull, [HOST_WATCH] = 2,     [HOST_COLLAPSE] = ~0ull,
    [HOST_SPLIT] = ~0ull, [HOST_FLAGS] = 2,     [HOST_INVALIDATE] = ~0ull,
    [HOST_MOVE] = 1, /* what KVM writes where nothing is has another bit */
};

static void check_host(void)
{
	for (enum host_op_number op = 0; op < HOST_OPS; op++) {
		uint64_t left = 0;

		if (!host_has(impl, op))
			continue;
		if (op == HOST_COLLAPSE && set.shape.gfns % 512)
			continue;
		if (op == HOST_SPLIT && set.shape.stride_shift < 9)
			continue;
		if (set.shape.stride_shift && op != HOST_SPLIT)
			continue;
		begin(QUIET, set.seq);
		impl->host->prepare(&set, op);
		impl->host->run(&set, op);
		for (uint64_t i = 0; i < set.sptes; i++)
			left += !!(*set.seq[i].spte & taken[op]);
		if (op == HOST_COLLECT_W && impl == &impl_store)
			left -= set.sptes - set.shape.gfns; /* it looks for none */
		if (op == HOST_WATCH)
			left -= (set.shape.gfns - host_pages(&set, op)) * set.shape.chain;
		expect(host_ops[op].name, left, 0);
		impl->host->clear_away(&set, op);
		impl->drop(set.gfn_seq, set.shape.gfns);
		expect("sptes at the end", set_present(&set), 0);
	}
}

bool check_agree(const struct impl *const *impls, size_t count)
{
	sound = true;
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		memory_reset();
		set_open(&set, &shapes[i]);
		for (size_t j = 0; j < count; j++)
			if (impls[j]->open)
				impls[j]->open(&set);
		for (size_t j = 0; j < count; j++) {
			impl = impls[j];
			check_drop(QUIET);
			check_drop(VOLATILE);
			if (impl != &impl_store && impl != &impl_xchg)
				check_range(QUIET);
			if (impl != &impl_store && impl != &impl_xchg)
				check_range(VOLATILE);
			check_add_remove();
			check_map();
			check_host();
		}
	}
	return sound;
}
