/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Swapping: guests may have more pages than the machine has frames. Owns the way out to the swap
 * file and back; swapmap.c owns the places there.
 *
 * Which page goes, a clock says, whose hand goes over all guests' pages: what was used since the
 * hand came by last is passed over, by its accessed bits (umbra_age) or, where no mapping tells, as
 * with tables that only we walk, because we asked for it (swap_touch). Nothing of a page can be
 * reached while it is written: its mappings go first, with one flush for the batch.
 *
 * The file is written and read while everybody waits: one processor, one request (hostio_swap).
 * Between two guest entries so many frames are made free (.low, .high) that few of the guests'
 * faults have to wait for a page to be written.
 *
 * => outside of the MMU's lock, all of it
 */
#include "swap.h"
#include "compact.h"
#include "cpu.h"
#include "host.h"
#include "hostio.h"
#include "machine.h"
#include "memory.h"
#include "string.h"
#include "vcpu.h"
#include "vm.h"
#include "x86.h"

#define CHUNK      32u          /* pages that are looked at together, at the clock's hand */
#define BATCH      64u          /* pages that go together: less than that and a chunk */
#define AHEAD_MIN  4u           /* pages that are read together, if they went together, */
#define AHEAD_MAX  SWAPMAP_WORD /* and if the guest wants one after the other */
#define PAGE_WORDS (UMBRA_PAGE_SIZE / sizeof(uint64_t))

/* Pages of one guest that go. */
struct batch {
	struct vm *vm;
	unsigned count;
	uint32_t page[BATCH];
	struct mmu_invalidation hold[BATCH];
};

/* ------------------------------------------------------------------ pages */

static uint64_t *va_of(uint32_t entry)
{
	return (uint64_t *)((uint64_t)(entry & MEMORY_NUMBER) << UMBRA_PAGE_SHIFT);
}

static bool is_zero(const uint64_t *page)
{
	uint64_t any = 0;

	for (unsigned i = 0; i < PAGE_WORDS && !any; i += 8)
		any = page[i] | page[i + 1] | page[i + 2] | page[i + 3] | page[i + 4] |
		      page[i + 5] | page[i + 6] | page[i + 7];
	return !any;
}

/* ------------------------------------------------------------------ which */

/* The slot that page @index of @vm is in. */
static const struct vm_slot *slot_of(const struct vm *vm, uint64_t index)
{
	const struct vm_slot *s = vm->slots;

	while (index - s->index >= s->pages)
		s++;
	return s;
}

static bool can_go(const struct vm *vm, uint64_t index)
{
	uint32_t entry = vm->entries[index];

	return memory_has_frame(entry) && !(entry & MEMORY_SHARED) &&
	       !memory_is_handed(vm, (uint32_t)index);
}

/* Those of the @pages pages from @index on, in one slot, that are cold, into @batch. */
static void look(struct vm *vm, uint64_t index, uint64_t pages, struct batch *batch)
{
	uint64_t young = 0, gfn = memory_gfn(vm, (uint32_t)index);
	bool any = false;

	for (uint64_t i = 0; i < pages && !any; i++)
		any = can_go(vm, index + i);
	if (!any || mmu_age(vm, (umbra_gfn){gfn}, pages, 0, &young))
		return;
	for (uint64_t i = 0; i < pages; i++) {
		uint64_t *word = &vm->recent[(index + i) / 64], bit = 1ull << (index + i) % 64;

		if (!(young >> i & 1) && !(*word & bit) && can_go(vm, index + i))
			batch->page[batch->count++] = (uint32_t)(index + i);
		*word &= ~bit;
	}
}

/* The guest whose pages come next; NULL: there is no more of this one, and it has changed. */
static struct vm *guest_of(struct host *host)
{
	struct swap *swap = &host->swap;
	struct vm *vm = host->guest[swap->guest];

	if (swap->page < vm->pages)
		return vm;
	swap->guest = (swap->guest + 1) % host->guests;
	swap->page = 0;
	return NULL;
}

/*
 * Cold pages of one guest: at least half a batch, unless @left pages have been looked at before
 * (it is counted down), or the guest has no more.
 */
static void collect(struct host *host, struct batch *batch, uint64_t *left)
{
	struct swap *swap = &host->swap;
	struct vm *vm;

	batch->count = 0;
	--*left; /* an end, even where all guests have ended */
	while (*left && batch->count + CHUNK < BATCH && (vm = guest_of(host))) {
		const struct vm_slot *s = slot_of(vm, swap->page);
		uint64_t pages = CHUNK - swap->page % CHUNK;

		if (pages > s->index + s->pages - swap->page)
			pages = s->index + s->pages - swap->page;
		batch->vm = vm;
		look(vm, swap->page, pages, batch);
		swap->page += pages;
		*left -= pages < *left ? pages : *left;
	}
}

/* ------------------------------------------------------------------ out */

/* Page @index has no need of its frame any more: @entry says where it is. */
static void leave(struct vm *vm, uint32_t index, uint32_t entry)
{
	compact_broken(vm, index);
	frame_give(vm->frames, vm->entries[index]);
	vm->entries[index] = entry;
}

/* The @count pages, to places that lie side by side from @first on. False: they stay. */
static bool write_run(struct vm *vm, const uint32_t *pages, unsigned count, uint64_t first)
{
	struct swap *swap = &vm->host->swap;
	uint64_t begun;
	bool done;

	for (unsigned i = 0; i < count; i++) {
		const uint64_t *page = va_of(vm->entries[pages[i]]);

		page_copy(swap->data + i * UMBRA_PAGE_SIZE, page);
		swapmap_note(&swap->map, first + i, page);
	}
	begun = rdtsc();
	done = hostio_swap(vm->host, UMBRA_REQUEST_WRITE, swapmap_offset(first),
			   count * UMBRA_PAGE_SIZE);
	swap->figures->out_tsc += rdtsc() - begun;
	for (unsigned i = 0; i < count; i++)
		if (done)
			leave(vm, pages[i], MEMORY_SWAPPED | (uint32_t)(first + i));
		else
			swapmap_forget(&swap->map, first + i);
	swap->figures->out += done ? count : 0;
	swap->figures->failed += !done;
	return done;
}

/* Returns how many frames became free. */
static uint64_t write_pages(struct vm *vm, uint32_t *pages, unsigned count)
{
	struct swap *swap = &vm->host->swap;
	uint64_t first;
	unsigned sent = 0, run;

	while (sent < count) {
		run = count - sent < SWAPMAP_WORD ? count - sent : SWAPMAP_WORD;
		run = swapmap_take(&swap->map, run, &first);
		if (!run || !write_run(vm, pages + sent, run, first))
			break;
		sent += run;
	}
	return sent;
}

/* The batch goes, as far as it can: returns how many frames became free. */
static uint64_t batch_out(struct batch *batch)
{
	struct vm *vm = batch->vm;
	uint64_t zeros = 0, written;
	unsigned begun = 0, full = 0;

	for (; begun < batch->count; begun++)
		if (mmu_invalidate_gather(vm, (umbra_gfn){memory_gfn(vm, batch->page[begun])}, 1,
					  &batch->hold[begun], NULL))
			break;
	mmu_flush(vm);
	if (vm->vcpu)
		vm->vcpu->stuck = 0;
	for (unsigned i = 0; i < begun; i++) {
		uint32_t index = batch->page[i];

		if (is_zero(va_of(vm->entries[index]))) {
			leave(vm, index, 0);
			zeros++;
		} else {
			batch->page[full++] = index;
		}
	}
	written = write_pages(vm, batch->page, full);
	while (begun)
		mmu_invalidate_end(vm, &batch->hold[--begun]);
	vm->host->swap.figures->zeros += zeros;
	return zeros + written;
}

/* At least @pages frames become free, if looking at @left pages of guests suffices. */
static uint64_t reclaim(struct host *host, uint64_t pages, uint64_t left)
{
	static struct batch batch; /* too large for the stack; nobody comes here twice at once */
	uint64_t freed = 0;

	while (freed < pages && left) {
		collect(host, &batch, &left);
		if (batch.count > pages - freed)
			batch.count = (unsigned)(pages - freed);
		if (!batch.count)
			continue;
		uint64_t went = batch_out(&batch);

		if (!went)
			break; /* the file is full, or refuses */
		freed += went;
	}
	return freed;
}

/* Looking at each page three times: the first finds it used, the second by chance again. */
static uint64_t all_pages(const struct host *host)
{
	uint64_t pages = 0;

	for (unsigned i = 0; i < host->guests; i++)
		pages += host->guest[i]->pages;
	return 3 * pages;
}

uint64_t swap_reclaim(struct host *host, uint64_t pages)
{
	return host->swap.on ? reclaim(host, pages, all_pages(host)) : 0;
}

bool swap_make_room(struct host *host)
{
	struct swap *swap = &host->swap;

	compact_give_up(host);
	if (!swap->on)
		return host->frames.count;
	swap->figures->waits++;
	return reclaim(host, BATCH, all_pages(host)) != 0 || host->frames.count;
}

void swap_poll(struct host *host, uint64_t now)
{
	struct swap *swap = &host->swap;
	uint64_t free = host->frames.count;

	if (!swap->on || now < swap->rest_until)
		return;
	swap->making = free < (swap->making ? swap->high : swap->low);
	if (swap->making && !reclaim(host, BATCH, all_pages(host) / 48))
		swap->rest_until = now + host->guest[0]->cpu->tsc_hz / 50;
}

uint64_t swap_next(const struct host *host, uint64_t now)
{
	const struct swap *swap = &host->swap;

	if (!swap->making)
		return UINT64_MAX;
	return now < swap->rest_until ? swap->rest_until : now + host->guest[0]->cpu->tsc_hz / 5000;
}

/* ------------------------------------------------------------------ in */

static _Noreturn void lost(struct vm *vm, uint64_t index, uint64_t slot, const char *what)
{
	machine_end(vm, UMBRA_END_SWAP, "gfn %lx: %s at offset %lu of the swap file",
		    memory_gfn(vm, (uint32_t)index), what, swapmap_offset(slot));
}

/* How many pages to read ahead: more and more as long as the guest wants those behind the last. */
static unsigned window(struct vm *vm, uint64_t index)
{
	bool goes_on = index >= vm->ahead_end && index < vm->ahead_end + AHEAD_MIN;

	if (goes_on && vm->ahead < AHEAD_MAX)
		vm->ahead *= 2;
	if (!goes_on && vm->ahead > AHEAD_MIN)
		vm->ahead /= 2;
	if (vm->ahead < AHEAD_MIN)
		vm->ahead = AHEAD_MIN;
	return vm->ahead;
}

/* How many pages from @index on went together, and can come together. */
static unsigned together(struct vm *vm, uint64_t index)
{
	const struct vm_slot *s = slot_of(vm, index);
	uint64_t room = vm->frames->count, end = s->index + s->pages;
	unsigned count = 1, most = window(vm, index);

	room = room > vm->host->swap.low ? room - vm->host->swap.low : 0;
	while (count < most && count < room && index + count < end &&
	       vm->entries[index + count] == vm->entries[index] + count)
		count++;
	vm->ahead_end = index + count;
	return count;
}

/* @count pages, from the file. Fewer are asked for if so many cannot be had. 0: not even one. */
static unsigned read_run(struct vm *vm, uint64_t slot, unsigned count)
{
	struct umbra_swap *figures = vm->host->swap.figures;
	uint64_t begun = rdtsc(), at = swapmap_offset(slot);
	bool done = hostio_swap(vm->host, UMBRA_REQUEST_READ, at, count * UMBRA_PAGE_SIZE);

	if (!done && count > 1) {
		count = 1;
		done = hostio_swap(vm->host, UMBRA_REQUEST_READ, at, UMBRA_PAGE_SIZE);
	}
	figures->in_tsc += rdtsc() - begun;
	figures->failed += !done;
	return done ? count : 0;
}

/* Page @index, the @i-th that was read, gets a frame. False: it is not what it was. */
static bool bring(struct vm *vm, uint64_t index, unsigned i)
{
	struct swap *swap = &vm->host->swap;
	const uint64_t *page = (const uint64_t *)(swap->data + i * UMBRA_PAGE_SIZE);
	uint64_t slot = vm->entries[index] & MEMORY_NUMBER, frame;

	if (!swapmap_is_noted(&swap->map, slot, page))
		return false;
	if (!frame_take(vm->frames, &frame))
		return true; /* read ahead for nothing */
	page_copy((void *)(frame << UMBRA_PAGE_SHIFT), page);
	frame_own(vm->frames, frame, vm->number, (uint32_t)index);
	vm->entries[index] = (uint32_t)frame;
	swapmap_forget(&swap->map, slot);
	swap->figures->in++;
	swap->figures->ahead += i != 0;
	return true;
}

static void take_time(struct umbra_swap *figures, uint64_t ticks)
{
	figures->faults++;
	figures->faults_tsc += ticks;
	if (ticks > figures->fault_longest_tsc)
		figures->fault_longest_tsc = ticks;
}

void swap_in(struct vm *vm, uint64_t index)
{
	struct swap *swap = &vm->host->swap;
	uint64_t begun = rdtsc(), slot = vm->entries[index] & MEMORY_NUMBER;
	unsigned count;

	if (!vm->frames->count && !swap_make_room(vm->host))
		machine_end(vm, UMBRA_END_NOMEM, "no free frame for a page of the guest%s",
			    swap_excuse(vm->host));
	count = read_run(vm, slot, together(vm, index));
	if (!count)
		lost(vm, index, slot, "cannot be read");
	if (!bring(vm, index, 0))
		lost(vm, index, slot, "something else than was written is");
	swap_touch(vm->recent, index);
	for (unsigned i = 1; i < count; i++)
		bring(vm, index + i, i);
	take_time(swap->figures, rdtsc() - begun);
	if (vm->frames->count < swap->low && vm->vcpu)
		vm->vcpu->poll_due = 0;
}

/* ------------------------------------------------------------------ setting up */

const char *swap_excuse(const struct host *host)
{
	const struct swap *swap = &host->swap;

	if (!swap->on)
		return ": give more with --frames";
	if (!swap->map.slots)
		return ": give more with --frames, or a file with --swap";
	if (swap->figures->used == swap->map.slots)
		return ": the swap file is full; give more with --swap FILE,SIZE or --frames";
	return ": the swap file takes no more; give more with --frames";
}

bool swap_guest_init(struct vm *vm)
{
	if (!vm->host->swap.on)
		return true;
	vm->recent = pool_alloc(vm->frames, (vm->pages + 63) / 64 * sizeof(vm->recent[0]));
	return vm->recent;
}

void swap_guest_forget(struct vm *vm)
{
	if (vm->recent)
		pool_free(vm->frames, vm->recent, (vm->pages + 63) / 64 * sizeof(vm->recent[0]));
	vm->recent = NULL;
}

bool swap_init(struct host *host, uint64_t slots)
{
	struct swap *swap = &host->swap;
	struct frames *frames = &host->frames;
	struct vm *first = host->guest[0];

	swap->figures = &first->machine->swap;
	swap->low = frames->count / 128;
	if (swap->low > 1024)
		swap->low = 1024;
	swap->high = 2 * swap->low;
	if (!swapmap_init(&swap->map, frames, slots, &swap->figures->used))
		return false;
	if (!swap->map.slots)
		return true;
	if (hostio_init(first))
		return false;
	swap->data = hostio_data(first, UMBRA_REQUEST_SWAP);
	return true;
}

void swap_figures(struct host *host)
{
	struct umbra_swap *figures = &host->guest[0]->machine->swap;

	figures->slots = host->swap.map.slots;
	figures->frames = host->frames.given;
	figures->free = host->frames.count;
}
