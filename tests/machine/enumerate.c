/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Every combination: one page, mapped through four tables whose entries take all values that
 * matter, under all settings of WP, NXE, SMEP, SMAP and AC, touched twice in all kinds (the
 * first touch finds nothing mapped, the second what the first left). The machine compares
 * each verdict, error code, accessed and dirty bit with the oracle.
 */
#include <stdio.h>

#include "guest.h"

#define PML4 0x1000ull
#define PDPT 0x4000ull
#define PD   0x8000ull
#define PT   0x10000ull
#define GVA  ((1ull << 39) | (2ull << 30) | (1ull << 21) | (3ull << 12) | 0x18)

#define GOOD  (REF_P | REF_W | REF_U | REF_A)
#define BIT45 (1ull << 45) /* beyond maxphyaddr */

/* What an upper entry may lack or have too much. */
static const uint64_t flaws[] = {0, REF_P, REF_W, REF_U, REF_A, REF_NX, BIT45};
#define FLAWS 7u

/* Bits of a leaf that are enumerated. */
static const uint64_t leaf_bits[] = {REF_P, REF_W, REF_U, REF_A, REF_D, REF_NX};
#define LEAVES 64u

static uint64_t accesses;

static void put(struct sim *sim, uint64_t gpa, uint64_t entry)
{
	sim_device_write(sim, gpa, &entry, sizeof(entry));
}

/* Enter upper entries with a flaw each, and the leaf of @shape (1: 4K, 2: 2M, 3: 1G). */
static void map(struct sim *sim, unsigned shape, unsigned flaw, uint64_t leaf)
{
	const uint64_t upper[3] = {flaws[flaw % FLAWS], flaws[flaw / FLAWS % FLAWS],
				   flaws[flaw / FLAWS / FLAWS]};

	put(sim, PML4 + 8, (PDPT | GOOD) ^ upper[0]);
	put(sim, PDPT + 16, shape == 3 ? REF_PS | leaf : (PD | GOOD) ^ upper[1]);
	if (shape < 3)
		put(sim, PD + 8, shape == 2 ? REF_PS | leaf : (PT | GOOD) ^ upper[2]);
	if (shape < 2)
		put(sim, PT + 24, 0x40000 | leaf);
}

static void touch(struct sim_cpu *cpu, unsigned kind)
{
	const struct ref_access access = {
	    .user = kind & 1, .write = kind >> 1 == 1, .fetch = kind >> 1 == 2};
	uint64_t word = accesses++;
	uint32_t code;

	sim_access(cpu, GVA | (kind ? 0 : 0x100), access, &word, &code);
}

static void enumerate(struct sim *sim, struct sim_cpu *cpu, unsigned shape)
{
	const unsigned flaw_count = shape == 1   ? FLAWS * FLAWS * FLAWS
				    : shape == 2 ? FLAWS * FLAWS
						 : FLAWS;

	for (unsigned flaw = 0; flaw < flaw_count; flaw++) {
		for (unsigned bits = 0; bits < LEAVES; bits++) {
			uint64_t leaf = 0;
			unsigned first = (flaw + bits) % 6;

			for (unsigned i = 0; i < 6; i++)
				leaf |= bits >> i & 1 ? leaf_bits[i] : 0;
			for (unsigned kind = 0; kind < 6; kind++) {
				map(sim, shape, flaw, leaf);
				sim_invlpg(cpu, GVA);
				touch(cpu, (first + kind) % 6);
				touch(cpu, (kind * 5 + flaw) % 6);
				sim->step++;
			}
		}
		sim_check_audit(sim);
	}
}

int main(void)
{
	printf("1..32\n");
	for (unsigned mode = 0; mode < 32; mode++) {
		const struct sim_options options = {
		    .name = "enumerate",
		    .seed = mode,
		    .gfns = GUEST_GFNS,
		    .config = {.shadow_quota = 512, .prefetch = mode % 3, .maxphyaddr = 40},
		};
		struct sim *sim = sim_create(&options);
		struct sim_cpu *cpu = &sim->cpu[0];
		struct umbra_paging paging = guest_long_mode(PML4);

		guest_slots_add(sim);
		paging.cr0 ^= mode & 1 ? REF_CR0_WP : 0;
		paging.efer ^= mode & 2 ? REF_EFER_NXE : 0;
		paging.cr4 |= mode & 4 ? REF_CR4_SMEP : 0;
		paging.cr4 |= mode & 8 ? REF_CR4_SMAP : 0;
		cpu->ac = mode & 16;
		if (sim_paging_set(cpu, &paging))
			sim_fail(sim, "set_paging refused");
		for (unsigned shape = 1; shape <= 3; shape++)
			enumerate(sim, cpu, shape);
		sim_check_mirror(sim);
		sim_destroy(sim);
		printf("ok %u - WP %d, NXE %d, SMEP %d, SMAP %d, AC %d\n", mode + 1, !(mode & 1),
		       !(mode & 2), !!(mode & 4), !!(mode & 8), !!(mode & 16));
		fflush(stdout);
	}
	return 0;
}
