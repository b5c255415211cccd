/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Compaction. Guests' frames lie in no order, so that no 2 MiB of theirs can be mapped by one spte.
 * A few frames at a time are moved out of a block, an aligned 2 MiB of the machine's, until it is
 * ours as a whole; then the 512 pages of a window, an aligned 2 MiB of a guest's, move there
 * (a collapse), and host.frame_get tells of them as one frame of level 2.
 *
 *     block   the one with the most free frames of those of which every frame can move: it is free,
 *             or owned by one page. What is free of it is taken, so that nobody else takes it
 *     window  512 pages in one slot, each with a frame of its own, some of them in use
 *
 * vm->large has a bit for each window: by the index of its first page, divided by 512, since no two
 * begin within 512 pages of one another. Whoever gives a page of it another frame takes all
 * mappings of the page away first, large ones too, and then the bit (compact_broken). Two
 * windows never share a block, and a block with a window in it has no free frame: it is let be.
 */
#include "compact.h"
#include "host.h"
#include "memory.h"
#include "vcpu.h"
#include "vm.h"

#define PIECE   16u
#define SEARCH  32u /* windows that are looked at in a piece */
#define RESERVE (2 * FRAMES_BLOCK)

static void flag(uint64_t *bits, uint64_t i, bool value)
{
	if (value)
		bits[i / 64] |= 1ull << i % 64;
	else
		bits[i / 64] &= ~(1ull << i % 64);
}

/* The bit of the window that holds page @index. False: it is in none. */
static bool bit_of(const struct vm *vm, uint32_t index, uint64_t *bit)
{
	const struct vm_slot *s = vm->slots;
	uint64_t first;

	while (index - s->index >= s->pages)
		s++;
	first = (s->first + index - s->index) / FRAMES_BLOCK * FRAMES_BLOCK;
	if (first < s->first || first + FRAMES_BLOCK > s->first + s->pages)
		return false;
	*bit = (s->index + first - s->first) / FRAMES_BLOCK;
	return true;
}

bool compact_is_large(const struct vm *vm, uint32_t index)
{
	uint64_t bit;

	return vm->large && bit_of(vm, index, &bit) && vm->large[bit / 64] >> bit % 64 & 1;
}

void compact_done(struct vm *vm, uint32_t index)
{
	uint64_t bit;

	if (bit_of(vm, index, &bit))
		flag(vm->large, bit, true);
	vm->machine->collapsed++;
}

void compact_broken(struct vm *vm, uint32_t index)
{
	uint64_t bit;

	if (!compact_is_large(vm, index) || !bit_of(vm, index, &bit))
		return;
	flag(vm->large, bit, false);
	vm->machine->collapses_broken++;
}

/* ------------------------------------------------------------------ windows */

/* The first gfn of window number @window of @vm's. False: there are not so many. */
static bool window_gfn(const struct vm *vm, uint64_t window, uint64_t *gfn)
{
	for (unsigned i = 0; i < vm->slot_count; i++) {
		const struct vm_slot *s = &vm->slots[i];
		uint64_t first = (s->first + FRAMES_BLOCK - 1) / FRAMES_BLOCK;
		uint64_t end = (s->first + s->pages) / FRAMES_BLOCK;

		if (end > first && window < end - first) {
			*gfn = (first + window) * FRAMES_BLOCK;
			return true;
		}
		window -= end > first ? end - first : 0;
	}
	return false;
}

static uint32_t index_of(const struct vm *vm, uint64_t gfn)
{
	const struct vm_slot *s = vm->slots;

	while (gfn - s->first >= s->pages)
		s++;
	return (uint32_t)(s->index + gfn - s->first);
}

/* Can the window at @gfn be collapsed, and is it not? */
static bool is_fit(const struct vm *vm, uint64_t gfn)
{
	uint32_t index = index_of(vm, gfn);

	if (!vm->large || compact_is_large(vm, index))
		return false;
	for (uint32_t i = index; i < index + FRAMES_BLOCK; i++)
		if (!memory_has_frame(vm->entries[i]) || vm->entries[i] & MEMORY_SHARED ||
		    memory_is_handed(vm, i))
			return false;
	return true;
}

/* Some page of it was used; which large pages profit of most, nobody knows. */
static bool is_hot(struct vm *vm, uint64_t gfn)
{
	uint64_t young[FRAMES_BLOCK / 64], any = 0;

	if (mmu_age(vm, (umbra_gfn){gfn}, FRAMES_BLOCK, UMBRA_AGE_TEST, young))
		return false;
	for (unsigned i = 0; i < FRAMES_BLOCK / 64; i++)
		any |= young[i];
	return any;
}

static bool collapse(struct vm *vm, uint64_t gfn, uint64_t block)
{
	struct umbra_frame to = {.pfn = {block * FRAMES_BLOCK}, .writable = true, .level = 2};

	if (mmu_remap(vm, (umbra_gfn){gfn}, &to, NULL))
		return false;
	vm->vcpu->stuck = 0;
	return true;
}

/* ------------------------------------------------------------------ blocks */

/* Its free frames; 0: there are none, or one that cannot move. */
static unsigned judge(const struct frames *frames, uint64_t block)
{
	const struct frame *frame = &frames->frame[block * FRAMES_BLOCK];

	for (unsigned i = 0; frames->block_free[block] && i < FRAMES_BLOCK; i++)
		if (frame[i].use != FRAME_FREE && frame[i].use != FRAME_OWNED)
			return 0;
	return frames->block_free[block];
}

static bool choose(struct host *host)
{
	struct compact *compact = &host->compact;
	const struct frames *frames = &host->frames;
	unsigned most = 0;

	if (frames->count < FRAMES_BLOCK + RESERVE)
		return false;
	for (uint64_t block = 0; block < frames->end / FRAMES_BLOCK; block++) {
		unsigned free = block + 1 == compact->avoid ? 0 : judge(frames, block);

		if (free <= most)
			continue;
		most = free;
		compact->block = block;
	}
	compact->avoid = 0;
	compact->at = 0;
	compact->builds = most != 0;
	for (unsigned i = 0; most && i < FRAMES_BLOCK; i++)
		if (frames->frame[compact->block * FRAMES_BLOCK + i].use == FRAME_FREE)
			frame_take_at(&host->frames, compact->block * FRAMES_BLOCK + i);
	return most;
}

/* What has been taken of the block goes back. */
void compact_give_up(struct host *host)
{
	struct compact *compact = &host->compact;

	for (unsigned i = 0; compact->builds && i < FRAMES_BLOCK; i++)
		if (host->frames.frame[compact->block * FRAMES_BLOCK + i].use == FRAME_TAKEN)
			frame_give(&host->frames, compact->block * FRAMES_BLOCK + i);
	compact->avoid = compact->block + 1;
	compact->builds = false;
}

/* Frame @pfn of the block, which a guest's page has, is ours. */
static bool vacate(struct host *host, uint64_t pfn)
{
	struct frame owner = host->frames.frame[pfn];
	struct umbra_frame to = {.writable = true};
	struct vm *vm = host->guest[owner.guest];

	if (!frame_take(&host->frames, &to.pfn.n))
		return false;
	if (mmu_remap(vm, (umbra_gfn){memory_gfn(vm, owner.at)}, &to, NULL)) {
		frame_give(&host->frames, to.pfn.n);
		return false;
	}
	frame_take_at(&host->frames, pfn);
	vm->vcpu->stuck = 0;
	vm->machine->compacted++;
	return true;
}

/* Empty some more of the block. True: all of it is ours. */
static bool build(struct host *host, unsigned most)
{
	struct compact *compact = &host->compact;
	unsigned moved = 0;

	for (; compact->at < FRAMES_BLOCK; compact->at++) {
		uint64_t pfn = compact->block * FRAMES_BLOCK + compact->at;
		uint16_t use = host->frames.frame[pfn].use;

		if (use == FRAME_TAKEN)
			continue;
		if (moved++ == most)
			return false;
		if (use == FRAME_FREE) { /* its page went by itself */
			frame_take_at(&host->frames, pfn);
		} else if (use != FRAME_OWNED || host->frames.count < RESERVE ||
			   !vacate(host, pfn)) {
			compact_give_up(host);
			return false;
		}
	}
	host->guest[0]->machine->blocks_built++;
	return true;
}

/* ------------------------------------------------------------------ pieces */

/* The next window that is worth it, among a few. */
static bool find(struct host *host)
{
	struct compact *compact = &host->compact;

	for (unsigned i = 0; i < SEARCH; i++, compact->window++) {
		struct vm *vm = host->guest[compact->guest];
		uint64_t gfn;

		if (!vm->mmu || !window_gfn(vm, compact->window, &gfn)) {
			compact->guest = (compact->guest + 1) % host->guests;
			compact->window = UINT64_MAX; /* and on to 0 */
			continue;
		}
		if (is_fit(vm, gfn) && is_hot(vm, gfn))
			return true;
	}
	return false;
}

/* The block is ours: a window moves there, if one is still fit for it. */
static void fill(struct host *host)
{
	struct compact *compact = &host->compact;
	struct vm *vm = host->guest[compact->guest];
	uint64_t gfn;

	if (vm->mmu && window_gfn(vm, compact->window, &gfn) && is_fit(vm, gfn) &&
	    collapse(vm, gfn, compact->block))
		compact->builds = false;
	else
		compact_give_up(host);
	compact->avoid = 0;
	compact->window++;
}

void compact_poll(struct host *host, uint64_t tsc_hz, uint64_t now)
{
	struct compact *compact = &host->compact;

	if (!compact->rate || now < compact->due)
		return;
	compact->due = now + tsc_hz * PIECE / compact->rate;
	if (compact->builds) {
		if (build(host, PIECE))
			fill(host);
	} else if (!find(host) || !choose(host)) {
		compact->due = now + tsc_hz / 100;
	}
}

/* ------------------------------------------------------------------ by command */

static bool is_set_up(struct host *host)
{
	for (unsigned i = 0; i < host->guests; i++) {
		struct vm *vm = host->guest[i];

		if (vm->mmu && !vm->large)
			vm->large = pool_alloc(vm->frames, (vm->pages / FRAMES_BLOCK / 64 + 1) * 8);
		if (vm->mmu && !vm->large)
			return false;
	}
	return true;
}

int compact_set(struct host *host, uint64_t rate, uint64_t now)
{
	if (rate > UMBRA_COMPACT_RATE_MAX)
		return UMBRA_EINVAL;
	if (rate && !is_set_up(host))
		return UMBRA_ENOMEM;
	if (!rate)
		compact_give_up(host);
	host->compact.rate = rate;
	host->compact.due = now;
	return 0;
}

int compact_range(struct vm *vm, uint64_t gfn, uint64_t pages, uint64_t *moved)
{
	struct host *host = vm->host;
	uint64_t at;

	if (!is_set_up(host))
		return UMBRA_ENOMEM;
	compact_give_up(host);
	for (uint64_t window = 0; window_gfn(vm, window, &at); window++) {
		if (at < gfn || at + FRAMES_BLOCK > gfn + pages || !is_fit(vm, at))
			continue;
		if (!choose(host) || !build(host, FRAMES_BLOCK))
			return UMBRA_ENOMEM;
		if (!is_fit(vm, at) || !collapse(vm, at, host->compact.block)) {
			compact_give_up(host);
			continue;
		}
		host->compact.builds = false;
		*moved += FRAMES_BLOCK;
	}
	return 0;
}

void compact_forget(struct vm *vm)
{
	if (vm->large)
		pool_free(vm->frames, vm->large, (vm->pages / FRAMES_BLOCK / 64 + 1) * 8);
	vm->large = NULL;
}
