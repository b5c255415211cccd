/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest's memory, as far as a replay needs it: frames, and pages of tables. */
#ifndef REPLAY_GUEST_H
#define REPLAY_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GUEST_PFNS        (1ull << 28) /* machine memory: 1 TiB at most */
#define GUEST_BLOCK_SHIFT 12
#define GUEST_BLOCK       (1u << GUEST_BLOCK_SHIFT)

/* What is known of a gfn's frame. Small: every fault reads one. */
struct guest_frame {
	uint32_t pfn;
	bool there; /* it has one */
	bool writable;
	uint8_t level;
};

/* A page that is a table, or that was asked for. */
struct guest_table {
	uint64_t words[512];
	uint64_t known[16]; /* a bit for each 4 bytes that the trace told of */
};

struct guest {
	struct guest_frame **frames;  /* by gfn, in blocks */
	struct guest_table ***tables; /* by gfn, in blocks */
	uint32_t **owners;            /* gfn + 1 by pfn, in blocks */
	uint64_t blocks;              /* of gfns, */
	uint64_t used;                /*   and of these that may be there */
	uint64_t bytes;               /* in all */
	uint64_t kept;                /* tables */
	uint64_t last_gfn;            /* the table that was asked for last */
	struct guest_table *last;
};

/* For gfns below 2^(@maxphyaddr - 12), and 2^32. False: out of memory. */
bool guest_init(struct guest *guest, unsigned maxphyaddr);
void guest_free(struct guest *guest);

/* NULL: beyond the guest's addresses, or out of memory. */
struct guest_frame *guest_frame_make(struct guest *guest, uint64_t gfn);

static inline struct guest_frame *guest_frame(struct guest *guest, uint64_t gfn)
{
	uint64_t block = gfn >> GUEST_BLOCK_SHIFT;

	if (block >= guest->blocks || !guest->frames[block])
		return guest_frame_make(guest, gfn);
	return &guest->frames[block][gfn % GUEST_BLOCK];
}

/* Give @gfn the frame @pfn. False: out of memory, or no such frame. */
bool guest_back(struct guest *guest, uint64_t gfn, uint64_t pfn);

/* Gfns [@first, @first + @pages) have no frames any more. */
void guest_forget(struct guest *guest, uint64_t first, uint64_t pages);

/* The gfn whose frame is @pfn. False: none. */
static inline bool guest_gfn(const struct guest *guest, uint64_t pfn, uint64_t *gfn)
{
	const uint32_t *block = pfn < GUEST_PFNS ? guest->owners[pfn >> GUEST_BLOCK_SHIFT] : NULL;

	if (!block || !block[pfn % GUEST_BLOCK])
		return false;
	*gfn = block[pfn % GUEST_BLOCK] - 1;
	return true;
}

struct guest_table *guest_table_find(struct guest *guest, uint64_t gfn);

/* The page @gfn. NULL: beyond the guest's addresses, or out of memory. */
static inline struct guest_table *guest_table(struct guest *guest, uint64_t gfn)
{
	return guest->last && guest->last_gfn == gfn ? guest->last : guest_table_find(guest, gfn);
}

/* The trace told that the word of @size (4, 8) bytes at @gpa, aligned, is @value. */
static inline void guest_tell(struct guest_table *table, uint64_t gpa, uint64_t value,
			      unsigned size)
{
	unsigned at = gpa % 4096 / 4;

	if (size == 8)
		table->words[at / 2] = value;
	else
		((uint32_t *)table->words)[at] = (uint32_t)value;
	table->known[at / 64] |= (size == 8 ? 3ull : 1ull) << at % 64;
}

/* Did it tell? */
bool guest_knows(struct guest *guest, uint64_t gpa, unsigned size);

#endif
