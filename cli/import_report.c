/* SPDX-License-Identifier: BSD-2-Clause */
/* Counts of an imported trace, as a table and as JSON, and what cannot be known of it. */
#include "import_report.h"

#include <inttypes.h>
#include <stdio.h>

#include <jansson.h>

#include "kvm.h"

#define SPTE_WRITABLE 2u
#define LONGEST       5u
#define ROLE_LEVEL    15u /* bits of a role */

/* Of Linux 6.1; where a kernel tells more, its events are among the others. */
static const char *const untold[] = {
    "when a single spte goes away: sptes are told when they are set, pages when they are zapped",
    "which guest pages a host's unmap or age meant: its addresses are the host's, and no event "
    "tells "
    "the slots",
    "where a word of a guest's table lies: the walker tells what it read and at which level, and "
    "an "
    "address only when it sets A or D",
    "what a guest wrote to a table that was protected: only the instruction, if it was emulated",
    "INVLPG, and CR3 where no kvm_cr was recorded: so which address space an spte belongs to",
    "which machine an event belongs to, if there were several: their records are mixed",
};

void import_report_add(struct import_report *r, const struct umbra_record *record)
{
	unsigned level;

	r->records++;
	if (record->kind < UMBRA_TRACE_KVM_KINDS)
		r->kinds[record->kind]++;
	if (record->kind == UMBRA_TRACE_KVM_SPTE) {
		level = record->c & 0xff;
		r->sptes[level < REPORT_LEVELS ? level : 0]++;
		r->writable += level == 1 && (record->b & SPTE_WRITABLE);
		chains_set(&r->chains, record->c >> 16, record->a);
	} else if (record->kind == UMBRA_TRACE_KVM_PAGE) {
		level = record->b & ROLE_LEVEL;
		if (record->c & UMBRA_KVM_CREATED)
			r->pages[level < REPORT_LEVELS ? level : 0]++;
		else
			r->found++;
	}
}

static uint64_t sum(const uint64_t *levels)
{
	uint64_t all = 0;

	for (unsigned i = 0; i < REPORT_LEVELS; i++)
		all += levels[i];
	return all;
}

static void print_levels(const char *what, const uint64_t *levels)
{
	printf("  %-28s  %" PRIu64, what, sum(levels));
	for (unsigned i = 1; i < REPORT_LEVELS; i++)
		if (levels[i])
			printf("%s level %u: %" PRIu64, i == 1 ? ";" : ",", i, levels[i]);
	if (levels[0])
		printf(", no level: %" PRIu64, levels[0]);
	printf("\n");
}

static uint64_t others(const struct import_counts *counts)
{
	uint64_t all = 0;

	for (size_t i = 0; i < counts->others_count; i++)
		all += counts->others[i].count;
	return all;
}

static void print_others(const struct import_counts *counts)
{
	if (!counts->others_count)
		return;
	printf("  no records are made of          %" PRIu64 "\n", others(counts));
	for (size_t i = 0; i < counts->others_count; i++)
		printf("    %-28s%s  %" PRIu64 "\n", counts->others[i].name,
		       counts->others[i].foreign ? " (lacks fields)" : "", counts->others[i].count);
	if (counts->others_left_out)
		printf("    and of %u kinds more\n", counts->others_left_out);
}

static void print_chains(const struct chains *chains)
{
	struct chain longest[LONGEST];
	size_t count = chains_longest(chains, longest, LONGEST);

	if (!count)
		return;
	printf("  most sptes of a gfn, at most ");
	for (size_t i = 0; i < count; i++)
		printf("%s%" PRIu32 " of gfn %" PRIx64, i ? ", " : " ", longest[i].most,
		       longest[i].gfn);
	printf("%s\n", chains->given_up ? "; then memory ran out" : "");
}

static json_t *chains_json(const struct chains *chains)
{
	struct chain longest[LONGEST];
	size_t count = chains_longest(chains, longest, LONGEST);
	json_t *all = json_array();

	for (size_t i = 0; i < count; i++)
		json_array_append_new(all,
				      json_pack("{s:I, s:I}", "gfn", (json_int_t)longest[i].gfn,
						"sptes", (json_int_t)longest[i].most));
	return all;
}

void import_report_print(const struct import_report *r)
{
	printf("umbra import: %s%s%s\n", r->from, r->counts.kernel[0] ? ", " : "",
	       r->counts.kernel);
	printf("  events                        %" PRIu64 " in %.2f s\n", r->counts.events,
	       r->seconds);
	printf("  records                       %" PRIu64 "\n", r->records);
	for (unsigned kind = UMBRA_TRACE_KVM; kind < UMBRA_TRACE_KVM_KINDS; kind++)
		if (r->kinds[kind])
			printf("    %-26s  %" PRIu64 "\n", kvm_kind(kind), r->kinds[kind]);
	print_others(&r->counts);
	if (r->counts.short_events)
		printf("  too short for their fields    %" PRIu64 "\n", r->counts.short_events);
	print_levels("sptes set", r->sptes);
	printf("    writable, of level 1        %" PRIu64 "\n", r->writable);
	print_levels("shadow pages created", r->pages);
	printf("    found, not created          %" PRIu64 "\n", r->found);
	printf("    zapped                      %" PRIu64 "\n", r->kinds[UMBRA_TRACE_KVM_ZAP]);
	print_chains(&r->chains);
	if (!sum(r->sptes) && !sum(r->pages))
		printf("  nothing of sptes and pages: trace-cmd record -e kvmmmu tells of those\n");
	if (r->counts.lost)
		printf("  lost: the host's ring was full %" PRIu64 " times or more\n",
		       r->counts.lost);
	printf("what these tracepoints cannot tell:\n");
	for (size_t i = 0; i < sizeof(untold) / sizeof(*untold); i++)
		printf("  - %s\n", untold[i]);
}

static json_t *levels_json(const uint64_t *levels)
{
	json_t *all = json_array();

	for (unsigned i = 1; i < REPORT_LEVELS; i++)
		json_array_append_new(all, json_integer((json_int_t)levels[i]));
	return all;
}

bool import_report_json(const struct import_report *r, const char *path)
{
	json_t *kinds = json_object(), *rest = json_object(), *cannot = json_array(), *all;
	bool ok;

	for (unsigned kind = UMBRA_TRACE_KVM; kind < UMBRA_TRACE_KVM_KINDS; kind++)
		if (r->kinds[kind])
			json_object_set_new(kinds, kvm_kind(kind),
					    json_integer((json_int_t)r->kinds[kind]));
	for (size_t i = 0; i < r->counts.others_count; i++)
		json_object_set_new(rest, r->counts.others[i].name,
				    json_integer((json_int_t)r->counts.others[i].count));
	for (size_t i = 0; i < sizeof(untold) / sizeof(*untold); i++)
		json_array_append_new(cannot, json_string(untold[i]));
	all = json_pack(
	    "{s:s, s:s, s:s, s:s, s:b, s:I, s:I, s:f, s:o, s:o, s:I, s:I, s:o, s:o, s:I, s:o, s:o}",
	    "from", r->from, "to", r->to, "kernel", r->counts.kernel, "clock", r->counts.clock,
	    "whole", (int)r->whole, "events", (json_int_t)r->counts.events, "records",
	    (json_int_t)r->records, "seconds", r->seconds, "kinds", kinds, "others", rest,
	    "short_events", (json_int_t)r->counts.short_events, "lost", (json_int_t)r->counts.lost,
	    "sptes_set", levels_json(r->sptes), "pages_created", levels_json(r->pages),
	    "pages_found", (json_int_t)r->found, "longest", chains_json(&r->chains), "not_told",
	    cannot);
	ok = all && json_dump_file(all, path, JSON_INDENT(2)) == 0;
	json_decref(all);
	return ok;
}
