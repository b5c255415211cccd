/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * umbra in the reverse-map benchmark: with rmap_host.c, what of it looks inside the core. The
 * core's own functions, out of the same library that everything else links.
 *
 * Shadow pages are made here, for all implementations: real ones, hashed under the gfns of
 * guest tables that do not exist, without parents. Stocks are filled when a set is opened, as
 * pool_lock() does before any operation; nothing here needs the lock.
 */
#include <stdlib.h>

#include "bench_rmap.h"
#include "head.h"

#define SLOT        0u
#define SLOT_TABLES 1u
#define TABLES_GFN  (1ull << 34) /* where the guest tables would be */

static struct {
	struct umbra_mmu *mmu;
	const struct set *set;
	struct shadow **shadow;      /* by table */
	uint32_t *names[DESC_KINDS]; /* of descriptors */
	uint32_t *order[DESC_KINDS];
	uint64_t value; /* of sptes to be added, but for the pfn */
} side;

/* ---- the host: memory of the benchmark, given back with the set ---- */

static int host_alloc(void *ctx, size_t size, bool low, struct umbra_memory *memory)
{
	(void)ctx;
	(void)low;
	memory->va = memory_take(size);
	memory->hpa = memory_offset(memory->va) + UMBRA_PAGE_SIZE;
	return 0;
}

static void host_free(void *ctx, size_t size, struct umbra_memory memory)
{
	(void)ctx;
	(void)size;
	(void)memory;
}

static int host_frame_get(void *ctx, umbra_gfn gfn, enum umbra_want want, struct umbra_frame *frame)
{
	(void)ctx;
	(void)want;
	*frame = (struct umbra_frame){.pfn = {gfn.n}, .writable = true};
	return 0;
}

static void *host_frame_va(void *ctx, umbra_pfn pfn)
{
	(void)ctx;
	(void)pfn;
	return NULL;
}

static void host_frame_move(void *ctx, umbra_gfn gfn, const struct umbra_frame *to)
{
	(void)ctx;
	(void)gfn;
	(void)to;
}

static void host_touched(void *ctx, const struct umbra_touch *touch)
{
	(void)ctx;
	(void)touch;
}

static void host_flush(void *ctx, const struct umbra_flush *flush)
{
	(void)ctx;
	(void)flush;
}

static const struct umbra_host host = {
    .alloc = host_alloc,
    .free = host_free,
    .frame_get = host_frame_get,
    .frame_va = host_frame_va,
    .frame_move = host_frame_move,
    .flush = host_flush,
    .touched = host_touched,
};

struct umbra_mmu *umbra_mmu_of_set(void)
{
	return side.mmu;
}

/* ---- shadow pages ---- */

static void stock(struct need need)
{
	if (pool_lock(side.mmu, &need))
		die("umbra: no memory in stock");
	port_unlock(&side.mmu->lock);
}

static void slot_add(void)
{
	struct umbra_slot slot = {.id = SLOT, .pages = side.set->shape.slot_pages};

	if (umbra_slot_add(side.mmu, &slot))
		die("umbra: no slot");
}

void umbra_tables(struct set *set)
{
	struct umbra_config config = {.shadow_quota = (uint32_t)set->tables + 64, .maxphyaddr = 52};
	struct umbra_slot tables = {SLOT_TABLES, 0, {TABLES_GFN}, set->tables};
	struct flush flush = {0};

	if (umbra_mmu_create(&host, NULL, &config, &side.mmu))
		die("umbra: no MMU");
	side.set = set;
	slot_add();
	if (set->tables && umbra_slot_add(side.mmu, &tables))
		die("umbra: no slot for tables");
	set->table = memory_take(set->tables * sizeof(*set->table));
	side.shadow = memory_take(set->tables * sizeof(*side.shadow));
	for (uint64_t i = 0; i < set->tables; i++) {
		union role role = {.level = 1, .access = ACCESS_ALL, .nxe = 1, .wp = 1};

		stock((struct need){.shadows = 1, .spares = 2});
		side.shadow[i] = shadow_get(side.mmu, (umbra_gfn){TABLES_GFN + i}, role, &flush);
		set->table[i] = side.shadow[i]->table;
	}
}

uint32_t umbra_handle(const struct set *set, uint64_t table, unsigned index)
{
	(void)set;
	return handle_of(side.shadow[table], index);
}

/* ---- the operations ---- */

static struct slot *slot(void)
{
	return slot_find(side.mmu, (umbra_gfn){0});
}

/* Regions of heads, made before anyone looks at a clock. */
void umbra_regions_make(void)
{
	for (uint64_t i = 0; i < side.set->shape.gfns; i++) {
		umbra_gfn gfn = {side.set->gfn_seq[i]};

		if (slot_head_find(side.mmu, slot(), gfn, 1))
			continue;
		stock((struct need){.spares = 2, .regions = 1});
		slot_head_make(side.mmu, slot(), gfn, 1);
	}
}

static int by_number(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* The names of the free descriptors of a kind, by address and shuffled. */
static void names_take(enum desc_kind kind)
{
	uint32_t count = (uint32_t)side.mmu->desc_free_count[kind], at = 0;

	side.names[kind] = memory_take(count * sizeof(uint32_t));
	side.order[kind] = order_take(count);
	for (uint32_t id = side.mmu->desc_free[kind]; id; id = desc_of(side.mmu, id)->next)
		side.names[kind][at++] = id;
	qsort(side.names[kind], count, sizeof(uint32_t), by_number);
}

static void open(const struct set *set)
{
	uint64_t chain = set->shape.chain, small = chain < 3 ? 0 : 1;
	uint64_t large =
	    chain <= SMALL_HANDLES ? 0 : (chain - SMALL_HANDLES - 1) / LARGE_HANDLES + 1;

	umbra_regions_make();
	stock((struct need){.descs = (uint32_t)(set->shape.gfns * (large ? large : small))});
	for (enum desc_kind kind = 0; kind < DESC_KINDS; kind++)
		names_take(kind);
}

/* => no descriptor is in use: the stock is put on the free lists anew */
static void age(bool shuffled, enum state state)
{
	struct umbra_mmu *mmu = side.mmu;

	if (mmu->stats.descs)
		die("umbra: descriptors in use");
	side.value = spte_value(0, state);
	for (enum desc_kind kind = 0; kind < DESC_KINDS; kind++) {
		mmu->desc_free[kind] = 0;
		for (uint64_t i = mmu->desc_free_count[kind]; i-- > 0;) {
			uint32_t id = side.names[kind][shuffled ? side.order[kind][i] : i];

			desc_of(mmu, id)->next = mmu->desc_free[kind];
			mmu->desc_free[kind] = id;
		}
	}
}

static void add(const struct entry *list, size_t count)
{
	struct umbra_mmu *mmu = side.mmu;
	struct slot *in = slot();

	for (size_t i = 0; i < count; i++)
		rmap_add(mmu, slot_head_make(mmu, in, (umbra_gfn){list[i].gfn}, 1), list[i].handle,
			 side.value);
	mmu->stats.sptes += count;
}

static void remove_list(const struct entry *list, size_t count)
{
	struct umbra_mmu *mmu = side.mmu;

	for (size_t i = 0; i < count; i++)
		rmap_remove(mmu, list[i].handle);
	mmu->stats.sptes -= count;
}

/* As zapping a table does, batch by batch. */
static void remove_many(const struct entry *list, size_t count)
{
	struct umbra_mmu *mmu = side.mmu;

	while (count) {
		handle batch[64];
		unsigned size = count < 64 ? (unsigned)count : 64;

		for (unsigned i = 0; i < size; i++)
			batch[i] = list[i].handle;
		rmap_remove_many(mmu, batch, size);
		mmu->stats.sptes -= size;
		list += size;
		count -= size;
	}
}

static void drop(const uint32_t *gfns, size_t count)
{
	struct umbra_mmu *mmu = side.mmu;
	struct slot *in = slot();
	struct sweep sweep = SWEEP_ALL;

	for (size_t i = 0; i < count; i++)
		sweep_chain(mmu, slot_head_find(mmu, in, (umbra_gfn){gfns[i]}, 1), &sweep);
	mmu->stats.sptes -= sweep.sptes;
}

static void range(uint64_t first, uint64_t end)
{
	struct sweep sweep = SWEEP_ALL;
	struct flush flush = {0};

	drop_range(side.mmu, &first, end, &sweep, &flush);
}

static uint64_t walk(const uint32_t *gfns, size_t count)
{
	struct umbra_mmu *mmu = side.mmu;
	struct slot *in = slot();
	uint64_t sum = 0;

	for (size_t i = 0; i < count; i++) {
		uint64_t head = *slot_head_find(mmu, in, (umbra_gfn){gfns[i]}, 1);
		struct rmap_cursor cursor;

		rmap_for_each(mmu, head, &cursor, h) sum += spte_read(handle_spte(mmu, h));
	}
	return sum;
}

static uint64_t count_sptes(const uint32_t *gfns, size_t count)
{
	struct slot *in = slot();
	uint64_t sum = 0;

	for (size_t i = 0; i < count; i++)
		sum += rmap_count(*slot_head_find(side.mmu, in, (umbra_gfn){gfns[i]}, 1));
	return sum;
}

/* As leaf_add() of fault.c. */
static void map(const struct entry *list, size_t count)
{
	struct umbra_mmu *mmu = side.mmu;
	struct slot *in = slot();

	for (size_t i = 0; i < count; i++) {
		head_ref ref = slot_head_make(mmu, in, (umbra_gfn){list[i].gfn}, 1);
		uint64_t length;

		rmap_add(mmu, ref, list[i].handle, side.value);
		mmu->stats.sptes++;
		mmu->stats.sptes_added++;
		length = rmap_count(*rmap_head_of(mmu, ref));
		if (length > mmu->stats.longest_chain)
			mmu->stats.longest_chain = length;
	}
}

static void unmap(const struct entry *list, size_t count)
{
	struct umbra_mmu *mmu = side.mmu;

	for (size_t i = 0; i < count; i++)
		shadow_clear_leaf(mmu, handle_shadow(mmu, list[i].handle),
				  list[i].handle % PTE_ENTRIES);
}

static void slot_delete(void)
{
	if (umbra_slot_delete(side.mmu, SLOT))
		die("umbra: the slot is not there");
}

/* What drop.c does between taking the lock and giving it up. */
static size_t hold(uint64_t budget, double *ns, size_t max)
{
	uint64_t first = 0;
	size_t pieces = 0;
	bool done = false;

	while (!done && pieces < max) {
		struct sweep sweep = {.budget = budget};
		struct flush flush = {0};
		double start = clock_ns();

		done = drop_range(side.mmu, &first, side.set->shape.slot_pages, &sweep, &flush);
		ns[pieces++] = clock_ns() - start;
	}
	return pieces;
}

static uint64_t desc_bytes(void)
{
	return side.mmu->stats.descs * DESC_UNIT;
}

/* Pages of heads, and of the directory that finds them. */
static uint64_t head_bytes(void)
{
	struct slot *in = slot();
	uint64_t pages = 0;

	for (uint32_t i = 0; i < in->dir[0].count; i++) {
		uint32_t *leaf = in->dir[0].top[i];

		for (uint32_t j = 0; leaf && j < DIR_LEAF; j++)
			pages += !!leaf[j];
		pages += !!leaf;
	}
	for (unsigned level = 0; level < LEVELS; level++)
		pages += (in->dir[level].count * 16 + UMBRA_PAGE_SIZE - 1) / UMBRA_PAGE_SIZE;
	return pages * UMBRA_PAGE_SIZE;
}

static uint64_t side_bytes(void)
{
	return side.set->tables * PTE_ENTRIES * sizeof(place);
}

const struct impl impl_umbra = {
    .name = "umbra",
    .open = open,
    .age = age,
    .add = add,
    .remove = remove_list,
    .remove_many = remove_many,
    .drop = drop,
    .drop_range = range,
    .walk = walk,
    .count = count_sptes,
    .map = map,
    .unmap = unmap,
    .slot_delete = slot_delete,
    .hold = hold,
    .bytes = desc_bytes,
    .head_bytes = head_bytes,
    .side_bytes = side_bytes,
    .host = &host_umbra,
};
