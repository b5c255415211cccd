/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How many sptes map each gfn, as far as KVM tells: it says where an spte is that it sets, but not
 * when it takes one away. So an spte counts until another is set in its place, and the counts are
 * upper bounds.
 */
#ifndef IMPORT_CHAINS_H
#define IMPORT_CHAINS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Numbers to numbers: open addressing, at most half full. Key 0 is for none. */
struct chain_map {
	struct chain_entry {
		uint64_t key, value;
	} * entries;
	size_t room, used;
};

/* All zeros to begin with. */
struct chains {
	struct chain_map gfns;    /* place of an spte: the gfn that it maps, plus 1 */
	struct chain_map lengths; /* gfn plus 1: sptes that map it, most there were << 32 */
	bool given_up;            /* no memory: counts are of what came before */
};

/* An spte was set at @place for @gfn. */
void chains_set(struct chains *chains, uint64_t place, uint64_t gfn);

struct chain {
	uint64_t gfn;
	uint32_t most;
};

/* The @count gfns with the most sptes at a time, the most first, into @out; returns how many. */
size_t chains_longest(const struct chains *chains, struct chain *out, size_t count);

void chains_free(struct chains *chains);

#endif
