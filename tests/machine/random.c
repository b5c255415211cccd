/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The property test: random guests do random things on random processors, while the host takes
 * pages away, moves them, plugs memory in and out and starves the MMU of shadow pages. The
 * machine (sim.h) judges each access; after each step comes the audit, and now and then a
 * comparison of everything with everything.
 *
 *   random [--seed N] [--steps N] [--seconds N] [--every N] [--seeds N] [--complete 1]
 *          [--break-flush N] [--break-write N] [--modes MASK] [--nested LEVELS]
 *
 * Without --seed (or $UMBRA_SEED) the seed comes from the clock; it is always printed. --every:
 * audit each N-th step. --seeds: so many guests one after the other, with seeds from --seed on;
 * --steps are of each. --complete: fail if a feature of cover.h was never seen. --modes (1 << enum
 * guest_mode, or-ed), --nested: what the seed decides else. --break-*: ignore each N-th flush or
 * guest_write on purpose; the program then succeeds only if the damage is seen.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "guest.h"
#include "random_host.h"

struct arguments {
	uint64_t seed, steps, seconds, every, seeds, complete, break_flush, break_write, modes,
	    nested;
};

static struct guest_taste taste;

/* Places that were visited lately: going back to them is what finds stale translations. */
#define RECENT 24u

static uint64_t recent[RECENT];

static unsigned boot_stage[SIM_CPUS];

static bool is_nested(const struct sim *sim)
{
	return sim->options.config.nested;
}

static uint64_t random_gva(struct sim *sim)
{
	if (is_nested(sim))
		return guest_page(sim, &taste) << 12 | guest_index(sim) * 8;
	return guest_gva(sim);
}

/* A place where the access has a chance: mostly one that the guest maps. */
static uint64_t choose_gva(struct sim *sim, struct sim_cpu *cpu, struct ref_access access)
{
	uint64_t gva = 0;

	for (unsigned try = 0; try < 6; try++) {
		gva = sim_random(sim, 2) ? recent[sim_random(sim, RECENT)] : random_gva(sim);
		if (sim_ref(cpu, sim_fit(cpu, gva), access).kind == REF_OK)
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
	if (taste.modes && sim_random(sim, 8) == 0)
		sim_keys_set(cpu, guest_keys(sim), guest_keys(sim));
	gva = choose_gva(sim, cpu, access);
	if (access.write) {
		/* A guest that writes a table mostly writes entries. */
		ref = sim_ref(cpu, sim_fit(cpu, gva), access);
		if (ref.kind == REF_OK && guest_level(ref.gpa >> 12) && sim_random(sim, 20))
			word = guest_entry(sim, &taste, guest_level(ref.gpa >> 12));
	}
	sim_access(cpu, gva, access, &word, &code);
}

static void do_device_write(struct sim *sim)
{
	unsigned level = guest_kind(sim, &taste);
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

/* Registers that contradict one another change nothing. */
static void do_bad_paging(struct sim *sim, struct sim_cpu *cpu)
{
	struct umbra_paging bad = cpu->paging;

	bad.cr0 |= REF_CR0_PG;
	bad.efer &= ~(REF_EFER_LME | REF_EFER_LMA);
	switch (sim_random(sim, 4)) {
	case 0:
		bad.efer |= REF_EFER_LME;
		break;
	case 1:
		bad.efer |= REF_EFER_LMA;
		break;
	case 2:
		bad.efer |= REF_EFER_LMA | REF_EFER_LME;
		bad.cr4 &= ~REF_CR4_PAE;
		break;
	default:
		bad.cr4 |= REF_CR4_PCIDE | REF_CR4_PAE;
		break;
	}
	sim_paging_set(cpu, &bad);
}

static void toggle_bit(struct sim *sim, struct umbra_paging *paging)
{
	static const uint64_t bits[] = {REF_CR4_SMEP, REF_CR4_SMAP, REF_CR4_PGE,
					REF_CR4_PSE,  REF_CR4_PKE,  REF_CR4_PKS};
	uint64_t bit = bits[sim_random(sim, 6)];

	if (!(paging->cr4 & REF_CR4_PAE) && bit == REF_CR4_PSE && !(taste.modes >> GUEST_PSE & 1))
		return;
	if (!taste.modes && bit & (REF_CR4_PKE | REF_CR4_PKS))
		return;
	paging->cr4 ^= bit;
}

/* The next stage of booting: no paging, 4-byte entries, PAE paging, long mode, by way of none. */
static void do_boot(struct sim *sim, struct sim_cpu *cpu)
{
	static const enum guest_mode stages[] = {GUEST_OFF, GUEST_32BIT, GUEST_OFF, GUEST_PSE,
						 GUEST_OFF, GUEST_PAE,   GUEST_OFF, GUEST_4LEVEL,
						 GUEST_OFF, GUEST_5LEVEL};
	struct umbra_paging paging;
	enum guest_mode mode = stages[boot_stage[cpu->number]++ % 10];
	int error;

	if (!(taste.modes >> mode & 1))
		return;
	paging = guest_paging_in(sim, &taste, mode);
	sim->cover[COVER_BOOT_STAGE]++;
	error = sim_paging_set(cpu, &paging);
	if (error && error != UMBRA_EPDPTE)
		sim_fail(sim, "set_paging refused: %d", error);
}

/* Another PCID mode: like the processor, only with PCID 0 loaded. */
static void toggle_pcid(struct umbra_paging *paging)
{
	if (!taste.modes || !(paging->cr0 & REF_CR0_PG) || !(paging->efer & REF_EFER_LMA))
		return;
	paging->cr3 &= ~0xfffull;
	paging->cr4 ^= REF_CR4_PCIDE;
}

static void do_paging(struct sim *sim, struct sim_cpu *cpu)
{
	struct umbra_paging paging = cpu->paging;
	int error;

	switch (sim_random(sim, 10)) {
	case 0:
		paging = guest_paging(sim, &taste);
		break;
	case 9:
		do_boot(sim, cpu);
		return;
	case 1:
		if (paging.cr0 & REF_CR0_PG)
			paging.cr0 ^= REF_CR0_WP;
		break;
	case 2:
		toggle_bit(sim, &paging);
		break;
	case 3:
		do_bad_paging(sim, cpu);
		return;
	case 4:
	case 5:
		paging.cr3 = guest_cr3(sim, &taste, &paging);
		break;
	case 6: /* threads of one address space */
		paging = sim->cpu[sim_random(sim, SIM_CPUS)].paging;
		break;
	case 7:
		if (sim_random(sim, 2))
			toggle_pcid(&paging);
		else
			paging.efer ^= REF_EFER_NXE;
		break;
	default: /* a plain reload */
		break;
	}
	error = sim_paging_set(cpu, &paging);
	if (error && error != UMBRA_EPDPTE)
		sim_fail(sim, "set_paging refused: %d", error);
}

static void do_invalidate(struct sim *sim, struct sim_cpu *cpu)
{
	uint64_t gva = sim_random(sim, 2) ? recent[sim_random(sim, RECENT)] : guest_gva(sim);

	if (!taste.modes || sim_random(sim, 4))
		sim_invlpg(cpu, gva);
	else
		sim_invpcid(cpu, (enum umbra_invpcid)sim_random(sim, 4),
			    (unsigned)sim_random(sim, sim_random(sim, 16) ? SIM_PCIDS : 5000), gva);
}

static void do_speculate(struct sim *sim, struct sim_cpu *cpu)
{
	uint64_t gva = sim_fit(cpu, random_gva(sim));

	sim_op(sim, "speculate: cpu, gva", cpu->number, gva, 0);
	if (!sim_cpu_enter(cpu))
		sim_cpu_speculate(cpu, gva);
}

static void do_not_canonical(struct sim *sim, struct sim_cpu *cpu)
{
	uint64_t gva = 1ull << 47 | guest_gva(sim) >> 17;

	if (is_nested(sim) || !sim_is_long_mode(cpu))
		return;
	if (cpu->paging.cr4 & REF_CR4_LA57)
		gva <<= 9;
	if (umbra_fault(cpu->vcpu, gva, 0).verdict != UMBRA_INJECT)
		sim_fail(sim, "a gva that is not canonical was not refused");
}

static enum cover_step do_step(struct sim *sim)
{
	struct sim_cpu *cpu = &sim->cpu[sim_random(sim, SIM_CPUS)];
	uint64_t dice = sim_random(sim, 1000);
	struct ref_access access = {.write = dice & 1, .user = dice & 2};

	if (is_nested(sim) && dice >= 720 && dice < 850) /* the guest's own affair */
		dice = 0;
	if (dice < 615) {
		do_access(sim, cpu);
		return COVER_STEP_ACCESS;
	}
	if (dice < 720) {
		if (dice < 618)
			guest_table_move(sim);
		else if (dice < 628)
			guest_pde_turn(sim, &taste);
		else
			do_device_write(sim);
		return COVER_STEP_WRITE;
	}
	if (dice >= 922) {
		random_host(sim, &taste);
		return COVER_STEP_HOST;
	}
	if (dice < 800)
		do_invalidate(sim, cpu);
	else if (dice < 850)
		do_paging(sim, cpu);
	else if (dice < 900)
		do_speculate(sim, cpu);
	else if (dice < 920 && !is_nested(sim))
		sim_translate(cpu, guest_gva(sim), access);
	else
		do_not_canonical(sim, cpu);
	return COVER_STEP_OTHER;
}

/* Everything against everything. */
static void check_deeply(struct sim *sim)
{
	sim_check_tlbs(sim);
	sim_check_tables(sim);
	sim_check_mirror(sim, sim->step / 64 % 4, 4);
	for (unsigned i = 0; i < 48; i++)
		sim_check_gva(sim, i < RECENT ? recent[i] : random_gva(sim));
	for (unsigned i = 0; i < 8; i++)
		sim_check_look(sim, i < RECENT ? recent[i] : random_gva(sim));
}

/* What a seed stands for, apart from the dice. */
static void choose_guest(const struct arguments *arguments, struct sim_options *options)
{
	static const unsigned modes[] = {
	    0,
	    (1 << GUEST_MODES) - 1,
	    1 << GUEST_32BIT | 1 << GUEST_PSE | 1 << GUEST_OFF,
	    1 << GUEST_PAE | 1 << GUEST_OFF,
	    1 << GUEST_4LEVEL | 1 << GUEST_5LEVEL,
	    (1 << GUEST_MODES) - 1,
	    1 << GUEST_32BIT | 1 << GUEST_PSE | 1 << GUEST_PAE,
	    1 << GUEST_4LEVEL | 1 << GUEST_PAE,
	};
	static const unsigned large[] = {0, 60, 100, 100}, huge[] = {0, 0, 0, 100};
	uint64_t hash = arguments->seed * 0x9e3779b97f4a7c15ull;

	taste.modes = arguments->modes ? (unsigned)arguments->modes : modes[hash >> 61];
	options->config.cpu = hash >> 40 & 7;
	options->large = large[hash >> 50 & 3];
	options->huge = huge[hash >> 54 & 3];
	options->gfns = options->huge ? GUEST_HUGE_GFNS : GUEST_GFNS;
	if ((hash >> 32 & 15) < 2 && !arguments->modes)
		options->config.nested = hash >> 32 & 1 ? 4 : 5;
	if (arguments->nested)
		options->config.nested = (uint8_t)arguments->nested;
	if (options->config.nested && options->config.maxphyaddr > 46)
		options->config.maxphyaddr = 46; /* the machine's addresses have 48 bits */
}

static struct sim *make_guest(const struct arguments *arguments)
{
	static const uint8_t maxphyaddr[] = {36, 40, 52};
	static const struct guest_taste tastes[] = {
	    {1, 5, 10, 0, 0}, {4, 10, 20, 30, 0}, {0, 3, 0, 15, 0}, {15, 15, 30, 20, 0}};
	struct sim_options options = {
	    .name = "random",
	    .seed = arguments->seed,
	    .config =
		{
		    .shadow_quota = arguments->seed % 3 ? 512 : UMBRA_QUOTA_MIN,
		    .prefetch = arguments->seed % 5 == 0 ? 0 : 8,
		    .maxphyaddr = maxphyaddr[arguments->seed % 3],
		    .without = (arguments->seed % 13 == 6 ? UMBRA_WITHOUT_UNSYNC : 0) |
			       (arguments->seed % 13 == 8 ? UMBRA_WITHOUT_ACCESSED : 0),
		},
	};
	struct sim *sim;

	memset(recent, 0, sizeof(recent));
	random_host_reset();
	memset(boot_stage, 0, sizeof(boot_stage));
	taste = tastes[arguments->seed / 3 % 4];
	choose_guest(arguments, &options);
	sim = sim_create(&options);
	sim->break_flush = (unsigned)arguments->break_flush;
	sim->break_write = (unsigned)arguments->break_write;
	sim->expect_violation = arguments->break_flush || arguments->break_write;
	guest_slots_add(sim);
	guest_populate(sim, &taste);
	for (unsigned i = 0; i < SIM_CPUS && !is_nested(sim); i++) {
		struct umbra_paging paging;
		int error;

		do {
			paging = guest_paging(sim, &taste);
			error = sim_paging_set(&sim->cpu[i], &paging);
		} while (error == UMBRA_EPDPTE);
		if (error)
			sim_fail(sim, "set_paging refused: %d", error);
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
	    {"--seeds", &arguments->seeds},
	    {"--complete", &arguments->complete},
	    {"--break-flush", &arguments->break_flush},
	    {"--break-write", &arguments->break_write},
	    {"--modes", &arguments->modes},
	    {"--nested", &arguments->nested},
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

static void report(struct sim *sim)
{
	struct umbra_stats stats;

	umbra_stats_get(sim->mmu, &stats);
	if (sim->options.config.without & UMBRA_WITHOUT_UNSYNC && stats.unsyncs)
		sim_fail(sim, "%llu tables went unsync against the setting",
			 (unsigned long long)stats.unsyncs);
	printf(
	    "random: %llu steps; accesses: %llu TLB hits, %llu walks, %llu faults "
	    "(%llu injected, %llu MMIO, %llu emulated), %llu stores, %llu stale but legal, "
	    "%llu walks to large pages; modes %#x, nested %u, huge %u; "
	    "umbra: longest chain %llu, reclaimed %llu, flooded %llu, unsync %llu, remaps %llu\n",
	    (unsigned long long)sim->step, (unsigned long long)sim->count.hits,
	    (unsigned long long)sim->count.walks, (unsigned long long)sim->count.faults,
	    (unsigned long long)sim->count.injected, (unsigned long long)sim->count.mmio,
	    (unsigned long long)sim->count.emulated, (unsigned long long)sim->count.stores,
	    (unsigned long long)sim->count.stale, (unsigned long long)sim->count.large, taste.modes,
	    sim->options.config.nested, sim->options.huge, (unsigned long long)stats.longest_chain,
	    (unsigned long long)stats.shadow_reclaimed, (unsigned long long)stats.shadow_flooded,
	    (unsigned long long)stats.unsyncs, (unsigned long long)stats.remaps);
}

/* One guest's life. false: sabotage went unseen. */
static bool run(const struct arguments *arguments, time_t end, uint64_t total[COVER_FEATURES])
{
	struct sim *sim;

	printf("random: --seed %llu\n", (unsigned long long)arguments->seed);
	fflush(stdout);
	sim = make_guest(arguments);
	for (; sim->step < arguments->steps; sim->step++) {
		enum cover_step step = do_step(sim);

		if (arguments->complete || sim->step % 16 == 0)
			cover_step(sim, arguments->complete ? step : COVER_STEP_OTHER);
		if (arguments->every && sim->step % arguments->every == 0)
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
		return false;
	}
	sim_check_mirror(sim, 0, 1);
	report(sim);
	cover_end(sim);
	for (unsigned i = 0; i < COVER_FEATURES; i++)
		total[i] += sim->cover[i];
	sim_destroy(sim);
	return true;
}

int main(int argc, char **argv)
{
	struct arguments arguments = {
	    .seed = (uint64_t)time(NULL),
	    .steps = 100000,
	    .seconds = 60,
	    .every = 1,
	    .seeds = 1,
	};
	uint64_t total[COVER_FEATURES] = {0};
	unsigned missing;
	time_t end;

	if (getenv("UMBRA_SEED"))
		arguments.seed = number(getenv("UMBRA_SEED"));
	parse(argc, argv, &arguments);
	end = time(NULL) + (time_t)arguments.seconds;
	for (uint64_t i = 0; i < arguments.seeds; i++, arguments.seed++)
		if (!run(&arguments, end, total))
			return 1;
	missing = cover_print(total);
	if (!arguments.complete || !missing)
		return 0;
	fprintf(stderr, "random: %u features were never seen\n", missing);
	return 1;
}
