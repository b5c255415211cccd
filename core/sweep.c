/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sweeping chains: every spte of a chain cleared in one pass, the chain freed whole. What drop.c
 * does to a gfn or a range, and shadow.c to the parents of a page that goes.
 *
 * All time goes into waiting for memory, so nothing here waits for one line alone. Along a
 * chain, three things are under way at once:
 *
 *     desc       its sptes were asked for one step ago: cleared now
 *     next       was asked for one step ago: its sptes are asked for now
 *     next->next is asked for now
 *
 * Across chains, eight neighbours go in lockstep. Pages that lie side by side are mostly mapped
 * side by side, in the same order by each address space; so the n-th sptes of gfns g .. g+7 stand
 * in one cache line, which is then touched once and not eight times:
 *
 *     head g    -> [ a+0  b+0  c+0 ]            a b c: three tables
 *     head g+1  -> [ a+1  b+1  c+1 ]   column by column: a+0 a+1 .. a+7, then b ..
 *     head g+7  -> [ a+7  b+7  c+7 ]
 *
 * Chains are lined up from their oldest end, where they agree the longest. Where they do not, each
 * spte is cleared by itself.
 *
 * Lock: the MMU's.
 */
#include "head.h"

#define LANES 8u /* heads, and sptes, in a cache line */

/* Clear the @count sptes of @list where a log goes by D bits, which it is told. */
static void sweep_logged(struct umbra_mmu *mmu, const handle *list, unsigned count, uint64_t *bits)
{
	for (const handle *end = list + count; list < end; list++) {
		uint64_t value = spte_clear(handle_spte(mmu, *list));

		*bits |= value;
		log_removed(mmu, *list, value);
	}
}

unsigned sweep_inline_logged(struct umbra_mmu *mmu, uint64_t head, uint64_t *bits)
{
	const handle list[] = {head_first(head), head_second(head)};
	unsigned count = list[1] ? 2 : 1;

	sweep_logged(mmu, list, count, bits);
	return count;
}

static inline void clear_desc(struct umbra_mmu *mmu, const struct desc *desc, unsigned from,
			      unsigned to, bool is_volatile, uint64_t *bits)
{
	uint64_t seen = 0;

	if (!is_volatile) {
		for (unsigned i = from; i < to; i++)
			spte_write(handle_spte(mmu, desc->spte[i]), 0);
		return;
	}
	if (mmu->dirty_slots) {
		sweep_logged(mmu, desc->spte + from, from < to ? to - from : 0, bits);
		return;
	}
	for (unsigned i = from; i < to; i++)
		seen |= spte_clear(handle_spte(mmu, desc->spte[i]));
	*bits |= seen;
}

static void prefetch_sptes(struct umbra_mmu *mmu, const struct desc *desc, unsigned fill)
{
	for (unsigned i = 0; i < fill; i++)
		__builtin_prefetch(handle_spte(mmu, desc->spte[i]), 1);
}

/* Ask for both lines of a descriptor; if it has but one, the other does no harm. */
static struct desc *desc_ask(struct umbra_mmu *mmu, uint32_t id)
{
	struct desc *desc = desc_of(mmu, id);

	__builtin_prefetch(desc, 1);
	__builtin_prefetch((char *)desc + DESC_UNIT, 1);
	return desc;
}

/* The descriptor after @desc, asked for; NULL: it was the last. */
static struct desc *desc_after(struct umbra_mmu *mmu, const struct desc *desc)
{
	return desc->next ? desc_ask(mmu, desc->next) : NULL;
}

/* Handles in @desc, which is not the first of its chain. */
static unsigned fill_behind(const struct desc *desc)
{
	return desc->next ? LARGE_HANDLES : SMALL_HANDLES;
}

/* sweep_long() of either kind. */
static inline __attribute__((always_inline)) void sweep_descs(struct umbra_mmu *mmu, uint64_t *at,
							      struct sweep *sweep, bool is_volatile)
{
	uint64_t head = *at, larges = 0, swept = 0, bits = 0;
	uint32_t id = head_desc(head);
	struct desc *desc = desc_of(mmu, id), *next = desc_after(mmu, desc), *last = NULL;
	unsigned fill = head_fill(head);

	for (; next && swept < sweep->budget; larges++) {
		struct desc *after = desc_after(mmu, next);

		clear_desc(mmu, desc, 0, fill, is_volatile, &bits);
		swept += fill;
		fill = fill_behind(next);
		last = desc;
		id = desc->next;
		desc = next;
		next = after;
	}
	if (larges)
		desc_give_large(mmu, head_desc(head), last, larges);
	if (!next && swept < sweep->budget) {
		clear_desc(mmu, desc, 0, fill, is_volatile, &bits);
		swept += fill;
		desc_give_small(mmu, id, desc);
		*at = 0;
	} else {
		*at = (head & HEAD_FLAGS) | head_chain(id, head_length(head) - larges, fill);
	}
	sweep->bits |= is_volatile ? bits : known_bits(head);
	sweep_charge(sweep, swept, swept);
}

/* sweep_chain() of a chain with descriptors. */
void sweep_long(struct umbra_mmu *mmu, uint64_t *at, struct sweep *sweep)
{
	if (*at & HEAD_VOLATILE)
		sweep_descs(mmu, at, sweep, true);
	else
		sweep_descs(mmu, at, sweep, false);
}

/* One of the chains that go in lockstep. */
struct lane {
	struct desc *desc; /* to be cleared next; */
	struct desc *next; /*   the one after it, asked for; */
	struct desc *last; /*   the one before it, NULL if that is its first */
	uint64_t descs;    /* from .desc on */
	unsigned fill;     /* of .desc */
	uint32_t id;       /* of .desc */
	uint32_t first;    /* id: where the chain begins, */
	uint64_t all;      /*   and how many descriptors it had */
	bool is_volatile;
};

static void lane_start(struct umbra_mmu *mmu, struct lane *lane, uint64_t head)
{
	lane->first = lane->id = head_desc(head);
	lane->desc = desc_of(mmu, lane->id);
	lane->next = desc_after(mmu, lane->desc);
	lane->last = NULL;
	lane->all = lane->descs = head_length(head);
	lane->fill = head_fill(head);
	lane->is_volatile = head & HEAD_VOLATILE;
}

/* Its descriptor was cleared: go on to the next, or free them all. */
static void lane_advance(struct umbra_mmu *mmu, struct lane *lane)
{
	if (!--lane->descs) {
		if (lane->last)
			desc_give_large(mmu, lane->first, lane->last, lane->all - 1);
		desc_give_small(mmu, lane->id, lane->desc);
		return;
	}
	lane->id = lane->desc->next;
	lane->last = lane->desc;
	lane->desc = lane->next;
	lane->next = desc_after(mmu, lane->next);
	lane->fill = fill_behind(lane->desc);
}

/* clear_columns() of what hardware may still write. */
static __attribute__((noinline)) void clear_volatile_columns(struct umbra_mmu *mmu,
							     const handle *const lane[LANES],
							     unsigned common, uint64_t *bits)
{
	uint64_t seen = 0;

	if (mmu->dirty_slots) {
		for (unsigned j = 0; j < LANES; j++)
			sweep_logged(mmu, lane[j], common, bits);
		return;
	}
	for (unsigned i = 0; i < common; i++)
		for (unsigned j = 0; j < LANES; j++)
			seen |= spte_clear(handle_spte(mmu, lane[j][i]));
	*bits |= seen;
}

/*
 * Clear what handles [0, @common) of eight lanes name, column by column.
 *
 * => returns whether each column was eight neighbours in one table
 */
static bool clear_columns(struct umbra_mmu *mmu, const handle *const lane[LANES], unsigned common)
{
	bool lined_up = true;

	for (unsigned i = 0; i < common; i++) {
		handle first = lane[0][i], differ = 0;

		for (unsigned j = 1; j < LANES; j++)
			differ |= lane[j][i] ^ (first + j);
		if (!differ && first % PTE_ENTRIES <= PTE_ENTRIES - LANES) {
			uint64_t *spte = handle_spte(mmu, first);

			for (unsigned j = 0; j < LANES; j++)
				spte_write(&spte[j], 0);
			continue;
		}
		lined_up = false;
		for (unsigned j = 0; j < LANES; j++)
			spte_write(handle_spte(mmu, lane[j][i]), 0);
	}
	return lined_up;
}

/* Clear what the lanes' descriptors name. => returns whether they were lined up */
static bool clear_row(struct umbra_mmu *mmu, struct lane *const lane[LANES], unsigned lanes,
		      uint64_t *bits)
{
	unsigned common = LARGE_HANDLES;
	bool is_volatile = false, lined_up = false;
	const handle *row[LANES];

	for (unsigned j = 0; j < lanes; j++) {
		common = lane[j]->fill < common ? lane[j]->fill : common;
		is_volatile |= lane[j]->is_volatile;
		row[j] = lane[j]->desc->spte;
	}
	if (lanes < LANES)
		common = 0;
	else if (is_volatile)
		clear_volatile_columns(mmu, row, common, bits);
	else
		lined_up = clear_columns(mmu, row, common);
	for (unsigned j = 0; j < lanes; j++)
		clear_desc(mmu, lane[j]->desc, common, lane[j]->fill, is_volatile, bits);
	return lined_up;
}

/* Sweep chains of up to eight neighbouring heads. => returns whether they were lined up */
static bool sweep_lanes(struct umbra_mmu *mmu, uint64_t *heads, unsigned count, bool lined_up,
			struct sweep *sweep)
{
	struct lane all[LANES], *deepest[LANES];
	uint64_t sptes = 0, depth = 0;
	unsigned chains = 0;

	for (unsigned i = 0; i < count; i++) {
		uint64_t head = heads[i];

		heads[i] = 0;
		if (!(head & HEAD_CHAIN)) {
			sptes += sweep_inline(mmu, head, &sweep->bits);
			continue;
		}
		sptes += head_count(head);
		if (!(head & HEAD_VOLATILE))
			sweep->bits |= known_bits(head);
		lane_start(mmu, &all[chains], head);
		depth = all[chains].descs > depth ? all[chains].descs : depth;
		chains++;
	}
	for (; depth; depth--) {
		unsigned lanes = 0;

		for (unsigned i = 0; i < chains; i++) {
			struct lane *lane = &all[i];

			if (lane->descs != depth)
				continue;
			deepest[lanes] = lane;
			if (lane->next && (!lanes || !lined_up))
				prefetch_sptes(mmu, lane->next, fill_behind(lane->next));
			lanes++;
		}
		lined_up = clear_row(mmu, deepest, lanes, &sweep->bits);
		for (unsigned i = 0; i < lanes; i++)
			lane_advance(mmu, deepest[i]);
	}
	sweep_charge(sweep, sptes, sptes + 1);
	return lined_up;
}

/* Ask for what heads lead to, that will be swept the turn after the next. */
static void ahead_far(struct umbra_mmu *mmu, const uint64_t *heads)
{
	for (unsigned i = 0; i < LANES; i++) {
		if (heads[i] & HEAD_CHAIN)
			desc_ask(mmu, head_desc(heads[i]));
		else if (heads[i])
			__builtin_prefetch(handle_spte(mmu, head_first(heads[i])), 1);
	}
}

/* Ask for the sptes of the first descriptors, that will be swept in the next turn. */
static void ahead_near(struct umbra_mmu *mmu, const uint64_t *heads, bool lined_up)
{
	for (unsigned i = 0; i < LANES; i++) {
		if (!(heads[i] & HEAD_CHAIN)) {
			if (head_second(heads[i]))
				__builtin_prefetch(handle_spte(mmu, head_second(heads[i])), 1);
			continue;
		}
		prefetch_sptes(mmu, desc_of(mmu, head_desc(heads[i])), head_fill(heads[i]));
		if (lined_up)
			break;
	}
}

/* Whether the budget surely pays for all sptes of these heads. */
static bool is_paid(const uint64_t *heads, unsigned count, uint64_t budget)
{
	uint64_t sptes = 0;

	for (unsigned i = 0; i < count && sptes <= budget; i++)
		sptes += heads[i] & HEAD_CHAIN ? head_length(heads[i]) * LARGE_HANDLES : 2;
	return sptes <= budget;
}

/*
 * Sweep the chains of heads [@from, @to) of a region, until the budget ends.
 *
 * => @heads: all 512, on a page of their own
 * => the budget pays for sptes, and one for each line of heads
 * => returns the first head that is not swept, @to if all are
 */
unsigned sweep_heads(struct umbra_mmu *mmu, uint64_t *heads, unsigned from, unsigned to,
		     struct sweep *sweep)
{
	bool lined_up = true;
	unsigned at = from;

	while (at < to && sweep->budget) {
		unsigned line = at / LANES * LANES;
		unsigned end = line + LANES < to ? line + LANES : to;

		if (line + 3 * LANES <= to)
			ahead_far(mmu, &heads[line + 2 * LANES]);
		if (line + 2 * LANES <= to)
			ahead_near(mmu, &heads[line + LANES], lined_up);
		if (end - at > 1 && is_paid(&heads[at], end - at, sweep->budget)) {
			lined_up = sweep_lanes(mmu, &heads[at], end - at, lined_up, sweep);
			at = end;
			continue;
		}
		for (; at < end && sweep->budget; at++)
			if (!sweep_chain(mmu, &heads[at], sweep))
				return at;
	}
	return at;
}
