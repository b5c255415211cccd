/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Pages of equal contents, each at several addresses, which the host has share frames: what is
 * written to one of them changes none of the others, by whatever instruction and address. Needs
 * --merge.
 */
#include <umbra/machine.h>

#include "bare.h"

#define PAGES   192u
#define KINDS   3u /* of contents; those of kind 0 are zeros */
#define ALIASES 4u
#define BASE    0x100000000ull
#define ROUNDS  6u
#define TABLES  2u
#define WINDOW  0x200000000ull
#define PATIENT 60000000000ull /* ticks */

static uint64_t page[PAGES];
static uint64_t own[PAGES]; /* what word 9 of it is */

static uint32_t control(uint32_t operation, uint32_t argument)
{
	uint32_t result;

	outl(UMBRA_CTL_ARG, argument);
	outl(UMBRA_CTL, operation);
	__asm__ volatile("inl %w1, %0" : "=a"(result) : "Nd"((uint16_t)UMBRA_CTL_ARG));
	return result;
}

#define COUNTER(name) control(UMBRA_CTL_PEEK, offsetof(struct umbra_machine, name))

static uint64_t alias(unsigned i, unsigned which)
{
	return BASE + (which * PAGES + i) * 4096ull;
}

static uint64_t content(unsigned i, unsigned word)
{
	return i % KINDS ? (i % KINDS) * 0x0101010101010101ull ^ word : 0;
}

/* Until so many pages more share frames than when there were @merges. */
static void wait(uint32_t merges, uint32_t more)
{
	uint64_t begun = rdtsc();

	while (COUNTER(merges) - merges < more)
		EXPECT(rdtsc() - begun < PATIENT, "%u of %u pages were merged",
		       (uint64_t)(COUNTER(merges) - merges), (uint64_t)more);
	EXPECT(control(UMBRA_CTL_AUDIT, 0) == 0, "an audit found something");
}

static void check(void)
{
	for (unsigned i = 0; i < PAGES; i++)
		for (unsigned which = 0; which < ALIASES; which++)
			for (unsigned word = 0; word < 512; word += word == 9 ? 502 : 1) {
				uint64_t want = word == 9 ? own[i] : content(i, word);
				uint64_t gva = alias(i, which) + 8 * word;

				EXPECT(WORD(gva) == want, "page %u has %x at word %u, not %x",
				       (uint64_t)i, WORD(gva), (uint64_t)word, want);
			}
}

/* Write @value to word 9 of page @i, by one of several ways. */
static void write(unsigned i, unsigned way, uint64_t value)
{
	uint64_t gva = alias(i, way % ALIASES) + 72, count = 1;

	own[i] = value;
	switch (way % 3) {
	case 0:
		WORD(gva) = value;
		break;
	case 1:
		__asm__ volatile("lock xchgq %0, (%1)" : "+r"(value) : "r"(gva) : "memory");
		break;
	default:
		__asm__ volatile("rep stosq" : "+D"(gva), "+c"(count) : "a"(value) : "memory");
	}
}

static void pages(uint64_t root)
{
	for (unsigned i = 0; i < PAGES; i++) {
		page[i] = page_new();
		for (unsigned word = 0; word < 512; word++)
			WORD(page[i] + 8 * word) = content(i, word);
		own[i] = content(i, 9);
		for (unsigned which = 0; which < ALIASES; which++)
			*entry(root, alias(i, which), 1) = page[i] | P | W;
	}
	cr3_write(root);
}

static void round(unsigned number)
{
	uint32_t breaks;

	check(); /* all of them are mapped, read-only, when somebody writes */
	breaks = COUNTER(merge_breaks);
	for (unsigned i = number % 5; i < PAGES; i += 5) {
		write(i, number + i, random() | 1);
		if (i % 8 == 0)
			check();
	}
	check();
	EXPECT(COUNTER(merge_breaks) > breaks, "nobody got a page of his own");
	for (unsigned i = number % 5; i < PAGES; i += 5)
		write(i, number, content(i, 9));
	check();
}

/* Tables of equal contents: the bits that the processor sets in one are not set in the other. */
static void tables(uint64_t root)
{
	uint64_t *table[TABLES];
	uint32_t merges = COUNTER(merges);

	for (unsigned i = 0; i < TABLES; i++) {
		table[i] = (uint64_t *)((uintptr_t)entry(root, WINDOW + (i << 21), 1) & ~4095ull);
		for (unsigned k = 0; k < 512; k++)
			table[i][k] = page[k % PAGES] | P | W;
	}
	wait(merges, TABLES);
	(void)WORD(WINDOW + 4096 * 17);
	EXPECT(table[0][17] & A, "the processor set no A");
	EXPECT(!(table[1][17] & (A | D)), "a bit was set in another table");
	own[17] = content(17, 9);
	WORD(WINDOW + (1 << 21) + 4096 * 17 + 72) = own[17];
	EXPECT(table[1][17] & D, "the processor set no D");
	EXPECT(!(table[0][17] & D), "a D was set in another table");
	check();
}

int main(void)
{
	uint64_t root = root_new();
	uint32_t merges;

	pages(root);
	wait(0, PAGES);
	say("guest: all are merged\r\n");
	for (unsigned i = 0; i < ROUNDS; i++) {
		merges = COUNTER(merges);
		round(i);
		if (i % 2 == 0)
			wait(merges, PAGES / 8);
	}
	tables(root);
	control(UMBRA_CTL_AUDIT, 0);
	EXPECT(COUNTER(sharers) > COUNTER(shared_frames), "no page is saved");
	say("guest: nobody's page was changed by others\r\n");
	return 0;
}
