/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Benchmark of the reverse map: umbra beside KVM of Linux 6.12, beside what the one-pass patch of
 * 2013 changed and what it changed it into, and beside the bare stores that all of them must do.
 *
 *     bench-rmap [FILE]          do they agree? then the table, the figures due; JSON into FILE
 *     bench-rmap --quick [FILE]  a few sets only
 *     bench-rmap --set NAME [FILE]   sets of that name only: resident, "16384 gfns" ...
 *     bench-rmap --check         do they agree? no clock
 *
 * docs/performance.md says what is measured and how to read it.
 */
#include <getopt.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "bench_rmap.h"

#define RESIDENT (128ull << 10) /* sptes: 1 MiB, all structures with them a few */
#define MILLION  1000000ull
#define BEYOND   (4ull << 20) /* 32 MiB of sptes; with descriptors and lists over 100 MiB */
#define GFNS     16384ull
#define MEMORY   (6ull << 30) /* addresses reserved; the largest set fills about 2.5 GiB */

static const struct impl *const all[] = {&impl_umbra, &impl_kvm,   &impl_onebyone,
					 &impl_patch, &impl_store, &impl_xchg};
#define ALL (sizeof(all) / sizeof(all[0]))

/* Without the lists of 2013, where they are beside the point, or quadratic throughout. */
static const struct impl *const some[] = {&impl_umbra, &impl_kvm, &impl_store, &impl_xchg};
#define SOME (sizeof(some) / sizeof(some[0]))

static double started;
static const char *only; /* NULL: all sets */

static double seconds(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void run(const struct shape *shape, unsigned ops, bool with_lists, unsigned rounds)
{
	struct plan plan = {.impls = with_lists ? all : some,
			    .impl_count = with_lists ? ALL : SOME,
			    .ops = ops,
			    .rounds = rounds};

	if (only && strcmp(only, shape->name))
		return;
	fprintf(stderr, "bench-rmap: %4.0f s: %s, chain %llu\n", seconds() - started, shape->name,
		(unsigned long long)shape->chain);
	measure(shape, &plan);
}

/* Within the caches, every chain length. */
static void run_resident(bool quick)
{
	static const uint64_t chains[] = {1, 2, 3, 8, 14, 15, 64, 200, 1000, 10000, 100000};

	for (unsigned i = 0; i < sizeof(chains) / sizeof(chains[0]); i++) {
		struct shape shape = {
		    .name = "resident", .gfns = RESIDENT / chains[i], .chain = chains[i]};
		unsigned ops = OPS_SEQ | OPS_RAND | OPS_REMOVE | OPS_VOLATILE;

		if (chains[i] <= 1000)
			ops |= OPS_CHURN | OPS_MAP;
		if (!quick || chains[i] < 4 || chains[i] == 200)
			run(&shape, ops, true, 7);
	}
}

/* A million sptes: short chains and one chain of all, on the same footing. */
static void run_million(void)
{
	static const uint64_t chains[] = {15, MILLION};

	for (unsigned i = 0; i < 2; i++) {
		struct shape shape = {
		    .name = "million", .gfns = MILLION / chains[i], .chain = chains[i]};

		run(&shape, OPS_SEQ | OPS_RAND | OPS_REMOVE | OPS_VOLATILE, false, 5);
	}
}

static void run_beyond(void)
{
	static const uint64_t chains[] = {3, 64, 1000};

	for (unsigned i = 0; i < sizeof(chains) / sizeof(chains[0]); i++) {
		struct shape shape = {
		    .name = "beyond", .gfns = BEYOND / chains[i], .chain = chains[i]};

		run(&shape, OPS_SEQ | OPS_RAND | OPS_REMOVE | OPS_MAP, false, 5);
	}
}

/* 16384 gfns, one after another or all at once. */
static void run_gfns(bool quick)
{
	static const uint64_t chains[] = {1, 2, 3, 8, 15, 64, 200};

	for (unsigned i = 0; i < sizeof(chains) / sizeof(chains[0]); i++) {
		struct shape shape = {.name = "16384 gfns", .gfns = GFNS, .chain = chains[i]};
		bool most = chains[i] == 200;

		if (quick && !most)
			continue;
		run(&shape, OPS_RANGE, true, 5);
		if (chains[i] >= 64)
			run(&shape, OPS_SEQ | OPS_RAND | OPS_REMOVE, false, 5);
		shape.aligned = true;
		if (chains[i] >= 8)
			run(&shape, OPS_RANGE, !most, 5);
	}
}

static void run_slots(void)
{
	static const struct shape slots[] = {
	    {.name = "1 GiB", .gfns = 1 << 18, .chain = 8},
	    {.name = "1 TiB, sparse", .gfns = GFNS, .chain = 2, .stride_shift = 14},
	    {.name = "1 TiB, empty", .slot_pages = 1 << 28},
	};

	for (unsigned i = 0; i < sizeof(slots) / sizeof(slots[0]); i++)
		run(&slots[i], OPS_SLOT, false, 5);
}

static void run_hold(void)
{
	for (uint64_t chain = 1000; chain <= MILLION; chain *= 10) {
		struct shape shape = {.name = "million", .gfns = MILLION / chain, .chain = chain};

		run(&shape, OPS_HOLD, false, 9);
	}
}

/* What a host does to 64 MiB of a guest, and to 4 GiB of large pages. */
static void run_host(bool quick)
{
	static const uint64_t chains[] = {1, 8, 200};

	for (unsigned i = quick ? 1 : 0; i < (quick ? 2 : 3); i++) {
		struct shape shape = {.name = "host", .gfns = GFNS, .chain = chains[i]};
		struct shape large = {
		    .name = "host, 2 MiB", .gfns = 2048, .chain = chains[i], .stride_shift = 9};

		run(&shape, OPS_HOST, false, 5);
		run(&large, OPS_LARGE, false, 5);
	}
}

/* Where the program runs, until its end. */
static void pin(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(sched_getcpu(), &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static const struct option options[] = {{"help", no_argument, NULL, 'h'},
					{"check", no_argument, NULL, 'c'},
					{"quick", no_argument, NULL, 'q'},
					{"set", required_argument, NULL, 's'},
					{0}};

static const char usage[] = "usage: bench-rmap [--check | --quick | --set NAME] [FILE]\n"
			    "The reverse map beside others: a table, and JSON into FILE.\n"
			    "  --check     only see that all implementations agree\n"
			    "  --quick     fewer sizes\n"
			    "  --set NAME  only the set NAME\n";

int main(int argc, char **argv)
{
	bool quick = false, check = false;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		quick |= option == 'q';
		check |= option == 'c';
		if (option == 's')
			only = optarg;
		if (option == 'h' || option == '?') {
			fputs(usage, option == 'h' ? stdout : stderr);
			return option == 'h' ? 0 : 2;
		}
	}
	memory_open(MEMORY);
	if (!check_agree(all, ALL))
		return 1;
	printf("bench-rmap: all implementations agree (KVM: %s)\n", impl_kvm.kind);
	if (check)
		return 0;
	pin();
	started = seconds();
	run_resident(quick);
	run_gfns(quick);
	run_slots();
	run_hold();
	run_host(quick);
	if (!quick) {
		run_million();
		run_beyond();
	}
	fprintf(stderr, "bench-rmap: %4.0f s: done\n", seconds() - started);
	report_table();
	report_figures();
	return optind < argc ? report_json(argv[optind]) : 0;
}
