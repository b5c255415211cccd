/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Goes on until it is stopped: pages at a place that changes, two address spaces in turn, and a
 * word in each page that must be there. And entries that were read through, then written through,
 * of tables that nothing else is written to: only the processor does, which sets their D. For those
 * who look at, or record, a running machine.
 */
#include "bare.h"

#define WHERE 0x5000000000ull
#define PAGES 64u

#define ALIASES  4096u
#define ALIAS(i) (WHERE + (1ull << 30) + ((uint64_t)(i) % ALIASES << 12))

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

/* All of them anew, and read. */
static void aliases_make(uint64_t root, uint64_t page)
{
	cr3_write(root);
	for (unsigned i = 0; i < ALIASES; i++) {
		*entry(root, ALIAS(i), 1) = page | P | W;
		invlpg(ALIAS(i));
		EXPECT(WORD(ALIAS(i)) == WORD(page), "alias %u: %u", (uint64_t)i, WORD(ALIAS(i)));
	}
}

int main(void)
{
	uint64_t roots[2] = {root_new(), root_new()}, pages[PAGES];

	for (unsigned i = 0; i < PAGES; i++) {
		pages[i] = page_new();
		WORD(pages[i]) = i;
	}
	for (unsigned round = 0;; round++) {
		if (round % ALIASES == 0)
			aliases_make(roots[0], pages[0]);
		visit(roots[round % 2], pages, round);
		cr3_write(roots[0]);
		WORD(ALIAS(round)) = 0;
	}
}
