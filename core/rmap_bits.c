/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Bits taken from the sptes of a chain, which stay in it: W, D and A. Chains may be long, so they
 * are gone through in pieces, a descriptor or more at a time: protect.c says how that goes together
 * with what others do to them in between.
 *
 * Lock: the MMU's.
 */
#include "head.h"

/*
 * The first descriptor from @id on, which is the next of @piece, that may hold a writable spte. Who
 * asks takes W from them all: the mark goes. 0: there is none, or the budget has ended.
 */
static uint32_t skip_unmarked(struct umbra_mmu *mmu, uint32_t id, struct rmap_piece *piece,
			      uint64_t *budget)
{
	struct desc *desc = desc_of(mmu, id);

	while (!(desc->head & DESC_MARK)) {
		piece->desc = id = desc->next;
		*budget -= !!*budget;
		if (!piece->left || !*budget)
			return 0;
		piece->left--;
		desc = desc_of(mmu, id);
		__builtin_prefetch(desc_of(mmu, desc->next));
	}
	desc->head &= ~DESC_MARK;
	return id;
}

/*
 * The next descriptor's handles of a chain that is gone through in pieces, in *@list; 0: that was
 * all, or what .left says is left while the budget has ended. (Those of a chain without descriptors
 * come together.) @writable: only descriptors that may hold a writable spte.
 *
 * => in between others may remove sptes and drop the chain, but add none
 */
static inline unsigned piece_next(struct umbra_mmu *mmu, uint64_t head, struct rmap_piece *piece,
				  bool writable, uint64_t *budget, const handle **list)
{
	uint64_t length = head & HEAD_CHAIN ? head_length(head) : 1;
	struct desc *desc;
	uint32_t id;

	if (!piece->begun || length < piece->left)
		piece->left = length;
	piece->begun = true;
	if (!piece->left)
		return 0;
	piece->left--;
	if (!(head & HEAD_CHAIN)) {
		piece->inline_spte[0] = head_first(head);
		piece->inline_spte[1] = head_second(head);
		*list = piece->inline_spte;
		return (unsigned)head_count(head);
	}
	id = length == piece->left + 1 ? head_desc(head) : piece->desc;
	if (writable && id != head_desc(head)) {
		id = skip_unmarked(mmu, id, piece, budget);
		if (!id)
			return 0;
	}
	desc = desc_of(mmu, id);
	*list = desc->spte;
	piece->desc = desc->next;
	__builtin_prefetch(desc_of(mmu, desc->next));
	if (id == head_desc(head))
		return head_fill(head);
	return desc->next ? LARGE_HANDLES : SMALL_HANDLES;
}

/* What goes with W: D too while somebody counts on D alone to tell of writes. */
static uint64_t write_bits(const struct umbra_mmu *mmu)
{
	return mmu->dirty_logs ? PTE_W | PTE_D : PTE_W;
}

/* Take @bits from spte @h, whose D is not lost. => returns its value before */
static inline uint64_t take_bits(struct umbra_mmu *mmu, handle h, uint64_t bits)
{
	uint64_t *spte = handle_spte(mmu, h), value = spte_read(spte);

	if (value & bits && spte_is_volatile(value))
		value = atomic_fetch_and_explicit((_Atomic uint64_t *)spte, ~bits,
						  memory_order_relaxed);
	else if (value & bits)
		spte_write(spte, value & ~bits);
	if (bits & PTE_D)
		log_removed(mmu, h, value);
	return value;
}

/* The guest grants writing through spte @h no more. */
void rmap_take_write(struct umbra_mmu *mmu, handle h)
{
	take_bits(mmu, h, write_bits(mmu));
}

/*
 * Take W, and nothing else, from the @count sptes in @list, of a chain whose head does not say
 * "volatile": no processor changes them. Returns how many had it.
 */
static uint64_t take_write(struct umbra_mmu *mmu, const handle *list, unsigned count)
{
	uint64_t changed = 0;

	for (const handle *end = list + count; list < end; list++) {
		uint64_t *spte = handle_spte(mmu, *list), value = spte_read(spte);

		if (!(value & PTE_W))
			continue;
		spte_write(spte, value & ~PTE_W);
		changed++;
	}
	return changed;
}

/*
 * Take W from the sptes of a chain; @dirty: D instead. Until @budget ends: whole descriptors.
 *
 * => *@changed grows by how many had it: if any, vcpus must be flushed before that holds
 * => O(1) for W if none was made writable since the last time
 * => returns whether all is done; struct rmap_piece tells what may happen until the next call
 */
bool rmap_protect_some(struct umbra_mmu *mmu, uint64_t *head, struct rmap_piece *piece,
		       uint64_t *budget, bool dirty, uint64_t *changed)
{
	uint64_t bits = dirty ? PTE_D : write_bits(mmu), tell = dirty ? PTE_D : PTE_W;
	const handle *list;
	unsigned count;
	bool plain;

	if (!*head || (!dirty && !(*head & HEAD_WRITABLE)))
		return true;
	if (dirty && *head & HEAD_WRITABLE)
		*head |= HEAD_VOLATILE;
	if (!(*head & HEAD_CHAIN) && !piece->begun) {
		*changed += !!(take_bits(mmu, head_first(*head), bits) & tell);
		if (head_second(*head))
			*changed += !!(take_bits(mmu, head_second(*head), bits) & tell);
		*budget -= *budget > 1 ? 2 : *budget;
		*head &= dirty ? ~0ull : ~HEAD_WRITABLE;
		return true;
	}
	plain = bits == PTE_W && !(*head & HEAD_VOLATILE);
	while ((count = piece_next(mmu, *head, piece, !dirty, budget, &list))) {
		if (plain)
			*changed += take_write(mmu, list, count);
		for (unsigned i = 0; !plain && i < count; i++)
			*changed += !!(take_bits(mmu, list[i], bits) & tell);
		*budget -= count < *budget ? count : *budget;
		if (!*budget)
			break;
	}
	if (piece->left)
		return false;
	if (!dirty)
		*head &= ~HEAD_WRITABLE;
	return true;
}

/* The same with W, at once. => returns how many had it */
uint64_t rmap_write_protect(struct umbra_mmu *mmu, uint64_t *head)
{
	struct rmap_piece piece = {0};
	uint64_t budget = UINT64_MAX, changed = 0;

	rmap_protect_some(mmu, head, &piece, &budget, false, &changed);
	return changed;
}

/*
 * Whether the hardware used one of a chain's sptes since it was last asked, into *@used; @test:
 * asking leaves the A bits as they are. Until @budget ends, as rmap_protect_some().
 */
bool rmap_age_some(struct umbra_mmu *mmu, uint64_t *head, struct rmap_piece *piece,
		   uint64_t *budget, bool test, bool *used)
{
	const handle *list;
	unsigned count;

	if (!*head)
		return true;
	if (test && !(*head & HEAD_VOLATILE)) {
		*used = true; /* A is set in all of them */
		return true;
	}
	*head |= test ? 0 : HEAD_VOLATILE;
	while (!(test && *used) && (count = piece_next(mmu, *head, piece, false, budget, &list))) {
		for (unsigned i = 0; i < count; i++) {
			uint64_t *spte = handle_spte(mmu, list[i]);

			if (!(spte_read(spte) & PTE_A))
				continue;
			*used = true;
			if (!test)
				atomic_fetch_and((_Atomic uint64_t *)spte, ~PTE_A);
		}
		*budget -= count < *budget ? count : *budget;
		if (!*budget && piece->left)
			return false;
	}
	return true;
}
