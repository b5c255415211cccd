/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The figures that are due of the reverse map, computed from the rows of this run: each in every
 * set that has it, met or missed. A figure counts as met when it is met everywhere.
 */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "bench_rmap.h"

#define KVM "kvm-6.12"

enum kind {
	FASTER, /* peer / umbra, at least */
	WITHIN, /* umbra / peer, at most */
	FLAT,   /* umbra / umbra at chain .against_chain, at most */
	NS,     /* at most */
	BYTES,  /* at most, of descriptors an entry */
};

static const struct due {
	const char *what;
	const char *op, *set; /* set NULL: any */
	uint64_t low, high;   /* chains */
	enum kind kind;
	double bound;
	const char *peer;
	uint64_t against_chain;
	bool quiet_only; /* what needs an exchange cannot be so quick */
} dues[] = {
    {"remove, chain 64: >= 4 x faster than kvm-6.12", "remove", NULL, 64, 64, FASTER, 4, KVM, 0,
     false},
    {"remove, chain 200: >= 10 x faster than kvm-6.12", "remove", NULL, 200, 200, FASTER, 10, KVM,
     0, false},
    {"remove, chain 1000: >= 50 x faster than kvm-6.12", "remove", NULL, 1000, 1000, FASTER, 50,
     KVM, 0, false},
    {"remove together, chain 64: >= 4 x faster than kvm-6.12", "remove_many", NULL, 64, 64, FASTER,
     4, KVM, 0, false},
    {"remove together, chain 200: >= 10 x faster than kvm-6.12", "remove_many", NULL, 200, 200,
     FASTER, 10, KVM, 0, false},
    {"remove together, chain 1000: >= 50 x faster than kvm-6.12", "remove_many", NULL, 1000, 1000,
     FASTER, 50, KVM, 0, false},
    {"add, chain 10^6: <= 1.5 x chain 15", "add", "million", 1000000, 1000000, FLAT, 1.5, NULL, 15,
     false},
    {"remove, chain 10^6: <= 1.5 x chain 15", "remove", "million", 1000000, 1000000, FLAT, 1.5,
     NULL, 15, false},
    {"add, chains 1-3: <= 1 x kvm-6.12", "add", NULL, 1, 3, WITHIN, 1, KVM, 0, false},
    {"remove, chains 1-3: <= 1 x kvm-6.12", "remove", NULL, 1, 3, WITHIN, 1, KVM, 0, false},
    {"drop, chain 3: <= 1 x kvm-6.12", "drop", NULL, 3, 3, WITHIN, 1, KVM, 0, false},
    {"drop, chains 1-2: >= 3 x faster than kvm-6.12", "drop", NULL, 1, 2, FASTER, 3, KVM, 0, true},
    {"add, chains >= 15: <= 1.5 x kvm-6.12", "add", NULL, 15, UINT64_MAX, WITHIN, 1.5, KVM, 0,
     false},
    {"drop one gfn, chains >= 64: <= 1.1 x limit", "drop", NULL, 64, UINT64_MAX, WITHIN, 1.1,
     "limit", 0, false},
    {"drop one gfn, chains >= 64: <= 1 x kvm-6.12", "drop", NULL, 64, UINT64_MAX, WITHIN, 1, KVM, 0,
     false},
    {"drop 16384 gfns in order, chain 200: >= 5 x faster than kvm-6.12", "drop_range", NULL, 200,
     200, FASTER, 5, KVM, 0, true},
    {"delete a dense 1 GiB slot, chain 8: <= 1 ns an spte", "delete", "1 GiB", 8, 8, NS, 1, NULL, 0,
     false},
    {"delete a dense 1 GiB slot, chain 8: >= 8 x faster than kvm-6.12", "delete", "1 GiB", 8, 8,
     FASTER, 8, KVM, 0, false},
    {"delete an empty 1 TiB slot: <= 1000000 ns", "delete", "1 TiB, empty", 0, 0, NS, 1e6, NULL, 0,
     false},
    {"memory, chains >= 200: <= 4.8 bytes an spte", "add", NULL, 200, UINT64_MAX, BYTES, 4.8, NULL,
     0, false},
    {"memory, chain 2: no descriptor", "add", NULL, 2, 2, BYTES, 0, NULL, 0, false},
    {"map, chains 1-3: <= 1 x kvm-6.12", "map", NULL, 1, 3, WITHIN, 1, KVM, 0, false},
    {"map, chains >= 15: <= 1.5 x kvm-6.12", "map", NULL, 15, UINT64_MAX, WITHIN, 1.5, KVM, 0,
     false},
    {"unmap, chains 1-3: <= 1 x kvm-6.12", "unmap", NULL, 1, 3, WITHIN, 1, KVM, 0, false},
    {"longest hold: <= 1.5 x chain 10^3", "hold", NULL, 10000, UINT64_MAX, FLAT, 1.5, NULL, 1000,
     false},
};

#define DUES (sizeof(dues) / sizeof(dues[0]))

static const struct row *flat_peer(const struct row *row, uint64_t chain)
{
	size_t count;
	const struct row *rows = measure_rows(&count);

	for (size_t i = 0; i < count; i++)
		if (row_is_same_block(row, &rows[i]) && rows[i].impl == row->impl &&
		    rows[i].chain == chain)
			return &rows[i];
	return NULL;
}

/* The value that counts, or -1. */
static double value_of(const struct due *due, const struct row *row)
{
	const struct row *peer = due->peer ? row_beside(row, due->peer) : NULL;

	switch (due->kind) {
	case FASTER:
		return peer && peer->rounds ? row_median(peer) / row_median(row) : -1;
	case FLAT:
		peer = flat_peer(row, due->against_chain);
		/* fall through */
	case WITHIN:
		return peer && peer->rounds ? row_median(row) / row_median(peer) : -1;
	case NS:
		return row_median(row);
	case BYTES:
		return row->bytes;
	}
	return -1;
}

static bool is_met(const struct due *due, double value)
{
	return due->kind == FASTER ? value >= due->bound : value <= due->bound;
}

static bool is_of(const struct due *due, const struct row *row)
{
	return !strcmp(row->impl->name, "umbra") && !strcmp(row->op, due->op) &&
	       (!due->set || !strcmp(row->set, due->set)) && row->chain >= due->low &&
	       row->chain <= due->high && row->rounds &&
	       !(due->quiet_only && row->state == VOLATILE) && value_of(due, row) >= 0;
}

static void print_due(const struct due *due, const struct row *row)
{
	double value = value_of(due, row);

	printf("  %-6s %12.2f  chain %-8llu %s, %s%s%s\n", is_met(due, value) ? "met" : "MISSED",
	       value, (unsigned long long)row->chain, row->set,
	       !strcmp(row->order, "seq") ? "in order" : "random",
	       row->aligned ? ", same index" : "", row->state == VOLATILE ? ", volatile" : "");
}

void report_figures(void)
{
	size_t count;
	const struct row *rows = measure_rows(&count);

	printf("\nfigures due\n");
	for (size_t i = 0; i < DUES; i++) {
		unsigned met = 0, all = 0;

		for (size_t j = 0; j < count; j++)
			if (is_of(&dues[i], &rows[j])) {
				all++;
				met += is_met(&dues[i], value_of(&dues[i], &rows[j]));
			}
		printf("%s: %s (%u of %u)\n", dues[i].what,
		       !all         ? "not measured"
		       : met == all ? "met"
				    : "MISSED",
		       met, all);
		for (size_t j = 0; j < count; j++)
			if (is_of(&dues[i], &rows[j]))
				print_due(&dues[i], &rows[j]);
	}
}

static json_t *due_json(const struct due *due, const struct row *row)
{
	double value = value_of(due, row);

	return json_pack("{s:s,s:s,s:s,s:s,s:b,s:I,s:f,s:f,s:b}", "what", due->what, "set",
			 row->set, "order", row->order, "state",
			 row->state == QUIET ? "quiet" : "volatile", "aligned", row->aligned,
			 "chain", (json_int_t)row->chain, "value", value, "bound", due->bound,
			 "met", is_met(due, value));
}

struct json_t *figures_json(void)
{
	size_t count;
	const struct row *rows = measure_rows(&count);
	json_t *list = json_array();

	for (size_t i = 0; i < DUES; i++)
		for (size_t j = 0; j < count; j++)
			if (is_of(&dues[i], &rows[j]))
				json_array_append_new(list, due_json(&dues[i], &rows[j]));
	return list;
}
