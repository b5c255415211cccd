/* SPDX-License-Identifier: BSD-2-Clause */
/* What swapping did, for people and as JSON. See report_swap.c. */
#ifndef CLI_REPORT_SWAP_H
#define CLI_REPORT_SWAP_H

#include <jansson.h>
#include <stdio.h>

#include <umbra/machine.h>

/* @page: the machine's first. Nothing is printed where nothing could be swapped. */
void report_swap(FILE *out, const struct umbra_machine *page);
json_t *report_swap_json(const struct umbra_machine *page);

#endif
