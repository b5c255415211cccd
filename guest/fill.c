/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The word umbra.fill: memory of the controller's own, more than a host may want to keep in its
 * frames. A word in each cache line of it is known; each time all of it is checked, every PART-th
 * page is written anew, another one each time, so that the host finds pages written and pages that
 * are as they were.
 */
#include "fill.h"

#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>

#include "pattern.h"

#define PART  3u
#define STEP  8u   /* words of a cache line */
#define KEY   1021 /* nobody's number in the shared region */
#define PAGES 256u /* of a MiB */

static uint64_t *area;
static uint64_t pages, checks;

/* The check behind which @page was written last; 0: at the beginning. */
static uint64_t written(uint64_t page)
{
	uint64_t behind = (checks + PART - page % PART) % PART;

	return behind < checks ? checks - behind : 0;
}

static void fill(uint64_t page)
{
	for (uint64_t word = 0; word < PAGE_WORDS; word += STEP)
		area[page * PAGE_WORDS + word] = pattern_word(page, word + KEY, written(page));
}

static bool is_right(uint64_t page)
{
	uint64_t round = written(page), wrong = 0;

	for (uint64_t word = 0; word < PAGE_WORDS; word += STEP)
		wrong |= area[page * PAGE_WORDS + word] ^ pattern_word(page, word + KEY, round);
	if (wrong)
		printf("umbra-workload: fill: page %lu of %lu is wrong, of check %lu\n",
		       (unsigned long)page, (unsigned long)pages, (unsigned long)round);
	return !wrong;
}

bool fill_begin(unsigned long mib)
{
	if (!mib)
		return true;
	area = mmap(NULL, mib << 20, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (area == MAP_FAILED)
		return false;
	pages = mib * PAGES;
	madvise(area, mib << 20, MADV_DONTFORK);
	for (uint64_t page = 0; page < pages; page++)
		fill(page);
	return true;
}

bool fill_check(void)
{
	for (uint64_t page = 0; page < pages; page++)
		if (!is_right(page))
			return false;
	checks++;
	for (uint64_t page = checks % PART; page < pages; page += PART)
		fill(page);
	return true;
}
