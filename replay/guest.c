/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Both tables are arrays of blocks that come when they are first written to. Contents belong to
 * gfns, not to frames: a page that moves takes them along.
 */
#include "guest.h"

#include <stdlib.h>

#define BLOCK_SHIFT 12
#define BLOCK       (1u << BLOCK_SHIFT)
#define GFN_BITS    32           /* of those that can have a frame */
#define KEPT_MAX    (4ull << 30) /* bytes: no trace makes us take more */

bool guest_init(struct guest *guest, unsigned maxphyaddr)
{
	uint64_t gfns = 1ull << (maxphyaddr - 12 < GFN_BITS ? maxphyaddr - 12 : GFN_BITS);

	*guest = (struct guest){.blocks = (gfns + BLOCK - 1) >> BLOCK_SHIFT};
	guest->pages = calloc(guest->blocks, sizeof(*guest->pages));
	guest->owners = calloc(GUEST_PFNS >> BLOCK_SHIFT, sizeof(*guest->owners));
	return guest->pages && guest->owners;
}

void guest_free(struct guest *guest)
{
	for (uint64_t i = 0; i < guest->used; i++) {
		for (unsigned j = 0; guest->pages[i] && guest->kept && j < BLOCK; j++) {
			guest->kept -= guest->pages[i][j].words != NULL;
			free(guest->pages[i][j].words);
		}
		free(guest->pages[i]);
	}
	for (uint64_t i = 0; guest->owners && i < GUEST_PFNS >> BLOCK_SHIFT; i++)
		if (guest->owners[i])
			free(guest->owners[i]);
	free(guest->pages);
	free(guest->owners);
}

/* Room for @bytes more. */
static bool grow(struct guest *guest, uint64_t bytes)
{
	guest->bytes += bytes;
	return guest->bytes <= KEPT_MAX;
}

struct guest_page *guest_page(struct guest *guest, uint64_t gfn)
{
	struct guest_page **block;

	if (gfn >> BLOCK_SHIFT >= guest->blocks)
		return NULL;
	block = &guest->pages[gfn >> BLOCK_SHIFT];
	if (!*block && grow(guest, BLOCK * sizeof(**block)))
		*block = calloc(BLOCK, sizeof(**block));
	if (*block && gfn >> BLOCK_SHIFT >= guest->used)
		guest->used = (gfn >> BLOCK_SHIFT) + 1;
	return *block ? &(*block)[gfn % BLOCK] : NULL;
}

bool guest_back(struct guest *guest, uint64_t gfn, uint64_t pfn)
{
	struct guest_page *page = guest_page(guest, gfn);
	uint32_t **block;

	if (!page || pfn >= GUEST_PFNS || gfn >= UINT32_MAX)
		return false;
	block = &guest->owners[pfn >> BLOCK_SHIFT];
	if (!*block && grow(guest, BLOCK * sizeof(**block)))
		*block = calloc(BLOCK, sizeof(**block));
	if (!*block)
		return false;
	(*block)[pfn % BLOCK] = (uint32_t)gfn + 1;
	page->pfn = pfn;
	page->there = true;
	return true;
}

bool guest_gfn(const struct guest *guest, uint64_t pfn, uint64_t *gfn)
{
	const uint32_t *block;

	if (pfn >= GUEST_PFNS)
		return false;
	block = guest->owners[pfn >> BLOCK_SHIFT];
	if (!block || !block[pfn % BLOCK])
		return false;
	*gfn = block[pfn % BLOCK] - 1;
	return true;
}

void *guest_words(struct guest *guest, struct guest_page *page)
{
	if (!page->words && grow(guest, 4096)) {
		page->words = aligned_alloc(4096, 4096);
		if (page->words)
			__builtin_memset(page->words, 0, 4096);
		guest->kept += page->words != NULL;
	}
	return page->words;
}
