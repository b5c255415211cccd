/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The option seal=1: every free page of the machine is filled with words made of its number, and
 * the image's code and constants are summed up; at the end all must still be so. A guest, a device
 * or a page table that reached memory which is not the guest's shows here. Memory in use by the
 * hypervisor changes by itself; its page tables are the audit's business.
 */
#include "seal.h"
#include "frames.h"
#include "machine.h"
#include "host.h"

#define PAGE_WORDS 512u
#define PAGE_SHIFT 12
#define ODD        0x9e3779b97f4a7c15ull

extern const uint64_t image_start[], image_constants_end[];

static uint64_t word_of(uint64_t pfn)
{
	return (pfn + 1) * ODD;
}

void seal_page(uint64_t pfn)
{
	uint64_t *word = (uint64_t *)(pfn << PAGE_SHIFT), value = word_of(pfn);

	for (unsigned i = 0; i < PAGE_WORDS; i++)
		word[i] = value;
}

static bool is_whole(uint64_t pfn)
{
	const uint64_t *word = (const uint64_t *)(pfn << PAGE_SHIFT);
	uint64_t value = word_of(pfn), difference = 0;

	for (unsigned i = 0; i < PAGE_WORDS; i++)
		difference |= word[i] ^ value;
	return !difference;
}

static uint64_t image_sum(void)
{
	size_t words = ((uintptr_t)image_constants_end - (uintptr_t)image_start) / sizeof(uint64_t);
	uint64_t sum = 0;

	for (size_t i = 0; i < words; i++)
		sum = (sum ^ image_start[i]) * ODD;
	return sum;
}

static bool is_free(const struct frames *f, size_t page)
{
	return !(f->pool_map[page / 64] >> page % 64 & 1);
}

void seal_begin(struct host *host)
{
	struct frames *f = &host->frames;
	uint64_t pool = f->pool_base >> PAGE_SHIFT;

	f->sealed = true;
	host->image_sum = image_sum();
	for (size_t i = 0; i < f->count; i++)
		seal_page(f->free[i]);
	for (size_t i = 0; i < f->pool_pages; i++)
		if (is_free(f, i))
			seal_page(pool + i);
}

uint64_t seal_broken(const struct host *host)
{
	const struct frames *f = &host->frames;
	uint64_t pool = f->pool_base >> PAGE_SHIFT, broken = image_sum() != host->image_sum;

	for (size_t i = 0; i < f->count; i++)
		broken += !is_whole(f->free[i]);
	for (size_t i = 0; i < f->pool_pages; i++)
		broken += is_free(f, i) && !is_whole(pool + i);
	return broken;
}
