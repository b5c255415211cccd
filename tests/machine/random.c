/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The property test: random guests do random things on random processors, while the host takes
 * pages away, moves them, plugs memory in and out and starves the MMU of shadow pages. The
 * machine (sim.h) judges each access; after each step comes the audit, and now and then a
 * comparison of everything with everything.
 *
 *   random [--seed N] [--steps N] [--seconds N] [--every N]
 *          [--break-flush N] [--break-write N]
 *
 * Without --seed (or $UMBRA_SEED) the seed comes from the clock; it is always printed. --every:
 * audit each N-th step. --break-*: ignore each N-th flush or guest_write on purpose; the
 * program then succeeds only if the damage is seen.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "guest.h"

struct arguments {
	uint64_t seed, steps, seconds, every, break_flush, break_write;
};

static struct guest_taste taste;

/* Places that were visited lately: going back to them is what finds stale translations. */
#define RECENT 24u

static uint64_t recent[RECENT];

/* A place where the access has a chance: mostly one that the guest maps. */
static uint64_t choose_gva(struct sim *sim, struct sim_cpu *cpu, struct ref_access access)
{
	uint64_t gva = 0;

	for (unsigned try = 0; try < 6; try++) {
		gva = sim_random(sim, 2) ? recent[sim_random(sim, RECENT)] : guest_gva(sim);
		if (sim_ref(cpu, gva, access).kind == REF_OK)
			break;
	}
	recent[sim_random(sim, RECENT)] = gva;
	return gva;
}

/* The access of a random kind at a random place, by a random processor. */
static void do_access(struct sim *sim, struct sim_cpu *cpu)
{
	uint64_t kind = sim_random(sim, 10);
	struct ref_access access = {
	    .write = kind < 5,
	    .fetch = kind >= 8,
	    .user = sim_random(sim, 2),
	};
	uint64_t gva, word = sim_random(sim, UINT64_MAX);
	struct ref_result ref;
	uint32_t code;

	cpu->ac = sim_random(sim, 4) == 0;
	gva = choose_gva(sim, cpu, access);
	if (access.write) {
		/* A guest that writes a table mostly writes entries. */
		ref = sim_ref(cpu, gva, access);
		if (ref.kind == REF_OK && guest_level(ref.gpa >> 12) && sim_random(sim, 20))
			word = guest_entry(sim, &taste, guest_level(ref.gpa >> 12));
	}
	sim_access(cpu, gva, access, &word, &code);
}

static void do_device_write(struct sim *sim)
{
	unsigned level = 1 + (unsigned)sim_random(sim, 4);
	uint64_t entries[16], gpa;
	size_t len;

	for (unsigned i = 0; i < 16; i++)
		entries[i] = guest_entry(sim, &taste, level);
	gpa = guest_table(sim, level) << 12 | guest_index(sim) * 8;
	len = 8;
	switch (sim_random(sim, 8)) {
	case 0: /* several entries, or into the middle of some */
		len = sim_random(sim, 128);
		gpa = (gpa & ~0xfffull) + sim_random(sim, 4096 - len);
		break;
	case 1:
		len = sim_random(sim, 8);
		break;
	default:
		break;
	}
	sim_op(sim, "device write: gpa, len, first word", gpa, len, entries[0]);
	sim_device_write(sim, gpa, entries, len);
}

static void do_paging(struct sim *sim, struct sim_cpu *cpu)
{
	struct umbra_paging paging = cpu->paging, bad;

	switch (sim_random(sim, 7)) {
	case 0:
		paging = guest_paging(sim, &taste);
		break;
	case 1:
		if (paging.cr0 & REF_CR0_PG)
			paging.cr0 ^= REF_CR0_WP;
		break;
	case 2:
		paging.cr4 ^= sim_random(sim, 2) ? REF_CR4_SMEP : REF_CR4_SMAP;
		break;
	case 3: /* a mode that is not supported changes nothing */
		bad = paging;
		bad.cr0 |= REF_CR0_PG;
		bad.efer = 0;
		if (umbra_vcpu_set_paging(cpu->vcpu, &bad) != UMBRA_EINVAL)
			sim_fail(sim, "32-bit paging was not refused");
		return;
	case 4:
		paging.cr3 = guest_table(sim, 4) << 12;
		break;
	case 5: /* threads of one address space */
		paging = sim->cpu[sim_random(sim, SIM_CPUS)].paging;
		break;
	default: /* a plain reload */
		break;
	}
	if (sim_paging_set(cpu, &paging))
		sim_fail(sim, "set_paging refused");
}

static void do_plug(struct sim *sim)
{
	if (sim->slot[GUEST_PLUGGED].present) {
		sim_slot_delete(sim, GUEST_PLUGGED);
		if (sim_random(sim, 2))
			return;
	}
	if (sim_slot_add(sim, GUEST_PLUGGED, 0x300 + sim_random(sim, 4), 1 + sim_random(sim, 0x30),
			 sim_random(sim, 4) ? 0 : UMBRA_SLOT_READONLY))
		sim_fail(sim, "slot refused");
}

/* Any gfn, mostly one that matters: above all one that some TLB still knows. */
static uint64_t some_gfn(struct sim *sim)
{
	const struct sim_cpu *cpu = &sim->cpu[sim_random(sim, SIM_CPUS)];

	for (unsigned try = 0; try < 8; try++) {
		const struct sim_tlb_entry *entry = &cpu->tlb[sim_random(sim, SIM_TLB)];

		if (entry->valid)
			return entry->gfn;
	}
	if (sim_random(sim, 3) == 0)
		return sim_random(sim, GUEST_GFNS);
	if (sim_random(sim, 2))
		return 0x40 + sim_random(sim, 4);
	return guest_table(sim, 1 + (unsigned)sim_random(sim, 4));
}

static void do_host(struct sim *sim)
{
	uint64_t gfn = some_gfn(sim), pages = 1 + sim_random(sim, 3);

	if (gfn + pages > GUEST_GFNS)
		pages = 1;
	switch (sim_random(sim, 12)) {
	case 0:
	case 1:
		sim_drop(sim, gfn, pages, SIM_SWAP);
		break;
	case 2:
		sim_drop(sim, gfn, pages, SIM_KEEP);
		break;
	case 3:
		/* Losing tables for good makes a dull guest. */
		if (!guest_level(gfn) || sim_random(sim, 8) == 0)
			sim_drop(sim, gfn, 1, SIM_DISCARD);
		break;
	case 4:
		sim_drop(sim, sim_random(sim, 0x100), sim_random(sim, 0x300), SIM_SWAP);
		break;
	case 5:
		sim_op(sim, "unprotect: gfn", gfn, 0, 0);
		umbra_unprotect(sim->mmu, (umbra_gfn){gfn});
		break;
	case 6:
		if (sim_random(sim, 4) == 0) {
			sim_op(sim, "zap all", 0, 0, 0);
			umbra_zap_all(sim->mmu);
		}
		break;
	case 7:
		gfn = UMBRA_QUOTA_MIN;
		gfn += sim_random(sim, 2) ? sim_random(sim, 8) : sim_random(sim, 500);
		sim_op(sim, "quota", gfn, 0, 0);
		if (umbra_quota_set(sim->mmu, (uint32_t)gfn))
			sim_fail(sim, "quota refused");
		break;
	case 8:
		do_plug(sim);
		break;
	default:
		sim_remap(sim, gfn);
		break;
	}
}

static void do_step(struct sim *sim)
{
	struct sim_cpu *cpu = &sim->cpu[sim_random(sim, SIM_CPUS)];
	bool paging = cpu->paging.cr0 & REF_CR0_PG;
	uint64_t dice = sim_random(sim, 1000), gva;
	struct ref_access access = {.write = dice & 1, .user = dice & 2};

	if (dice < 620) {
		do_access(sim, cpu);
	} else if (dice < 720) {
		do_device_write(sim);
	} else if (dice < 800) {
		sim_invlpg(cpu,
			   sim_random(sim, 2) ? recent[sim_random(sim, RECENT)] : guest_gva(sim));
	} else if (dice < 850) {
		do_paging(sim, cpu);
	} else if (dice < 900) {
		gva = guest_gva(sim) & (paging ? UINT64_MAX : UINT32_MAX);
		sim_op(sim, "speculate: cpu, gva", cpu->number, gva, 0);
		if (!sim_cpu_enter(cpu))
			sim_cpu_speculate(cpu, gva);
	} else if (dice < 920) {
		sim_translate(cpu, guest_gva(sim) & (paging ? UINT64_MAX : UINT32_MAX), access);
	} else if (dice < 922) {
		gva = 1ull << 47 | guest_gva(sim) >> 17;
		if (umbra_fault(cpu->vcpu, gva, 0).verdict != UMBRA_INJECT)
			sim_fail(sim, "a gva that is not canonical was not refused");
	} else {
		do_host(sim);
	}
}

/* Everything against everything. */
static void check_deeply(struct sim *sim)
{
	sim_check_tlbs(sim);
	sim_check_tables(sim);
	sim_check_mirror(sim);
	for (unsigned i = 0; i < 48; i++)
		sim_check_gva(sim, i < RECENT ? recent[i] : guest_gva(sim));
}

static struct sim *make_guest(const struct arguments *arguments)
{
	static const uint8_t maxphyaddr[] = {36, 40, 52};
	static const struct guest_taste tastes[] = {
	    {1, 5, 10}, {4, 10, 20}, {0, 3, 0}, {15, 15, 30}};
	struct sim_options options = {
	    .name = "random",
	    .seed = arguments->seed,
	    .gfns = GUEST_GFNS,
	    .config =
		{
		    .shadow_quota = arguments->seed % 3 ? 512 : UMBRA_QUOTA_MIN,
		    .prefetch = arguments->seed % 5 == 0 ? 0 : 8,
		    .maxphyaddr = maxphyaddr[arguments->seed % 3],
		},
	};
	struct sim *sim = sim_create(&options);

	taste = tastes[arguments->seed / 3 % 4];
	sim->break_flush = (unsigned)arguments->break_flush;
	sim->break_write = (unsigned)arguments->break_write;
	sim->expect_violation = arguments->break_flush || arguments->break_write;
	guest_slots_add(sim);
	guest_populate(sim, &taste);
	for (unsigned i = 0; i < SIM_CPUS; i++) {
		struct umbra_paging paging = guest_paging(sim, &taste);

		if (sim_paging_set(&sim->cpu[i], &paging))
			sim_fail(sim, "set_paging refused");
	}
	return sim;
}

static uint64_t number(const char *text)
{
	return text ? strtoull(text, NULL, 0) : 0;
}

static void parse(int argc, char **argv, struct arguments *arguments)
{
	const struct {
		const char *name;
		uint64_t *value;
	} known[] = {
	    {"--seed", &arguments->seed},
	    {"--steps", &arguments->steps},
	    {"--seconds", &arguments->seconds},
	    {"--every", &arguments->every},
	    {"--break-flush", &arguments->break_flush},
	    {"--break-write", &arguments->break_write},
	};

	for (int i = 1; i < argc; i += 2) {
		bool found = false;

		for (unsigned j = 0; j < sizeof(known) / sizeof(known[0]); j++) {
			if (strcmp(argv[i], known[j].name) || i + 1 == argc)
				continue;
			*known[j].value = number(argv[i + 1]);
			found = true;
		}
		if (!found) {
			fprintf(stderr, "random: %s? See the top of random.c\n", argv[i]);
			exit(2);
		}
	}
}

int main(int argc, char **argv)
{
	struct arguments arguments = {
	    .seed = (uint64_t)time(NULL),
	    .steps = 100000,
	    .seconds = 60,
	    .every = 1,
	};
	time_t end;
	struct sim *sim;
	struct umbra_stats stats;

	if (getenv("UMBRA_SEED"))
		arguments.seed = number(getenv("UMBRA_SEED"));
	parse(argc, argv, &arguments);
	printf("random: --seed %llu\n", (unsigned long long)arguments.seed);
	fflush(stdout);
	end = time(NULL) + (time_t)arguments.seconds;
	sim = make_guest(&arguments);
	for (; sim->step < arguments.steps; sim->step++) {
		do_step(sim);
		if (arguments.every && sim->step % arguments.every == 0)
			sim_check_audit(sim);
		if (sim->step % 64 == 0)
			check_deeply(sim);
		/* Rarely a fresh start, or random writes wear the tables out. */
		if (sim->step % 4096 == 4095)
			guest_populate(sim, &taste);
		if (sim->step % 256 == 0 && time(NULL) > end)
			break;
	}
	if (sim->expect_violation) {
		fprintf(stderr, "random: %llu acts of sabotage went unseen\n",
			(unsigned long long)sim->broken);
		return 1;
	}
	umbra_stats_get(sim->mmu, &stats);
	printf(
	    "random: %llu steps; accesses: %llu TLB hits, %llu walks, %llu faults "
	    "(%llu injected, %llu MMIO, %llu emulated), %llu stores, %llu stale but legal; "
	    "umbra: longest chain %llu, reclaimed %llu, flooded %llu, unsync %llu, remaps %llu\n",
	    (unsigned long long)sim->step, (unsigned long long)sim->count.hits,
	    (unsigned long long)sim->count.walks, (unsigned long long)sim->count.faults,
	    (unsigned long long)sim->count.injected, (unsigned long long)sim->count.mmio,
	    (unsigned long long)sim->count.emulated, (unsigned long long)sim->count.stores,
	    (unsigned long long)sim->count.stale, (unsigned long long)stats.longest_chain,
	    (unsigned long long)stats.shadow_reclaimed, (unsigned long long)stats.shadow_flooded,
	    (unsigned long long)stats.unsyncs, (unsigned long long)stats.remaps);
	sim_destroy(sim);
	return 0;
}
