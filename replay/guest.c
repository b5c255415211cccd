/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * All three are arrays of blocks that come when they are first written to. Contents belong to
 * gfns, not to frames: a page that moves takes them along.
 */
#include "guest.h"

#include <stdlib.h>

#define GFN_BITS 32           /* of those that can have a frame */
#define KEPT_MAX (4ull << 30) /* bytes: no trace makes us take more */

bool guest_init(struct guest *guest, unsigned maxphyaddr)
{
	uint64_t gfns = 1ull << (maxphyaddr - 12 < GFN_BITS ? maxphyaddr - 12 : GFN_BITS);

	*guest = (struct guest){.blocks = (gfns + GUEST_BLOCK - 1) >> GUEST_BLOCK_SHIFT};
	guest->frames = calloc(guest->blocks, sizeof(*guest->frames));
	guest->tables = calloc(guest->blocks, sizeof(*guest->tables));
	guest->owners = calloc(GUEST_PFNS >> GUEST_BLOCK_SHIFT, sizeof(*guest->owners));
	return guest->frames && guest->tables && guest->owners;
}

static void tables_free(struct guest *guest, struct guest_table **block)
{
	for (unsigned i = 0; block && guest->kept && i < GUEST_BLOCK; i++) {
		guest->kept -= block[i] != NULL;
		free(block[i]);
	}
	free(block);
}

void guest_free(struct guest *guest)
{
	for (uint64_t i = 0; i < guest->used; i++) {
		tables_free(guest, guest->tables[i]);
		free(guest->frames[i]);
	}
	for (uint64_t i = 0; guest->owners && i < GUEST_PFNS >> GUEST_BLOCK_SHIFT; i++)
		if (guest->owners[i])
			free(guest->owners[i]);
	free(guest->frames);
	free(guest->tables);
	free(guest->owners);
}

/* @bytes more, zeroed, for block number @block of gfns. NULL: no memory, or too much of it. */
static void *more(struct guest *guest, uint64_t block, uint64_t bytes)
{
	void *memory;

	if (guest->bytes + bytes > KEPT_MAX)
		return NULL;
	memory = calloc(1, bytes);
	if (memory)
		guest->bytes += bytes;
	if (memory && block >= guest->used)
		guest->used = block + 1;
	return memory;
}

struct guest_frame *guest_frame_make(struct guest *guest, uint64_t gfn)
{
	uint64_t number = gfn >> GUEST_BLOCK_SHIFT;
	struct guest_frame **block;

	if (number >= guest->blocks)
		return NULL;
	block = &guest->frames[number];
	if (!*block)
		*block = more(guest, number, GUEST_BLOCK * sizeof(**block));
	return *block ? &(*block)[gfn % GUEST_BLOCK] : NULL;
}

bool guest_back(struct guest *guest, uint64_t gfn, uint64_t pfn)
{
	struct guest_frame *frame = guest_frame(guest, gfn);
	uint32_t **block;

	if (!frame || pfn >= GUEST_PFNS || gfn >= UINT32_MAX)
		return false;
	block = &guest->owners[pfn >> GUEST_BLOCK_SHIFT];
	if (!*block)
		*block = more(guest, 0, GUEST_BLOCK * sizeof(**block));
	if (!*block)
		return false;
	(*block)[pfn % GUEST_BLOCK] = (uint32_t)gfn + 1;
	frame->pfn = (uint32_t)pfn;
	frame->there = true;
	return true;
}

void guest_forget(struct guest *guest, uint64_t first, uint64_t pages)
{
	for (uint64_t gfn = first, next; gfn < first + pages; gfn = next) {
		uint64_t block = gfn >> GUEST_BLOCK_SHIFT;

		next = (block + 1) << GUEST_BLOCK_SHIFT;
		next = next < first + pages ? next : first + pages;
		for (; block < guest->blocks && guest->frames[block] && gfn < next; gfn++)
			guest->frames[block][gfn % GUEST_BLOCK].there = false;
	}
}

struct guest_table *guest_table_find(struct guest *guest, uint64_t gfn)
{
	uint64_t number = gfn >> GUEST_BLOCK_SHIFT;
	struct guest_table ***block, **table;

	if (number >= guest->blocks)
		return NULL;
	block = &guest->tables[number];
	if (!*block)
		*block = more(guest, number, GUEST_BLOCK * sizeof(**block));
	if (!*block)
		return NULL;
	table = &(*block)[gfn % GUEST_BLOCK];
	if (!*table) {
		*table = more(guest, number, sizeof(**table));
		guest->kept += *table != NULL;
	}
	if (*table) {
		guest->last = *table;
		guest->last_gfn = gfn;
	}
	return *table;
}

bool guest_knows(struct guest *guest, uint64_t gpa, unsigned size)
{
	uint64_t gfn = gpa >> 12, bits = (size == 8 ? 3ull : 1ull) << gpa % 4096 / 4 % 64;
	struct guest_table **block, *table;

	if (gfn >> GUEST_BLOCK_SHIFT >= guest->blocks)
		return false;
	block = guest->tables[gfn >> GUEST_BLOCK_SHIFT];
	table = block ? block[gfn % GUEST_BLOCK] : NULL;
	return table && (table->known[gpa % 4096 / 256] & bits) == bits;
}
