/* SPDX-License-Identifier: BSD-2-Clause */
/* The figures of swapping (struct umbra_swap). Owns nothing. */
#include "report_swap.h"

#include <inttypes.h>

static double us(const struct umbra_machine *page, uint64_t ticks)
{
	return page->tsc_hz ? (double)ticks * 1e6 / (double)page->tsc_hz : 0;
}

static double mean_us(const struct umbra_machine *page)
{
	const struct umbra_swap *swap = &page->swap;

	return swap->faults ? us(page, swap->faults_tsc) / (double)swap->faults : 0;
}

void report_swap(FILE *out, const struct umbra_machine *page)
{
	const struct umbra_swap *swap = &page->swap;

	if (!swap->slots && !swap->zeros && !swap->waits)
		return;
	fprintf(out,
		"  %-22s%" PRIu64 " frames, %" PRIu64 " free; swap file: %" PRIu64 " of %" PRIu64
		" pages used\n",
		"machine's memory", swap->frames, swap->free, swap->used, swap->slots);
	fprintf(out,
		"  %-22s%" PRIu64 " pages, %.2f s; %" PRIu64 " of zeros; %" PRIu64
		" refused; %" PRIu64 " waits for a frame\n",
		"swapped out", swap->out, us(page, swap->out_tsc) / 1e6, swap->zeros, swap->failed,
		swap->waits);
	fprintf(out,
		"  %-22s%" PRIu64 " pages, %.2f s; %" PRIu64 " of them ahead; %" PRIu64
		" waits, %.1f us each; longest %.1f us\n",
		"swapped in", swap->in, us(page, swap->in_tsc) / 1e6, swap->ahead, swap->faults,
		mean_us(page), us(page, swap->fault_longest_tsc));
}

static json_t *number(uint64_t value)
{
	return json_integer((json_int_t)value);
}

json_t *report_swap_json(const struct umbra_machine *page)
{
	const struct umbra_swap *swap = &page->swap;

	return json_pack(
	    "{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:f, s:f, s:f, s:f}", "slots",
	    number(swap->slots), "used", number(swap->used), "frames", number(swap->frames), "free",
	    number(swap->free), "out", number(swap->out), "zeros", number(swap->zeros), "in",
	    number(swap->in), "ahead", number(swap->ahead), "faults", number(swap->faults), "waits",
	    number(swap->waits), "failed", number(swap->failed), "out_seconds",
	    us(page, swap->out_tsc) / 1e6, "in_seconds", us(page, swap->in_tsc) / 1e6,
	    "fault_mean_us", mean_us(page), "fault_longest_us", us(page, swap->fault_longest_tsc));
}
