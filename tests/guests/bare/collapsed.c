/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory that the host moves into blocks of 2 MiB, and takes out of them page by page, while the
 * guest checks and changes every word of it. Needs --compact, and a storm to break what is
 * collapsed.
 */
#include <umbra/machine.h>

#include "bare.h"

#define BYTES   (4ull << 20)
#define PATIENT 60000000000ull /* ticks */

static uint32_t peek(uint32_t offset)
{
	uint32_t result;

	outl(UMBRA_CTL_ARG, offset);
	outl(UMBRA_CTL, UMBRA_CTL_PEEK);
	__asm__ volatile("inl %w1, %0" : "=a"(result) : "Nd"((uint16_t)UMBRA_CTL_ARG));
	return result;
}

#define COUNTER(name) peek(offsetof(struct umbra_machine, name))

int main(void)
{
	uint64_t begun = rdtsc(), first = 0, round = 0;

	for (uint64_t at = 0; at < BYTES; at += 4096) {
		uint64_t page = page_new();

		first = first ? first : page;
		EXPECT(page == first + at, "pages do not lie side by side");
	}
	for (uint64_t at = 0; at < BYTES; at += 8)
		WORD(first + at) = at;
	for (; COUNTER(collapsed) < 4 || COUNTER(collapses_broken) < 3; round++) {
		EXPECT(rdtsc() - begun < PATIENT, "%u times collapsed, %u broken",
		       (uint64_t)COUNTER(collapsed), (uint64_t)COUNTER(collapses_broken));
		for (uint64_t at = 0; at < BYTES; at += 8) {
			EXPECT(WORD(first + at) == at + round, "%x has %x, not %x", first + at,
			       WORD(first + at), at + round);
			WORD(first + at) = at + round + 1;
		}
	}
	outl(UMBRA_CTL, UMBRA_CTL_AUDIT);
	say("guest: collapsed, broken, and whole\r\n");
	return 0;
}
