/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hostile guest tables. Each case builds tables that no sane guest has, runs accesses all over
 * them, the guest's own stores to its tables among them, and then looks at every shadow
 * table that a root leads to: nothing outside a slot may be mapped, every access that passed
 * must be what the oracle says, the audit must find nothing, and nothing may hang.
 */
#include <stdio.h>

#include "guest.h"

#define ROOT 0x1000ull
#define PWU  (REF_P | REF_W | REF_U)

static void put(struct sim *sim, uint64_t gpa, uint64_t entry)
{
	sim_device_write(sim, gpa, &entry, sizeof(entry));
}

static void fill(struct sim *sim, uint64_t table, uint64_t entry)
{
	for (unsigned i = 0; i < 512; i++)
		put(sim, table + i * 8, entry);
}

static void check(struct sim *sim)
{
	sim_check_audit(sim);
	sim_check_tlbs(sim);
	sim_check_tables(sim);
	sim_check_mirror(sim, 0, 1);
}

/* Accesses of all kinds, by all processors; stores write what the case puts into tables. */
static void roam(struct sim *sim, unsigned accesses, uint64_t store)
{
	for (unsigned i = 0; i < accesses; i++) {
		struct sim_cpu *cpu = &sim->cpu[sim_random(sim, SIM_CPUS)];
		uint64_t kind = sim_random(sim, 6), word = store, gva = guest_gva(sim);
		struct ref_access access = {
		    .user = kind & 1, .write = kind >> 1 == 1, .fetch = kind >> 1 == 2};
		uint32_t code;

		sim->step++;
		if (sim_random(sim, 4) == 0) {
			gva = sim_random(sim, UINT64_MAX);
			gva = gva & 1ull << 47 ? gva | 0xffff000000000000ull
					       : gva & 0xffffffffffffull;
		}
		sim_access(cpu, gva, access, &word, &code);
		if (sim_random(sim, 32) == 0)
			sim_invlpg(cpu, gva);
		if (sim_random(sim, 64) == 0)
			sim_paging_set(cpu, &cpu->paging);
		if (sim_random(sim, 32) == 0)
			sim_remap(sim, sim_random(sim, 0x30));
		if (i % 16 == 0)
			check(sim);
	}
	check(sim);
}

static void load(struct sim *sim, uint64_t cr3)
{
	const struct umbra_paging paging = guest_long_mode(cr3);

	for (unsigned i = 0; i < SIM_CPUS; i++)
		if (sim_paging_set(&sim->cpu[i], &paging))
			sim_fail(sim, "set_paging refused");
}

/* A PML4 whose every entry is itself: each address of the guest is that one page. */
static void self_reference(struct sim *sim)
{
	fill(sim, ROOT, ROOT | PWU);
	load(sim, ROOT);
	roam(sim, 2000, ROOT | PWU);
}

/* The same, and the guest cuts its own branch with what it stores. */
static void self_destruction(struct sim *sim)
{
	for (unsigned i = 0; i < 20; i++) {
		fill(sim, ROOT, ROOT | PWU);
		load(sim, ROOT);
		roam(sim, 100, i & 1 ? 0 : ROOT | REF_P | REF_U);
	}
}

/* Tables that lead to each other in rings, each used as every level. */
static void loops(struct sim *sim)
{
	for (unsigned table = 1; table <= 4; table++)
		for (unsigned i = 0; i < 512; i++)
			put(sim, (table << 12) + i * 8, (1 + (table + i) % 4) << 12 | PWU);
	load(sim, ROOT);
	roam(sim, 2000, 0x3000 | PWU);
}

/* Every table points outside: holes, beyond the slots, beyond maxphyaddr. */
static void outside(struct sim *sim)
{
	static const uint64_t where[] = {0xc0000,      0x1ef000,      0x340000,
					 0xfffffff000, 0x10000000000, 0xffffffffff000};

	for (unsigned table = 1; table <= 4; table++)
		for (unsigned i = 0; i < 512; i++)
			put(sim, (table << 12) + i * 8,
			    (i % 3 && table < 4 ? (table + 1ull) << 12 : where[i % 6]) | PWU);
	load(sim, ROOT);
	roam(sim, 2000, where[1] | PWU);
	for (unsigned i = 0; i < 6; i++) {
		load(sim, where[i] & 0xfffffff000);
		roam(sim, 100, PWU);
	}
}

/* Large pages over everything: mostly holes, with the slots somewhere inside. */
static void large(struct sim *sim)
{
	fill(sim, ROOT, 0x2000 | PWU);
	for (unsigned i = 0; i < 512; i++) {
		put(sim, 0x2000 + i * 8, i & 1 ? 0x3000 | PWU : (uint64_t)i << 29 | REF_PS | PWU);
		put(sim, 0x3000 + i * 8,
		    (uint64_t)(i & 3) << 21 | REF_PS | PWU | (i & 4 ? REF_PAT : 0));
	}
	load(sim, ROOT);
	roam(sim, 3000, REF_PS | PWU);
}

/* Noise in all tables. */
static void noise(struct sim *sim)
{
	for (unsigned round = 0; round < 20; round++) {
		for (uint64_t gpa = ROOT; gpa < 0x5000; gpa += 8) {
			uint64_t entry = sim_random(sim, UINT64_MAX);

			if (sim_random(sim, 4))
				entry = (entry & 0x8000000000007fffull) | PWU;
			put(sim, gpa, entry);
		}
		load(sim, ROOT);
		roam(sim, 200, sim_random(sim, UINT64_MAX));
	}
}

/* The guest has guessed where umbra's own tables lie. */
static void host_addresses(struct sim *sim)
{
	for (unsigned i = 0; i < 512; i++) {
		put(sim, ROOT + i * 8, (i & 1 ? sim->cpu[i % 3].root.hpa : 0x2000) | PWU);
		put(sim, 0x2000 + i * 8, 0x3000 | PWU);
		put(sim, 0x3000 + i * 8, 0x4000 | PWU);
		put(sim, 0x4000 + i * 8, (sim->cpu[i % 3].root.hpa + i * 4096ull) | PWU);
	}
	load(sim, ROOT);
	roam(sim, 1000, sim->cpu[0].root.hpa | PWU);
}

/* Tables in read-only memory: nobody can set their A and D bits. */
static void rom(struct sim *sim)
{
	const uint64_t first = 0x240000;

	for (unsigned table = 0; table < 4; table++)
		for (unsigned i = 0; i < 512; i++)
			put(sim, first + table * 4096 + i * 8,
			    (table < 3 ? first + (table + 1) * 4096 : (i & 63) << 12) | PWU |
				(i & 1 ? REF_A : 0) | (i & 2 ? REF_D : 0));
	load(sim, first);
	roam(sim, 2000, first | PWU);
}

/* Memory goes while tables live in it, and comes back. */
static void unplugged(struct sim *sim)
{
	for (unsigned round = 0; round < 40; round++) {
		if (!sim->slot[GUEST_PLUGGED].present &&
		    sim_slot_add(sim, GUEST_PLUGGED, 0x300, 0x40,
				 round & 2 ? UMBRA_SLOT_READONLY : 0))
			sim_fail(sim, "slot refused");
		for (unsigned i = 0; i < 512; i++) {
			put(sim, ROOT + i * 8, 0x300000 | PWU);
			put(sim, 0x300000 + i * 8, 0x301000 | PWU);
			put(sim, 0x301000 + i * 8, (i & 1 ? 0x302000 : 0x3000) | PWU);
			put(sim, 0x302000 + i * 8, (0x300000 + (i & 63) * 4096) | PWU);
			put(sim, 0x3000 + i * 8, (0x300000 + (i & 63) * 4096) | PWU);
		}
		load(sim, round & 1 ? ROOT : 0x300000);
		roam(sim, 40, 0x301000 | PWU);
		sim_slot_delete(sim, GUEST_PLUGGED);
		check(sim);
		roam(sim, 40, 0x301000 | PWU);
	}
}

int main(void)
{
	static const struct {
		const char *name;
		void (*run)(struct sim *sim);
	} cases[] = {
	    {"a PML4 that is all of itself", self_reference},
	    {"a PML4 that is all of itself, until it is not", self_destruction},
	    {"rings of tables", loops},
	    {"tables and pages outside memory", outside},
	    {"large pages over holes", large},
	    {"noise", noise},
	    {"addresses of the host", host_addresses},
	    {"tables in read-only memory", rom},
	    {"tables in memory that is unplugged", unplugged},
	};
	const unsigned count = sizeof(cases) / sizeof(cases[0]);

	printf("1..%u\n", 2 * count);
	for (unsigned i = 0; i < 2 * count; i++) {
		const struct sim_options options = {
		    .name = cases[i / 2].name,
		    .seed = i,
		    .gfns = GUEST_GFNS,
		    .config = {.shadow_quota = i & 1 ? UMBRA_QUOTA_MIN : 1024,
			       .prefetch = i & 1 ? 0 : 7,
			       .maxphyaddr = i & 1 ? 52 : 40},
		};
		struct sim *sim = sim_create(&options);

		guest_slots_add(sim);
		cases[i / 2].run(sim);
		sim_destroy(sim);
		printf("ok %u - %s%s\n", i + 1, cases[i / 2].name, i & 1 ? ", small quota" : "");
		fflush(stdout);
	}
	return 0;
}
