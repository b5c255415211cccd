/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Everything that a guest and its host can do, in any order: accesses of three processors with
 * TLBs, speculation, device writes, registers, INVLPG and INVPCID; drops whole and in pieces,
 * moves, write protection with frames that are then not writable, unprotecting, quotas, slots that
 * come and go, zapping, and a host that is short of memory or of frames. The machine watches the
 * TLBs and the data, the audit runs after each operation.
 *
 *     config 2, registers 2 or 2 x 3, then until the end: an operation and its bytes
 */
#include <string.h>

#include "tables.h"

#define STEPS 160u

/* ------------------------------------------------------------------ the guest */

static void do_access(struct input *input, struct sim_cpu *cpu, unsigned *stores)
{
	struct ref_access access = tables_access(input, cpu);
	uint64_t gva = tables_gva(input, cpu), word = 0;
	uint32_t code;

	if (access.write)
		word = tables_entry(input, cpu->sim, 0);
	sim_access(cpu, gva, access, &word, &code);
	if (access.write)
		tables_calm(cpu->sim, stores);
}

static void do_paging(struct input *input, struct sim_cpu *cpu)
{
	struct umbra_paging paging = tables_paging(input);

	switch (input_u8(input) & 3) {
	case 1: /* a plain reload */
		paging = cpu->paging;
		break;
	case 2: /* threads of one address space */
		paging = cpu->sim->cpu[(cpu->number + 1) % SIM_CPUS].paging;
		break;
	default:
		break;
	}
	sim_paging_set(cpu, &paging);
}

static void do_guest(struct input *input, struct sim_cpu *cpu, unsigned what, unsigned *stores)
{
	struct ref_access access;
	uint64_t gva;

	switch (what) {
	case 0:
		tables_patch(input, cpu->sim);
		tables_calm(cpu->sim, stores);
		break;
	case 1:
		sim_invlpg(cpu, tables_gva(input, cpu));
		break;
	case 2:
		do_paging(input, cpu);
		break;
	case 3:
		access = tables_access(input, cpu);
		sim_translate(cpu, tables_gva(input, cpu), access);
		break;
	case 4:
		gva = tables_gva(input, cpu);
		if (!sim_cpu_enter(cpu))
			sim_cpu_speculate(cpu, gva);
		break;
	case 5:
		tables_keys(input, cpu);
		break;
	case 6:
		tables_invpcid(input, cpu);
		break;
	default:
		do_access(input, cpu, stores);
		break;
	}
}

/* ------------------------------------------------------------------ the host */

/* How many sptes map the range? */
static uint64_t count(struct sim *sim, uint64_t first, uint64_t pages)
{
	uint64_t all = 0, sptes;

	for (uint64_t gfn = first; gfn < first + pages; gfn++)
		if (!umbra_rmap_count(sim->mmu, (umbra_gfn){gfn}, &sptes))
			all += sptes;
	return all;
}

/* Piece by piece, with nothing in between: at the end all is gone. */
static void drop_some(struct sim *sim, uint64_t first, uint64_t pages, uint64_t budget)
{
	struct umbra_range left = {{first}, pages};
	uint64_t before = count(sim, first, pages), gone = 0;

	sim_op(sim, "drop some: first, pages, budget", first, pages, budget);
	while (left.pages) {
		struct umbra_range was = left;
		struct umbra_dropped dropped;

		if (umbra_drop_some(sim->mmu, &left, budget, &dropped))
			sim_fail(sim, "umbra_drop_some refuses a range");
		if (dropped.sptes > budget + 29 || left.pages > was.pages ||
		    (!dropped.sptes && left.pages == was.pages))
			sim_fail(sim, "drop_some took %llu sptes and left %llu of %llu pages",
				 (unsigned long long)dropped.sptes, (unsigned long long)left.pages,
				 (unsigned long long)was.pages);
		gone += dropped.sptes;
	}
	if (sim->options.large && gone < before)
		before = gone; /* one large spte counts for each of its gfns */
	if (gone != before || count(sim, first, pages))
		sim_fail(sim, "drop_some took %llu of %llu sptes", (unsigned long long)gone,
			 (unsigned long long)before);
	sim_check_revoked(sim, first, pages, false);
}

static void do_plug(struct sim *sim, uint8_t how)
{
	if (sim->slot[TABLES_PLUGGED].present) {
		sim_slot_delete(sim, TABLES_PLUGGED);
		if (how & 1)
			return;
	}
	tables_plug(sim, 40 + (how >> 1 & 7), 1 + (how >> 4), how & 8 ? UMBRA_SLOT_READONLY : 0);
}

static void do_shortage(struct sim *sim, uint8_t how)
{
	struct failing_rule *rule = how & 1 ? &sim->failing.alloc : &sim->failing.frame_get;

	sim_op(sim, "shortage: how", how, 0, 0);
	sim->shortage = how & 0xfc;
	failing_rule_set(&sim->failing.alloc, 0, 0, 0);
	failing_rule_set(&sim->failing.frame_get, 0, 0, 0);
	if (sim->shortage)
		failing_rule_set(rule, how >> 2 & 7, how >> 5,
				 how & 1 || how & 2 ? UMBRA_ENOMEM : UMBRA_EAGAIN);
}

static void set_quota(struct sim *sim, uint32_t pages)
{
	int error = umbra_quota_set(sim->mmu, pages);

	sim_op(sim, "quota", pages, 0, 0);
	if (error && !(error == UMBRA_ENOMEM && sim->shortage))
		sim_fail(sim, "quota of %u refused: %d", pages, error);
}

/* What came to share an operation's number. */
static void do_more(struct input *input, struct sim *sim, uint64_t gfn, uint64_t pages, uint8_t how)
{
	uint64_t first[3] = {gfn};

	switch (how >> 4 & 7) {
	case 1:
		sim_split(sim, gfn, pages);
		break;
	case 2:
		first[1] = tables_gfn(input);
		first[2] = tables_gfn(input);
		sim_invalidate(sim, first, 1 + how % 3u);
		break;
	case 6:
		sim_log_start(sim, how & 1 ? TABLES_PLUGGED : 0, how & 15);
		break;
	case 7:
		sim_log_collect(sim, gfn, pages);
		break;
	case 5:
		sim_slot_move(sim, TABLES_PLUGGED, 40 + (how & 15));
		break;
	case 3:
	case 4:
		sim_watch(sim, gfn, how & 7);
		break;
	default:
		sim_op(sim, "zap all", 0, 0, 0);
		umbra_zap_all(sim->mmu);
		break;
	}
}

static void do_host(struct input *input, struct sim *sim, unsigned what)
{
	uint64_t gfn = tables_gfn(input), pages;
	uint64_t end = gfn < TABLES_GFNS ? TABLES_GFNS : TABLES_BIG + 512;
	uint8_t how = input_u8(input);

	pages = how & 0x80 ? end - gfn : 1u + (how & 3);
	if (gfn + pages > end)
		pages = 1;
	switch (what) {
	case 0:
		sim_drop(sim, gfn, pages, (enum sim_drop)((how >> 4) % 3));
		break;
	case 1:
		drop_some(sim, gfn, pages, 1 + (how >> 2 & 31));
		break;
	case 2:
		sim_remap(sim, gfn);
		break;
	case 3:
		sim_write_protect(sim, gfn, pages);
		break;
	case 4:
		sim_op(sim, "unprotect: gfn", gfn, 0, 0);
		umbra_unprotect(sim->mmu, (umbra_gfn){gfn});
		break;
	case 5:
		set_quota(sim, UMBRA_QUOTA_MIN + (how & 0x80 ? how : how & 7));
		break;
	case 6:
		do_plug(sim, how);
		break;
	case 7:
		do_shortage(sim, how);
		break;
	case 8:
		sim_gather(sim, TABLES_BIG);
		break;
	default:
		do_more(input, sim, gfn, pages, how);
		break;
	}
}

/* ------------------------------------------------------------------ */

/* A rule that makes peeks fail is not for the audit. */
static void check(struct sim *sim)
{
	const struct failing_rule rule = sim->failing.frame_get;

	failing_rule_set(&sim->failing.frame_get, 0, 0, 0);
	sim_check_audit(sim);
	sim_check_tlbs(sim);
	sim->failing.frame_get = rule;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct input input = {bytes, bytes + size};
	struct sim *sim = tables_create(&input, "fuzz_ops");
	unsigned stores = 0;

	for (; sim->step < STEPS && !input_is_empty(&input); sim->step++) {
		uint8_t op = input_u8(&input);
		struct sim_cpu *cpu = &sim->cpu[op % SIM_CPUS];

		if (op < 0xa0)
			do_guest(&input, cpu, op >> 4, &stores);
		else
			do_host(&input, sim, (op - 0xa0) / 10);
		check(sim);
	}
	do_shortage(sim, 0);
	sim_check_mirror(sim, 0, 1);
	if (size & 1) /* dear: every shadow table, word by word */
		sim_check_tables(sim);
	sim_destroy(sim);
	return 0;
}
