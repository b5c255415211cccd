/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One page at 32,768 linear addresses: what is written at one is read at all, before and after the
 * host takes the page away (port 0xe4), and the page behind all of them changes when tables do.
 */
#include "bare.h"

#define ALIASES 32768u
#define BASE    0x100000000ull

static void check(uint64_t value)
{
	for (uint64_t i = 0; i < ALIASES; i++)
		EXPECT(WORD(BASE + i * 4096 + 8 * (i % 512)) == value + i % 512,
		       "alias %u has %x, not %x", i, WORD(BASE + i * 4096 + 8 * (i % 512)),
		       value + i % 512);
}

static void fill(uint64_t gva, uint64_t value)
{
	for (uint64_t i = 0; i < 512; i++)
		WORD(gva + 8 * i) = value + i;
}

int main(void)
{
	uint64_t root = root_new(), page = page_new(), other = page_new();

	for (uint64_t i = 0; i < ALIASES; i++)
		*entry(root, BASE + i * 4096, 1) = page | P | W;
	cr3_write(root);
	fill(BASE + 4096 * 31111, 1000);
	check(1000);
	outl(0xe4, (uint32_t)page);
	check(1000);
	for (uint64_t i = 0; i < ALIASES; i += 1021) {
		fill(BASE + i * 4096, i);
		EXPECT(WORD(page + 8) == i + 1, "alias %u does not write the page", i);
		outl(0xe4, (uint32_t)page);
	}
	fill(other, 5000);
	fill(page, 7000);
	check(7000);
	for (uint64_t i = 0; i < ALIASES; i++)
		*entry(root, BASE + i * 4096, 1) = other | P;
	cr3_write(root);
	check(5000);
	say("guest: 32768 aliases hold\r\n");
	return 0;
}
