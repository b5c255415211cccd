/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sets: process p has its own leaf tables and maps gfns 0..n-1 there, at index g + shift of p,
 * where shift is 0 (all processes alike, as after fork) or random (as by ASLR). Tables stand in
 * memory in no order. A chain is one spte of each process; where that would take more than 10000 of
 * them, a process maps each gfn many times, in a row, as one that reads zero pages does.
 */

#include "bench_rmap.h"

#define ENTRIES       512u
#define PROCESSES_MAX 10000u

static uint64_t seed = 88172645463325252ull;

uint64_t random_next(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static void shuffle(uint32_t *list, size_t count)
{
	for (size_t i = count; i > 1; i--) {
		size_t j = random_next() % i;
		uint32_t keep = list[i - 1];

		list[i - 1] = list[j];
		list[j] = keep;
	}
}

static void shuffle_entries(struct entry *list, size_t count)
{
	for (size_t i = count; i > 1; i--) {
		size_t j = random_next() % i;
		struct entry keep = list[i - 1];

		list[i - 1] = list[j];
		list[j] = keep;
	}
}

static uint32_t *numbers_take(size_t count)
{
	uint32_t *list = memory_take(count * sizeof(*list));

	for (size_t i = 0; i < count; i++)
		list[i] = (uint32_t)i;
	return list;
}

uint32_t *order_take(size_t count)
{
	uint32_t *list = numbers_take(count);

	shuffle(list, count);
	return list;
}

static uint32_t *gfns_spread(const struct set *set, uint32_t *list)
{
	for (uint64_t i = 0; i < set->shape.gfns; i++)
		list[i] <<= set->shape.stride_shift;
	return list;
}

/* Tables that a process needs, shifted by up to a table. */
static uint64_t tables_each(const struct set *set)
{
	uint64_t sptes = set->shape.gfns * set->aliases;

	return (sptes + (set->shape.aligned ? 0 : ENTRIES - 1) + ENTRIES - 1) / ENTRIES;
}

static void entries_make(struct set *set)
{
	uint64_t each = tables_each(set), at = 0;
	uint32_t *order = order_take(set->tables);

	set->seq = memory_take(set->sptes * sizeof(*set->seq));
	set->rand = memory_take(set->sptes * sizeof(*set->rand));
	for (uint64_t p = 0; p < set->processes; p++) {
		uint64_t shift = set->shape.aligned ? 0 : random_next() % ENTRIES;

		for (uint64_t i = 0; i < set->shape.gfns * set->aliases; i++, at++) {
			uint64_t table = order[p * each + (i + shift) / ENTRIES];
			unsigned index = (unsigned)((i + shift) % ENTRIES);

			set->seq[at].spte = &set->table[table][index];
			set->seq[at].gfn = set->gfn_seq[i % set->shape.gfns];
			set->seq[at].handle = umbra_handle(set, table, index);
			set->rand[at] = set->seq[at];
		}
	}
	shuffle_entries(set->rand, set->sptes);
}

void set_open(struct set *set, const struct shape *shape)
{
	*set = (struct set){.shape = *shape, .processes = shape->chain, .aliases = 1};
	seed = 88172645463325252ull;
	while (set->processes > PROCESSES_MAX) {
		set->aliases *= 10;
		set->processes /= 10;
	}
	if (!set->shape.slot_pages)
		set->shape.slot_pages = set->shape.gfns << set->shape.stride_shift;
	set->sptes = set->shape.gfns * set->processes * set->aliases;
	set->tables = set->processes * tables_each(set);
	set->gfn_seq = gfns_spread(set, numbers_take(set->shape.gfns));
	set->gfn_rand = gfns_spread(set, order_take(set->shape.gfns));
	umbra_tables(set);
	entries_make(set);
}

/*
 * The value of the spte of entry @i: present, writable, for users, accessed, dirty unless
 * volatile; bits 9, 10 and 11, which the hardware ignores, are KVM's marks of an ordinary
 * writable entry. The pfn is unlike any other's.
 */
uint64_t spte_value(uint64_t i, enum state state)
{
	return ((i + 1) * 0x9e3779b97f4a7c15ull >> 28) << 12 | 0xe27 | (state == QUIET ? 0x40 : 0);
}

void set_restore(const struct set *set, enum state state)
{
	for (uint64_t i = 0; i < set->sptes; i++)
		*set->seq[i].spte = spte_value(i, state);
}

uint64_t set_present(const struct set *set)
{
	uint64_t present = 0;

	for (uint64_t i = 0; i < set->sptes; i++)
		present += *set->seq[i].spte & 1;
	return present;
}

uint64_t set_sum(const struct set *set)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < set->sptes; i++)
		sum += *set->seq[i].spte;
	return sum;
}
