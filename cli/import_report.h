/* SPDX-License-Identifier: BSD-2-Clause */
/* What `umbra import` says of what it made. */
#ifndef CLI_IMPORT_REPORT_H
#define CLI_IMPORT_REPORT_H

#include <stdbool.h>

#include "chains.h"
#include "import.h"

#define REPORT_LEVELS 8u

struct import_report {
	const char *from, *to;
	struct import_counts counts;
	uint64_t records;
	uint64_t kinds[UMBRA_TRACE_KVM_KINDS];
	uint64_t sptes[REPORT_LEVELS]; /* by level */
	uint64_t writable;             /* of those of level 1 */
	uint64_t pages[REPORT_LEVELS]; /* shadow pages created, by the level of their role */
	uint64_t found;                /* asked for, and there */
	struct chains chains;
	double seconds;
	bool whole; /* nothing was damaged */
};

/* Take a record into account. */
void import_report_add(struct import_report *report, const struct umbra_record *record);

void import_report_print(const struct import_report *report);
bool import_report_json(const struct import_report *report, const char *path);

#endif
