/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the reverse-map benchmark says: a table with umbra beside its peers, and JSON with every row
 * and figure.
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

const struct row *row_beside(const struct row *row, const char *impl)
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
	const struct row *limit = row_beside(umbra, "limit");

	printf("%8llu", (unsigned long long)umbra->chain);
	print_ns(umbra);
	for (unsigned i = 0; i < 3; i++)
		print_ns(row_beside(umbra, peers[i]));
	print_ns(limit);
	print_ratio(umbra, row_beside(umbra, "kvm-6.12"));
	print_ratio(umbra, limit);
	for (unsigned i = 0; i < 3; i++) {
		const struct row *peer = row_beside(umbra, peers[i]);

		if (peer && row_median(peer) < row_median(umbra))
			printf("  < %s", peers[i]);
	}
	printf("\n");
}

bool row_is_same_block(const struct row *a, const struct row *b)
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
		if (row_is_same_block(first, &rows[i]) && !strcmp(rows[i].impl->name, "umbra"))
			print_line(&rows[i]);
}

static bool is_memory_row(const struct row *row)
{
	return !strcmp(row->op, "delete") && row->heads > 0 && row->sptes;
}

static void print_memory(void)
{
	size_t count;
	const struct row *rows = measure_rows(&count);

	printf("\nmemory\n%-16s %-9s %16s %16s %20s\n", "slot", "", "descriptors,", "heads,",
	       "beside the sptes,");
	printf("%-16s %-9s %16s %16s %20s\n", "", "", "bytes an spte", "bytes a GiB",
	       "bytes a table");
	for (size_t i = 0; i < count; i++)
		if (is_memory_row(&rows[i]))
			printf("%-16s %-9s %16.2f %16.0f %20.0f\n", rows[i].set, rows[i].impl->name,
			       rows[i].bytes, rows[i].heads / rows[i].gib,
			       rows[i].beside / (double)rows[i].tables);
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

		while (!row_is_same_block(&rows[i], &rows[j]))
			j++;
		if (i == j)
			print_block(&rows[i]);
	}
	print_memory();
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
	if (row->impl == &impl_store || row->impl == &impl_xchg)
		json_object_set_new(out, "kind", json_string(row->impl->kind));
	if (is_memory_row(row)) {
		json_object_set_new(out, "head_bytes_per_gib", json_real(row->heads / row->gib));
		json_object_set_new(out, "beside_bytes_per_table",
				    json_real(row->beside / (double)row->tables));
	}
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
	out = json_pack("{s:o,s:o,s:o}", "machine", machine(), "rows", list, "figures",
			figures_json());
	error = json_dump_file(out, path, JSON_INDENT(1));
	if (error)
		fprintf(stderr, "bench-rmap: cannot write %s: %s\n", path, strerror(errno));
	json_decref(out);
	return error;
}
