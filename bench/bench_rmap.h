/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The reverse-map benchmark: several reverse maps over the same shadow page tables.
 *
 *   rmap_memory.c   the memory that everything lives in; the clock
 *   rmap_set.c      sets: which processes map which gfns with which sptes
 *   rmap_umbra.c    umbra, and its shadow pages, which all share
 *   rmap_list.c     the lists of 2013: dropped one by one with restart, or in one pass
 *   rmap_kvm.c      KVM's code, cut out of Linux (the benchmark only)
 *   rmap_host.c     what a host does to mapped pages: umbra's operations, and the least of each
 *   rmap_limit.c    bare loops that clear the same sptes
 *   rmap_check.c    do they agree?
 *   rmap_measure.c  rounds and clocks
 *   rmap_report.c   the table, JSON
 *   rmap_figures.c  the figures due
 *   bench_rmap.c    which sets, which rounds
 *
 * One set is open at a time; each implementation keeps its state for it in its own file.
 * Nothing here takes a lock: one thread.
 */
#ifndef BENCH_RMAP_H
#define BENCH_RMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An spte and the gfn that it maps. All implementations read the same lists of these. */
struct entry {
	uint64_t *spte;
	uint32_t gfn;
	uint32_t handle; /* umbra's name for the spte */
};

/* What sptes look like: quiet ones a plain store clears; of volatile ones, the processor may
 * still set D, so that an exchange is needed. */
enum state {
	QUIET,
	VOLATILE
};

struct shape {
	const char *name;      /* "resident", "beyond" ... */
	uint64_t gfns;         /* mapped ones */
	uint64_t chain;        /* sptes a gfn */
	unsigned stride_shift; /* every 2^nth gfn is mapped */
	uint64_t slot_pages;   /* 0: just enough */
	bool aligned;          /* every process maps gfn g at the same index of its tables, as after
				  fork; else shifted by a random number of pages, as by ASLR */
};

struct set {
	struct shape shape;
	uint64_t processes;
	uint64_t aliases; /* times that each process maps each gfn */
	uint64_t sptes;
	uint64_t tables;
	struct entry *seq;  /* process by process, each in order of its addresses */
	struct entry *rand; /* the same, shuffled */
	uint32_t *gfn_seq, *gfn_rand;
	uint64_t **table;
};

/* What a host does to all pages of a set. */
enum host_op_number {
	HOST_AGE,
	HOST_PROTECT,
	HOST_LOG_W, /* start a dirty log by write protection, */
	HOST_LOG_D, /*   by D bits */
	HOST_COLLECT_W,
	HOST_COLLECT_D,
	HOST_REMAP,
	HOST_COLLAPSE,   /* 2 MiB come to lie side by side */
	HOST_FLAGS,      /* a slot becomes read-only */
	HOST_INVALIDATE, /* begun, and ended */
	HOST_MOVE,       /* the slot comes to lie elsewhere */
	HOST_WATCH,
	HOST_SPLIT, /* of a set of large pages */
	HOST_OPS
};

struct host_op {
	const char *name;
	bool by_page; /* ns a page; else an spte */
};

struct host_side {
	unsigned ops; /* a bit for each that it has */
	void (*prepare)(const struct set *set, enum host_op_number op);
	void (*run)(const struct set *set, enum host_op_number op); /* under the clock */
	void (*clear_away)(const struct set *set, enum host_op_number op);
};

/* Functions over batches: the indirect call is per batch. */
struct impl {
	const char *name;
	const char *kind; /* of the limit: "store" or "xchg"; of KVM: whose package */
	void (*open)(const struct set *set);
	/* Free descriptors in the order of their addresses, or shuffled; sptes of that state are to
	 * be added. => none is in use */
	void (*age)(bool shuffled, enum state state);
	/* Add without a clock; NULL: add does. */
	void (*build)(const struct entry *list, size_t count);
	void (*add)(const struct entry *list, size_t count);
	void (*remove)(const struct entry *list, size_t count);      /* one at a time */
	void (*remove_many)(const struct entry *list, size_t count); /* known to go together */
	void (*drop)(const uint32_t *gfns, size_t count);
	void (*drop_range)(uint64_t first, uint64_t end);
	uint64_t (*walk)(const uint32_t *gfns, size_t count); /* returns the sptes' sum */
	uint64_t (*count)(const uint32_t *gfns, size_t count);
	/* As the way of a fault and of a zap have it: the key found, the spte written. */
	void (*map)(const struct entry *list, size_t count);
	void (*unmap)(const struct entry *list, size_t count);
	void (*slot_delete)(void);
	/* Drop all gfns in pieces of @budget sptes; in @ns, how long each took, @max at most. NULL:
	 * a gfn is a piece. Returns how many pieces there were. */
	size_t (*hold)(uint64_t budget, double *ns, size_t max);
	/* Bytes of descriptors in use; and of heads, and of what lies beside sptes. */
	uint64_t (*bytes)(void);
	uint64_t (*head_bytes)(void);
	uint64_t (*side_bytes)(void);
	const struct host_side *host;
};

extern const struct impl impl_umbra, impl_onebyone, impl_patch, impl_kvm, impl_store, impl_xchg;

/* ---- rmap_memory.c ---- */

_Noreturn void die(const char *format, ...);

/* The thread's own time: what others do on this processor meanwhile does not count. */
double clock_ns(void);

void memory_open(size_t size);
void memory_reset(void); /* everything is free and zero again */
void *memory_take(size_t size);
uint64_t memory_offset(const void *at);
void *memory_base(void);
const char *memory_pages(void); /* what the kernel says of huge pages */

/* ---- rmap_set.c ---- */

void set_open(struct set *set, const struct shape *shape);
uint64_t spte_value(uint64_t i, enum state state);
void set_restore(const struct set *set, enum state state);
uint64_t set_present(const struct set *set); /* sptes that are not cleared */
uint64_t set_sum(const struct set *set);
uint64_t random_next(void);
/* 0..@count-1, shuffled; part of the set. */
uint32_t *order_take(size_t count);

/* ---- rmap_umbra.c ---- */

/* Shadow pages for the set's tables; fills in set->table. */
void umbra_tables(struct set *set);
uint32_t umbra_handle(const struct set *set, uint64_t table, unsigned index);

struct umbra_mmu *umbra_mmu_of_set(void);

/* Regions of heads for all gfns of the set: also after its slot has lost them. */
void umbra_regions_make(void);

/* ---- rmap_host.c ---- */

extern const struct host_op host_ops[HOST_OPS];
extern const struct host_side host_umbra, host_limit;
#define HOST_ALL ((1u << HOST_OPS) - 1)

bool host_has(const struct impl *impl, enum host_op_number op);

/* How many pages a watch is armed for, and others are counted by. */
uint64_t host_pages(const struct set *set, enum host_op_number op);

/* ---- rmap_limit.c ---- */

enum limit {
	LIMIT_STORE, /* load, and, store */
	LIMIT_AND,   /* an atomic and */
	LIMIT_TAKE,  /* the same where there is something to take */
};

/* Over the first @sptes of them, gfn by gfn. */
void limit_each(const struct set *set, uint64_t sptes, enum limit how, uint64_t keep);

/* ---- rmap_check.c ---- */

/* Whether @count implementations do the same to small sets; says on stderr what not. */
bool check_agree(const struct impl *const *impls, size_t count);

/* ---- rmap_measure.c ---- */

struct row {
	const char *op, *order, *set;
	const struct impl *impl;
	enum state state;
	bool aligned;
	uint64_t chain, sptes;
	uint64_t capped; /* operations that the time allowed; 0: all of them */
	unsigned rounds;
	double ns[16];        /* sorted once the set is done */
	double bytes;         /* of descriptors, an entry; negative: not known */
	double heads, beside; /* bytes in all */
	double gib;           /* of the slot */
	uint64_t tables;
};

/* What of a set is measured. */
enum ops {
	OPS_SEQ = 1,       /* add, walk, count, drop: in order */
	OPS_RAND = 2,      /* the same at random */
	OPS_REMOVE = 4,    /* at random, one at a time and together */
	OPS_CHURN = 8,     /* processes exit and come */
	OPS_VOLATILE = 16, /* drop at random what must be exchanged */
	OPS_RANGE = 32,    /* drop all gfns at once; volatile too */
	OPS_MAP = 64,      /* the way of a fault, and back */
	OPS_SLOT = 128,    /* delete the slot */
	OPS_HOLD = 256,    /* pieces */
	OPS_HOST = 512,    /* what a host does, */
	OPS_LARGE = 1024,  /*   to large pages */
};

struct plan {
	const struct impl *const *impls;
	size_t impl_count;
	unsigned ops;
	unsigned rounds;
};

void measure(const struct shape *shape, const struct plan *plan);
const struct row *measure_rows(size_t *count);
double row_median(const struct row *row);

/* ---- rmap_report.c ---- */

/* The row of @impl in the same place of the table as @row; NULL: none. */
const struct row *row_beside(const struct row *row, const char *impl);
bool row_is_same_block(const struct row *a, const struct row *b);
void report_table(void);
int report_json(const char *path);

/* ---- rmap_figures.c ---- */

struct json_t;
void report_figures(void);
struct json_t *figures_json(void);

#endif
