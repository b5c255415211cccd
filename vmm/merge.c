/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Same-page merging. Pages of the same contents, of one guest or of several, get one frame between
 * them, which they only read; who writes to it gets a frame of its own again (memory_settle).
 *
 * A few pages at a time are looked at, one after another, over and over. One whose sum is what it
 * was the last time (it is at rest) looks for its like in two tables of sums:
 *
 *   shared   frames that pages share already: it joins them
 *   single   pages that found nobody, as it may be itself: the two begin to share the other's frame
 *
 * Both have a bucket of WAYS places for a sum and forget when that is full, so a page may be passed
 * over; and nothing in them is believed. What counts is that the bytes are equal while nothing
 * reaches the page (mmu_invalidate_begin), and that nobody writes to a shared frame, ever:
 * host.frame_get calls it not writable.
 *
 * Zero pages are no special case: they come to share one frame.
 */
#include "merge.h"
#include "host.h"
#include "memory.h"
#include "string.h"
#include "vcpu.h"
#include "vm.h"
#include "x86.h"

#define WAYS        8u
#define PIECE       16u
#define SKIP_MAX    4096u /* pages without a frame that a piece passes over */
#define REST        8u
#define PLACE_GUEST 28 /* bits of a page's index */

#define ODD 0x9e3779b97f4a7c15ull

_Static_assert(UMBRA_GUESTS_MAX << PLACE_GUEST < UINT32_MAX, "a place has 32 bits");

static void *frame_va(uint32_t entry)
{
	return (void *)((uint64_t)(entry & MEMORY_NUMBER) << UMBRA_PAGE_SHIFT);
}

/* Never 0. */
static uint32_t sum_of(const void *page, uint64_t seed)
{
	const uint64_t *word = page;
	uint64_t sum = seed;

	for (unsigned i = 0; i < UMBRA_PAGE_SIZE / sizeof(*word); i++) {
		sum = (sum ^ word[i]) * ODD;
		sum ^= sum >> 32;
	}
	return (uint32_t)sum | 1u;
}

static bool is_equal(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	for (unsigned i = 0; i < UMBRA_PAGE_SIZE / sizeof(*x); i++)
		if (x[i] != y[i])
			return false;
	return true;
}

/* ------------------------------------------------------------------ tables */

static struct merge_place *bucket(const struct merge *merge, struct merge_place *table,
				  uint32_t sum)
{
	return &table[(uint32_t)(sum * ODD >> 32) & (merge->places - 1) & ~(WAYS - 1)];
}

static uint32_t place_of(const struct vm *vm, uint32_t index)
{
	return (vm->number << PLACE_GUEST | index) + 1;
}

/* The guest whose page is at @place, *@index; NULL: it has no frame, or shares one by now. */
static struct vm *place_page(const struct host *host, uint32_t place, uint32_t *index)
{
	struct vm *vm = host->guest[(place - 1) >> PLACE_GUEST];

	*index = (place - 1) & ((1u << PLACE_GUEST) - 1);
	if (!vm->mmu || !memory_has_frame(vm->entries[*index]) ||
	    vm->entries[*index] & MEMORY_SHARED)
		return NULL;
	return vm;
}

/* Do the contents that @place of @table was about stand there still, as far as one can tell? */
static bool is_valid(const struct host *host, const struct merge_place *table,
		     const struct merge_place *place)
{
	const struct vm *vm;
	uint32_t index;

	if (!place->at)
		return false;
	if (table == host->merge.shared)
		return host->frames.frame[place->at].use == FRAME_SHARED;
	vm = place_page(host, place->at, &index);
	return vm && vm->merge.sum[index] == place->sum;
}

/* Into the first place of its bucket that is void, or else into some. */
static void note(struct host *host, struct merge_place *table, uint32_t sum, uint32_t at)
{
	struct merge *merge = &host->merge;
	struct merge_place *place = bucket(merge, table, sum);
	unsigned way = 0;

	while (way < WAYS && is_valid(host, table, &place[way]))
		way++;
	if (way == WAYS)
		way = merge->victim++ % WAYS;
	place[way] = (struct merge_place){sum, at};
}

/* ------------------------------------------------------------------ merging */

/* Page @index of @vm, as it is, is only read from now on. */
static bool share(struct vm *vm, uint32_t index)
{
	struct umbra_frame to = {.pfn = {vm->entries[index]}, .writable = false};

	return mmu_remap(vm, (umbra_gfn){memory_gfn(vm, index)}, &to, NULL) == 0;
}

/* Have page @index of @vm share frame @pfn, if their contents are equal. */
static bool join(struct vm *vm, uint32_t index, uint32_t pfn)
{
	umbra_gfn gfn = {memory_gfn(vm, index)};
	struct umbra_frame to = {.pfn = {pfn}, .writable = false};
	struct mmu_invalidation held;
	bool joins = false;

	if (!is_equal(frame_va(vm->entries[index]), frame_va(pfn)) ||
	    mmu_invalidate_begin(vm, gfn, 1, &held, NULL))
		return false;
	if (is_equal(frame_va(vm->entries[index]), frame_va(pfn)))
		joins = mmu_remap(vm, gfn, &to, NULL) == 0;
	mmu_invalidate_end(vm, &held);
	vm->machine->merges += joins;
	vm->vcpu->stuck = 0;
	return joins;
}

static bool join_shared(struct host *host, struct vm *vm, uint32_t index, uint32_t sum)
{
	struct merge_place *place = bucket(&host->merge, host->merge.shared, sum);

	for (unsigned i = 0; i < WAYS; i++)
		if (place[i].sum == sum && is_valid(host, host->merge.shared, &place[i]) &&
		    join(vm, index, place[i].at))
			return true;
	return false;
}

/* The same with a page that has been alone so far. *@known: this one is in the table already. */
static bool join_single(struct host *host, struct vm *vm, uint32_t index, uint32_t sum, bool *known)
{
	struct merge_place *place = bucket(&host->merge, host->merge.single, sum);

	for (unsigned i = 0; i < WAYS; i++) {
		struct vm *other;
		uint32_t at, pfn;

		if (place[i].sum != sum || !is_valid(host, host->merge.single, &place[i]))
			continue;
		other = place_page(host, place[i].at, &at);
		if (other == vm && at == index) {
			*known = true;
			continue;
		}
		pfn = other->entries[at];
		if (!is_equal(frame_va(pfn), frame_va(vm->entries[index])) || !share(other, at))
			continue;
		place[i].at = 0;
		note(host, host->merge.shared, sum, pfn);
		other->machine->merges++;
		return join(vm, index, pfn);
	}
	return false;
}

/* Page @index, whose sum is @sum, looks for its like, or waits for it. */
static void settle(struct host *host, struct vm *vm, uint32_t index, uint32_t sum)
{
	bool known = false;

	if (!join_shared(host, vm, index, sum) && !join_single(host, vm, index, sum, &known) &&
	    !known)
		note(host, host->merge.single, sum, place_of(vm, index));
}

/* The figures of the whole machine stand in its first page. */
static void tell(struct host *host)
{
	struct umbra_machine *page = host->guest[0]->machine;
	uint64_t saved = host->frames.sharers - host->frames.shared;

	page->shared_frames = host->frames.shared;
	page->sharers = host->frames.sharers;
	if (saved > page->saved_peak)
		page->saved_peak = saved;
}

/* False: there is nothing to look at. */
static bool look(struct host *host, struct vm *vm, uint32_t index)
{
	uint32_t entry = vm->entries[index], sum;

	if (!memory_has_frame(entry))
		return false;
	vm->machine->merge_scanned++;
	if (entry & MEMORY_SHARED)
		return true;
	if (vm->merge.rest[index]) {
		vm->merge.rest[index]--;
		return true;
	}
	sum = sum_of(frame_va(entry), host->merge.seed);
	if (vm->merge.sum[index] != sum) {
		vm->merge.sum[index] = sum;
		return true;
	}
	settle(host, vm, index, sum);
	return true;
}

/* The page to look at, and the next one behind it. NULL: of a guest that has ended. */
static struct vm *advance(struct host *host, uint32_t *index)
{
	struct merge *merge = &host->merge;
	struct vm *vm = host->guest[merge->guest];

	*index = merge->page++;
	if (!vm->mmu || merge->page >= vm->pages) {
		merge->page = 0;
		merge->guest = (merge->guest + 1) % host->guests;
	}
	return vm->mmu && *index < vm->pages ? vm : NULL;
}

void merge_poll(struct host *host, uint64_t tsc_hz, uint64_t now)
{
	struct merge *merge = &host->merge;
	unsigned looked = 0;

	if (!merge->rate || now < merge->due)
		return;
	for (unsigned i = 0; i < SKIP_MAX && looked < PIECE; i++) {
		uint32_t index;
		struct vm *vm = advance(host, &index);

		looked += vm && look(host, vm, index);
	}
	tell(host);
	merge->due += tsc_hz * PIECE / merge->rate;
	if (merge->due < now)
		merge->due = now;
}

void merge_broken(struct vm *vm, uint32_t index)
{
	vm->machine->merge_breaks++;
	if (vm->merge.rest)
		vm->merge.rest[index] = REST;
	tell(vm->host);
}

/* ------------------------------------------------------------------ setting up */

static bool pages_set_up(struct vm *vm)
{
	struct merge_pages *pages = &vm->merge;

	if (!pages->sum)
		pages->sum = pool_alloc(vm->frames, vm->pages * sizeof(pages->sum[0]));
	if (!pages->rest)
		pages->rest = pool_alloc(vm->frames, vm->pages * sizeof(pages->rest[0]));
	return pages->sum && pages->rest;
}

static bool is_set_up(struct host *host)
{
	struct merge *merge = &host->merge;
	uint64_t pages = 0, places = WAYS;

	for (unsigned i = 0; i < host->guests; i++) {
		if (host->guest[i]->mmu && !pages_set_up(host->guest[i]))
			return false;
		pages += host->guest[i]->pages;
	}
	if (!merge->places) {
		while (places < pages)
			places *= 2;
		merge->seed = rdtsc() * ODD;
		merge->places = (uint32_t)places;
	}
	if (!merge->shared)
		merge->shared = pool_alloc(&host->frames, merge->places * sizeof(merge->shared[0]));
	if (!merge->single)
		merge->single = pool_alloc(&host->frames, merge->places * sizeof(merge->single[0]));
	return merge->shared && merge->single;
}

int merge_set(struct host *host, uint64_t rate, uint64_t now)
{
	if (rate > UMBRA_MERGE_RATE_MAX)
		return UMBRA_EINVAL;
	if (rate && !is_set_up(host))
		return UMBRA_ENOMEM;
	host->merge.rate = rate;
	host->merge.due = now;
	return 0;
}

int merge_range(struct vm *vm, uint64_t gfn, uint64_t pages, uint64_t *merged)
{
	uint64_t before = vm->machine->merges;

	if (!is_set_up(vm->host))
		return UMBRA_ENOMEM;
	for (uint64_t i = 0; i < vm->pages; i++) {
		uint32_t entry = vm->entries[i], sum;

		if (memory_gfn(vm, (uint32_t)i) - gfn >= pages || !memory_has_frame(entry) ||
		    entry & MEMORY_SHARED)
			continue;
		sum = sum_of(frame_va(entry), vm->host->merge.seed);
		vm->merge.sum[i] = sum;
		settle(vm->host, vm, (uint32_t)i, sum);
	}
	tell(vm->host);
	*merged = vm->machine->merges - before;
	return 0;
}

void merge_forget(struct vm *vm)
{
	struct merge_pages *pages = &vm->merge;

	if (pages->sum)
		pool_free(vm->frames, pages->sum, vm->pages * sizeof(pages->sum[0]));
	if (pages->rest)
		pool_free(vm->frames, pages->rest, vm->pages * sizeof(pages->rest[0]));
	*pages = (struct merge_pages){0};
	tell(vm->host);
}
