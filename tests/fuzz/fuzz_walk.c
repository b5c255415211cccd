/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Walks. The input sets the processor, its registers and words of the tables; then come accesses
 * and translations, whose answers, error codes, accessed and dirty bits must be the reference
 * walker's (the machine compares; see tests/machine/sim.h). Between them registers change, but
 * tables only by the guest's own stores.
 *
 *     config 2, registers 2 or 2 x 3, patches n, n x patch, then until the end: a kind and its
 * bytes
 */
#include "tables.h"

#define PATCHES 32u
#define PROBES  128u

static void probe(struct input *input, struct sim *sim, unsigned *stores)
{
	uint8_t kind = input_u8(input);
	struct sim_cpu *cpu = &sim->cpu[kind % SIM_CPUS];
	struct umbra_paging paging;
	struct ref_access access;
	uint64_t gva, word;
	uint32_t code;

	switch (kind >> 4) {
	case 0:
		paging = tables_paging(input);
		sim_paging_set(cpu, &paging);
		break;
	case 1:
	case 2:
	case 3:
	case 4:
	case 5:
		access = tables_access(input, cpu);
		sim_translate(cpu, tables_gva(input, cpu), access);
		break;
	case 6: /* as likely not canonical as not */
		access = tables_access(input, cpu);
		gva = input_u64(input);
		sim_translate(cpu, cpu->paging.efer & REF_EFER_LMA ? gva : (uint32_t)gva, access);
		break;
	default:
		access = tables_access(input, cpu);
		gva = tables_gva(input, cpu);
		word = access.write ? tables_entry(input, sim, 0) : 0;
		sim_access(cpu, gva, access, &word, &code);
		if (access.write)
			tables_calm(sim, stores);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct input input = {bytes, bytes + size};
	struct sim *sim = tables_create(&input, "fuzz_walk");
	unsigned patches = input_u8(&input) % PATCHES, stores = 0;

	for (unsigned i = 0; i < patches && !input_is_empty(&input); i++)
		tables_patch(&input, sim);
	for (; sim->step < PROBES && !input_is_empty(&input); sim->step++)
		probe(&input, sim, &stores);
	sim_check_audit(sim);
	sim_check_mirror(sim, 0, 1);
	sim_check_tlbs(sim);
	sim_destroy(sim);
	return 0;
}
