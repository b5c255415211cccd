/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Out of memory, everywhere: the same scenario is run with the first call of host.alloc
 * failing, then with the second, and so on, until nothing fails any more. What failed must
 * say so, leave the state as it was (audit, and the same call again succeeds), and at the end
 * nothing may have leaked. The same for host.frame_get.
 */
#include <stdio.h>
#include <stdlib.h>

#include "guest.h"

#define PWU (REF_P | REF_W | REF_U)

_Noreturn static void fail(const char *what, uint64_t at)
{
	fprintf(stderr, "shortage: %s, with call %llu failing\n", what, (unsigned long long)at);
	exit(1);
}

/* ------------------------------------------------------------------ making things */

struct maker {
	struct arena *arena;
	struct failing failing;
	struct umbra_host host;
	struct umbra_mmu *mmu;
	struct umbra_vcpu *vcpu;
	uint64_t at;
};

static int make_mmu(struct maker *maker)
{
	const struct umbra_config config = {.shadow_quota = 64, .maxphyaddr = 40};

	return umbra_mmu_create(&maker->host, &maker->failing, &config, &maker->mmu);
}

static int make_slot(struct maker *maker)
{
	const struct umbra_slot slot = {.id = 1, .first = {0}, .pages = 1u << 20};

	return umbra_slot_add(maker->mmu, &slot);
}

static int make_vcpu(struct maker *maker)
{
	return umbra_vcpu_create(maker->mmu, 3, &maker->vcpu);
}

static int move_slot(struct maker *maker)
{
	return umbra_slot_move(maker->mmu, 1, (umbra_gfn){1u << 21});
}

static int log_slot(struct maker *maker)
{
	return umbra_log_start(maker->mmu, 1, 0);
}

static int make_root(struct maker *maker)
{
	struct umbra_root root;

	return umbra_vcpu_root(maker->vcpu, &root);
}

/* Each in order; what fails is tried again without the failure. Returns failures. */
static uint64_t make_all(struct maker *maker)
{
	int (*const make[])(struct maker *) = {make_mmu,  make_slot, make_vcpu,
					       move_slot, log_slot,  make_root};
	const unsigned steps = sizeof(make) / sizeof(make[0]);
	struct umbra_audit report;
	uint64_t fired;

	for (unsigned i = 0; i < steps; i++) {
		uint64_t held = arena_in_use(maker->arena);
		int error = make[i](maker);

		if (!error)
			continue;
		if (error != UMBRA_ENOMEM)
			fail("another error than UMBRA_ENOMEM", maker->at);
		/* Stocks may have grown before a root; everything else is undone. */
		if (i < steps - 1 && arena_in_use(maker->arena) != held)
			fail("memory was kept", maker->at);
		if (i > 0 && umbra_audit(maker->mmu, &report))
			fail(report.what, maker->at);
		if (make[i](maker))
			fail("the second attempt failed", maker->at);
	}
	fired = maker->failing.alloc.fired;
	umbra_mmu_destroy(maker->mmu);
	if (arena_in_use(maker->arena))
		fail("memory leaked", maker->at);
	return fired;
}

static uint64_t test_making(void)
{
	uint64_t fired = 1, at;

	for (at = 1; fired; at++) {
		const struct arena_options options = {
		    .gfns = 16, .frames = 16, .high = 32u << 20, .low = 1u << 20};
		struct maker maker = {.at = at};

		if (arena_create(&options, &maker.arena))
			fail("no arena", at);
		failing_init(&maker.failing, &arena_host, maker.arena, &maker.host);
		failing_rule_set(&maker.failing.alloc, at, 0, UMBRA_ENOMEM);
		fired = make_all(&maker);
		arena_destroy(maker.arena);
	}
	return at - 2;
}

/* ------------------------------------------------------------------ running */

static void check(struct sim *sim)
{
	/* The rule is not for the audit, which peeks at frames. */
	struct failing_rule rule = sim->failing.frame_get;

	failing_rule_set(&sim->failing.frame_get, 0, 0, 0);
	sim_check_audit(sim);
	sim_check_tlbs(sim);
	sim_check_mirror(sim, 0, 1);
	sim->failing.frame_get = rule;
}

/* 8 address spaces that share 64 pages; tables at 1..8 (PML4), 0x10.. (one of each per space). */
static void build(struct sim *sim)
{
	for (uint64_t i = 0; i < 8; i++) {
		const uint64_t entries[3] = {(0x10 + i) << 12 | PWU, (0x18 + i) << 12 | PWU,
					     (0x20 + i) << 12 | PWU};

		sim_device_write(sim, (1 + i) << 12, &entries[0], 8);
		sim_device_write(sim, (0x10 + i) << 12, &entries[1], 8);
		sim_device_write(sim, (0x18 + i) << 12, &entries[2], 8);
		for (uint64_t page = 0; page < 64; page++) {
			uint64_t entry = (0x40 + page) << 12 | PWU;

			sim_device_write(sim, (0x20 + i) << 12 | page * 8, &entry, 8);
		}
	}
}

/* One access; when the host starves it, a few times more. */
static void touch(struct sim *sim, struct sim_cpu *cpu, uint64_t gva, bool write)
{
	const struct ref_access access = {.write = write, .user = true};
	enum sim_outcome outcome = SIM_STARVED;
	uint64_t word = gva * 0x9e3779b97f4a7c15ull;
	uint32_t code;

	for (unsigned try = 0; try < 12 && outcome == SIM_STARVED; try++) {
		outcome = sim_access(cpu, gva, access, &word, &code);
		if (outcome == SIM_STARVED)
			check(sim);
	}
	if (outcome != SIM_DONE)
		sim_fail(sim, "gva %#llx stays out of reach: %d", (unsigned long long)gva, outcome);
}

/* What a host does that may want memory, or must not. */
static void host_does(struct sim *sim)
{
	const uint64_t away[3] = {0x48, 0x50, 0x58};

	sim_log_start(sim, GUEST_LOW, UMBRA_LOG_DIRTY_BITS);
	sim_log_start(sim, GUEST_CROSS, UMBRA_LOG_SPLIT);
	sim_watch(sim, 0x44, UMBRA_WATCH_R | UMBRA_WATCH_W);
	sim_watch(sim, 0x45, UMBRA_WATCH_W | UMBRA_WATCH_X);
	for (unsigned i = 0; i < SIM_CPUS; i++)
		for (uint64_t page = 0; page < 32; page++)
			touch(sim, &sim->cpu[i], page << 12, page & 1);
	sim_log_collect(sim, 0, 0xc0);
	sim_split(sim, 0x40, 0x40);
	sim_invalidate(sim, away, 3);
	sim_age(sim, 0x40, 0x40, false);
	sim_slot_move(sim, GUEST_PLUGGED, 0x340);
	if (sim->slot[GUEST_LOW].logged)
		sim_log_stop(sim, GUEST_LOW);
}

static void scenario(struct sim *sim)
{
	for (uint64_t i = 0; i < 8; i++) {
		struct sim_cpu *cpu = &sim->cpu[i % SIM_CPUS];
		const struct umbra_paging paging = guest_long_mode((1 + i) << 12);

		if (sim_paging_set(cpu, &paging))
			sim_fail(sim, "set_paging refused");
		for (uint64_t page = 0; page < 64; page += 1 + i % 3)
			touch(sim, cpu, page << 12, (page + i) & 1);
	}
	for (uint64_t gfn = 0x40; gfn < 0x60; gfn += 3)
		sim_remap(sim, gfn);
	host_does(sim);
	umbra_zap_all(sim->mmu);
	if (umbra_quota_set(sim->mmu, UMBRA_QUOTA_MIN))
		sim_fail(sim, "quota refused");
	for (unsigned i = 0; i < SIM_CPUS; i++)
		for (uint64_t page = 0; page < 64; page += 5)
			touch(sim, &sim->cpu[i], page << 12, page & 1);
	check(sim);
}

/* Run with a rule for @what; returns how often it made something fail. */
static uint64_t run(bool frames, uint64_t at, uint64_t every, int error)
{
	const struct sim_options options = {
	    .name = "shortage",
	    .seed = at,
	    .gfns = GUEST_GFNS,
	    .config = {.shadow_quota = 256, .prefetch = 3, .maxphyaddr = 40},
	};
	struct sim *sim = sim_create(&options);
	struct failing_rule *rule = frames ? &sim->failing.frame_get : &sim->failing.alloc;
	uint64_t fired;

	sim->shortage = true;
	sim->step = at;
	guest_slots_add(sim);
	build(sim);
	failing_rule_set(rule, at, every, error);
	scenario(sim);
	fired = rule->fired;
	sim_destroy(sim);
	return fired;
}

static uint64_t until_it_passes(bool frames, int error)
{
	uint64_t at = 1, step = frames ? 7 : 1;

	while (run(frames, at, 0, error))
		at += step;
	return at - 1;
}

int main(void)
{
	printf("1..6\n");
	printf("ok 1 - making: %llu allocations\n", (unsigned long long)test_making());
	printf("ok 2 - running: %llu allocations\n",
	       (unsigned long long)until_it_passes(false, UMBRA_ENOMEM));
	printf("ok 3 - running: %llu frames that are short\n",
	       (unsigned long long)until_it_passes(true, UMBRA_ENOMEM));
	printf("ok 4 - running: %llu frames that come later\n",
	       (unsigned long long)until_it_passes(true, UMBRA_EAGAIN));
	printf("ok 5 - every fifth allocation: %llu\n",
	       (unsigned long long)run(false, 0, 5, UMBRA_ENOMEM));
	printf("ok 6 - every seventh frame: %llu\n",
	       (unsigned long long)run(true, 0, 7, UMBRA_EAGAIN));
	return 0;
}
