/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The audit of the machine's frames, in the manner of umbra_audit(): what frames.c knows of each
 * frame is compared with the guests' entries (memory.c), both ways.
 *
 *   1  .free lists the free frames, each once; each knows where it stands there
 *   2  .block_free counts the free frames of each 2 MiB
 *   3  an owned frame's owner has it; a page with a frame of its own is its owner
 *   4  a shared frame has as many sharers as there are pages that share it
 *   5  .shared and .sharers count them all
 *   6  a page in the swap file has a place there that is taken; no place is without a page
 *
 * Owns nothing. Shared frames' counts are taken down to 0 and put back while they are checked, so
 * that no memory is needed for it.
 */
#include "books.h"
#include "host.h"
#include "memory.h"
#include "vm.h"

struct books {
	struct host *host;
	uint64_t wrong;
	const char *what;
	uint64_t where;
};

static void check(struct books *books, bool holds, uint64_t where, const char *what)
{
	if (holds)
		return;
	if (!books->wrong++) {
		books->what = what;
		books->where = where;
	}
}

static const struct frame *frame_of(const struct books *books, uint32_t entry)
{
	uint32_t pfn = entry & MEMORY_NUMBER;

	return pfn < books->host->frames.end ? &books->host->frames.frame[pfn] : NULL;
}

static void check_free(struct books *books)
{
	const struct frames *frames = &books->host->frames;

	for (size_t i = 0; i < frames->count; i++) {
		const struct frame *frame = frame_of(books, frames->free[i]);

		check(books, frame && frame->use == FRAME_FREE && frame->at == i, frames->free[i],
		      "the list of free frames names one that does not say so");
	}
}

static bool has_it(const struct books *books, const struct frame *frame, uint64_t pfn)
{
	const struct vm *vm =
	    frame->guest < books->host->guests ? books->host->guest[frame->guest] : NULL;

	return vm && vm->entries && frame->at < vm->pages && vm->entries[frame->at] == pfn;
}

static void check_frames(struct books *books)
{
	const struct frames *frames = &books->host->frames;
	uint64_t free = 0, in_block = 0, shared = 0, sharers = 0;

	for (uint64_t pfn = 0; pfn < frames->end; pfn++) {
		const struct frame *frame = &frames->frame[pfn];

		if (frame->use == FRAME_FREE)
			in_block++;
		if (frame->use == FRAME_OWNED)
			check(books, has_it(books, frame, pfn), pfn,
			      "a frame's owner does not have it");
		if (frame->use == FRAME_SHARED) {
			shared++;
			sharers += frame->at;
			check(books, frame->at, pfn, "a shared frame has no sharers");
		}
		if ((pfn + 1) % FRAMES_BLOCK && pfn + 1 < frames->end)
			continue;
		check(books, frames->block_free[pfn / FRAMES_BLOCK] == in_block, pfn,
		      "the free frames of 2 MiB are miscounted");
		free += in_block;
		in_block = 0;
	}
	check(books, free == frames->count, free, "a free frame is not in the list of them");
	check(books, shared == frames->shared, shared, "shared frames are miscounted");
	check(books, sharers == frames->sharers, sharers, "sharers are miscounted");
}

/* Each page of @vm; it is taken from the count of the frame that it shares. */
static void check_pages(struct books *books, const struct vm *vm)
{
	for (uint64_t i = 0; vm->entries && i < vm->pages; i++) {
		uint32_t entry = vm->entries[i];
		const struct frame *frame = frame_of(books, entry);

		if (!memory_has_frame(entry))
			continue;
		if (!(entry & MEMORY_SHARED))
			check(books,
			      frame && frame->use == FRAME_OWNED && frame->at == i &&
				  frame->guest == vm->number,
			      i, "a page's frame is not its own");
		else if (!frame || frame->use != FRAME_SHARED)
			check(books, false, i, "a page shares a frame that is not shared");
		else
			books->host->frames.frame[entry & MEMORY_NUMBER].at--;
	}
}

/* The same backwards. */
static void put_back(struct books *books, const struct vm *vm)
{
	for (uint64_t i = 0; vm->entries && i < vm->pages; i++) {
		uint32_t entry = vm->entries[i];
		const struct frame *frame = frame_of(books, entry);

		if (memory_has_frame(entry) && entry & MEMORY_SHARED && frame &&
		    frame->use == FRAME_SHARED)
			books->host->frames.frame[entry & MEMORY_NUMBER].at++;
	}
}

static void check_swapped(struct books *books)
{
	const struct host *host = books->host;
	const struct swap *swap = &host->swap;
	uint64_t pages = 0, places = 0;

	for (unsigned i = 0; i < host->guests; i++)
		for (uint64_t k = 0; host->guest[i]->entries && k < host->guest[i]->pages; k++) {
			uint32_t entry = host->guest[i]->entries[k], slot = entry & MEMORY_NUMBER;

			if (!(entry & MEMORY_SWAPPED))
				continue;
			pages++;
			check(books, swapmap_is_taken(&swap->map, slot), k,
			      "a page is in a place of the swap file that is free");
		}
	for (uint64_t slot = 0; slot < swap->map.slots; slot++)
		places += swapmap_is_taken(&swap->map, slot);
	check(books, places == pages && (!places || places == swap->figures->used), places,
	      "places of the swap file are miscounted");
}

static void check_sharers(struct books *books)
{
	const struct host *host = books->host;

	for (unsigned i = 0; i < host->guests; i++)
		check_pages(books, host->guest[i]);
	for (uint64_t pfn = 0; pfn < host->frames.end; pfn++)
		check(books,
		      host->frames.frame[pfn].use != FRAME_SHARED ||
			  host->frames.frame[pfn].at == 0,
		      pfn, "a shared frame's sharers are miscounted");
	for (unsigned i = 0; i < host->guests; i++)
		put_back(books, host->guest[i]);
}

uint64_t books_audit(struct host *host, const char **what, uint64_t *where)
{
	struct books books = {.host = host};

	check_free(&books);
	check_frames(&books);
	check_sharers(&books);
	check_swapped(&books);
	if (books.wrong) {
		*what = books.what;
		*where = books.where;
	}
	return books.wrong;
}
