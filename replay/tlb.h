/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Processors whose TLBs forget nothing unless they are told. They make the accesses that the guest
 * made (each that faulted, when it is tried again), by the shadow tables, and keep what they
 * found until host.flush names it or another root is loaded; of which gfn it was, too, for several
 * can share a frame.
 */
#ifndef REPLAY_TLB_H
#define REPLAY_TLB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <umbra/umbra.h>

struct tlb_entry {
	uint64_t page; /* gva >> 12, + 1; 0: free */
	uint64_t pfn, gfn;
	bool writable;
	bool dirty; /* and has seen D: it writes without telling */
};

struct tlb {
	struct tlb_entry *entries; /* a hash table */
	size_t room, count;
	struct umbra_root root;
};

/* What hardware reads at @hpa of a shadow table: 512 entries. NULL: no table is there. */
typedef const uint64_t *tlb_read(void *ctx, uint64_t hpa);

/* The hardware's CR3 is loaded. */
void tlb_load(struct tlb *tlb, const struct umbra_root *root);

/* What an access found. */
struct tlb_hit {
	uint64_t pfn;
	uint64_t gfn; /* the oracle's */
	bool writable, dirty, user, no_execute;
	unsigned key;
};

/* An access of the kind @error_code (W, U, I). False: it faults. */
bool tlb_access(struct tlb *tlb, uint64_t gva, uint32_t error_code, tlb_read *read, void *ctx,
		struct tlb_hit *hit);

/* From now on the TLB holds it. */
void tlb_keep(struct tlb *tlb, uint64_t gva, const struct tlb_hit *hit);

/* @pages 0: all. */
void tlb_flush(struct tlb *tlb, uint64_t gva, uint64_t pages);

/*
 * An entry of which @is_gone says so; *@gva: where. @writable: only those that may write. False:
 * none.
 */
bool tlb_find(const struct tlb *tlb, bool writable,
	      bool (*is_gone)(void *ctx, const struct tlb_entry *entry), void *ctx, uint64_t *gva);

/* Is there one for @gva? */
bool tlb_holds(const struct tlb *tlb, uint64_t gva);

void tlb_free(struct tlb *tlb);

#endif
