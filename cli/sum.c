/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Adds machine pages up: counts are added, of what is a largest one the largest is taken, and the
 * workload is as good as the worst of them. What is of the whole machine stands in the first.
 */
#include "sum.h"

#include <stddef.h>
#include <string.h>

static uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* All fields of struct umbra_stats are counts of 64 bits, but for some that are a largest one. */
static void add_stats(struct umbra_stats *all, const struct umbra_stats *one)
{
	uint64_t chain = larger(all->longest_chain, one->longest_chain);
	const uint64_t *from = (const uint64_t *)one;
	uint64_t *to = (uint64_t *)all;

	for (size_t i = 0; i < sizeof(*all) / sizeof(*to); i++)
		to[i] += from[i];
	all->longest_chain = chain;
}

/* Of two workloads: one that failed, else one that did not report, else ok. */
static uint32_t worse(uint32_t a, uint32_t b)
{
	if (a == 2 || b == 2)
		return 2;
	return a && b;
}

static void add_exits(struct umbra_machine *all, const struct umbra_machine *one)
{
	all->exits += one->exits;
	all->exits_pf += one->exits_pf;
	all->exits_cr += one->exits_cr;
	all->exits_io += one->exits_io;
	all->exits_msr += one->exits_msr;
	all->exits_intr += one->exits_intr;
	all->exits_invlpg += one->exits_invlpg;
	all->exits_other += one->exits_other;
	all->emulated += one->emulated;
	all->unprotected += one->unprotected;
}

static void add(struct umbra_machine *all, const struct umbra_machine *one)
{
	add_exits(all, one);
	add_stats(&all->mmu, &one->mmu);
	all->workload = worse(all->workload, one->workload);
	all->migrations += one->migrations;
	all->migrations_region += one->migrations_region;
	all->zaps += one->zaps;
	all->compacted += one->compacted;
	all->collapsed += one->collapsed;
	all->collapses_broken += one->collapses_broken;
	all->merge_scanned += one->merge_scanned;
	all->merges += one->merges;
	all->merge_breaks += one->merge_breaks;
	all->audits += one->audits;
	all->audit_violations += one->audit_violations;
	all->drop_gfns += one->drop_gfns;
	all->drop_sptes += one->drop_sptes;
	all->drop_tsc += one->drop_tsc;
	all->drop_longest_tsc = larger(all->drop_longest_tsc, one->drop_longest_tsc);
	for (unsigned i = 0; i < UMBRA_HISTOGRAM; i++)
		all->peak_histogram[i] += one->peak_histogram[i];
}

void sum_pages(const struct umbra_machine *const *pages, unsigned count, struct umbra_machine *all)
{
	memcpy(all, pages[0], sizeof(*all));
	for (unsigned i = 1; i < count; i++)
		add(all, pages[i]);
}
