/* SPDX-License-Identifier: BSD-2-Clause */
/* Long-mode tables as hardware walks them: AMD64 APM vol. 2 §5.3, §5.6. */
#include "tlb.h"

#include <stdlib.h>
#include <string.h>

#define ENTRY_P  1ull
#define ENTRY_W  2ull
#define ENTRY_U  4ull
#define ENTRY_D  0x40ull
#define ENTRY_PS 0x80ull
#define ENTRY_NX (1ull << 63)
#define ADDRESS  0xffffffffff000ull
#define TOP_SIZE 4 /* entries of a root without long mode */

static size_t place(const struct tlb *tlb, uint64_t page)
{
	return (size_t)(page * 0x9e3779b97f4a7c15ull >> 20) & (tlb->room - 1);
}

static struct tlb_entry *find(const struct tlb *tlb, uint64_t page)
{
	size_t i;

	if (!tlb->room)
		return NULL;
	for (i = place(tlb, page); tlb->entries[i].page && tlb->entries[i].page != page;)
		i = (i + 1) & (tlb->room - 1);
	return &tlb->entries[i];
}

static bool grow(struct tlb *tlb)
{
	struct tlb old = *tlb;

	tlb->room = old.room ? 2 * old.room : 256;
	tlb->entries = calloc(tlb->room, sizeof(*tlb->entries));
	if (!tlb->entries) {
		*tlb = old;
		return false;
	}
	for (size_t i = 0; i < old.room; i++)
		if (old.entries[i].page)
			*find(tlb, old.entries[i].page) = old.entries[i];
	free(old.entries);
	return true;
}

/* A TLB that cannot grow forgets, as every TLB may. */
static void insert(struct tlb *tlb, const struct tlb_entry *with)
{
	struct tlb_entry *entry;

	if (2 * tlb->count >= tlb->room && !grow(tlb))
		return;
	entry = find(tlb, with->page);
	tlb->count += !entry->page;
	*entry = *with;
}

void tlb_keep(struct tlb *tlb, uint64_t gva, const struct tlb_hit *hit)
{
	insert(tlb, &(struct tlb_entry){(gva >> 12) + 1, hit->pfn, hit->gfn, hit->writable,
					hit->writable && hit->dirty});
}

void tlb_load(struct tlb *tlb, const struct umbra_root *root)
{
	if (tlb->root.hpa != root->hpa || tlb->root.levels != root->levels)
		tlb_flush(tlb, 0, 0);
	tlb->root = *root;
}

bool tlb_access(struct tlb *tlb, uint64_t gva, uint32_t error_code, tlb_read *read, void *ctx,
		struct tlb_hit *hit)
{
	uint64_t table = tlb->root.hpa, rights = ENTRY_W | ENTRY_U, offset, entry = 0;
	unsigned level = tlb->root.levels;
	bool nx = false;

	for (;; level--) {
		const uint64_t *entries = read(ctx, table);
		bool top = level == 3 && tlb->root.levels == 3;

		if (!entries)
			return false;
		entry = entries[gva >> (3 + 9 * level) & (top ? TOP_SIZE - 1 : 511)];
		if (!(entry & ENTRY_P))
			return false;
		if (!top) { /* PDPTEs have no rights */
			rights &= entry;
			nx |= (entry & ENTRY_NX) != 0;
		}
		if (level == 1 || (level < 4 && !top && entry & ENTRY_PS))
			break;
		table = entry & ADDRESS;
	}
	if ((error_code & UMBRA_PF_W && !(rights & ENTRY_W)) ||
	    (error_code & UMBRA_PF_U && !(rights & ENTRY_U)) || (error_code & UMBRA_PF_I && nx))
		return false;
	offset = (1ull << (3 + 9 * level)) - 1;
	*hit = (struct tlb_hit){.pfn = ((entry & ADDRESS & ~offset) | (gva & offset)) >> 12,
				.writable = rights & ENTRY_W,
				.dirty = entry & ENTRY_D,
				.user = rights & ENTRY_U,
				.no_execute = nx,
				.key = entry >> 59 & 15};
	return true;
}

void tlb_flush(struct tlb *tlb, uint64_t gva, uint64_t pages)
{
	struct tlb kept = *tlb;

	if (!tlb->count)
		return;
	if (!pages) {
		memset(tlb->entries, 0, tlb->room * sizeof(*tlb->entries));
		tlb->count = 0;
		return;
	}
	/* Few are named at a time: the table is built anew without them. */
	tlb->entries = NULL;
	tlb->room = tlb->count = 0;
	for (size_t i = 0; i < kept.room; i++) {
		const struct tlb_entry *entry = &kept.entries[i];

		if (entry->page && entry->page - 1 - (gva >> 12) >= pages)
			insert(tlb, entry);
	}
	free(kept.entries);
}

bool tlb_find(const struct tlb *tlb, bool writable,
	      bool (*is_gone)(void *ctx, const struct tlb_entry *entry), void *ctx, uint64_t *gva)
{
	for (size_t i = 0; tlb->count && i < tlb->room; i++) {
		const struct tlb_entry *entry = &tlb->entries[i];

		if (entry->page && (entry->writable || !writable) && is_gone(ctx, entry)) {
			*gva = (entry->page - 1) << 12;
			return true;
		}
	}
	return false;
}

bool tlb_holds(const struct tlb *tlb, uint64_t gva)
{
	const struct tlb_entry *entry = find(tlb, (gva >> 12) + 1);

	return entry && entry->page;
}

void tlb_free(struct tlb *tlb)
{
	free(tlb->entries);
}
