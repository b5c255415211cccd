/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Turns copies of machine pages into a table and a JSON file. Several guests' figures are added up
 * (sum.c) and shown behind, or in JSON before, those of each.
 */
#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "report_swap.h"
#include "status.h"
#include "sum.h"

static double seconds(const struct umbra_machine *page, uint64_t ticks)
{
	return page->tsc_hz ? (double)ticks / (double)page->tsc_hz : 0;
}

static double ns_per_spte(const struct umbra_machine *page)
{
	return page->drop_sptes ? seconds(page, page->drop_tsc) * 1e9 / (double)page->drop_sptes
				: 0;
}

/* Buckets up to the last that is not empty. */
static unsigned histogram_length(const struct umbra_machine *page)
{
	unsigned length = UMBRA_HISTOGRAM;

	while (length && page->peak_histogram[length - 1] == 0)
		length--;
	return length;
}

static const char *workload_name(const struct umbra_machine *page)
{
	return page->workload == 1 ? "ok" : page->workload == 2 ? "failed" : "none";
}

__attribute__((format(printf, 3, 4))) static void row(FILE *out, const char *name,
						      const char *format, ...)
{
	va_list args;

	fprintf(out, "  %-22s", name);
	va_start(args, format);
	vfprintf(out, format, args);
	va_end(args);
	fputc('\n', out);
}

static void histogram_rows(FILE *out, const struct umbra_machine *page)
{
	const uint64_t *bucket = page->peak_histogram;
	unsigned length = histogram_length(page);
	uint64_t most = 1;

	for (unsigned i = 0; i < length; i++)
		most = bucket[i] > most ? bucket[i] : most;
	for (unsigned i = 0; i < length; i++) {
		char range[32];
		int bar = (int)(bucket[i] * 40 / most);
		if (i == 0)
			snprintf(range, sizeof(range), "1");
		else
			snprintf(range, sizeof(range), "%u-%u", 1u << i, (2u << i) - 1);
		fprintf(out, "  %-14s%8s%10" PRIu64 " %.*s\n", i ? "" : "chains at peak", range,
			bucket[i], bar, "########################################");
	}
}

static uint64_t saved_pages(const struct umbra_machine *page)
{
	return page->sharers > page->shared_frames ? page->sharers - page->shared_frames : 0;
}

void report_stats(FILE *out, const struct umbra_machine *page)
{
	const struct umbra_stats *mmu = &page->mmu;

	row(out, "exits",
	    "%" PRIu64 " (#PF %" PRIu64 ", CR %" PRIu64 ", I/O %" PRIu64 ", MSR %" PRIu64
	    ", interrupts %" PRIu64 ", INVLPG %" PRIu64 ", other %" PRIu64 ")",
	    page->exits, page->exits_pf, page->exits_cr, page->exits_io, page->exits_msr,
	    page->exits_intr, page->exits_invlpg, page->exits_other);
	row(out, "faults", "%" PRIu64 ", %" PRIu64 " for the guest itself", mmu->faults,
	    mmu->verdicts[UMBRA_INJECT]);
	row(out, "shadow pages", "%" PRIu64 " now, %" PRIu64 " at the peak, %" PRIu64 " recycled",
	    mmu->shadow_pages, mmu->shadow_pages_peak, mmu->shadow_reclaimed);
	row(out, "sptes",
	    "%" PRIu64 " now; %" PRIu64 " added, %" PRIu64 " removed singly, %" PRIu64
	    " dropped by chains",
	    mmu->sptes, mmu->sptes_added, mmu->sptes_removed, mmu->sptes_dropped);
	row(out, "longest chain", "%" PRIu64, mmu->longest_chain);
	histogram_rows(out, page);
	row(out, "migrations", "%" PRIu64 ", %" PRIu64 " of them of the shared region",
	    page->migrations, page->migrations_region);
	if (page->drop_gfns)
		row(out, "region drops",
		    "%" PRIu64 " pages, %" PRIu64 " sptes, %.1f ns each; longest %.1f us",
		    page->drop_gfns, page->drop_sptes, ns_per_spte(page),
		    seconds(page, page->drop_longest_tsc) * 1e6);
	report_swap(out, page);
	if (page->merge_scanned)
		row(out, "merging",
		    "%" PRIu64 " pages saved at the peak; now %" PRIu64 ", %" PRIu64
		    " frames for %" PRIu64 "; %" PRIu64 " merges, %" PRIu64 " breaks, %" PRIu64
		    " looked at",
		    page->saved_peak, saved_pages(page), page->shared_frames, page->sharers,
		    page->merges, page->merge_breaks, page->merge_scanned);
	if (page->blocks_built)
		row(out, "compaction",
		    "%" PRIu64 " blocks built, %" PRIu64 " frames moved; %" PRIu64
		    " times 2 MiB collapsed, %" PRIu64 " broken; %" PRIu64 " large sptes now",
		    page->blocks_built, page->compacted, page->collapsed, page->collapses_broken,
		    mmu->sptes_large[0]);
	row(out, "zaps of everything", "%" PRIu64, page->zaps);
	row(out, "audits", "%" PRIu64 ", %" PRIu64 " violations", page->audits,
	    page->audit_violations);
}

void report_all(FILE *out, const struct umbra_machine *const *pages, unsigned count)
{
	struct umbra_machine all;

	for (unsigned i = 0; i < count; i++) {
		if (count > 1)
			fprintf(out, "guest %u%s\n", i,
				pages[i]->phase == UMBRA_PHASE_ENDED ? ", which has ended" : "");
		report_stats(out, pages[i]);
	}
	if (count < 2)
		return;
	sum_pages(pages, count, &all);
	fputs("all guests\n", out);
	report_stats(out, &all);
}

/* The pages of a report's guests. */
static void pages_of(const struct report *report, const struct umbra_machine **pages)
{
	for (unsigned i = 0; i < report->guests; i++)
		pages[i] = &report->guest[i].page;
}

/* Where all of them run: how far each got, and then the sums. */
static void guests_table(const struct report *report)
{
	const struct umbra_machine *pages[UMBRA_GUESTS_MAX];
	struct umbra_machine all;

	printf("  %-6s%-14s%-10s%12s%14s%14s%14s%12s\n", "guest", "exit", "workload",
	       "boot to init", "exits", "faults", "shadow pages", "migrations");
	for (unsigned i = 0; i < report->guests; i++) {
		const struct umbra_machine *page = &report->guest[i].page;
		char boot[32] = "not reached";

		if (page->tsc_init)
			snprintf(boot, sizeof(boot), "%.2f s",
				 seconds(page, page->tsc_init - page->tsc_start));
		printf("  %-6u%-14s%-10s%12s%14" PRIu64 "%14" PRIu64 "%14" PRIu64 "%12" PRIu64 "\n",
		       i, report->guest[i].exit, workload_name(page), boot, page->exits,
		       page->mmu.faults, page->mmu.shadow_pages_peak, page->migrations);
	}
	pages_of(report, pages);
	sum_pages(pages, report->guests, &all);
	printf(" all guests\n");
	row(stdout, "whole run", "%.1f s", report->total_seconds);
	report_stats(stdout, &all);
}

void report_table(const struct report *report)
{
	const struct report_guest *guest = &report->guest[0];

	if (report->guests > 1) {
		printf("\numbra run: %u guests of %s, %" PRIu64 " MiB each\n", report->guests,
		       report->kernel, report->memory >> 20);
		guests_table(report);
		fflush(stdout);
		return;
	}
	printf("\numbra run: %s, %" PRIu64 " MiB\n", report->kernel, report->memory >> 20);
	row(stdout, "exit", "%s; workload: %s", guest->exit, workload_name(&guest->page));
	if (report->boot_seconds > 0 && report->plain_seconds > 0)
		row(stdout, "boot to init", "%.2f s; plain QEMU %.2f s; ratio %.2f",
		    report->boot_seconds, report->plain_seconds,
		    report->boot_seconds / report->plain_seconds);
	else if (report->boot_seconds > 0)
		row(stdout, "boot to init", "%.2f s", report->boot_seconds);
	else
		row(stdout, "boot to init", "not reached");
	row(stdout, "whole run", "%.1f s", report->total_seconds);
	report_stats(stdout, &guest->page);
	fflush(stdout);
}

static json_t *number(uint64_t value)
{
	return json_integer((json_int_t)value);
}

/* Names of files need not be UTF-8, JSON must. */
static json_t *string(const char *text)
{
	json_t *value = json_string(text);

	return value ? value : json_string("(not UTF-8)");
}

static json_t *histogram_json(const struct umbra_machine *page)
{
	json_t *array = json_array();

	for (unsigned i = 0; i < histogram_length(page); i++)
		json_array_append_new(array, number(page->peak_histogram[i]));
	return array;
}

/* A null where there is nothing to tell. */
static json_t *real_or_null(double value)
{
	return value > 0 ? json_real(value) : json_null();
}

static json_t *guest_json(const struct report *report, const struct umbra_machine *page)
{
	double ratio = report->plain_seconds > 0 ? report->boot_seconds / report->plain_seconds : 0;
	const struct report_guest *decided = &report->guest[report->decided];

	return json_pack("{s:o, s:o, s:s, s:s, s:o, s:o, s:o, s:f, s:o}", "kernel",
			 string(report->kernel), "memory_bytes", number(report->memory), "exit",
			 decided->exit, "workload", workload_name(page), "boot_seconds",
			 real_or_null(report->boot_seconds), "plain_boot_seconds",
			 real_or_null(report->plain_seconds), "boot_ratio", real_or_null(ratio),
			 "total_seconds", report->total_seconds, "message",
			 string(decided->page.message));
}

static json_t *mmu_json(const struct umbra_machine *page)
{
	const struct umbra_stats *mmu = &page->mmu;

	return json_pack(
	    "{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "faults",
	    number(mmu->faults), "shadow_pages_peak", number(mmu->shadow_pages_peak),
	    "longest_chain", number(mmu->longest_chain), "rmap_histogram", histogram_json(page),
	    "migrations", number(page->migrations), "audits", number(page->audits),
	    "audit_violations", number(page->audit_violations), "zaps", number(page->zaps),
	    "shadow_created", number(mmu->shadow_created), "shadow_reclaimed",
	    number(mmu->shadow_reclaimed), "sptes_added", number(mmu->sptes_added), "sptes_removed",
	    number(mmu->sptes_removed), "sptes_dropped", number(mmu->sptes_dropped), "syncs",
	    number(mmu->syncs), "flushes", number(mmu->flushes));
}

static json_t *exits_json(const struct umbra_machine *page)
{
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "all",
			 number(page->exits), "pf", number(page->exits_pf), "cr",
			 number(page->exits_cr), "io", number(page->exits_io), "msr",
			 number(page->exits_msr), "intr", number(page->exits_intr), "invlpg",
			 number(page->exits_invlpg), "other", number(page->exits_other), "emulated",
			 number(page->emulated), "unprotected", number(page->unprotected));
}

static json_t *drop_json(const struct umbra_machine *page)
{
	return json_pack("{s:o, s:o, s:f, s:f}", "gfns", number(page->drop_gfns), "sptes",
			 number(page->drop_sptes), "ns_per_spte", ns_per_spte(page), "longest_us",
			 seconds(page, page->drop_longest_tsc) * 1e6);
}

static json_t *merge_json(const struct umbra_machine *page)
{
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "scanned",
			 number(page->merge_scanned), "merges", number(page->merges), "breaks",
			 number(page->merge_breaks), "shared_frames", number(page->shared_frames),
			 "sharers", number(page->sharers), "saved_pages", number(saved_pages(page)),
			 "saved_peak", number(page->saved_peak));
}

static json_t *compact_json(const struct umbra_machine *page)
{
	return json_pack("{s:o, s:o, s:o, s:o, s:o}", "blocks_built", number(page->blocks_built),
			 "frames_moved", number(page->compacted), "collapsed",
			 number(page->collapsed), "broken", number(page->collapses_broken),
			 "large_sptes", number(page->mmu.sptes_large[0]));
}

json_t *report_stats_json(const struct umbra_machine *page)
{
	return json_pack("{s:o, s:o, s:o, s:o, s:o}", "mmu", mmu_json(page), "drop",
			 drop_json(page), "exits", exits_json(page), "merge", merge_json(page),
			 "compact", compact_json(page));
}

json_t *report_all_json(const struct umbra_machine *const *pages, unsigned count)
{
	struct umbra_machine all;
	json_t *root, *guests;

	if (count == 1)
		return report_stats_json(pages[0]);
	sum_pages(pages, count, &all);
	root = report_stats_json(&all);
	guests = json_array();
	for (unsigned i = 0; i < count; i++)
		json_array_append_new(guests, report_stats_json(pages[i]));
	json_object_set_new(root, "guests", guests);
	return root;
}

/* Each of several: its end, and its figures. */
static json_t *guests_json(const struct report *report)
{
	json_t *guests = json_array();

	for (unsigned i = 0; i < report->guests; i++) {
		const struct umbra_machine *page = &report->guest[i].page;
		double boot = page->tsc_init ? seconds(page, page->tsc_init - page->tsc_start) : 0;
		json_t *one = report_stats_json(page);

		json_object_update_new(
		    one, json_pack("{s:s, s:s, s:o, s:o}", "exit", report->guest[i].exit,
				   "workload", workload_name(page), "boot_seconds",
				   real_or_null(boot), "message", string(page->message)));
		json_array_append_new(guests, one);
	}
	return guests;
}

static json_t *report_json(const struct report *report)
{
	const struct umbra_machine *pages[UMBRA_GUESTS_MAX];
	struct umbra_machine all = report->guest[0].page;
	json_t *root;

	pages_of(report, pages);
	if (report->guests > 1)
		sum_pages(pages, report->guests, &all);
	root = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "guest", guest_json(report, &all),
			 "mmu", mmu_json(&all), "drop", drop_json(&all), "exits", exits_json(&all),
			 "merge", merge_json(&all), "compact", compact_json(&all), "swap",
			 report_swap_json(&report->guest[0].page));
	if (report->guests > 1)
		json_object_set_new(root, "guests", guests_json(report));
	return root;
}

bool report_write(const struct report *report, const char *path)
{
	char *part = NULL;
	bool ok = false;
	json_t *root = report_json(report);

	if (asprintf(&part, "%s.XXXXXX", path) < 0)
		part = NULL;
	int fd = part && root ? mkstemp(part) : -1;
	if (fd >= 0) {
		ok = fchmod(fd, 0644) == 0 &&
		     json_dumpfd(root, fd, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) == 0 &&
		     write(fd, "\n", 1) == 1;
		ok = close(fd) == 0 && ok && rename(part, path) == 0;
		if (!ok)
			unlink(part);
	}
	if (!ok)
		complain(STATUS_ERROR, "cannot write %s: %s", path, strerror(errno));
	json_decref(root);
	free(part);
	return ok;
}
