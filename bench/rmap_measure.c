/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Rounds and clocks of the reverse-map benchmark. A set is measured in rounds; in each round every
 * implementation goes through the same cycles, and another one begins. A cycle restores the sptes
 * and the implementation's free lists, builds what it needs, and times one operation or a few;
 * only these are under the clock. The first round is thrown away.
 *
 * Who is quadratic gets OP_LIMIT of time for an operation in a round; what it did by then counts.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_rmap.h"

#define OP_LIMIT   0.25e9 /* ns */
#define ROWS_MAX   4096u
#define BUDGET     1024u /* sptes in a piece */
#define PIECES_MAX 2048u
#define IMPLS_MAX  8u

static struct row rows[ROWS_MAX];
static size_t row_count, set_rows; /* the open set's begin there */

static struct set set;

/* The cycle under way. */
static struct {
	const struct impl *impl;
	const char *order;
	enum state state;
	unsigned round; /* 0 is thrown away */
	size_t index;   /* of .impl in the plan */
	const struct entry *list;
	const uint32_t *gfns;
	uint32_t *processes; /* in the order in which they exit */
	uint64_t sum;
} now;

/* What two looks at the clock cost, at least. */
static double clock_cost(void)
{
	static double cost;

	for (unsigned i = 0; !cost || i % 1000; i++) {
		double start = clock_ns(), took = clock_ns() - start;

		cost = !cost || took < cost ? took : cost;
	}
	return cost;
}

static struct row *row_find(const char *op)
{
	struct row *row;

	for (row = &rows[set_rows]; row < &rows[row_count]; row++)
		if (row->impl == now.impl && row->state == now.state && !strcmp(row->op, op) &&
		    !strcmp(row->order, now.order))
			return row;
	if (row_count == ROWS_MAX)
		die("more rows than planned");
	row_count++;
	*row = (struct row){
	    .op = op,
	    .order = now.order,
	    .set = set.shape.name,
	    .impl = now.impl,
	    .state = now.state,
	    .aligned = set.shape.aligned,
	    .chain = set.shape.chain,
	    .sptes = set.sptes,
	    .bytes = -1,
	};
	return row;
}

static void sample(const char *op, double ns, uint64_t capped)
{
	struct row *row = row_find(op);

	if (capped)
		row->capped = capped;
	if (now.round)
		row->ns[row->rounds++] = ns;
}

static void note_bytes(const char *op)
{
	struct row *row = row_find(op);

	if (!now.impl->bytes || !set.sptes)
		return;
	row->bytes = (double)now.impl->bytes() / (double)set.sptes;
	row->gib = (double)set.shape.slot_pages / (1 << 18);
	row->tables = set.tables;
	if (now.impl->head_bytes)
		row->heads = (double)now.impl->head_bytes();
	if (now.impl->side_bytes)
		row->beside = (double)now.impl->side_bytes();
}

/*
 * Time @call on items 0..@count-1, in pieces that grow while they take less than 1 ms. Notes the
 * ns of one of the @each parts of an item. Returns whether the time allowed all of them.
 */
static bool timed(const char *op, void (*call)(size_t first, size_t count), size_t count,
		  double each)
{
	double spent = 0, cost = clock_cost();
	size_t done = 0, step = 16;

	while (done < count && spent < OP_LIMIT) {
		size_t piece = step < count - done ? step : count - done;
		double start = clock_ns(), took;

		call(done, piece);
		took = clock_ns() - start - cost;
		spent += took;
		done += piece;
		if (took < 1e6)
			step *= 2;
	}
	sample(op, spent / ((double)done * each), done < count ? done : 0);
	return done >= count;
}

static void do_add(size_t first, size_t count)
{
	now.impl->add(now.list + first, count);
}

static void do_remove(size_t first, size_t count)
{
	now.impl->remove(now.list + first, count);
}

static void do_remove_many(size_t first, size_t count)
{
	now.impl->remove_many(now.list + first, count);
}

static void do_map(size_t first, size_t count)
{
	now.impl->map(now.list + first, count);
}

static void do_unmap(size_t first, size_t count)
{
	now.impl->unmap(now.list + first, count);
}

static void do_drop(size_t first, size_t count)
{
	now.impl->drop(now.gfns + first, count);
}

static void do_walk(size_t first, size_t count)
{
	now.sum += now.impl->walk(now.gfns + first, count);
}

static void do_count(size_t first, size_t count)
{
	now.sum += now.impl->count(now.gfns + first, count);
}

static void do_range(size_t first, size_t count)
{
	(void)first;
	(void)count;
	now.impl->drop_range(0, set.shape.slot_pages);
}

static void do_delete(size_t first, size_t count)
{
	(void)first;
	(void)count;
	now.impl->slot_delete();
}

/* A process exits, and one like it starts. */
static void do_churn(size_t first, size_t count)
{
	uint64_t each = set.sptes / set.processes;

	for (size_t i = first; i < first + count; i++) {
		const struct entry *list = set.seq + now.processes[i] * each;

		now.impl->remove_many(list, each);
		now.impl->add(list, each);
	}
}

/* ---- cycles: each begins and ends with nothing in the reverse map ---- */

static void begin(const char *order, enum state state)
{
	bool shuffled = !strcmp(order, "rand");

	now.order = order;
	now.state = state;
	now.list = shuffled ? set.rand : set.seq;
	now.gfns = shuffled ? set.gfn_rand : set.gfn_seq;
	now.impl->age(shuffled, state);
	set_restore(&set, state);
}

static void build(const struct entry *list)
{
	if (now.impl->build)
		now.impl->build(list, set.sptes);
	else
		now.impl->add(list, set.sptes);
}

static void finish(void)
{
	now.impl->drop(set.gfn_seq, set.shape.gfns);
}

static void cycle_add_drop(const char *order)
{
	begin(order, QUIET);
	if (!now.impl->add) {
		build(now.list);
	} else {
		if (!timed("add", do_add, set.sptes, 1)) {
			finish();
			begin(order, QUIET);
			build(now.list);
		}
		note_bytes("add");
	}
	if (now.impl->walk)
		timed("walk", do_walk, set.shape.gfns, (double)set.shape.chain);
	if (now.impl->count)
		timed("count", do_count, set.shape.gfns, 1);
	timed("drop", do_drop, set.shape.gfns, (double)set.shape.chain);
	finish();
}

static void cycle_seq(void)
{
	cycle_add_drop("seq");
}

static void cycle_rand(void)
{
	cycle_add_drop("rand");
}

static void cycle_volatile(void)
{
	begin("rand", VOLATILE);
	build(now.list);
	timed("drop", do_drop, set.shape.gfns, (double)set.shape.chain);
	finish();
}

/* How many to remove: of long chains a part, since they are to be about as long as we say. */
static size_t quarter_of_long(void)
{
	return set.shape.chain < 64 ? set.sptes : set.sptes / 4;
}

static void cycle_remove(void)
{
	if (!now.impl->remove)
		return;
	begin("rand", QUIET);
	build(set.seq);
	timed("remove", do_remove, quarter_of_long(), 1);
	finish();
}

/* The lists of 2013 know no other way than one at a time. */
static void cycle_remove_many(void)
{
	if (!now.impl->remove_many || now.impl == &impl_onebyone)
		return;
	begin("rand", QUIET);
	build(set.seq);
	timed("remove_many", do_remove_many, quarter_of_long(), 1);
	finish();
}

static void cycle_churn(void)
{
	if (!now.impl->remove)
		return;
	begin("rand", QUIET);
	build(set.seq);
	timed("churn", do_churn, set.processes, (double)set.sptes / (double)set.processes);
	finish();
}

static void cycle_map(void)
{
	if (!now.impl->map)
		return;
	begin("rand", QUIET);
	now.order = "seq";
	now.list = set.seq;
	if (!timed("map", do_map, set.sptes, 1)) {
		finish();
		begin("rand", QUIET);
		now.impl->map(set.seq, set.sptes);
	}
	now.order = "rand";
	now.list = set.rand;
	timed("unmap", do_unmap, quarter_of_long(), 1);
	finish();
}

static void cycle_range(void)
{
	begin("seq", QUIET);
	build(now.list);
	timed("drop_range", do_range, 1, (double)set.sptes);
	finish();
}

static void cycle_range_volatile(void)
{
	begin("seq", VOLATILE);
	build(now.list);
	timed("drop_range", do_range, 1, (double)set.sptes);
	finish();
}

/* For those that hold the lock for a gfn at least. */
static size_t hold_gfns(double *ns)
{
	size_t pieces = set.shape.gfns < PIECES_MAX ? set.shape.gfns : PIECES_MAX;

	for (size_t i = 0; i < pieces; i++) {
		double start = clock_ns();

		now.impl->drop(&set.gfn_seq[i], 1);
		ns[i] = clock_ns() - start;
	}
	return pieces;
}

/*
 * The longest stretch for which dropping all gfns would hold a lock. Interrupts lengthen one
 * piece or another, each round a different one; so each piece's shortest time counts, and of
 * these the longest.
 */
static void cycle_hold(void)
{
	static double ns[PIECES_MAX], best[IMPLS_MAX][PIECES_MAX];
	double longest = 0, *mine = best[now.index];
	size_t pieces;

	begin("seq", QUIET);
	build(now.list);
	pieces = now.impl->hold ? now.impl->hold(BUDGET, ns, PIECES_MAX) : hold_gfns(ns);
	for (size_t i = 0; i < pieces; i++) {
		mine[i] = now.round <= 1 || ns[i] < mine[i] ? ns[i] : mine[i];
		longest = mine[i] > longest ? mine[i] : longest;
	}
	sample("hold", longest - clock_cost(), 0);
	finish();
}

static enum host_op_number host_op;

static void do_host(size_t first, size_t count)
{
	(void)first;
	(void)count;
	now.impl->host->run(&set, host_op);
}

/* What a host does, on sptes in the order of their addresses, each operation in a cycle of its own.
 */
static void cycle_host_op(enum host_op_number op)
{
	uint64_t pages = host_pages(&set, op);
	uint64_t sptes = set.sptes / set.shape.gfns * pages;

	host_op = op;
	begin("seq", QUIET);
	build(now.list);
	now.impl->host->prepare(&set, op);
	timed(host_ops[op].name, do_host, 1, (double)(host_ops[op].by_page ? pages : sptes));
	now.impl->host->clear_away(&set, op);
	finish();
}

static void cycle_host(void)
{
	for (enum host_op_number op = 0; op < HOST_SPLIT; op++)
		if (host_has(now.impl, op))
			cycle_host_op(op);
}

static void cycle_large(void)
{
	if (host_has(now.impl, HOST_SPLIT))
		cycle_host_op(HOST_SPLIT);
}

static const struct {
	unsigned op;
	enum state state;
	void (*run)(void);
} cycles[] = {
    {OPS_SEQ, QUIET, cycle_seq},
    {OPS_RAND, QUIET, cycle_rand},
    {OPS_VOLATILE, VOLATILE, cycle_volatile},
    {OPS_REMOVE, QUIET, cycle_remove},
    {OPS_REMOVE, QUIET, cycle_remove_many},
    {OPS_CHURN, QUIET, cycle_churn},
    {OPS_MAP, QUIET, cycle_map},
    {OPS_RANGE, QUIET, cycle_range},
    {OPS_RANGE, VOLATILE, cycle_range_volatile},
    {OPS_HOLD, QUIET, cycle_hold},
    {OPS_HOST, QUIET, cycle_host},
    {OPS_LARGE, QUIET, cycle_large},
};
#define CYCLES (sizeof(cycles) / sizeof(cycles[0]))

/* A limit has its kind: stores are enough for quiet sptes only. */
static bool is_for(const struct impl *impl, enum state state)
{
	if (impl == &impl_xchg)
		return state == VOLATILE;
	return impl != &impl_store || state == QUIET;
}

static void run_round(const struct plan *plan)
{
	for (size_t i = 0; i < CYCLES; i++) {
		if (!(plan->ops & cycles[i].op))
			continue;
		for (size_t j = 0; j < plan->impl_count; j++) {
			now.index = (j + now.round) % plan->impl_count;
			now.impl = plan->impls[now.index];
			if (is_for(now.impl, cycles[i].state))
				cycles[i].run();
		}
	}
}

/* Deleting takes the slot away: the set is made anew each time. */
static void run_slot_round(const struct shape *shape, const struct plan *plan)
{
	for (size_t j = 0; j < plan->impl_count; j++) {
		now.impl = plan->impls[(j + now.round) % plan->impl_count];
		if (!now.impl->slot_delete)
			continue;
		memory_reset();
		set_open(&set, shape);
		now.impl->open(&set);
		begin("seq", QUIET);
		build(now.list);
		note_bytes("delete");
		timed("delete", do_delete, 1, set.sptes ? (double)set.sptes : 1);
	}
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

void measure(const struct shape *shape, const struct plan *plan)
{
	set_rows = row_count;
	if (!(plan->ops & OPS_SLOT)) {
		memory_reset();
		set_open(&set, shape);
		now.processes = order_take(set.processes);
		for (size_t i = 0; i < plan->impl_count; i++)
			if (plan->impls[i]->open)
				plan->impls[i]->open(&set);
	}
	for (now.round = 0; now.round <= plan->rounds; now.round++) {
		if (plan->ops & OPS_SLOT)
			run_slot_round(shape, plan);
		else
			run_round(plan);
	}
	for (struct row *row = &rows[set_rows]; row < &rows[row_count]; row++)
		qsort(row->ns, row->rounds, sizeof(row->ns[0]), by_value);
}

const struct row *measure_rows(size_t *count)
{
	*count = row_count;
	return rows;
}

double row_median(const struct row *row)
{
	return row->ns[row->rounds / 2];
}
