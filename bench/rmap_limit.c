/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The limit of the reverse-map benchmark: bare loops over arrays of pointers that clear the sptes
 * of a gfn, by a store or by an exchange. No chain, no look at the old value: what any reverse map
 * costs at least. The last one added is cleared first, as in the chains.
 */
#include "bench_rmap.h"

static struct {
	const struct set *set;
	uint64_t **spte; /* by gfn, @chain of each */
	uint32_t *filled;
} side;

static void open(const struct set *set)
{
	side.set = set;
	side.spte = memory_take(set->sptes * sizeof(*side.spte));
	side.filled = memory_take(set->shape.gfns * sizeof(*side.filled));
}

static void age(bool shuffled, enum state state)
{
	(void)shuffled;
	(void)state;
	for (uint64_t i = 0; i < side.set->shape.gfns; i++)
		side.filled[i] = 0;
}

static uint64_t **chain_of(uint64_t gfn)
{
	return &side.spte[(gfn >> side.set->shape.stride_shift) * side.set->shape.chain];
}

static void build(const struct entry *list, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		uint32_t *filled = &side.filled[list[i].gfn >> side.set->shape.stride_shift];

		chain_of(list[i].gfn)[side.set->shape.chain - ++*filled] = list[i].spte;
	}
}

static inline void store_one(uint64_t gfn)
{
	uint64_t **spte = chain_of(gfn), chain = side.set->shape.chain;

	for (uint64_t i = 0; i < chain; i++)
		*(volatile uint64_t *)spte[i] = 0;
}

static inline void xchg_one(uint64_t gfn)
{
	uint64_t **spte = chain_of(gfn), chain = side.set->shape.chain;

	for (uint64_t i = 0; i < chain; i++)
		__atomic_exchange_n(spte[i], 0, __ATOMIC_RELAXED);
}

static void store_drop(const uint32_t *gfns, size_t count)
{
	for (size_t i = 0; i < count; i++)
		store_one(gfns[i]);
}

static void xchg_drop(const uint32_t *gfns, size_t count)
{
	for (size_t i = 0; i < count; i++)
		xchg_one(gfns[i]);
}

static void store_range(uint64_t first, uint64_t end)
{
	for (uint64_t gfn = first; gfn < end; gfn++)
		store_one(gfn);
}

static void xchg_range(uint64_t first, uint64_t end)
{
	for (uint64_t gfn = first; gfn < end; gfn++)
		xchg_one(gfn);
}

void limit_each(const struct set *set, uint64_t sptes, enum limit how, uint64_t keep)
{
	(void)set;
	for (uint64_t i = 0; i < sptes; i++) {
		uint64_t *spte = side.spte[i];

		if (how == LIMIT_STORE)
			*(volatile uint64_t *)spte &= keep;
		else if (how == LIMIT_AND || *(volatile uint64_t *)spte & ~keep)
			__atomic_fetch_and(spte, keep, __ATOMIC_RELAXED);
	}
}

const struct impl impl_store = {
    .name = "limit",
    .kind = "store",
    .open = open,
    .age = age,
    .build = build,
    .drop = store_drop,
    .drop_range = store_range,
    .host = &host_limit,
};

/* Shares the arrays of impl_store, which is opened with it. */
const struct impl impl_xchg = {
    .name = "limit",
    .kind = "xchg",
    .age = age,
    .build = build,
    .drop = xchg_drop,
    .drop_range = xchg_range,
};
