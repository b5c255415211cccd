/* SPDX-License-Identifier: BSD-2-Clause */
/* The machine's memory: single frames for guests, and contiguous blocks. See frames.c. */
#ifndef VMM_FRAMES_H
#define VMM_FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Half-open ranges of machine-physical addresses. */
struct range {
	uint64_t start, end;
};

#define FRAMES_RANGES 32
#define FRAMES_BLOCK  512u /* frames of an aligned 2 MiB */

enum frame_use {
	FRAME_NONE, /* no frame: the pool's, the image's, not memory */
	FRAME_FREE,
	FRAME_TAKEN,  /* by whom, nobody said */
	FRAME_OWNED,  /* by one page of a guest */
	FRAME_SHARED, /* by pages of the same contents, which only read it */
};

/* What a frame is used for. */
struct frame {
	uint32_t at;    /* FREE: where in .free; OWNED: which of the guest's pages; SHARED: by how
			   many */
	uint16_t guest; /* OWNED: its number */
	uint16_t use;   /* enum frame_use */
};

struct frames {
	uint32_t *free; /* pfns, in no order */
	size_t count;
	size_t capacity;
	size_t given;         /* frames in all, free or not */
	struct frame *frame;  /* by pfn */
	uint16_t *block_free; /* by pfn / FRAMES_BLOCK: how many of its frames are free */
	uint64_t end;         /* pfn: behind the last */
	uint64_t shared;      /* frames that are shared now, */
	uint64_t sharers;     /*   and by how many pages */
	bool sealed;          /* what is free bears a seal (seal.c) */
	uint64_t random;

	uint64_t pool_base;
	size_t pool_pages;
	size_t pool_hint; /* no free page lies below it */
	size_t pool_used;
	uint64_t *pool_map; /* bit set: page in use */
};

/*
 * Take over the @n ranges of @usable memory, sorted or not, minus the @m @reserved ones. The
 * pool gets what @wanted frames leave, at least an eighth. @extra: pages that frames_give_range()
 * will add later. False: too little memory.
 */
bool frames_init(struct frames *frames, const struct range *usable, size_t n,
		 const struct range *reserved, size_t m, uint64_t wanted, uint64_t extra);

/* A random free frame, contents undefined. False: none left. Any order of giving back. */
bool frame_take(struct frames *frames, uint64_t *pfn);
void frame_give(struct frames *frames, uint64_t pfn);
void frames_give_range(struct frames *frames, struct range range);

/* The same of a free frame that is named, and of an aligned block that is free as a whole. */
void frame_take_at(struct frames *frames, uint64_t pfn);
bool frames_take_block(struct frames *frames, uint64_t *pfn);

/*
 * @pfn, which was taken, is page @page of guest number @guest now; or which it alone shared.
 */
void frame_own(struct frames *frames, uint64_t pfn, unsigned guest, uint32_t page);

/*
 * @pfn is read by one page more: an owned one becomes shared by its owner alone, first. _unshare:
 * by one less; the last one gives it back.
 */
void frame_share(struct frames *frames, uint64_t pfn);
void frame_unshare(struct frames *frames, uint64_t pfn);

/* @size bytes (rounded up to pages), contiguous, zeroed, page-aligned, below 4 GiB; or NULL. */
void *pool_alloc(struct frames *frames, size_t size);
void pool_free(struct frames *frames, void *block, size_t size);

/* A random number below @bound (>= 1). */
uint64_t frames_random(struct frames *frames, uint64_t bound);

#endif
