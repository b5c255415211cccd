/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Goes on until it is stopped: pages at a place that changes, two address spaces in turn, and a
 * word in each page that must be there. For those who look at, or record, a running machine.
 */
#include "bare.h"

#define WHERE 0x5000000000ull
#define PAGES 64u

static void visit(uint64_t root, const uint64_t *pages, unsigned round)
{
	cr3_write(root);
	for (unsigned i = 0; i < PAGES; i++) {
		uint64_t gva = WHERE + ((uint64_t)i << 12);

		*entry(root, gva, 1) = pages[(i + round) % PAGES] | P | W;
		invlpg(gva);
		EXPECT(WORD(gva) == (i + round) % PAGES, "round %u, page %u: %u", (uint64_t)round,
		       (uint64_t)i, WORD(gva));
	}
}

int main(void)
{
	uint64_t roots[2] = {root_new(), root_new()}, pages[PAGES];

	for (unsigned i = 0; i < PAGES; i++) {
		pages[i] = page_new();
		WORD(pages[i]) = i;
	}
	for (unsigned round = 0;; round++)
		visit(roots[round % 2], pages, round);
}
