/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The arena: a struct umbra_host for user space. One mmap plays the host's physical memory;
 * library memory (shadow pages, descriptors) and frames for guest memory are cut from it.
 * Start from here when you write a host of your own: every function of struct umbra_host is
 * a few lines in arena.c, and what an embedder does around umbra_drop() and umbra_remap() is
 * shown by the arena_frame_* functions.
 *
 * It is a strict host, made to bring mistakes to light:
 *   - an hpa is never a va, a pfn never a gfn; frames are handed out in random order, and only
 *     when first asked for (save those of areas of 2 MiB that lie side by side, if any are
 *     wished for);
 *   - blocks are aligned to 4096 and to nothing more;
 *   - memory that comes back is filled with ARENA_JUNK before anyone can reuse it.
 *
 * Locks: a mutex of its own, taken inside each function; safe from any thread, and from
 * inside umbra (it never calls umbra_*).
 */
#ifndef ARENA_H
#define ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <umbra/umbra.h>

#define ARENA_JUNK 0xdb

struct arena;

struct arena_options {
	uint64_t gfns;   /* gfns 0..gfns-1 can be backed; 1..2^28 */
	uint64_t frames; /* frames for guest memory; 1..2^28. Fewer than gfns: overcommitted */
	uint64_t high;   /* bytes of library memory above 4 GiB; rounded up to pages */
	uint64_t low;    /* the same below 4 GiB (hpa); at most 1 GiB */
	uint64_t seed;   /* of the random order of frames */
	unsigned large;  /* percentage of the aligned 2 MiB areas of gfns whose frames lie side by
			    side, from the start, in memory of their own: 0..100 */
	unsigned huge;   /* the same of the aligned 1 GiB areas. Their memory is only reserved */

	/* What struct umbra_host's flush does: reach the TLBs that @flush names. */
	void (*flush)(void *ctx, const struct umbra_flush *flush);
	void *flush_ctx;
};

/* UMBRA_EINVAL: @options out of range. UMBRA_ENOMEM. */
int arena_create(const struct arena_options *options, struct arena **arena);

/* Unmap it. No MMU may use it any more. */
void arena_destroy(struct arena *arena);

/* The functions to give to umbra_mmu_create(), with the arena as their ctx. */
extern const struct umbra_host arena_host;

/* Bytes that the library holds now: 0 after umbra_mmu_destroy(), or something leaked. */
uint64_t arena_in_use(struct arena *arena);

/*
 * What simulated hardware sees at @hpa: the va of an 8-byte word, or NULL if nothing lives
 * there: no block of the library, no frame that is in use.
 */
void *arena_word(struct arena *arena, uint64_t hpa);

/* Is @hpa in a block that the library holds? */
bool arena_is_library(struct arena *arena, uint64_t hpa);

/* The frame behind @gfn, and the other way round; false: there is none. */
bool arena_frame_of(struct arena *arena, umbra_gfn gfn, umbra_pfn *pfn);
bool arena_gfn_of(struct arena *arena, umbra_pfn pfn, umbra_gfn *gfn);

/*
 * A free frame for umbra_remap(), which moves a gfn to it; give it back with _release if the
 * remap failed. UMBRA_ENOMEM: none is free.
 */
int arena_frame_reserve(struct arena *arena, umbra_pfn *pfn);
void arena_frame_release(struct arena *arena, umbra_pfn pfn);

/*
 * After umbra_drop() of @gfn, what a host may do with its frame. _discard: take it away, the
 * contents are gone (a balloon); the gfn reads as zeros next time. _swap: put the contents
 * into another frame (swapped out and in again); UMBRA_ENOMEM if none is free, UMBRA_ENOENT
 * if the gfn has no frame.
 */
void arena_frame_discard(struct arena *arena, umbra_gfn gfn);
int arena_frame_swap(struct arena *arena, umbra_gfn gfn);

/*
 * umbra_frame.level is 2 in an area of 2 MiB (arena_options.large) until one of its frames is
 * moved, discarded or protected (but an area that is protected as a whole is large again); 3 in one
 * of 1 GiB (.huge) until one of its areas is touched like that. After umbra_drop() of all of an
 * area of 2 MiB, _gather puts its frames side by side again, and protects none; gfns outside of
 * such areas are left alone.
 */
void arena_area_gather(struct arena *arena, umbra_gfn gfn);

/*
 * After umbra_write_protect() of @gfn: its frame is not writable until it is asked for with
 * UMBRA_WANT_WRITE. A page without a frame cannot be protected.
 */
void arena_frame_protect(struct arena *arena, umbra_gfn gfn);
bool arena_is_protected(struct arena *arena, umbra_gfn gfn);

/*
 * The 4096 bytes behind @gfn, made present: for loaders and devices, which then call
 * umbra_guest_write(). NULL: no frame is free. Valid until the frame moves.
 */
void *arena_page(struct arena *arena, umbra_gfn gfn);

#endif
