/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a host does to mapped pages, in the reverse-map benchmark: umbra's own functions, whole,
 * lock and all, and beside them bare loops over the same sptes that do no more than what has to be
 * done to each (KVM's code for these is not cut out, but for what moving a slot comes to there:
 * rmap_kvm.c). The one other file here that looks inside the core.
 *
 * An operation is prepared, made under the clock, and cleared away.
 */
#include "bench_rmap.h"
#include "head.h"

#define SLOT    0u
#define AREA    512u
#define AWAY    (1ull << 36) /* where the slot goes */
#define WATCHES 1000u        /* armed in a row: there are 1024 */
#define WORDS   4096u        /* of pages that are collected at a time */

const struct host_op host_ops[HOST_OPS] = {
    [HOST_AGE] = {"age", false},
    [HOST_PROTECT] = {"write_protect", false},
    [HOST_LOG_W] = {"log_start", false},
    [HOST_LOG_D] = {"log_start_d", false},
    [HOST_COLLECT_W] = {"log_collect", true},
    [HOST_COLLECT_D] = {"log_collect_d", true},
    [HOST_REMAP] = {"remap", false},
    [HOST_COLLAPSE] = {"collapse", false},
    [HOST_FLAGS] = {"slot_flags", false},
    [HOST_INVALIDATE] = {"invalidate", false},
    [HOST_MOVE] = {"slot_move", false},
    [HOST_SPLIT] = {"split", false},
    [HOST_WATCH] = {"watch", true},
};

bool host_has(const struct impl *impl, enum host_op_number op)
{
	return impl->host && impl->host->ops >> op & 1;
}

static void expect(int error, const char *what)
{
	if (error)
		die("umbra: %s: %d", what, error);
}

static uint64_t *head_of(struct umbra_mmu *mmu, uint64_t gfn, unsigned level)
{
	return slot_head_find(mmu, slot_find(mmu, (umbra_gfn){gfn}), (umbra_gfn){gfn}, level);
}

/* Each page was written through one of its sptes, wherever it stands in its chain. */
static void write_all(struct umbra_mmu *mmu, const struct set *set, bool by_d)
{
	for (uint64_t i = 0; i < set->shape.gfns; i++) {
		umbra_gfn gfn = {set->gfn_seq[i]};
		struct rmap_cursor cursor;
		handle h = rmap_first(mmu, *head_of(mmu, gfn.n, 1), &cursor);
		uint64_t *spte, value;

		for (uint64_t skip = i % set->shape.chain; skip; skip--)
			h = rmap_next(mmu, &cursor);
		spte = handle_spte(mmu, h);
		value = spte_read(spte);

		if (by_d) {
			spte_write(spte, value | PTE_D);
			continue;
		}
		log_set(slot_find(mmu, gfn), gfn);
		rmap_replace(mmu, h, spte, value, value | PTE_W | PTE_D);
	}
}

/* What is mapped are pages of 2 MiB: the chains come to stand in heads of their level. */
static void make_large(struct umbra_mmu *mmu, const struct set *set)
{
	const struct need need = {.spares = 2, .regions = 1};

	for (uint64_t i = 0; i < set->shape.gfns; i++) {
		umbra_gfn gfn = {set->gfn_seq[i]};

		rmap_forget(mmu, head_of(mmu, gfn.n, 1));
		if (head_of(mmu, gfn.n, 2))
			continue;
		if (pool_lock(mmu, &need))
			die("umbra: no memory in stock");
		slot_head_make(mmu, slot_find(mmu, gfn), gfn, 2);
		port_unlock(&mmu->lock);
	}
	for (uint64_t i = 0; i < set->sptes; i++) {
		umbra_gfn gfn = {set->seq[i].gfn};

		rmap_add(mmu, slot_head_make(mmu, slot_find(mmu, gfn), gfn, 2), set->seq[i].handle,
			 *set->seq[i].spte);
	}
	mmu->stats.sptes_large[0] = set->sptes;
}

static void prepare(const struct set *set, enum host_op_number op)
{
	struct umbra_mmu *mmu = umbra_mmu_of_set();

	if (op == HOST_COLLECT_W || op == HOST_COLLECT_D) {
		expect(umbra_log_start(mmu, SLOT, op == HOST_COLLECT_D ? UMBRA_LOG_DIRTY_BITS : 0),
		       "log");
		write_all(mmu, set, op == HOST_COLLECT_D);
	}
	if (op == HOST_SPLIT)
		make_large(mmu, set);
}

static void collect(struct umbra_mmu *mmu, uint64_t pages)
{
	static uint64_t dirty[WORDS];

	for (uint64_t at = 0; at < pages; at += 64 * WORDS) {
		uint64_t left = pages - at;

		expect(umbra_log_collect(mmu, (umbra_gfn){at},
					 left < 64 * WORDS ? left : 64 * WORDS, dirty),
		       "collect");
	}
}

static void age(struct umbra_mmu *mmu, uint64_t pages)
{
	static uint64_t young[WORDS];

	for (uint64_t at = 0; at < pages; at += 64 * WORDS) {
		uint64_t left = pages - at;

		expect(umbra_age(mmu, (umbra_gfn){at}, left < 64 * WORDS ? left : 64 * WORDS, 0,
				 young),
		       "age");
	}
}

static void remap(struct umbra_mmu *mmu, const struct set *set, unsigned level)
{
	uint64_t step = level == 2 ? AREA : 1;

	for (uint64_t i = 0; i < set->shape.gfns; i += step) {
		struct umbra_frame to = {
		    .pfn = {set->gfn_seq[i]}, .writable = true, .level = (uint8_t)level};

		expect(umbra_remap(mmu, (umbra_gfn){set->gfn_seq[i]}, &to, NULL), "remap");
	}
}

static uint64_t watched(const struct set *set)
{
	return set->shape.gfns < WATCHES ? set->shape.gfns : WATCHES;
}

uint64_t host_pages(const struct set *set, enum host_op_number op)
{
	return op == HOST_WATCH ? watched(set) : set->shape.gfns;
}

static void run(const struct set *set, enum host_op_number op)
{
	struct umbra_mmu *mmu = umbra_mmu_of_set();
	uint64_t pages = set->shape.slot_pages;
	struct umbra_invalidation invalidation;

	switch (op) {
	case HOST_AGE:
		age(mmu, pages);
		break;
	case HOST_PROTECT:
		expect(umbra_write_protect(mmu, (umbra_gfn){0}, pages, NULL), "protect");
		break;
	case HOST_LOG_W:
	case HOST_LOG_D:
		expect(umbra_log_start(mmu, SLOT, op == HOST_LOG_D ? UMBRA_LOG_DIRTY_BITS : 0),
		       "log");
		break;
	case HOST_COLLECT_W:
	case HOST_COLLECT_D:
		collect(mmu, pages);
		break;
	case HOST_REMAP:
	case HOST_COLLAPSE:
		remap(mmu, set, op == HOST_COLLAPSE ? 2 : 1);
		break;
	case HOST_FLAGS:
		expect(umbra_slot_flags_set(mmu, SLOT, UMBRA_SLOT_READONLY), "flags");
		break;
	case HOST_INVALIDATE:
		expect(umbra_invalidate_begin(mmu, (umbra_gfn){0}, pages, &invalidation, NULL),
		       "invalidate");
		umbra_invalidate_end(mmu, &invalidation);
		break;
	case HOST_MOVE:
		expect(umbra_slot_move(mmu, SLOT, (umbra_gfn){AWAY}), "move");
		break;
	case HOST_SPLIT:
		expect(umbra_split(mmu, (umbra_gfn){0}, pages, NULL), "split");
		break;
	default:
		for (uint64_t i = 0; i < watched(set); i++)
			expect(umbra_watch(mmu, (umbra_gfn){set->gfn_seq[i]}, UMBRA_WATCH_W),
			       "watch");
	}
}

static void clear_away(const struct set *set, enum host_op_number op)
{
	struct umbra_mmu *mmu = umbra_mmu_of_set();

	umbra_log_stop(mmu, SLOT);
	umbra_slot_flags_set(mmu, SLOT, 0);
	if (op == HOST_MOVE) {
		expect(umbra_slot_move(mmu, SLOT, (umbra_gfn){0}), "move");
		umbra_regions_make();
	}
	for (uint64_t i = 0; op == HOST_WATCH && i < watched(set); i++)
		expect(umbra_watch(mmu, (umbra_gfn){set->gfn_seq[i]}, 0), "watch");
}

const struct host_side host_umbra = {HOST_ALL, prepare, run, clear_away};

/* ---- the least that has to be done, without looking for whom ---- */

static void limit_prepare(const struct set *set, enum host_op_number op)
{
	for (uint64_t i = 0; op == HOST_COLLECT_D && i < set->sptes; i++)
		if (i >= set->shape.gfns)
			*set->seq[i].spte &= ~PTE_D;
}

static void limit_run(const struct set *set, enum host_op_number op)
{
	uint64_t sptes = set->sptes;

	if (op == HOST_COLLECT_W)
		sptes = set->shape.gfns; /* one of each page was writable */
	if (op == HOST_WATCH)
		sptes = sptes * watched(set) / set->shape.gfns;
	switch (op) {
	case HOST_AGE:
		limit_each(set, sptes, LIMIT_AND, ~PTE_A);
		break;
	case HOST_LOG_D:
		limit_each(set, sptes, LIMIT_STORE, ~PTE_D);
		break;
	case HOST_COLLECT_D:
		limit_each(set, sptes, LIMIT_TAKE, ~PTE_D);
		break;
	case HOST_PROTECT:
	case HOST_FLAGS:
	case HOST_LOG_W:
	case HOST_COLLECT_W:
	case HOST_WATCH:
		limit_each(set, sptes, LIMIT_STORE, ~PTE_W);
		break;
	default:
		limit_each(set, sptes, LIMIT_STORE, 0);
	}
}

static void limit_clear_away(const struct set *set, enum host_op_number op)
{
	(void)set;
	(void)op;
}

const struct host_side host_limit = {HOST_ALL, limit_prepare, limit_run, limit_clear_away};
