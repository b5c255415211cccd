/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The arena host. See arena.h for what it promises; here is how the mapping is cut:
 *
 *     base                                                             (va, one mmap)
 *     | low pages      | high pages               | frames            | areas   | huge areas |
 *     hpa LOW_BASE...    hpa HIGH_BASE...           ...continues        2 MiB     1 GiB each,
 *       library memory     library memory             guest memory,       homes of gfns that are
 *       with .low set                                 one page each       side by side; aligned
 *
 * Library memory: a byte per page says whether it is used; a block is the first run of free
 * pages that is long enough. Frames: an array of the free ones, from which a random element
 * is taken; gfn_frame and frame_gfn point at each other. A frame of an area is only ever used
 * by the one gfn whose home it is: it is never among the free ones.
 */
#define _DEFAULT_SOURCE
#include "arena.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define LOW_BASE  0x01000000ull
#define HIGH_BASE 0x440003000ull /* above 4 GiB, aligned to 4 KiB and no more */

#define AREA           512u /* frames */
#define HUGE           (512u * AREA)
#define NO_FRAME       UINT32_MAX
#define FRAME_FREE     UINT64_MAX
#define FRAME_RESERVED (UINT64_MAX - 1)

struct arena {
	pthread_mutex_t lock;
	unsigned char *base;
	size_t bytes;

	uint64_t low_pages;
	uint64_t library_pages; /* low and high */
	unsigned char *used;    /* [library_pages] */
	uint64_t used_pages;

	uint64_t gfns;
	uint32_t *gfn_frame; /* [gfns]: frame index or NO_FRAME */
	uint64_t frames;
	uint64_t *frame_gfn; /* [frames]: gfn, FRAME_FREE or FRAME_RESERVED */
	uint64_t area_first; /* the first frame of an area, */
	uint64_t huge_first; /*   of one of 1 GiB */
	uint32_t *area_home; /* [gfns / AREA]: that of this one; NO_FRAME: not side by side */
	struct area_state {
		uint16_t away, protected; /* gfns that are not at home; that are protected */
	} * area;                         /* [gfns / AREA] */
	uint32_t *huge_spoilt;            /* [gfns / HUGE]: areas with such; NO_FRAME: not huge */
	unsigned char *protected;         /* [gfns] */
	uint32_t *free;                   /* [frames_free]: frame indices, in no order */
	uint64_t frames_free;
	uint64_t random;

	void (*flush)(void *ctx, const struct umbra_flush *flush);
	void *flush_ctx;
};

/* ------------------------------------------------------------------ addresses */

static uint64_t page_hpa(const struct arena *arena, uint64_t page)
{
	if (page < arena->low_pages)
		return LOW_BASE + page * UMBRA_PAGE_SIZE;
	return HIGH_BASE + (page - arena->low_pages) * UMBRA_PAGE_SIZE;
}

/* The page index of @hpa, or UINT64_MAX. */
static uint64_t hpa_page(const struct arena *arena, uint64_t hpa)
{
	uint64_t all = arena->library_pages + arena->frames;
	uint64_t page;

	if (hpa >= LOW_BASE && hpa < HIGH_BASE) {
		page = (hpa - LOW_BASE) / UMBRA_PAGE_SIZE;
		return page < arena->low_pages ? page : UINT64_MAX;
	}
	if (hpa < HIGH_BASE)
		return UINT64_MAX;
	page = (hpa - HIGH_BASE) / UMBRA_PAGE_SIZE + arena->low_pages;
	return page < all ? page : UINT64_MAX;
}

static unsigned char *page_va(const struct arena *arena, uint64_t page)
{
	return arena->base + page * UMBRA_PAGE_SIZE;
}

static unsigned char *frame_bytes(const struct arena *arena, uint32_t frame)
{
	return page_va(arena, arena->library_pages + frame);
}

static umbra_pfn frame_pfn(const struct arena *arena, uint32_t frame)
{
	return (umbra_pfn){page_hpa(arena, arena->library_pages + frame) >> UMBRA_PAGE_SHIFT};
}

static uint32_t pfn_frame(const struct arena *arena, umbra_pfn pfn)
{
	uint64_t page = hpa_page(arena, pfn.n << UMBRA_PAGE_SHIFT);

	if (page == UINT64_MAX || page < arena->library_pages)
		return NO_FRAME;
	return (uint32_t)(page - arena->library_pages);
}

/* ------------------------------------------------------------------ library memory */

/* First fit in pages first..end-1; UINT64_MAX if no run is long enough. */
static uint64_t find_run(const struct arena *arena, uint64_t first, uint64_t end, uint64_t pages)
{
	uint64_t run = 0;

	for (uint64_t page = first; page < end; page++) {
		run = arena->used[page] ? 0 : run + 1;
		if (run == pages)
			return page + 1 - pages;
	}
	return UINT64_MAX;
}

static int host_alloc(void *ctx, size_t size, bool low, struct umbra_memory *memory)
{
	struct arena *arena = ctx;
	uint64_t pages = (size + UMBRA_PAGE_SIZE - 1) / UMBRA_PAGE_SIZE;
	uint64_t first = low ? 0 : arena->low_pages;
	uint64_t end = low ? arena->low_pages : arena->library_pages;
	uint64_t page;

	if (!pages)
		return UMBRA_ENOMEM;
	pthread_mutex_lock(&arena->lock);
	page = find_run(arena, first, end, pages);
	if (page != UINT64_MAX) {
		memset(arena->used + page, 1, pages);
		arena->used_pages += pages;
	}
	pthread_mutex_unlock(&arena->lock);
	if (page == UINT64_MAX)
		return UMBRA_ENOMEM;
	memory->va = page_va(arena, page);
	memory->hpa = page_hpa(arena, page);
	memset(memory->va, 0, pages * UMBRA_PAGE_SIZE);
	return 0;
}

static void host_free(void *ctx, size_t size, struct umbra_memory memory)
{
	struct arena *arena = ctx;
	uint64_t pages = (size + UMBRA_PAGE_SIZE - 1) / UMBRA_PAGE_SIZE;
	uint64_t page = hpa_page(arena, memory.hpa);

	/* A block that was never handed out, or is given back twice: the library is broken. */
	if (page == UINT64_MAX || page + pages > arena->library_pages ||
	    page_va(arena, page) != memory.va)
		abort();
	pthread_mutex_lock(&arena->lock);
	for (uint64_t i = page; i < page + pages; i++) {
		if (!arena->used[i])
			abort();
		arena->used[i] = 0;
	}
	arena->used_pages -= pages;
	memset(memory.va, ARENA_JUNK, pages * UMBRA_PAGE_SIZE);
	pthread_mutex_unlock(&arena->lock);
}

uint64_t arena_in_use(struct arena *arena)
{
	uint64_t pages;

	pthread_mutex_lock(&arena->lock);
	pages = arena->used_pages;
	pthread_mutex_unlock(&arena->lock);
	return pages * UMBRA_PAGE_SIZE;
}

/* ------------------------------------------------------------------ frames */

static uint64_t next_random(struct arena *arena)
{
	uint64_t x = arena->random += 0x9e3779b97f4a7c15ull;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

/* Any free frame, zeroed; NO_FRAME if there is none. Lock held. */
static uint32_t frame_take(struct arena *arena, uint64_t owner)
{
	uint64_t at;
	uint32_t frame;

	if (!arena->frames_free)
		return NO_FRAME;
	at = next_random(arena) % arena->frames_free;
	frame = arena->free[at];
	arena->free[at] = arena->free[--arena->frames_free];
	arena->frame_gfn[frame] = owner;
	memset(frame_bytes(arena, frame), 0, UMBRA_PAGE_SIZE);
	return frame;
}

static void frame_give(struct arena *arena, uint32_t frame)
{
	memset(frame_bytes(arena, frame), ARENA_JUNK, UMBRA_PAGE_SIZE);
	arena->frame_gfn[frame] = FRAME_FREE;
	if (frame < arena->area_first)
		arena->free[arena->frames_free++] = frame;
}

/* Where @gfn would be side by side with its neighbours. */
static uint32_t home_of(const struct arena *arena, umbra_gfn gfn)
{
	uint64_t area = gfn.n / AREA;
	uint32_t home = area < arena->gfns / AREA ? arena->area_home[area] : NO_FRAME;

	return home == NO_FRAME ? NO_FRAME : home + (uint32_t)(gfn.n % AREA);
}

/* Take @gfn out of its area's state, or (@sign 1) add it. */
static void area_count(struct arena *arena, umbra_gfn gfn, int sign)
{
	struct area_state *area = &arena->area[gfn.n / AREA];
	uint32_t *spoilt = &arena->huge_spoilt[gfn.n / HUGE];
	bool before = area->away || area->protected, after;

	area->away += sign * (arena->gfn_frame[gfn.n] != home_of(arena, gfn));
	area->protected += sign * arena->protected[gfn.n];
	after = area->away || area->protected;
	if (*spoilt != NO_FRAME)
		*spoilt += after - before;
}

/* Set what backs @gfn, and whether it is protected. */
static void frame_set(struct arena *arena, umbra_gfn gfn, uint32_t frame, bool protected)
{
	bool counts = home_of(arena, gfn) != NO_FRAME;

	if (counts)
		area_count(arena, gfn, -1);
	arena->gfn_frame[gfn.n] = frame;
	arena->protected[gfn.n] = protected;
	if (frame != NO_FRAME)
		arena->frame_gfn[frame] = gfn.n;
	if (counts)
		area_count(arena, gfn, 1);
}

/* struct umbra_frame's level of what is there. */
static uint8_t frame_level(const struct arena *arena, umbra_gfn gfn)
{
	const struct area_state *area = &arena->area[gfn.n / AREA];

	if (home_of(arena, gfn) == NO_FRAME || area->away || area->protected % AREA)
		return 1;
	return arena->huge_spoilt[gfn.n / HUGE] ? 2 : 3; /* not of 1 GiB at all: NO_FRAME */
}

/* Let @gfn, which has a frame, live in @to. */
static void frame_replace(struct arena *arena, umbra_gfn gfn, uint32_t to)
{
	uint32_t from = arena->gfn_frame[gfn.n];

	memcpy(frame_bytes(arena, to), frame_bytes(arena, from), UMBRA_PAGE_SIZE);
	frame_set(arena, gfn, to, arena->protected[gfn.n]);
	frame_give(arena, from);
}

static int host_frame_get(void *ctx, umbra_gfn gfn, enum umbra_want want, struct umbra_frame *out)
{
	struct arena *arena = ctx;
	uint32_t frame = NO_FRAME;
	uint8_t level = 1;
	bool writable = true;

	pthread_mutex_lock(&arena->lock);
	if (gfn.n < arena->gfns) {
		frame = arena->gfn_frame[gfn.n];
		if (frame == NO_FRAME && want != UMBRA_WANT_PEEK) {
			frame = frame_take(arena, gfn.n);
			if (frame != NO_FRAME)
				frame_set(arena, gfn, frame, false);
		} else if (frame != NO_FRAME && want == UMBRA_WANT_WRITE) {
			frame_set(arena, gfn, frame, false);
		}
		writable = !arena->protected[gfn.n];
		level = frame_level(arena, gfn);
	}
	pthread_mutex_unlock(&arena->lock);
	if (frame == NO_FRAME)
		return want == UMBRA_WANT_PEEK ? UMBRA_ENOENT : UMBRA_ENOMEM;
	out->pfn = frame_pfn(arena, frame);
	out->writable = writable;
	out->level = level;
	return 0;
}

static void *host_frame_va(void *ctx, umbra_pfn pfn)
{
	struct arena *arena = ctx;
	uint32_t frame = pfn_frame(arena, pfn);

	if (frame == NO_FRAME) /* not a pfn that frame_get ever gave */
		abort();
	return frame_bytes(arena, frame);
}

static void host_frame_move(void *ctx, umbra_gfn gfn, const struct umbra_frame *frame)
{
	struct arena *arena = ctx;
	uint32_t to = pfn_frame(arena, frame->pfn);

	pthread_mutex_lock(&arena->lock);
	if (to == NO_FRAME || arena->frame_gfn[to] != FRAME_RESERVED)
		abort();
	if (arena->gfn_frame[gfn.n] != NO_FRAME) {
		frame_replace(arena, gfn, to);
	} else {
		frame_set(arena, gfn, to, false);
	}
	pthread_mutex_unlock(&arena->lock);
}

int arena_frame_reserve(struct arena *arena, umbra_pfn *pfn)
{
	uint32_t frame;

	pthread_mutex_lock(&arena->lock);
	frame = frame_take(arena, FRAME_RESERVED);
	pthread_mutex_unlock(&arena->lock);
	if (frame == NO_FRAME)
		return UMBRA_ENOMEM;
	*pfn = frame_pfn(arena, frame);
	return 0;
}

void arena_frame_release(struct arena *arena, umbra_pfn pfn)
{
	uint32_t frame = pfn_frame(arena, pfn);

	pthread_mutex_lock(&arena->lock);
	if (frame != NO_FRAME && arena->frame_gfn[frame] == FRAME_RESERVED)
		frame_give(arena, frame);
	pthread_mutex_unlock(&arena->lock);
}

void arena_frame_discard(struct arena *arena, umbra_gfn gfn)
{
	pthread_mutex_lock(&arena->lock);
	if (gfn.n < arena->gfns && arena->gfn_frame[gfn.n] != NO_FRAME) {
		frame_give(arena, arena->gfn_frame[gfn.n]);
		frame_set(arena, gfn, NO_FRAME, false);
	}
	pthread_mutex_unlock(&arena->lock);
}

int arena_frame_swap(struct arena *arena, umbra_gfn gfn)
{
	int error = UMBRA_ENOENT;

	pthread_mutex_lock(&arena->lock);
	if (gfn.n < arena->gfns && arena->gfn_frame[gfn.n] != NO_FRAME) {
		uint32_t to = frame_take(arena, FRAME_RESERVED);

		error = to == NO_FRAME ? UMBRA_ENOMEM : 0;
		if (!error)
			frame_replace(arena, gfn, to);
	}
	pthread_mutex_unlock(&arena->lock);
	return error;
}

void arena_area_gather(struct arena *arena, umbra_gfn gfn)
{
	pthread_mutex_lock(&arena->lock);
	gfn.n -= gfn.n % AREA;
	for (unsigned i = 0; i < AREA && home_of(arena, gfn) != NO_FRAME; i++, gfn.n++) {
		uint32_t home = home_of(arena, gfn);

		if (arena->gfn_frame[gfn.n] == NO_FRAME) {
			memset(frame_bytes(arena, home), 0, UMBRA_PAGE_SIZE);
		} else if (arena->gfn_frame[gfn.n] != home) {
			frame_replace(arena, gfn, home);
		}
		frame_set(arena, gfn, home, false);
	}
	pthread_mutex_unlock(&arena->lock);
}

void arena_frame_protect(struct arena *arena, umbra_gfn gfn)
{
	pthread_mutex_lock(&arena->lock);
	if (gfn.n < arena->gfns && arena->gfn_frame[gfn.n] != NO_FRAME)
		frame_set(arena, gfn, arena->gfn_frame[gfn.n], true);
	pthread_mutex_unlock(&arena->lock);
}

bool arena_is_protected(struct arena *arena, umbra_gfn gfn)
{
	bool protected;

	pthread_mutex_lock(&arena->lock);
	protected = gfn.n < arena->gfns && arena->protected[gfn.n];
	pthread_mutex_unlock(&arena->lock);
	return protected;
}

void *arena_page(struct arena *arena, umbra_gfn gfn)
{
	struct umbra_frame frame;

	if (host_frame_get(arena, gfn, UMBRA_WANT_WRITE, &frame))
		return NULL;
	return host_frame_va(arena, frame.pfn);
}

/* ------------------------------------------------------------------ looking in */

bool arena_frame_of(struct arena *arena, umbra_gfn gfn, umbra_pfn *pfn)
{
	struct umbra_frame frame;

	if (host_frame_get(arena, gfn, UMBRA_WANT_PEEK, &frame))
		return false;
	*pfn = frame.pfn;
	return true;
}

bool arena_gfn_of(struct arena *arena, umbra_pfn pfn, umbra_gfn *gfn)
{
	uint32_t frame = pfn_frame(arena, pfn);
	uint64_t owner = FRAME_FREE;

	if (frame == NO_FRAME)
		return false;
	pthread_mutex_lock(&arena->lock);
	owner = arena->frame_gfn[frame];
	pthread_mutex_unlock(&arena->lock);
	if (owner == FRAME_FREE || owner == FRAME_RESERVED)
		return false;
	gfn->n = owner;
	return true;
}

bool arena_is_library(struct arena *arena, uint64_t hpa)
{
	uint64_t page = hpa_page(arena, hpa);
	bool used;

	if (page >= arena->library_pages)
		return false;
	pthread_mutex_lock(&arena->lock);
	used = arena->used[page];
	pthread_mutex_unlock(&arena->lock);
	return used;
}

void *arena_word(struct arena *arena, uint64_t hpa)
{
	umbra_gfn gfn;

	if (!arena_is_library(arena, hpa) &&
	    !arena_gfn_of(arena, (umbra_pfn){hpa >> UMBRA_PAGE_SHIFT}, &gfn))
		return NULL;
	return page_va(arena, hpa_page(arena, hpa)) + (hpa & (UMBRA_PAGE_SIZE - 8));
}

/* ------------------------------------------------------------------ life */

static void host_flush(void *ctx, const struct umbra_flush *flush)
{
	struct arena *arena = ctx;

	if (arena->flush)
		arena->flush(arena->flush_ctx, flush);
}

const struct umbra_host arena_host = {
    .alloc = host_alloc,
    .free = host_free,
    .frame_get = host_frame_get,
    .frame_va = host_frame_va,
    .frame_move = host_frame_move,
    .flush = host_flush,
};

/*
 * Which areas of gfns are to have a home of their own, in which order? Those of huge ones come
 * last. Counts them in *@areas and, those of 1 GiB, in *@huge.
 */
static void choose_areas(struct arena *arena, const struct arena_options *options, uint64_t *areas,
			 uint64_t *huge)
{
	uint64_t last = arena->gfns / AREA;

	*areas = *huge = 0;
	for (uint64_t i = 0; i <= arena->gfns / HUGE; i++)
		arena->huge_spoilt[i] = NO_FRAME;
	for (uint64_t i = 0; options->huge && i < arena->gfns / HUGE; i++)
		if (next_random(arena) % 100 < options->huge)
			arena->huge_spoilt[i] = (uint32_t)(*huge)++;
	for (uint64_t area = 0; area < last; area++) {
		bool large = next_random(arena) % 100 < options->large;
		uint32_t *in = &arena->huge_spoilt[area * AREA / HUGE];

		arena->area_home[area] = NO_FRAME;
		if (*in != NO_FRAME)
			arena->area_home[area] = *in * (HUGE / AREA) + area % (HUGE / AREA);
		else if (large)
			arena->area_home[area] = (uint32_t)(*areas)++;
	}
}

/* Let all gfns of these areas be at home. */
static void settle_areas(struct arena *arena)
{
	for (uint64_t area = 0; area < arena->gfns / AREA; area++) {
		bool huge = arena->huge_spoilt[area * AREA / HUGE] != NO_FRAME;
		uint32_t home = arena->area_home[area];

		if (home == NO_FRAME)
			continue;
		home = (uint32_t)(huge ? arena->huge_first : arena->area_first) + home * AREA;
		arena->area_home[area] = home;
		for (unsigned i = 0; i < AREA; i++) {
			arena->gfn_frame[area * AREA + i] = home + i;
			arena->frame_gfn[home + i] = area * AREA + i;
		}
	}
	for (uint64_t i = 0; i <= arena->gfns / HUGE; i++)
		if (arena->huge_spoilt[i] != NO_FRAME)
			arena->huge_spoilt[i] = 0;
}

/* The first frame from @frame on whose pfn is a multiple of @pages. */
static uint64_t align_frame(const struct arena *arena, uint64_t frame, uint64_t pages)
{
	uint64_t pfn = page_hpa(arena, arena->library_pages + frame) / UMBRA_PAGE_SIZE;

	return frame + (pages - pfn % pages) % pages;
}

int arena_create(const struct arena_options *options, struct arena **out)
{
	const uint64_t most = 1ull << 28;
	uint64_t areas, huge;
	struct arena *arena;

	if (!options->gfns || options->gfns > most || !options->frames || options->frames > most ||
	    options->large > 100 || options->huge > 100 || options->low > 1u << 30 ||
	    options->high > most * UMBRA_PAGE_SIZE)
		return UMBRA_EINVAL;
	arena = calloc(1, sizeof(*arena));
	if (!arena)
		return UMBRA_ENOMEM;
	pthread_mutex_init(&arena->lock, NULL);
	arena->low_pages = (options->low + UMBRA_PAGE_SIZE - 1) / UMBRA_PAGE_SIZE;
	arena->library_pages =
	    arena->low_pages + (options->high + UMBRA_PAGE_SIZE - 1) / UMBRA_PAGE_SIZE;
	arena->gfns = options->gfns;
	arena->random = options->seed;
	arena->area_home = malloc((arena->gfns / AREA + 1) * sizeof(*arena->area_home));
	arena->area = calloc(arena->gfns / AREA + 1, sizeof(*arena->area));
	arena->huge_spoilt = malloc((arena->gfns / HUGE + 1) * sizeof(*arena->huge_spoilt));
	arena->protected = calloc(arena->gfns, 1);
	arena->base = MAP_FAILED;
	if (!arena->area_home || !arena->area || !arena->huge_spoilt || !arena->protected) {
		arena_destroy(arena);
		return UMBRA_ENOMEM;
	}
	choose_areas(arena, options, &areas, &huge);
	arena->area_first = align_frame(arena, options->frames, AREA);
	arena->huge_first = arena->frames = arena->area_first + areas * AREA;
	if (huge) {
		arena->huge_first = align_frame(arena, arena->frames, HUGE);
		arena->frames = arena->huge_first + huge * HUGE;
	}
	arena->flush = options->flush;
	arena->flush_ctx = options->flush_ctx;
	arena->bytes = (arena->library_pages + arena->frames) * UMBRA_PAGE_SIZE;
	arena->base = mmap(NULL, arena->bytes, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	arena->used = calloc(arena->library_pages + 1, 1);
	arena->gfn_frame = malloc(arena->gfns * sizeof(*arena->gfn_frame));
	arena->frame_gfn = malloc(arena->frames * sizeof(*arena->frame_gfn));
	arena->free = malloc(arena->frames * sizeof(*arena->free));
	if (arena->base == MAP_FAILED || !arena->used || !arena->gfn_frame || !arena->frame_gfn ||
	    !arena->free) {
		arena_destroy(arena);
		return UMBRA_ENOMEM;
	}
	memset(arena->gfn_frame, 0xff, arena->gfns * sizeof(*arena->gfn_frame));
	for (uint64_t frame = 0; frame < arena->frames; frame++)
		arena->frame_gfn[frame] = FRAME_FREE;
	for (; arena->frames_free < options->frames; arena->frames_free++)
		arena->free[arena->frames_free] = (uint32_t)arena->frames_free;
	settle_areas(arena);
	*out = arena;
	return 0;
}

void arena_destroy(struct arena *arena)
{
	if (!arena)
		return;
	if (arena->base != MAP_FAILED)
		munmap(arena->base, arena->bytes);
	free(arena->used);
	free(arena->area_home);
	free(arena->area);
	free(arena->huge_spoilt);
	free(arena->protected);
	free(arena->gfn_frame);
	free(arena->frame_gfn);
	free(arena->free);
	pthread_mutex_destroy(&arena->lock);
	free(arena);
}
