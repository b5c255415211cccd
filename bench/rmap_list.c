/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reverse maps as KVM had them in 2013, written anew for the benchmark: a head of one word that is
 * an spte or, with bit 0 set, a list of pieces of three sptes each.
 *
 *     head -> [a b c] -> [d e f] -> [g . .] -> 0
 *
 * Adding walks to the last piece; removing searches, and fills the gap from the same piece.
 * Two ways to drop a gfn: take the first, and look again until there is none (onebyone); or clear
 * all in one pass and then free the pieces (patch). All else they share. A word a gfn.
 */
#include "bench_rmap.h"

#define PIECE 3u
#define MANY  1ul

#define PTE_P 1ull
#define PTE_W 2ull
#define PTE_A 0x20ull
#define PTE_D 0x40ull

struct piece {
	uint64_t *spte[PIECE]; /* filled from the left; NULL: free */
	struct piece *next;
};

static struct {
	const struct set *set;
	uintptr_t *head;
	struct piece *pieces, *free;
	struct piece **tail; /* for build: the last piece of each list */
	uint32_t *order;     /* pieces, shuffled */
	size_t count, used;
} side;

static uintptr_t *head_of(uint64_t gfn)
{
	return &side.head[gfn];
}

static struct piece *pieces_of(uintptr_t head)
{
	return (struct piece *)(head & ~MANY);
}

static struct piece *piece_take(uint64_t *first)
{
	struct piece *piece = side.free;

	if (!piece)
		die("list: out of pieces");
	side.free = piece->next;
	side.used++;
	*piece = (struct piece){.spte = {first}};
	return piece;
}

static void piece_give(struct piece *piece)
{
	piece->next = side.free;
	side.free = piece;
	side.used--;
}

static void open(const struct set *set)
{
	side.set = set;
	side.used = 0;
	/* Gaps that removing left are filled only at a list's end. */
	side.count =
	    set->shape.chain < 2 ? 0 : set->shape.gfns * (2 * set->shape.chain / PIECE + 2);
	side.order = order_take(side.count);
	side.head = memory_take(set->shape.slot_pages * sizeof(*side.head));
	side.pieces = memory_take(side.count * sizeof(*side.pieces));
	side.tail = memory_take(set->shape.slot_pages * sizeof(struct piece *));
}

static void age(bool shuffled, enum state state)
{
	(void)state;
	if (side.used)
		die("list: pieces in use");
	side.free = NULL;
	for (size_t i = side.count; i-- > 0;) {
		struct piece *piece = &side.pieces[shuffled ? side.order[i] : i];

		piece->next = side.free;
		side.free = piece;
	}
}

/* Put @spte into the list's last piece, which is @last or follows it. */
static struct piece *append(struct piece *last, uint64_t *spte)
{
	while (last->spte[PIECE - 1] && last->next)
		last = last->next;
	if (last->spte[PIECE - 1]) {
		last->next = piece_take(spte);
		return last->next;
	}
	for (unsigned i = 0; i < PIECE; i++)
		if (!last->spte[i]) {
			last->spte[i] = spte;
			break;
		}
	return last;
}

static void add_one(uintptr_t *head, uint64_t *spte)
{
	if (!*head) {
		*head = (uintptr_t)spte;
	} else if (!(*head & MANY)) {
		struct piece *piece = piece_take((uint64_t *)*head);

		piece->spte[1] = spte;
		*head = (uintptr_t)piece | MANY;
	} else {
		append(pieces_of(*head), spte);
	}
}

static void add(const struct entry *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		add_one(head_of(list[i].gfn), list[i].spte);
}

/* The same lists, without the walk to their ends. */
static void build(const struct entry *list, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		uintptr_t *head = head_of(list[i].gfn);
		struct piece **tail = &side.tail[list[i].gfn];

		if (*head & MANY) {
			*tail = append(*tail, list[i].spte);
		} else {
			add_one(head, list[i].spte);
			*tail = pieces_of(*head);
		}
	}
}

/* The gap at @slot is filled from the piece's end; an empty piece goes, @before it or not. */
static void remove_at(uintptr_t *head, struct piece *piece, struct piece *before, unsigned slot)
{
	unsigned last = PIECE - 1;

	while (!piece->spte[last])
		last--;
	piece->spte[slot] = piece->spte[last];
	piece->spte[last] = NULL;
	if (last)
		return;
	if (before)
		before->next = piece->next;
	else
		*head = piece->next ? (uintptr_t)piece->next | MANY : 0;
	piece_give(piece);
}

static void remove_one(uintptr_t *head, uint64_t *spte)
{
	struct piece *before = NULL;

	if (!(*head & MANY)) {
		*head = 0;
		return;
	}
	for (struct piece *piece = pieces_of(*head); piece; piece = piece->next) {
		for (unsigned i = 0; i < PIECE; i++)
			if (piece->spte[i] == spte) {
				remove_at(head, piece, before, i);
				return;
			}
		before = piece;
	}
	die("list: an spte is not in its list");
}

static void remove_list(const struct entry *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		remove_one(head_of(list[i].gfn), list[i].spte);
}

/* Plain where nobody else writes any more, else by exchange: what both ways do to an spte. */
static void clear(uint64_t *spte)
{
	uint64_t old = *(volatile uint64_t *)spte;

	if (!(old & PTE_A) || (old & (PTE_W | PTE_D)) == PTE_W)
		__atomic_exchange_n(spte, 0, __ATOMIC_RELAXED);
	else
		*(volatile uint64_t *)spte = 0;
}

static void drop_onebyone(uintptr_t *head)
{
	while (*head) {
		uint64_t *spte = *head & MANY ? pieces_of(*head)->spte[0] : (uint64_t *)*head;

		clear(spte);
		remove_one(head, spte);
	}
}

static void drop_patch(uintptr_t *head)
{
	struct piece *pieces = pieces_of(*head), *next;

	if (!(*head & MANY)) {
		if (*head)
			clear((uint64_t *)*head);
		*head = 0;
		return;
	}
	for (struct piece *piece = pieces; piece; piece = piece->next)
		for (unsigned i = 0; i < PIECE && piece->spte[i]; i++)
			clear(piece->spte[i]);
	*head = 0;
	for (; pieces; pieces = next) {
		next = pieces->next;
		piece_give(pieces);
	}
}

static void onebyone_drop(const uint32_t *gfns, size_t count)
{
	for (size_t i = 0; i < count; i++)
		drop_onebyone(head_of(gfns[i]));
}

static void patch_drop(const uint32_t *gfns, size_t count)
{
	for (size_t i = 0; i < count; i++)
		drop_patch(head_of(gfns[i]));
}

static void onebyone_range(uint64_t first, uint64_t end)
{
	for (uint64_t gfn = first; gfn < end; gfn++)
		drop_onebyone(head_of(gfn));
}

static void patch_range(uint64_t first, uint64_t end)
{
	for (uint64_t gfn = first; gfn < end; gfn++)
		drop_patch(head_of(gfn));
}

static uint64_t walk(const uint32_t *gfns, size_t count)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < count; i++) {
		uintptr_t head = *head_of(gfns[i]);

		if (!(head & MANY)) {
			sum += head ? *(volatile uint64_t *)head : 0;
			continue;
		}
		for (struct piece *piece = pieces_of(head); piece; piece = piece->next)
			for (unsigned j = 0; j < PIECE && piece->spte[j]; j++)
				sum += *(volatile uint64_t *)piece->spte[j];
	}
	return sum;
}

static uint64_t count_sptes(const uint32_t *gfns, size_t count)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < count; i++) {
		uintptr_t head = *head_of(gfns[i]);

		if (!(head & MANY)) {
			sum += !!head;
			continue;
		}
		for (struct piece *piece = pieces_of(head); piece; piece = piece->next)
			for (unsigned j = 0; j < PIECE && piece->spte[j]; j++)
				sum++;
	}
	return sum;
}

static uint64_t bytes(void)
{
	return side.used * sizeof(struct piece);
}

static uint64_t head_bytes(void)
{
	return side.set->shape.slot_pages * sizeof(uintptr_t);
}

const struct impl impl_onebyone = {
    .name = "onebyone",
    .open = open,
    .age = age,
    .build = build,
    .add = add,
    .remove = remove_list,
    .remove_many = remove_list,
    .drop = onebyone_drop,
    .drop_range = onebyone_range,
    .walk = walk,
    .count = count_sptes,
    .bytes = bytes,
    .head_bytes = head_bytes,
};

/* Shares the lists of impl_onebyone, which is opened with it, and all that is no drop. */
const struct impl impl_patch = {
    .name = "patch",
    .age = age,
    .build = build,
    .drop = patch_drop,
    .drop_range = patch_range,
    .bytes = bytes,
};
