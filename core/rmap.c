/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The reverse map: which sptes map this gfn, and which entries lead to this shadow page.
 * Both are chains of spte handles. This file adds, removes and walks; rmap_bits.c takes bits from
 * their sptes, sweep.c clears whole chains; head.h draws them.
 *
 * Each spte has a place, kept beside its table, that says where its handle stands, and each
 * descriptor names its head. So remove searches nothing: it moves the last one in to the gap.
 * And the key is never worked out a second time: what was added under (gfn, level) is removed
 * from exactly there, because the place leads there and nothing else does.
 *
 * Places of sptes that are not present mean nothing; drop leaves them as they are.
 *
 * Lock: the MMU's.
 */
#include "head.h"

/* => O(1) */
uint64_t rmap_count(uint64_t head)
{
	return head_count(head);
}

uint64_t *rmap_head_of(struct umbra_mmu *mmu, head_ref ref)
{
	return head_at(mmu, ref);
}

/* Whose chain a present spte stands in. */
head_ref rmap_owner(struct umbra_mmu *mmu, handle h)
{
	return place_owner(mmu, *handle_place(mmu, h));
}

/* The gfn that a present leaf was added under: of its first 4K page. */
umbra_gfn rmap_gfn(struct umbra_mmu *mmu, handle h)
{
	head_ref ref = rmap_owner(mmu, h);
	struct region *region = region_of(mmu, ref >> 9);

	return (umbra_gfn){region->base + (ref & 511) * level_pages(region->level)};
}

/* => the pool has one: pool_lock() saw to it */
static uint32_t desc_take(struct umbra_mmu *mmu, enum desc_kind kind, head_ref owner, uint32_t next)
{
	uint32_t id = mmu->desc_free[kind];
	struct desc *desc = desc_of(mmu, id);

	port_assert(id);
	mmu->desc_free[kind] = desc->next;
	__builtin_prefetch(desc_of(mmu, desc->next), 1); /* the next one to be taken */
	mmu->desc_free_count[kind]--;
	mmu->stats.descs += kind == DESC_LARGE ? 2 : 1;
	desc->head = owner;
	desc->next = next;
	return id;
}

/* Write down that @h stands in @slot of descriptor @id of the chain @head. */
static inline __attribute__((always_inline)) void settle(struct umbra_mmu *mmu, uint64_t head,
							 uint32_t id, unsigned slot, handle h)
{
	struct desc *desc = desc_of(mmu, id);

	desc->spte[slot] = h;
	*handle_place(mmu, h) =
	    head & HEAD_LAZY && slot < 2 ? desc_owner(desc) : place_in(id, slot);
}

/* A third one comes: out of the head, into a descriptor. */
static uint64_t make_chain(struct umbra_mmu *mmu, head_ref ref, uint64_t head)
{
	uint32_t id = desc_take(mmu, DESC_SMALL, ref, 0);
	struct desc *desc = desc_of(mmu, id);

	desc->spte[0] = head_first(head);
	desc->spte[1] = head_second(head);
	return HEAD_LAZY | head_chain(id, 1, 2);
}

/* The first descriptor is full: another before it. */
static uint64_t lengthen(struct umbra_mmu *mmu, head_ref ref, uint64_t head)
{
	uint32_t id = head_desc(head);

	for (unsigned i = 0; head & HEAD_LAZY && i < 2; i++)
		settle(mmu, 0, id, i, desc_of(mmu, id)->spte[i]);
	desc_of(mmu, id)->head = ref | mark_of(head);
	return head_chain(desc_take(mmu, DESC_LARGE, ref, id), head_length(head) + 1, 0);
}

/* rmap_add() where a descriptor has to be taken. */
void rmap_add_long(struct umbra_mmu *mmu, head_ref ref, handle h, uint64_t flags)
{
	uint64_t *at = head_at(mmu, ref), head = *at;

	flags |= head & HEAD_FLAGS;
	head = head & HEAD_CHAIN ? lengthen(mmu, ref, head) : make_chain(mmu, ref, head);
	settle(mmu, head, head_desc(head), head_fill(head), h);
	*at = flags | (head + FILL_ONE);
}

/* What spte @h's head, and its descriptor, have to say of @value. */
static void mark(struct umbra_mmu *mmu, handle h, uint64_t value)
{
	place at = *handle_place(mmu, h);
	head_ref ref = at;

	if (at & PLACE_DESC) {
		struct desc *desc = desc_of(mmu, place_desc(at));

		ref = desc_owner(desc);
		desc->head |= mark_of(head_flags(value));
	}
	*head_at(mmu, ref) |= head_flags(value);
}

/*
 * Spte @h, which stands in a chain and said @old, says @value from now on, and D if it had come to
 * say that: TLBs that saw it will not tell again.
 */
void rmap_replace(struct umbra_mmu *mmu, handle h, uint64_t *spte, uint64_t old, uint64_t value)
{
	mark(mmu, h, value);
	if (__builtin_expect(!spte_is_volatile(old) && !mmu->dirty_logs, 1)) {
		spte_write(spte, value);
		return;
	}
	old = atomic_exchange_explicit((_Atomic uint64_t *)spte, value, memory_order_relaxed);
	log_removed(mmu, h, old);
	if (old & ~value & PTE_D && value & PTE_W)
		atomic_fetch_or_explicit((_Atomic uint64_t *)spte, PTE_D, memory_order_relaxed);
}

/* Two are left, both in the only descriptor: back to the head. => returns it */
static uint64_t make_inline(struct umbra_mmu *mmu, uint64_t head)
{
	uint32_t id = head_desc(head);
	struct desc *desc = desc_of(mmu, id);
	handle first = desc->spte[0], second = desc->spte[1];

	for (unsigned i = 0; !(head & HEAD_LAZY) && i < 2; i++)
		*handle_place(mmu, desc->spte[i]) = desc_owner(desc);
	desc_give_small(mmu, id, desc);
	return head_inline(first, second);
}

/* The first descriptor is empty. => returns the head of what is left */
static uint64_t next_chain(struct umbra_mmu *mmu, uint64_t head)
{
	uint64_t length = head_length(head) - 1;
	uint32_t id = head_desc(head);
	struct desc *desc = desc_of(mmu, id);
	uint32_t next = desc->next;

	desc_give_large(mmu, id, desc, 1);
	return head_chain(next, length, first_room(length));
}

/* rmap_remove() of @h, whose place is @from, out of a chain with descriptors. */
void rmap_remove_long(struct umbra_mmu *mmu, uint64_t *at, handle h, place from)
{
	uint64_t head = *at, flags = head & HEAD_FLAGS;
	unsigned last = head_fill(head) - 1, slot = from & ((1u << SLOT_BITS) - 1);
	uint32_t id = place_desc(from);

	if (!(from & PLACE_DESC)) {
		id = head_desc(head);
		slot = desc_of(mmu, id)->spte[0] != h;
	}
	port_assert(desc_of(mmu, id)->spte[slot] == h);
	if (id != head_desc(head)) {
		settle(mmu, 0, id, slot, desc_of(mmu, head_desc(head))->spte[last]);
		desc_of(mmu, id)->head |= mark_of(head);
	} else if (slot != last) {
		settle(mmu, head, id, slot, desc_of(mmu, id)->spte[last]);
	}
	if (!last)
		head = next_chain(mmu, head);
	else if (last == 2 && head_length(head) == 1)
		head = make_inline(mmu, head);
	else
		head -= FILL_ONE;
	*at = head | flags;
}

/*
 * Looking ahead for a removal, in four steps: its place; from there its descriptor or head; the
 * descriptor's head; the head's first descriptor, whose last handle moves. Each step finds in the
 * cache what the one before asked for, if there was time in between. What is read here may change
 * before the removal: then something was asked for in vain.
 */
static void ask_place(struct umbra_mmu *mmu, handle h)
{
	__builtin_prefetch(handle_place(mmu, h), 1);
}

static void ask_desc(struct umbra_mmu *mmu, handle h)
{
	place from = *handle_place(mmu, h);

	if (from & PLACE_DESC)
		__builtin_prefetch(desc_of(mmu, place_desc(from)));
	else
		__builtin_prefetch(head_at(mmu, from), 1);
}

static void ask_head(struct umbra_mmu *mmu, handle h)
{
	__builtin_prefetch(head_at(mmu, rmap_owner(mmu, h)), 1);
}

static void ask_first(struct umbra_mmu *mmu, handle h)
{
	uint64_t head = *head_at(mmu, rmap_owner(mmu, h));

	if (head & HEAD_CHAIN)
		__builtin_prefetch(&desc_of(mmu, head_desc(head))->spte[head_fill(head) - 1], 1);
}

/*
 * rmap_remove() of each handle in @list, of which none comes twice. As a table goes, its sptes go
 * together: here they wait for memory together.
 */
void rmap_remove_many(struct umbra_mmu *mmu, const handle *list, unsigned count)
{
	enum {
		APART = 4
	}; /* removals from one step to the next */

	/* Before the first and behind the last, an index wraps or is too large: nothing to do. */
	for (unsigned i = 0; i < count + 4 * APART; i++) {
		if (i < count)
			ask_place(mmu, list[i]);
		if (i - APART < count)
			ask_desc(mmu, list[i - APART]);
		if (i - 2 * APART < count)
			ask_head(mmu, list[i - 2 * APART]);
		if (i - 3 * APART < count)
			ask_first(mmu, list[i - 3 * APART]);
		if (i - 4 * APART < count)
			rmap_remove(mmu, list[i - 4 * APART]);
	}
}

/*
 * Whether the hardware used one of the first @limit sptes of a chain since it was last asked;
 * asking clears their A bits.
 *
 * => TLBs and walk caches are not flushed for this: what they keep using may look idle
 */
bool rmap_age(struct umbra_mmu *mmu, uint64_t *head, unsigned limit)
{
	struct rmap_cursor cursor;
	bool used = false;

	rmap_for_each(mmu, *head, &cursor, h)
	{
		_Atomic uint64_t *spte = (_Atomic uint64_t *)handle_spte(mmu, h);

		if (!limit--)
			break;
		*head |= HEAD_VOLATILE;
		used |= !!(atomic_fetch_and(spte, ~PTE_A) & PTE_A);
	}
	return used;
}

/* Free a chain and leave its sptes as they are: their tables are going as a whole. */
void rmap_forget(struct umbra_mmu *mmu, uint64_t *head)
{
	if (*head & HEAD_CHAIN) {
		uint32_t id = head_desc(*head);
		struct desc *desc = desc_of(mmu, id), *last = NULL;

		for (; desc->next; desc = desc_of(mmu, id)) {
			last = desc;
			id = desc->next;
		}
		if (last)
			desc_give_large(mmu, head_desc(*head), last, head_length(*head) - 1);
		desc_give_small(mmu, id, desc);
	}
	*head = 0;
}

handle rmap_first(struct umbra_mmu *mmu, uint64_t head, struct rmap_cursor *cursor)
{
	if (head & HEAD_CHAIN) {
		cursor->desc = desc_of(mmu, head_desc(head));
		cursor->left = head_fill(head);
	} else {
		cursor->desc = NULL;
		cursor->left = (uint32_t)rmap_count(head);
		cursor->inline_spte[0] = head_first(head);
		cursor->inline_spte[1] = head_second(head);
	}
	return rmap_next(mmu, cursor);
}

handle rmap_next(struct umbra_mmu *mmu, struct rmap_cursor *cursor)
{
	if (!cursor->left) {
		if (!cursor->desc || !cursor->desc->next)
			return 0;
		cursor->desc = desc_of(mmu, cursor->desc->next);
		cursor->left = cursor->desc->next ? LARGE_HANDLES : SMALL_HANDLES;
	}
	cursor->left--;
	return cursor->desc ? cursor->desc->spte[cursor->left] : cursor->inline_spte[cursor->left];
}

/* Whether a head tells what it must of an spte with that value in its chain. */
bool rmap_covers(uint64_t head, uint64_t spte)
{
	return !(head_flags(spte) & ~head);
}

static bool grants_write(struct umbra_mmu *mmu, const struct desc *desc, unsigned fill)
{
	uint64_t bits = 0;

	for (unsigned i = 0; i < fill; i++)
		bits |= spte_read(handle_spte(mmu, desc->spte[i]));
	return bits & PTE_W;
}

static const char *descs_check(struct umbra_mmu *mmu, head_ref ref, uint64_t head, uint64_t *descs)
{
	unsigned fill = head_fill(head);
	uint64_t left = head_count(head);

	if (head & HEAD_LAZY && head_length(head) != 1)
		return "the places of a long chain's first two are not known";
	if (!fill || fill > first_room(head_length(head)))
		return "a head's descriptor is filled with none or too many";
	for (uint32_t id = head_desc(head); id; id = desc_of(mmu, id)->next) {
		struct desc *desc = desc_of(mmu, id);

		if (desc_owner(desc) != ref)
			return "a descriptor names another head";
		if (left < fill)
			return "a chain is longer than its count";
		for (unsigned i = 0; i < fill; i++)
			if (*handle_place(mmu, desc->spte[i]) !=
			    (head & HEAD_LAZY && i < 2 ? ref : place_in(id, i)))
				return "an spte's place is not where its handle stands";
		if (id != head_desc(head) && !(desc->head & DESC_MARK) &&
		    grants_write(mmu, desc, fill))
			return "a descriptor with a writable spte is not marked";
		left -= fill;
		*descs += desc->next ? 2 : 1;
		fill = desc->next && desc_of(mmu, desc->next)->next ? LARGE_HANDLES : SMALL_HANDLES;
	}
	return left ? "a chain is shorter than its count" : NULL;
}

/*
 * For audits: what is wrong with the chain of @ref, or NULL; *@descs grows by its descriptors, of
 * which large ones count for two.
 */
const char *rmap_check(struct umbra_mmu *mmu, head_ref ref, uint64_t *descs)
{
	uint64_t head = *rmap_head_of(mmu, ref);
	handle both[2] = {head_first(head), head_second(head)};

	if (head & HEAD_CHAIN) {
		if (head_count(head) < 3)
			return "a chain of two or less has a descriptor";
		return descs_check(mmu, ref, head, descs);
	}
	if (head & HEAD_LOCK || (!both[0] && head))
		return "a head has bits that mean nothing";
	for (unsigned i = 0; i < head_count(head); i++)
		if (*handle_place(mmu, both[i]) != ref)
			return "an inline spte's place is not its head";
	return NULL;
}
