/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * More memory than the machine has for it: 80 MiB, in turn checked and written anew, in order and
 * at random, for so many rounds as the command line says ("rounds=3"). A quarter of the pages hold
 * zeros. For a guest of 128 MiB.
 */
#include "bare.h"

#define FIRST (24ull << 20)
#define PAGES 20480u
#define WORDS 8u /* of each page, 512 bytes apart */
#define PARTS 3u /* one of so many pages is written in a round */

extern uint32_t boot_information; /* start.S: Multiboot's */

static uint32_t written[PAGES]; /* the round in which a page was */

/* "rounds=N" anywhere in the command line. */
static unsigned rounds_asked(void)
{
	const uint32_t *information = (const uint32_t *)(uint64_t)boot_information;
	const char *line = (const char *)(uint64_t)information[4], *key = "rounds=";
	unsigned matched = 0, rounds = 0;

	if (!(information[0] & 4))
		return 3;
	for (; *line && key[matched]; line++)
		matched = *line == key[matched] ? matched + 1 : *line == *key;
	for (; *line >= '0' && *line <= '9'; line++)
		rounds = rounds * 10 + (unsigned)(*line - '0');
	return rounds ? rounds : 3;
}

static uint64_t word_of(unsigned page, unsigned i)
{
	if (page % 4 == 3)
		return 0;
	return ((uint64_t)written[page] << 40 | (uint64_t)page << 8 | i) * 0x9e3779b97f4a7c15ull;
}

static uint64_t address(unsigned page, unsigned i)
{
	return FIRST + page * 4096ull + i * 512;
}

static void write(unsigned page, unsigned round)
{
	written[page] = round;
	for (unsigned i = 0; i < WORDS; i++)
		WORD(address(page, i)) = word_of(page, i);
}

static void check(unsigned page)
{
	for (unsigned i = 0; i < WORDS; i++)
		EXPECT(WORD(address(page, i)) == word_of(page, i), "page %u, word %u: %x",
		       (uint64_t)page, (uint64_t)i, WORD(address(page, i)));
}

int main(void)
{
	unsigned rounds = rounds_asked();

	for (unsigned page = 0; page < PAGES; page++)
		write(page, 0);
	for (unsigned round = 1; round <= rounds; round++) {
		say("guest: round %u\r\n", (uint64_t)round);
		for (unsigned page = 0; page < PAGES; page++) {
			check(page);
			if (page % PARTS == round % PARTS)
				write(page, round);
		}
		for (unsigned i = 0; i < 300; i++)
			check((unsigned)(random() % PAGES));
	}
	say("guest: memory holds\r\n");
	finish(0);
}
