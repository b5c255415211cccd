/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Owns all memory of the machine that is not the image. Two parts:
 *
 *   frames   an array of free pfns; taking one picks a random place and moves the last entry
 *            there, so a guest's frames lie in no order and gfn == pfn happens by chance only.
 *            Each frame knows what it is used for, and by whom
 *   pool     one contiguous area below 4 GiB with a bitmap, first fit: page tables, VMCBs,
 *            libumbra's memory, our own arrays
 *
 * Mapped one to one: an hpa is a pointer.
 */
#include "frames.h"
#include "seal.h"
#include "string.h"
#include "x86.h"

#define PAGE  4096ull
#define LIMIT (1ull << 32)

uint64_t frames_random(struct frames *frames, uint64_t bound)
{
	uint64_t x = frames->random;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	frames->random = x;
	return muldiv(x, bound, UINT64_MAX) % bound;
}

void frame_take_at(struct frames *frames, uint64_t pfn)
{
	uint32_t i = frames->frame[pfn].at, last = frames->free[--frames->count];

	frames->free[i] = last;
	frames->frame[last].at = i;
	frames->frame[pfn].use = FRAME_TAKEN;
	frames->block_free[pfn / FRAMES_BLOCK]--;
}

bool frame_take(struct frames *frames, uint64_t *pfn)
{
	if (frames->count == 0)
		return false;
	*pfn = frames->free[frames_random(frames, frames->count)];
	frame_take_at(frames, *pfn);
	return true;
}

bool frames_take_block(struct frames *frames, uint64_t *pfn)
{
	uint64_t blocks = frames->end / FRAMES_BLOCK, block = 0;

	while (block < blocks && frames->block_free[block] < FRAMES_BLOCK)
		block++;
	if (block == blocks)
		return false;
	*pfn = block * FRAMES_BLOCK;
	for (uint64_t i = 0; i < FRAMES_BLOCK; i++)
		frame_take_at(frames, *pfn + i);
	return true;
}

void frame_give(struct frames *frames, uint64_t pfn)
{
	if (frames->count >= frames->capacity || pfn >= frames->end)
		return;
	frames->frame[pfn] = (struct frame){.at = (uint32_t)frames->count, .use = FRAME_FREE};
	frames->block_free[pfn / FRAMES_BLOCK]++;
	frames->free[frames->count++] = (uint32_t)pfn;
	if (frames->sealed)
		seal_page(pfn);
}

void frame_own(struct frames *frames, uint64_t pfn, unsigned guest, uint32_t page)
{
	if (frames->frame[pfn].use == FRAME_SHARED) {
		frames->shared--;
		frames->sharers--;
	}
	frames->frame[pfn] =
	    (struct frame){.at = page, .guest = (uint16_t)guest, .use = FRAME_OWNED};
}

void frame_share(struct frames *frames, uint64_t pfn)
{
	struct frame *frame = &frames->frame[pfn];

	if (frame->use != FRAME_SHARED) {
		*frame = (struct frame){.use = FRAME_SHARED};
		frames->shared++;
	}
	frame->at++;
	frames->sharers++;
}

void frame_unshare(struct frames *frames, uint64_t pfn)
{
	frames->sharers--;
	if (--frames->frame[pfn].at)
		return;
	frames->shared--;
	frame_give(frames, pfn);
}

void frames_give_range(struct frames *frames, struct range range)
{
	uint64_t first = (range.start + PAGE - 1) / PAGE;

	for (uint64_t pfn = first; pfn < range.end / PAGE; pfn++) {
		frame_give(frames, pfn);
		frames->given++;
	}
}

/* Copy @usable to @out without what @reserved covers. Returns how many pieces there are. */
static size_t subtract(const struct range *usable, size_t n, const struct range *reserved, size_t m,
		       struct range *out)
{
	size_t count = 0;

	for (size_t i = 0; i < n; i++) {
		uint64_t at = (usable[i].start + PAGE - 1) & ~(PAGE - 1);
		uint64_t end = usable[i].end & ~(PAGE - 1);

		while (at < end) {
			uint64_t stop = end, next = end;

			for (size_t j = 0; j < m; j++) {
				uint64_t start = reserved[j].start & ~(PAGE - 1);
				uint64_t after = (reserved[j].end + PAGE - 1) & ~(PAGE - 1);

				if (start >= after || after <= at || start >= stop)
					continue;
				stop = start > at ? start : at;
				next = after;
			}
			if (stop > at && count < FRAMES_RANGES)
				out[count++] = (struct range){at, stop};
			at = next;
		}
	}
	return count;
}

/* The pool lies at the end of the largest piece below 4 GiB, its bitmap at its start. */
static bool pool_init(struct frames *frames, struct range *ranges, size_t n, uint64_t pages)
{
	struct range *best = NULL;
	size_t map_bytes;

	for (size_t i = 0; i < n; i++)
		if (ranges[i].end <= LIMIT &&
		    (!best || ranges[i].end - ranges[i].start > best->end - best->start))
			best = &ranges[i];
	if (!best)
		return false;
	if (pages > (best->end - best->start) / PAGE)
		pages = (best->end - best->start) / PAGE;
	best->end -= pages * PAGE;
	frames->pool_base = best->end;
	frames->pool_pages = pages;
	frames->pool_map = (uint64_t *)frames->pool_base;
	map_bytes = (pages + 63) / 64 * 8;
	if (pages < 1024)
		return false;
	memset(frames->pool_map, 0, map_bytes);
	frames->pool_used = (map_bytes + PAGE - 1) / PAGE;
	for (size_t i = 0; i < frames->pool_used; i++)
		frames->pool_map[i / 64] |= 1ull << i % 64;
	frames->pool_hint = frames->pool_used;
	return true;
}

bool frames_init(struct frames *frames, const struct range *usable, size_t n,
		 const struct range *reserved, size_t m, uint64_t wanted, uint64_t extra)
{
	struct range ranges[FRAMES_RANGES];
	size_t count = subtract(usable, n, reserved, m, ranges);
	uint64_t total = 0, pool;

	for (size_t i = 0; i < count; i++)
		total += (ranges[i].end - ranges[i].start) / PAGE;
	pool = total > wanted ? total - wanted : 0;
	if (pool < total / 8)
		pool = total / 8;
	frames->random = rdtsc() | 1;
	if (!pool_init(frames, ranges, count, pool))
		return false;
	for (size_t i = 0; i < n; i++)
		if (usable[i].end / PAGE > frames->end)
			frames->end = usable[i].end / PAGE;
	frames->capacity = total + extra;
	frames->free = pool_alloc(frames, frames->capacity * sizeof(frames->free[0]));
	frames->frame = pool_alloc(frames, frames->end * sizeof(frames->frame[0]));
	frames->block_free =
	    pool_alloc(frames, (frames->end / FRAMES_BLOCK + 1) * sizeof(frames->block_free[0]));
	if (!frames->free || !frames->frame || !frames->block_free)
		return false;
	for (size_t i = 0; i < count; i++)
		frames_give_range(frames, ranges[i]);
	return true;
}

static bool pool_bit(const struct frames *frames, size_t i)
{
	return frames->pool_map[i / 64] >> i % 64 & 1;
}

void *pool_alloc(struct frames *frames, size_t size)
{
	size_t pages = (size + PAGE - 1) / PAGE, run = 0;
	uint8_t *block;

	for (size_t i = frames->pool_hint; i < frames->pool_pages; i++) {
		if (pool_bit(frames, i)) {
			run = 0;
			continue;
		}
		if (++run < pages)
			continue;
		for (size_t j = i + 1 - pages; j <= i; j++)
			frames->pool_map[j / 64] |= 1ull << j % 64;
		if (i + 1 - pages == frames->pool_hint)
			frames->pool_hint = i + 1;
		frames->pool_used += pages;
		block = (uint8_t *)frames->pool_base + (i + 1 - pages) * PAGE;
		for (size_t j = 0; j < pages; j++)
			page_zero(block + j * PAGE);
		return block;
	}
	return NULL;
}

void pool_free(struct frames *frames, void *block, size_t size)
{
	size_t pages = (size + PAGE - 1) / PAGE;
	size_t first = ((uintptr_t)block - frames->pool_base) / PAGE;

	for (size_t i = first; i < first + pages; i++) {
		frames->pool_map[i / 64] &= ~(1ull << i % 64);
		if (frames->sealed)
			seal_page(frames->pool_base / PAGE + i);
	}
	if (first < frames->pool_hint)
		frames->pool_hint = first;
	frames->pool_used -= pages;
}
