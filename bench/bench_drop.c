/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Benchmark: take back every mapping of 512 guest pages that C address spaces share.
 *
 * Three ways on the same sptes, interleaved, in one process:
 *   umbra     rmap_drop: one pass over the chain, plain stores, the chain freed whole
 *   onebyone  remove the first, look again, until the chain is empty
 *   limit     a bare loop that stores 0 to the same sptes in the same order
 *
 * The shadow tables are built by real faults of a guest with C page-table trees. Prints a table
 * of ratios and writes JSON: median of ROUNDS with min and max beside it. See
 * docs/performance.md.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "arena.h"
#include "head.h"

#define GFNS   512u
#define ROUNDS 7u
#define GVA    0x400000ull
#define TABLES 4u /* guest tables an address space */

static const unsigned chains[] = {1, 2, 3, 14, 64, 200, 256, 1000};
#define CHAINS (sizeof(chains) / sizeof(chains[0]))

struct bench {
	struct arena *arena;
	struct umbra_mmu *mmu;
	struct umbra_vcpu *vcpu;
	unsigned chain;
	uint64_t *value; /* by (gfn, n): what stood there */
	handle *h;
	uint64_t **spte;
};

static void no_flush(void *ctx, const struct umbra_flush *flush)
{
	(void)ctx;
	(void)flush;
}

static void die(const char *what)
{
	fprintf(stderr, "bench-drop: %s\n", what);
	exit(1);
}

/* Address space @n: tables at gfns GFNS + n * TABLES, all mapping gfns 0..511 at GVA. */
static uint64_t guest_space(struct bench *bench, unsigned n)
{
	uint64_t base = GFNS + (uint64_t)n * TABLES;

	for (unsigned level = 4; level >= 1; level--) {
		uint64_t *table = arena_page(bench->arena, (umbra_gfn){base + 4 - level});
		uint64_t rights = PTE_P | PTE_W | PTE_U | PTE_A | PTE_D;

		if (!table)
			die("no frame");
		if (level > 1)
			table[gva_index(GVA, level)] = (base + 5 - level) << 12 | rights;
		for (unsigned i = 0; level == 1 && i < GFNS; i++)
			table[i] = (uint64_t)i << 12 | rights;
	}
	return base << 12;
}

static void build(struct bench *bench, unsigned chain)
{
	uint64_t gfns = GFNS + (uint64_t)chain * TABLES;
	struct arena_options options = {
	    .gfns = gfns,
	    .frames = gfns,
	    .high = 64ull << 20 | (uint64_t)chain * 64 << 10,
	    .low = 1 << 20,
	    .seed = 1,
	    .flush = no_flush,
	};
	struct umbra_config config = {.shadow_quota = UMBRA_QUOTA_MAX / 4, .maxphyaddr = 40};
	struct umbra_slot slot = {.pages = gfns};
	struct umbra_paging paging = {
	    .cr0 = 0x80010001, .cr4 = 0x20, .efer = 0xd00}; /* PG WP PE, PAE, NXE LMA LME */
	struct umbra_root root;

	options.high += 32ull << 20;
	if (arena_create(&options, &bench->arena) ||
	    umbra_mmu_create(&arena_host, bench->arena, &config, &bench->mmu) ||
	    umbra_slot_add(bench->mmu, &slot) || umbra_vcpu_create(bench->mmu, 0, &bench->vcpu))
		die("no memory for the guest");
	bench->chain = chain;
	for (unsigned n = 0; n < chain; n++) {
		paging.cr3 = guest_space(bench, n);
		if (umbra_vcpu_set_paging(bench->vcpu, &paging) ||
		    umbra_vcpu_root(bench->vcpu, &root))
			die("no root");
		for (unsigned i = 0; i < GFNS; i++)
			if (umbra_fault(bench->vcpu, GVA + i * 4096ull, UMBRA_PF_U | UMBRA_PF_W)
				.verdict != UMBRA_RESUME)
				die("a fault was not resolved");
	}
}

static uint64_t *bench_head(struct bench *bench, unsigned gfn)
{
	return slot_head_find(bench->mmu, &bench->mmu->slot[0], (umbra_gfn){gfn}, 1);
}

static void capture(struct bench *bench)
{
	size_t count = (size_t)GFNS * bench->chain, at = 0;
	struct rmap_cursor cursor;

	bench->value = calloc(count, sizeof(*bench->value));
	bench->h = calloc(count, sizeof(*bench->h));
	bench->spte = calloc(count, sizeof(*bench->spte));
	if (!bench->value || !bench->h || !bench->spte)
		die("out of memory");
	for (unsigned gfn = 0; gfn < GFNS; gfn++) {
		rmap_for_each(bench->mmu, *bench_head(bench, gfn), &cursor, h)
		{
			bench->h[at] = h;
			bench->spte[at] = handle_spte(bench->mmu, h);
			bench->value[at] = *bench->spte[at];
			at++;
		}
	}
	if (at != count)
		die("a chain has another length than planned");
}

static void restore(struct bench *bench)
{
	for (unsigned gfn = 0; gfn < GFNS; gfn++) {
		uint64_t *head = bench_head(bench, gfn);
		head_ref ref =
		    slot_head_make(bench->mmu, &bench->mmu->slot[0], (umbra_gfn){gfn}, 1);

		rmap_forget(bench->mmu, head);
		for (unsigned n = bench->chain; n-- > 0;) {
			size_t at = (size_t)gfn * bench->chain + n;

			rmap_add(bench->mmu, ref, bench->h[at], bench->value[at]);
			*bench->spte[at] = bench->value[at];
		}
	}
}

static void drop_umbra(struct bench *bench, unsigned gfn)
{
	sweep_chain(bench->mmu, bench_head(bench, gfn), &SWEEP_ALL);
}

static void drop_onebyone(struct bench *bench, unsigned gfn)
{
	uint64_t *head = bench_head(bench, gfn);
	struct rmap_cursor cursor;
	handle h;

	while ((h = rmap_first(bench->mmu, *head, &cursor))) {
		spte_clear(handle_spte(bench->mmu, h));
		rmap_remove(bench->mmu, h);
	}
}

static void drop_limit(struct bench *bench, unsigned gfn)
{
	uint64_t **spte = &bench->spte[(size_t)gfn * bench->chain];

	for (unsigned n = 0; n < bench->chain; n++)
		spte_write(spte[n], 0);
}

static const struct way {
	const char *name;
	void (*drop)(struct bench *bench, unsigned gfn);
} ways[] = {{"umbra", drop_umbra}, {"onebyone", drop_onebyone}, {"limit", drop_limit}};
#define WAYS 3u

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* ns an spte, sorted: [way][round] */
static void measure(struct bench *bench, double ns[WAYS][ROUNDS])
{
	for (unsigned round = 0; round < ROUNDS; round++)
		for (unsigned way = 0; way < WAYS; way++) {
			double start;

			restore(bench);
			start = now();
			for (unsigned gfn = 0; gfn < GFNS; gfn++)
				ways[way].drop(bench, gfn);
			ns[way][round] = (now() - start) / ((double)GFNS * bench->chain);
		}
	for (unsigned way = 0; way < WAYS; way++)
		qsort(ns[way], ROUNDS, sizeof(double), by_value);
}

static void report(json_t *rows, unsigned chain, double ns[WAYS][ROUNDS])
{
	double umbra = ns[0][ROUNDS / 2];

	for (unsigned way = 0; way < WAYS; way++)
		json_array_append_new(rows, json_pack("{s:s,s:i,s:s,s:f,s:f,s:f}", "op", "drop",
						      "chain", (int)chain, "impl", ways[way].name,
						      "ns_per_entry", ns[way][ROUNDS / 2], "min",
						      ns[way][0], "max", ns[way][ROUNDS - 1]));
	printf("%8u %10.2f %10.2f %10.2f %14.2f %14.2f\n", chain, umbra, ns[1][ROUNDS / 2],
	       ns[2][ROUNDS / 2], ns[1][ROUNDS / 2] / umbra, umbra / ns[2][ROUNDS / 2]);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	json_t *rows = json_array();
	json_t *out = json_pack("{s:s,s:o}", "unit", "ns an spte, median", "rows", rows);

	printf("drop %u gfns, gfn by gfn: ns an spte\n%8s %10s %10s %10s %14s %14s\n", GFNS,
	       "chain", "umbra", "onebyone", "limit", "onebyone/umbra", "umbra/limit");
	for (unsigned i = 0; i < CHAINS; i++) {
		struct bench bench = {0};
		double ns[WAYS][ROUNDS];

		build(&bench, chains[i]);
		capture(&bench);
		measure(&bench, ns);
		report(rows, chains[i], ns);
		umbra_mmu_destroy(bench.mmu);
		arena_destroy(bench.arena);
		free(bench.value);
		free(bench.h);
		free(bench.spte);
	}
	if (argc > 1 && json_dump_file(out, argv[1], JSON_INDENT(1))) {
		fprintf(stderr, "bench-drop: cannot write %s: %s\n", argv[1], strerror(errno));
		return 1;
	}
	json_decref(out);
	return 0;
}
