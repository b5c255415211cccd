/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the reverse-map benchmark says: JSON with every row, a table with umbra beside its peers,
 * and the figures due, computed from this run.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "bench_rmap.h"

static bool is_same_cell(const struct row *a, const struct row *b)
{
	return !strcmp(a->op, b->op) && !strcmp(a->order, b->order) && !strcmp(a->set, b->set) &&
	       a->state == b->state && a->aligned == b->aligned && a->chain == b->chain &&
	       a->sptes == b->sptes;
}

/* The row of @impl beside @row, or NULL. */
static const struct row *beside(const struct row *row, const char *impl)
{
	size_t count;
	const struct row *rows = measure_rows(&count);

	for (size_t i = 0; i < count; i++)
		if (is_same_cell(row, &rows[i]) && !strcmp(rows[i].impl->name, impl))
			return &rows[i];
	return NULL;
}

/* ---- the table ---- */

static void print_ns(const struct row *row)
{
	char text[32];

	if (!row || !row->rounds) {
		printf(" %11s", "-");
		return;
	}
	snprintf(text, sizeof(text), "%.2f%s", row_median(row), row->capped ? "*" : "");
	printf(" %11s", text);
}

static void print_ratio(const struct row *row, const struct row *peer)
{
	if (!peer || !peer->rounds)
		printf(" %8s", "-");
	else
		printf(" %8.2f", row_median(row) / row_median(peer));
}

static void print_line(const struct row *umbra)
{
	static const char *const peers[] = {"kvm-6.12", "patch", "onebyone"};
	const struct row *limit = beside(umbra, "limit");

	printf("%8llu", (unsigned long long)umbra->chain);
	print_ns(umbra);
	for (unsigned i = 0; i < 3; i++)
		print_ns(beside(umbra, peers[i]));
	print_ns(limit);
	print_ratio(umbra, beside(umbra, "kvm-6.12"));
	print_ratio(umbra, limit);
	for (unsigned i = 0; i < 3; i++) {
		const struct row *peer = beside(umbra, peers[i]);

		if (peer && row_median(peer) < row_median(umbra))
			printf("  < %s", peers[i]);
	}
	printf("\n");
}

static bool is_same_block(const struct row *a, const struct row *b)
{
	return !strcmp(a->op, b->op) && !strcmp(a->order, b->order) && !strcmp(a->set, b->set) &&
	       a->state == b->state && a->aligned == b->aligned;
}

static void print_block(const struct row *first)
{
	size_t count;
	const struct row *rows = measure_rows(&count);

	printf("\n%s, %s, %s set%s%s\n%8s %11s %11s %11s %11s %11s %8s %8s\n", first->op,
	       !strcmp(first->order, "seq") ? "in order" : "random", first->set,
	       first->aligned ? ", same index in every process" : "",
	       first->state == VOLATILE ? ", volatile sptes" : "", "chain", "umbra", "kvm-6.12",
	       "patch", "onebyone", "limit", "u/kvm", "u/limit");
	for (size_t i = 0; i < count; i++)
		if (is_same_block(first, &rows[i]) && !strcmp(rows[i].impl->name, "umbra"))
			print_line(&rows[i]);
}

/* Each block once, at its first row. */
void report_table(void)
{
	size_t count;
	const struct row *rows = measure_rows(&count);

	printf(
	    "ns an spte (count: a call; hold, delete of nothing: in all), median of the rounds;\n"
	    "*: the time allowed only a part; <: faster than umbra\n");
	for (size_t i = 0; i < count; i++) {
		size_t j = 0;

		while (!is_same_block(&rows[i], &rows[j]))
			j++;
		if (i == j)
			print_block(&rows[i]);
	}
}

/* ---- the figures due ---- */

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
} dues[] = {
    {"remove, random", "remove", NULL, 64, 64, FASTER, 4, "kvm-6.12", 0},
    {"remove, random", "remove", NULL, 200, 200, FASTER, 10, "kvm-6.12", 0},
    {"remove, random", "remove", NULL, 1000, 1000, FASTER, 50, "kvm-6.12", 0},
    {"add, 10^6 against 15", "add", "million", 1000000, 1000000, FLAT, 1.5, NULL, 15},
    {"remove, 10^6 against 15", "remove", "million", 1000000, 1000000, FLAT, 1.5, NULL, 15},
    {"add, short", "add", NULL, 1, 3, WITHIN, 1, "kvm-6.12", 0},
    {"remove, short", "remove", NULL, 1, 3, WITHIN, 1, "kvm-6.12", 0},
    {"drop, short", "drop", NULL, 3, 3, WITHIN, 1, "kvm-6.12", 0},
    {"drop of one or two", "drop", NULL, 1, 2, FASTER, 3, "kvm-6.12", 0},
    {"add, long", "add", NULL, 15, UINT64_MAX, WITHIN, 1.5, "kvm-6.12", 0},
    {"drop one gfn", "drop", NULL, 64, UINT64_MAX, WITHIN, 1.1, "limit", 0},
    {"drop one gfn", "drop", NULL, 64, UINT64_MAX, WITHIN, 1, "kvm-6.12", 0},
    {"drop 16384 gfns in order", "drop_range", NULL, 200, 200, FASTER, 5, "kvm-6.12", 0},
    {"delete a dense 1 GiB slot", "delete", "1 GiB", 8, 8, NS, 1, NULL, 0},
    {"delete a dense 1 GiB slot", "delete", "1 GiB", 8, 8, FASTER, 8, "kvm-6.12", 0},
    {"delete an empty 1 TiB slot, ns", "delete", "1 TiB, empty", 0, 0, NS, 1e6, NULL, 0},
    {"memory, bytes", "add", NULL, 200, UINT64_MAX, BYTES, 4.8, NULL, 0},
    {"memory, bytes", "add", NULL, 2, 2, BYTES, 0, NULL, 0},
    {"longest hold, against 10^3", "hold", NULL, 10000, UINT64_MAX, FLAT, 1.5, NULL, 1000},
};

static const struct row *flat_peer(const struct row *row, uint64_t chain)
{
	size_t count;
	const struct row *rows = measure_rows(&count);

	for (size_t i = 0; i < count; i++)
		if (is_same_block(row, &rows[i]) && rows[i].impl == row->impl &&
		    rows[i].chain == chain)
			return &rows[i];
	return NULL;
}

/* The value that counts, or -1. */
static double value_of(const struct due *due, const struct row *row)
{
	const struct row *peer = due->peer ? beside(row, due->peer) : NULL;

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

static void print_due(const struct due *due, const struct row *row)
{
	double value = value_of(due, row);
	bool met = due->kind == FASTER ? value >= due->bound : value <= due->bound;
	char where[96];

	if (value < 0)
		return;
	snprintf(where, sizeof(where), "%s, %s%s%s", row->set,
		 !strcmp(row->order, "seq") ? "in order" : "random",
		 row->aligned ? ", same index" : "", row->state == VOLATILE ? ", volatile" : "");
	printf("%-6s %-32s %8llu  %-36s %12.2f %s %.4g%s%s\n", met ? "met" : "MISSED", due->what,
	       (unsigned long long)row->chain, where, value,
	       due->kind == FASTER ? ">=" : "<=", due->bound, due->peer ? " against " : "",
	       due->peer ? due->peer : "");
}

void report_figures(void)
{
	size_t count;
	const struct row *rows = measure_rows(&count);

	printf("\nfigures due\n");
	for (size_t i = 0; i < sizeof(dues) / sizeof(dues[0]); i++)
		for (size_t j = 0; j < count; j++) {
			const struct row *row = &rows[j];

			if (!strcmp(row->impl->name, "umbra") && !strcmp(row->op, dues[i].op) &&
			    (!dues[i].set || !strcmp(row->set, dues[i].set)) &&
			    row->chain >= dues[i].low && row->chain <= dues[i].high && row->rounds)
				print_due(&dues[i], row);
		}
}

/* ---- JSON ---- */

static json_t *cpu_model(void)
{
	FILE *file = fopen("/proc/cpuinfo", "r");
	char line[256];
	json_t *model = NULL;

	while (file && !model && fgets(line, sizeof(line), file))
		if (!strncmp(line, "model name", 10) && strchr(line, ':')) {
			line[strcspn(line, "\n")] = '\0';
			model = json_string(strchr(line, ':') + 2);
		}
	if (file)
		fclose(file);
	return model ? model : json_string("unknown");
}

static json_t *machine(void)
{
	struct utsname name;

	uname(&name);
	return json_pack("{s:o,s:s,s:s,s:s,s:s,s:s}", "cpu", cpu_model(), "kernel", name.release,
			 "compiler",
#ifdef __clang__
			 "clang " __clang_version__,
#else
			 "gcc " __VERSION__,
#endif
			 "flags", BENCH_FLAGS, "huge_pages", memory_pages(), "kvm", impl_kvm.kind);
}

static json_t *number(double value)
{
	return value < 0 ? json_null() : json_real(value);
}

static json_t *row_json(const struct row *row)
{
	json_t *out = json_pack("{s:s,s:s,s:s,s:s,s:b,s:I,s:I,s:s,s:o,s:o,s:o,s:o,s:i}", "op",
				row->op, "order", row->order, "set", row->set, "state",
				row->state == QUIET ? "quiet" : "volatile", "aligned", row->aligned,
				"chain", (json_int_t)row->chain, "sptes", (json_int_t)row->sptes,
				"impl", row->impl->name, "ns_per_entry", number(row_median(row)),
				"min", number(row->ns[0]), "max", number(row->ns[row->rounds - 1]),
				"bytes_per_entry", number(row->bytes), "rounds", (int)row->rounds);

	if (row->capped)
		json_object_set_new(out, "capped_at", json_integer((json_int_t)row->capped));
	if (row->heads > 0)
		json_object_set_new(out, "head_bytes", json_real(row->heads));
	if (row->beside > 0)
		json_object_set_new(out, "beside_bytes", json_real(row->beside));
	return out;
}

int report_json(const char *path)
{
	size_t count;
	const struct row *rows = measure_rows(&count);
	json_t *list = json_array(), *out;
	int error;

	for (size_t i = 0; i < count; i++)
		if (rows[i].rounds)
			json_array_append_new(list, row_json(&rows[i]));
	out = json_pack("{s:o,s:o}", "machine", machine(), "rows", list);
	error = json_dump_file(out, path, JSON_INDENT(1));
	if (error)
		fprintf(stderr, "bench-rmap: cannot write %s: %s\n", path, strerror(errno));
	json_decref(out);
	return error;
}
