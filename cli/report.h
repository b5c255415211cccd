/* SPDX-License-Identifier: BSD-2-Clause */
/* What a run amounted to: the table on the terminal and the JSON file. */
#ifndef CLI_REPORT_H
#define CLI_REPORT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <umbra/machine.h>

struct report_guest {
	const char *exit;          /* "poweroff", ... */
	struct umbra_machine page; /* a copy, taken at the end */
};

struct report {
	const char *kernel;
	uint64_t memory;      /* of each guest */
	double boot_seconds;  /* of the first one there; 0: init was not reached */
	double plain_seconds; /* 0: not compared, or not reached */
	double total_seconds;
	unsigned guests;
	unsigned decided; /* the number of the one whose end is the machine's */
	struct report_guest guest[UMBRA_GUESTS_MAX];
};

/* The running machine's figures, short: Ctrl-A s, umbra ctl stats. */
void report_stats(FILE *out, const struct umbra_machine *page);
json_t *report_stats_json(const struct umbra_machine *page);

/* Of @count guests, one after the other and, where there are several, their sums. */
void report_all(FILE *out, const struct umbra_machine *const *pages, unsigned count);
json_t *report_all_json(const struct umbra_machine *const *pages, unsigned count);

/* The table at the end. */
void report_table(const struct report *report);

/* Write the JSON file, whole or not at all. False after a complaint. */
bool report_write(const struct report *report, const char *path);

#endif
