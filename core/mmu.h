/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The inside of libumbra: structures that core files share, and what each file offers.
 *
 * The way of a fault, and of the data:
 *
 *   guest tables -> walk.c -> fault.c -> shadow.c (tables) -> rmap.c -> drop.c, sweep.c -> flush.c
 *      (mode.c says what they are)       track.c, sync.c (guest tables that changed)
 *
 * Invariants. audit.c checks each by its number; tests call it after every step.
 *
 *   1. An spte is present <=> it stands in exactly one chain, once: a leaf in the chain of its
 *      (gfn, level), an entry to a table in the parent chain of that shadow page. A chain's
 *      head says so if one of its sptes is writable or volatile; and, of a writable one, the
 *      descriptor that it stands in, unless that is the first.
 *   2. A leaf's pfn is what the host says for its gfn, which lies in a slot; its rights are
 *      within the slot's and, where the shadow page is synced, within the guest's. A note (spte.h)
 *      of the present generation names a gfn in no slot.
 *   3. A gfn that backs a synced shadow page has no writable spte. No large leaf covers a gfn that
 *      backs a shadow page.
 *   4. In a logged slot an spte that grants writing is of level 1, and its page's bit is set; or,
 * in one that is logged by D bits, its head knows it for volatile unless the bit is set: then D is
 *      looked at when the page is collected, and when the spte goes. There D comes with W only.
 *   5. Every entry to a table leads to a shadow page in use with the level below, and, in a
 *      synced page, of the gfn and role that the guest's entry asks for. Every shadow page
 *      in use is hashed under its key, once.
 *   6. Counters equal what a walk over everything counts; free + used descriptors = all.
 *   7. (tests/machine) no TLB holds what a finished operation revoked.
 *   8. No spte grants a kind of access that is armed (watch.c) for its gfn: none at all for R, no W
 *      for W, NX for X. No large leaf covers a gfn for which something is armed.
 *
 * Locks. One lock per MMU. Functions of core files need it held, unless their comment says
 * "no lock". Nothing under the lock allocates: pool.c fills the stores before.
 */
#ifndef UMBRA_MMU_H
#define UMBRA_MMU_H

#include <umbra/umbra.h>

#include "mode.h"
#include "port.h"
#include "spte.h"
#include "tuning.h"

#define LEVELS      3u /* page sizes: 4K, 2M, 1G */
#define CHUNK_PAGES (1u << TUNING_CHUNK_SHIFT)

/*
 * A growing array of blocks of equal size; what an index means is the owner's business.
 * Grows by replacing the pointer array with one of twice its size.
 */
struct store {
	void **block;
	struct umbra_memory memory; /* of the pointer array */
	uint32_t count;
	uint32_t capacity;
};

/*
 * An spte's name in 30 bits: shadow page id << 9 | index in its table. 0: none (page 0 is
 * never used).
 */
typedef uint32_t handle;

/*
 * Whose chain: a gfn's (region id << 9 | index) or, with HEAD_PARENTS, a shadow page's parents
 * (page id). 31 bits.
 */
typedef uint32_t head_ref;
#define HEAD_PARENTS (1u << 30)

/*
 * Where an spte stands, kept beside its table for each entry (see rmap.c):
 *   bit 31 clear: inline in the head of that head_ref
 *   bit 31 set:   descriptor id << 5 | slot in it
 */
typedef uint32_t place;
#define PLACE_DESC (1u << 31)

/*
 * A piece of a chain that is longer than two. The oldest one, which is the last of its chain, is
 * small: a cache line. All others are large: two lines side by side, which are waited for together,
 * so that a walk waits half as often. Only a chain's first one may be partly filled.
 *
 * An older one that is not marked holds no writable spte: who takes W away passes it by. (Of the
 * first one a mark tells nothing.)
 */
struct desc {
	uint32_t next; /* descriptor id; 0: last */
	head_ref head; /* the chain it belongs to; with DESC_MARK */
	handle spte[];
};

#define DESC_MARK (1u << 31)

enum desc_kind {
	DESC_SMALL,
	DESC_LARGE,
	DESC_KINDS
};
#define DESC_UNIT     (sizeof(struct desc) + TUNING_DESC_HANDLES * sizeof(handle))
#define SMALL_HANDLES TUNING_DESC_HANDLES
#define LARGE_HANDLES ((2 * DESC_UNIT - sizeof(struct desc)) / sizeof(handle))

/*
 * Heads of 512 neighbours on one level: 2 MiB of 4K pages, 1 GiB of 2M pages, 512 GiB of 1G
 * pages. Made when the first of them is mapped.
 */
struct region {
	struct umbra_memory memory; /* of the heads, which are mmu.heads.block[id] */
	uint64_t base;              /* gfn of head[0] */
	uint32_t level;
	uint32_t id;
	uint32_t next_free; /* of unused ids: id + 1; 0: none */
};

/* Everything that changes what a shadow page means, besides its gfn. */
union role {
	uint32_t word;
	struct {
		uint32_t level : 3;
		uint32_t direct : 1;   /* maps gfns 1:1 from .gfn on: no guest table behind it */
		uint32_t mode : 3;     /* enum paging_mode: what its entries are like */
		uint32_t quadrant : 2; /* which part of a 32-bit table (mode.h) */
		uint32_t access : 3;   /* enum access: what the levels above leave */
		uint32_t nxe : 1;      /* EFER.NXE: else bit 63 is reserved */
		uint32_t wp : 1;       /* CR0.WP */
		uint32_t smep : 1;     /* CR4.SMEP, where it matters: !wp */
		uint32_t strict : 1;   /* CR4.SMAP or protection keys, where it matters: !wp */
		uint32_t clean : 1;    /* of a large page whose D is clear, where it matters: !wp */
		uint32_t type : 3;     /* of a large page: PAT, PCD, PWT, */
		uint32_t key : 4;      /*   protection key */
	};
};

/* The marks (spte.h) of what a direct page maps. */
static inline uint64_t role_marks(union role role)
{
	return (uint64_t)(role.type & 3) << 3 | (uint64_t)(role.type >> 2) << 7 |
	       (uint64_t)role.key << KEY_SHIFT;
}

/* Intrusive lists of shadow pages, by id. */
struct link {
	uint32_t next, prev;
};

enum shadow_state {
	SHADOW_FREE,
	SHADOW_USED,    /* hashed, reachable */
	SHADOW_PENDING, /* zapped; free after the next flush of all vcpus */
};

/* A shadow page: 512 sptes and where each of them stands. */
struct shadow {
	uint64_t *table;
	place *place;
	uint64_t hpa;
	umbra_gfn gfn;    /* the guest table it shadows; direct: what its entry 0 maps */
	uint64_t parents; /* chain head: the sptes that lead here */
	union role role;
	uint32_t id;
	uint32_t hash_next; /* id */
	uint32_t next;      /* id: in the free or pending list */
	uint32_t top;       /* the one root that leads here, as of .top_epoch; 0: not known */
	uint32_t top_epoch;
	struct link unsync_link;
	uint16_t roots; /* vcpus that have it as their root */
	uint8_t state;
	uint8_t writes;  /* guest writes to its table since it was last walked */
	uint8_t clean;   /* times it was synchronised without a finding */
	bool unsync;     /* the guest may be writing its table now */
	bool referenced; /* walked since the clock came by */
	bool fresh;      /* nothing was linked here yet: nothing is below it */
	bool used_up;    /* zapped without clearing its table: cleared before its next use */
};

/*
 * 2^TUNING_CHUNK_SHIFT shadow pages, allocated together. Their tables and places are found
 * without it, through mmu.tables and mmu.places: one load from a handle to its spte.
 */
struct chunk {
	struct shadow *shadows;
	struct umbra_memory memory[3];
};

struct slot {
	uint32_t id;
	uint32_t flags;
	uint64_t first;
	uint64_t pages;
	uint64_t to; /* .moves: there */
	bool moves;
	bool going; /* being deleted, or moved: others do not find it by its name */
	bool by_d;  /* logged by D bits: an spte may grant W without D, and say by it that it was
		       written through; */
	bool will_by_d; /*   or becomes it as soon as all of it is prepared: in mmu.dirty_logs */
	bool waits;     /* was logged like that ever: sptes may still grant W without D */
	uint64_t *log;  /* a bit a page: dirty. NULL: not logged */
	struct umbra_memory log_memory;
	/*
	 * Per level: top[i][j] is about the region i * 1024 + j, counted from first: its id + 1 in
	 * bits 21:0, and how many guest tables lie in it (level 2: regions of level 1 that have
	 * some) in bits 31:22.
	 */
	struct {
		uint32_t **top;
		struct umbra_memory memory;
		uint32_t count;
	} dir[LEVELS];
};
#define DIR_LEAF         1024u
#define DIR_ID           ((1u << 22) - 1)
#define DIR_TABLES_SHIFT 22
#define DIR_TABLES_ONE   (1u << DIR_TABLES_SHIFT)

/*
 * gfns that an operation takes away piece by piece, giving up the lock in between: faults there
 * are told to come again until it is done. Lives on the stack of the operation.
 */
struct held {
	uint64_t first, end;
	struct held *next;
	uint64_t flushes; /* mmu.whole_flushes when its flush was put off; UINT64_MAX: it was not */
};

/* watch.c */
struct watch {
	uint64_t gfn;
	unsigned kinds; /* enum umbra_watch, or-ed: armed; never 0 */
};

#define SPARES 16u

struct umbra_mmu {
	struct port_lock lock;
	struct umbra_host host;
	void *ctx;
	struct umbra_config config;
	struct umbra_memory memory;
	struct reserved reserved;

	/* slot.c */
	uint32_t slots;
	uint32_t slot_hit;       /* where the last look-up ended */
	uint32_t generation;     /* of the slots: notes of others are void */
	uint64_t tables_outside; /* gfns in no slot that are shadowed as guest's tables */

	/* root.c */
	uint64_t vcpus; /* bit mask */

	/* drop.c */
	struct held *held; /* list */

	/* log.c */
	uint32_t dirty_logs;  /* slots that are logged by D bits, or will be; */
	uint32_t dirty_slots; /*   those that are */

	/* watch.c */
	uint32_t watches;

	/* flush.c */
	uint64_t tlb_stale;     /* vcpus whose TLB may hold what was taken away without a flush */
	uint64_t whole_flushes; /* of everything, on every vcpu: so many yet */

	/* shadow.c */
	struct store chunks; /* struct chunk, by page id >> TUNING_CHUNK_SHIFT; */
	struct store tables; /*   its tables, */
	struct store places; /*   its places */
	uint32_t *hash;
	struct umbra_memory hash_memory;
	uint32_t hash_mask;
	uint32_t shadow_free, shadow_pending; /* lists */
	uint32_t shadow_free_count, shadow_pending_count;
	uint32_t clock;
	uint32_t unsync;     /* list */
	uint32_t link_epoch; /* changes when a link may give a table below it another root */

	/* rmap.c, pool.c */
	struct store descs; /* blocks of DESC_BLOCK units of DESC_UNIT bytes */
	uint32_t desc_free[DESC_KINDS];
	uint64_t desc_free_count[DESC_KINDS];
	uint64_t desc_count;  /* units, free and used */
	struct store regions; /* blocks of REGION_BLOCK struct region */
	struct store heads;   /* 512 heads, by region id; NULL: id unused */
	uint32_t region_free;
	uint32_t region_free_count;
	uint32_t spares;

	struct umbra_stats stats;

	/* What is large comes last, so that what each fault needs lies on one page. */
	struct umbra_vcpu *vcpu[UMBRA_VCPUS_MAX];
	struct umbra_memory spare[SPARES];     /* zeroed pages for heads and directories */
	struct slot slot[UMBRA_SLOTS_MAX];     /* sorted by .first */
	struct watch watch[UMBRA_WATCHES_MAX]; /* sorted by .gfn */
};

/* What @value, read by the library itself, is to be taken for: host.input. */
static inline uint64_t mmu_input(const struct umbra_mmu *mmu, enum umbra_input kind, uint64_t key,
				 uint64_t value)
{
	if (__builtin_expect(!mmu->host.input, 1))
		return value;
	return mmu->host.input(mmu->ctx, kind, key, value);
}

/* ---- pool.c: memory from the host, taken before the lock ---- */

/* What an operation needs in stock: shadow pages, descriptors, spare pages. */
struct need {
	uint32_t shadows;
	uint32_t descs; /* of each kind */
	uint32_t spares;
	uint32_t regions;
};

/*
 * Take the lock with @need in stock. => no lock on entry; on success the lock is held.
 * => UMBRA_ENOMEM: the lock is not held
 */
int pool_lock(struct umbra_mmu *mmu, const struct need *need);
void pool_destroy(struct umbra_mmu *mmu);
void *pool_spare_take(struct umbra_mmu *mmu, struct umbra_memory *memory);

/* ---- store look-ups ---- */

#define DESC_BLOCK   TUNING_DESC_CHUNK
#define REGION_BLOCK 64u

static inline struct desc *desc_of(struct umbra_mmu *mmu, uint32_t id)
{
	char *block = mmu->descs.block[id / DESC_BLOCK];

	return (struct desc *)(block + id % DESC_BLOCK * DESC_UNIT);
}

static inline struct region *region_of(struct umbra_mmu *mmu, uint32_t id)
{
	return (struct region *)mmu->regions.block[id / REGION_BLOCK] + id % REGION_BLOCK;
}

static inline uint64_t *heads_of(struct umbra_mmu *mmu, uint32_t region)
{
	return mmu->heads.block[region];
}

static inline struct chunk *chunk_of(struct umbra_mmu *mmu, uint32_t id)
{
	return mmu->chunks.block[id >> TUNING_CHUNK_SHIFT];
}

static inline struct shadow *shadow_of(struct umbra_mmu *mmu, uint32_t id)
{
	return &chunk_of(mmu, id)->shadows[id & (CHUNK_PAGES - 1)];
}

static inline handle handle_of(const struct shadow *shadow, unsigned index)
{
	return shadow->id << 9 | index;
}

static inline struct shadow *handle_shadow(struct umbra_mmu *mmu, handle h)
{
	return shadow_of(mmu, h >> 9);
}

static inline uint64_t *handle_spte(struct umbra_mmu *mmu, handle h)
{
	uint64_t *tables = mmu->tables.block[h >> (TUNING_CHUNK_SHIFT + 9)];

	return &tables[h & (CHUNK_PAGES * PTE_ENTRIES - 1)];
}

static inline place *handle_place(struct umbra_mmu *mmu, handle h)
{
	place *places = mmu->places.block[h >> (TUNING_CHUNK_SHIFT + 9)];

	return &places[h & (CHUNK_PAGES * PTE_ENTRIES - 1)];
}

/* log2 of the gfns that one entry of a table of @level covers. */
static inline unsigned level_shift(unsigned level)
{
	return 9 * (level - 1);
}

/* gfns that one entry of a table of @level covers. */
static inline uint64_t level_pages(unsigned level)
{
	return 1ull << level_shift(level);
}

/* ---- slot.c ---- */

struct slot *slot_find(struct umbra_mmu *mmu, umbra_gfn gfn);

/* Number of the region of @gfn in its slot's directory. */
static inline uint64_t slot_region_index(const struct slot *slot, uint64_t gfn, unsigned level)
{
	unsigned shift = level_shift(level + 1);

	return (gfn >> shift) - (slot->first >> shift);
}

/* Id + 1 of region number @index; 0: it was never used. */
static inline uint32_t slot_region_id(const struct slot *slot, unsigned level, uint64_t index)
{
	uint32_t *leaf = slot->dir[level - 1].top[index / DIR_LEAF];

	return leaf ? leaf[index % DIR_LEAF] & DIR_ID : 0;
}

/* The head of @gfn's chain of @level (1..3); NULL while its region was never used. */
static inline uint64_t *slot_head_find(struct umbra_mmu *mmu, struct slot *slot, umbra_gfn gfn,
				       unsigned level)
{
	uint32_t id = slot_region_id(slot, level, slot_region_index(slot, gfn.n, level));

	return id ? &heads_of(mmu, id - 1)[gfn.n >> level_shift(level) & 511] : NULL;
}

void slot_region_make(struct umbra_mmu *mmu, struct slot *slot, umbra_gfn gfn, unsigned level);

/*
 * The same, by name, and the region is made: needs a spare page and region id in stock (two
 * spares when the directory's leaf is missing too).
 */
static inline head_ref slot_head_make(struct umbra_mmu *mmu, struct slot *slot, umbra_gfn gfn,
				      unsigned level)
{
	uint64_t index = slot_region_index(slot, gfn.n, level);
	uint32_t id = slot_region_id(slot, level, index);

	if (!id) {
		slot_region_make(mmu, slot, gfn, level);
		id = slot_region_id(slot, level, index);
	}
	return (id - 1) << 9 | (gfn.n >> level_shift(level) & 511);
}

bool slot_table_add(struct umbra_mmu *mmu, struct slot *slot, umbra_gfn gfn);
void slot_table_remove(struct umbra_mmu *mmu, struct slot *slot, umbra_gfn gfn);

/* Whether guest tables lie in the page of @level (2, 3) around @gfn. */
static inline bool slot_has_tables(const struct slot *slot, umbra_gfn gfn, unsigned level)
{
	uint64_t index = slot_region_index(slot, gfn.n, level - 1);
	const uint32_t *leaf = slot->dir[level - 2].top[index / DIR_LEAF];

	return leaf && leaf[index % DIR_LEAF] >= DIR_TABLES_ONE;
}

uint64_t slot_skip_unused(const struct slot *slot, uint64_t gfn, uint64_t end, unsigned least);
uint64_t slot_unused_end(const struct slot *slot, uint64_t gfn, unsigned level);
uint64_t slot_tables_next(const struct slot *slot, uint64_t gfn, uint64_t end);
int slot_dirs_alloc(struct umbra_mmu *mmu, struct slot *slot);
void slot_dirs_free(struct umbra_mmu *mmu, struct slot *slot);

/* Call @visit for every region of the slot that exists and overlaps gfns [@first, @end). */
void slot_regions(struct umbra_mmu *mmu, struct slot *slot, uint64_t first, uint64_t end,
		  void (*visit)(struct umbra_mmu *mmu, struct region *region, uint64_t first,
				uint64_t end, void *arg),
		  void *arg);

/* ---- rmap.c; rmap_add() and rmap_remove() are in head.h ---- */

uint64_t *rmap_head_of(struct umbra_mmu *mmu, head_ref ref);
void rmap_remove_many(struct umbra_mmu *mmu, const handle *list, unsigned count);
void rmap_replace(struct umbra_mmu *mmu, handle h, uint64_t *spte, uint64_t old, uint64_t value);
bool rmap_age(struct umbra_mmu *mmu, uint64_t *head, unsigned limit);
head_ref rmap_owner(struct umbra_mmu *mmu, handle h);
umbra_gfn rmap_gfn(struct umbra_mmu *mmu, handle h);
uint64_t rmap_count(uint64_t head);
void rmap_forget(struct umbra_mmu *mmu, uint64_t *head);

bool rmap_covers(uint64_t head, uint64_t spte);
const char *rmap_check(struct umbra_mmu *mmu, head_ref ref, uint64_t *descs);

/* Visit each handle of a chain; no entry may be added or removed meanwhile. */
struct rmap_cursor {
	handle inline_spte[2];
	struct desc *desc;
	uint32_t left; /* in this descriptor or inline */
};
handle rmap_first(struct umbra_mmu *mmu, uint64_t head, struct rmap_cursor *cursor);
handle rmap_next(struct umbra_mmu *mmu, struct rmap_cursor *cursor);

#define rmap_for_each(mmu, head, cursor, h) \
	for (handle h = rmap_first(mmu, head, cursor); h; h = rmap_next(mmu, cursor))

/* ---- rmap_bits.c ---- */

uint64_t rmap_write_protect(struct umbra_mmu *mmu, uint64_t *head);
void rmap_take_write(struct umbra_mmu *mmu, handle h);

/* How far an operation has come in a chain that it goes through in pieces. */
struct rmap_piece {
	uint64_t left; /* descriptors that it has not seen, from the oldest one on, */
	uint32_t desc; /*   and the newest of them: the id is true unless the chain got shorter */
	bool begun;
	handle inline_spte[2];
};
bool rmap_protect_some(struct umbra_mmu *mmu, uint64_t *head, struct rmap_piece *piece,
		       uint64_t *budget, bool dirty, uint64_t *changed);
bool rmap_age_some(struct umbra_mmu *mmu, uint64_t *head, struct rmap_piece *piece,
		   uint64_t *budget, bool test, bool *used);

/* ---- sweep.c; sweep_chain() is in head.h ---- */

struct sweep {
	uint64_t budget; /* sptes that may still go */
	uint64_t sptes;  /* gone so far */
	uint64_t bits;   /* of all their values: the A and D they had, or-ed */
	bool large_only; /* drop_range(): 4K pages stay */
};
#define SWEEP_ALL ((struct sweep){.budget = UINT64_MAX})

unsigned sweep_heads(struct umbra_mmu *mmu, uint64_t *heads, unsigned from, unsigned to,
		     struct sweep *sweep);

/* ---- flush.c ---- */

/* What an operation gathered. */
struct flush {
	uint64_t vcpus;
	uint64_t gva;
	uint64_t pages; /* 0: everything */
};

void flush_all(struct umbra_mmu *mmu, struct flush *flush);
void flush_vcpu(const struct umbra_vcpu *vcpu, struct flush *flush);
void flush_page(const struct umbra_vcpu *vcpu, struct flush *flush, uint64_t gva);
void flush_later(struct umbra_mmu *mmu);
bool flush_commit(struct umbra_mmu *mmu, struct flush *flush);

/* ---- shadow.c ---- */

/* Of a gva, in our tables. */
static inline unsigned gva_index(uint64_t gva, unsigned level)
{
	return gva >> shadow_shift(level) & 511;
}

struct shadow *shadow_find(struct umbra_mmu *mmu, umbra_gfn gfn, union role role);
struct shadow *shadow_get(struct umbra_mmu *mmu, umbra_gfn gfn, union role role,
			  struct flush *flush);
void shadow_rehash(struct umbra_mmu *mmu, uint32_t *hash, uint32_t mask);
void shadow_zap(struct umbra_mmu *mmu, struct shadow *shadow, struct flush *flush);
void shadow_zap_tree(struct umbra_mmu *mmu, struct shadow *shadow, struct flush *flush);
void shadow_zap_orphan(struct umbra_mmu *mmu, struct shadow *shadow, struct flush *flush);
void shadow_zap_all(struct umbra_mmu *mmu, struct flush *flush);
void shadow_reclaim(struct umbra_mmu *mmu, uint64_t target, struct flush *flush);
void shadow_release_pending(struct umbra_mmu *mmu);
struct shadow *shadow_child(struct umbra_mmu *mmu, struct shadow *shadow, unsigned index);
void shadow_link(struct umbra_mmu *mmu, struct shadow *parent, unsigned index,
		 struct shadow *child);
struct shadow *shadow_unlink(struct umbra_mmu *mmu, struct shadow *parent, unsigned index,
			     struct flush *flush);
void shadow_clear_leaf(struct umbra_mmu *mmu, struct shadow *shadow, unsigned index);
struct shadow *shadow_first_of(struct umbra_mmu *mmu, umbra_gfn gfn);
struct shadow *shadow_next_of(struct umbra_mmu *mmu, struct shadow *shadow);

/* Every shadow page that shadows guest table @gfn (direct ones shadow none). */
#define for_each_shadow_of(mmu, gfn, shadow)                            \
	for (struct shadow *shadow = shadow_first_of(mmu, gfn); shadow; \
	     shadow = shadow_next_of(mmu, shadow))

/* ---- track.c ---- */

bool track_write_protect(struct umbra_mmu *mmu, umbra_gfn gfn);
bool track_is_writable(struct umbra_mmu *mmu, umbra_gfn gfn);
void track_bits_set(struct umbra_mmu *mmu, uint64_t gpa, struct flush *flush);

/* ---- sync.c ---- */

bool sync_suspend(struct umbra_mmu *mmu, umbra_gfn gfn);
bool sync_entry(struct umbra_mmu *mmu, struct shadow *shadow, unsigned index, uint64_t pte);
void sync_forget(struct umbra_mmu *mmu, struct shadow *shadow);
void sync_below(struct umbra_mmu *mmu, struct shadow *top, struct flush *flush);
void sync_gva(struct umbra_mmu *mmu, struct shadow *shadow, uint64_t gva);

/* ---- log.c ---- */

void log_mark(struct umbra_mmu *mmu, umbra_gfn gfn);
void log_end(struct umbra_mmu *mmu, struct slot *slot);
void log_free(struct umbra_mmu *mmu, struct slot *slot);
void log_harvest(struct umbra_mmu *mmu, struct shadow *shadow);

void log_ask(struct umbra_mmu *mmu, handle h, bool dirty);

/*
 * Leaf or link @h, which still stands in its chain, had that value: it says no more whether it was
 * written through. (Where D is an input, not it alone tells.)
 */
static inline void log_removed(struct umbra_mmu *mmu, handle h, uint64_t value)
{
	if (__builtin_expect(mmu->dirty_slots && value & (mmu->host.input ? PTE_W : PTE_D), 0))
		log_ask(mmu, h, value & PTE_D);
}

/* @gfn lies in @slot, which is logged. */
static inline bool log_is_set(const struct slot *slot, umbra_gfn gfn)
{
	return slot->log[(gfn.n - slot->first) / 64] >> (gfn.n - slot->first) % 64 & 1;
}

/*
 * What leaf @value of @gfn, which lies in @slot, is to be: D waits for the hardware where D tells.
 * (Where the page is marked it tells nothing.)
 */
static inline uint64_t log_leaf(const struct slot *slot, umbra_gfn gfn, uint64_t value)
{
	if (__builtin_expect(slot->by_d, 0) && !log_is_set(slot, gfn))
		value &= ~PTE_D;
	return value;
}

static inline void log_set(struct slot *slot, umbra_gfn gfn)
{
	slot->log[(gfn.n - slot->first) / 64] |= 1ull << (gfn.n - slot->first) % 64;
}

/* ---- drop.c ---- */

bool drop_range(struct umbra_mmu *mmu, uint64_t *first, uint64_t end, struct sweep *sweep,
		struct flush *flush);
void drop_hold(struct umbra_mmu *mmu, struct held *held, struct sweep *total, struct flush *flush);
void drop_begin_hold(struct umbra_mmu *mmu, struct held *held);
void drop_release(struct umbra_mmu *mmu, const struct held *held);
bool drop_is_held(const struct umbra_mmu *mmu, uint64_t first, uint64_t pages);
bool drop_large(struct umbra_mmu *mmu, struct slot *slot, uint64_t gfn, struct sweep *sweep);
void drop_count(struct umbra_mmu *mmu, uint64_t sptes);

/* ---- protect.c ---- */

/* Part of a chain, until the budget ends; whether that is all: rmap_protect_some() and its like. */
typedef bool chain_some(struct umbra_mmu *mmu, uint64_t *head, struct rmap_piece *piece,
			uint64_t *budget, void *arg);
void chain_finish(struct umbra_mmu *mmu, uint64_t gfn, unsigned level, struct rmap_piece *piece,
		  chain_some *some, void *arg);

struct protect {
	uint64_t changed; /* sptes that had what was taken */
	uint64_t budget;
	unsigned level; /* of the chain at hand */
	bool dirty;     /* D goes, and W of large pages; else W */
};
bool protect_range(struct umbra_mmu *mmu, uint64_t *first, uint64_t end, struct protect *protect);
void protect_hold(struct umbra_mmu *mmu, struct held *held, struct protect *protect,
		  struct flush *flush);

/* ---- watch.c ---- */

unsigned watch_kinds(const struct umbra_mmu *mmu, umbra_gfn gfn);
bool watch_overlaps(const struct umbra_mmu *mmu, uint64_t first, uint64_t end);
void watch_forget(struct umbra_mmu *mmu, uint64_t first, uint64_t end);
unsigned watch_withheld(const struct umbra_mmu *mmu, umbra_gfn gfn, unsigned rights);
unsigned watch_let(struct umbra_vcpu *vcpu, uint64_t gva, uint64_t gpa, uint32_t error_code,
		   unsigned rights);
void watch_touch(struct umbra_vcpu *vcpu, uint64_t gva, uint64_t gpa, uint32_t error_code);

/* ---- plug.c ---- */

struct slot *slot_by_id(struct umbra_mmu *mmu, uint32_t id);
void drop_tables(struct umbra_mmu *mmu, uint64_t first, uint64_t end, struct flush *flush);
void slot_destroy(struct umbra_mmu *mmu);

/* ---- root.c ---- */

void vcpu_root_gone(struct umbra_mmu *mmu, struct shadow *shadow);

#endif
