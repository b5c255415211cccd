/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest's memory, as far as a replay needs it: frames, and pages of tables. */
#ifndef REPLAY_GUEST_H
#define REPLAY_GUEST_H

#include <stdbool.h>
#include <stdint.h>

#define GUEST_PFNS (1ull << 28) /* machine memory: 1 TiB at most */

/* What is known of a gfn. */
struct guest_page {
	uint64_t pfn; /* of its frame */
	bool there;   /* it has one */
	bool writable;
	uint8_t level;
	void *words; /* 4096 bytes; NULL: not asked for yet */
};

struct guest {
	struct guest_page **pages; /* by gfn, in blocks */
	uint64_t blocks, used;
	uint32_t **owners; /* gfn + 1 by pfn, in blocks */
	uint64_t kept;     /* pages with words */
	uint64_t bytes;    /* in all */
};

/* For gfns below 2^(@maxphyaddr - 12), and 2^32. False: out of memory. */
bool guest_init(struct guest *guest, unsigned maxphyaddr);
void guest_free(struct guest *guest);

/* NULL: beyond the guest's addresses, or out of memory. */
struct guest_page *guest_page(struct guest *guest, uint64_t gfn);

/* Give @gfn the frame @pfn. False: out of memory, or no such frame. */
bool guest_back(struct guest *guest, uint64_t gfn, uint64_t pfn);

/* The gfn whose frame is @pfn. False: none. */
bool guest_gfn(const struct guest *guest, uint64_t pfn, uint64_t *gfn);

/* Its 4096 bytes. NULL: out of memory. */
void *guest_words(struct guest *guest, struct guest_page *page);

#endif
