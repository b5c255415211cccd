/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Writes to tables that are shadowed: of any length, aligned or not, by umbra_guest_write() and
 * by the guest's own mapped stores, with accesses, INVLPG and CR3 loads in between. The audit
 * runs after each, the machine judges each access.
 *
 *     config 2, registers 2 or 2 x 3, then until the end: a kind and its bytes
 */
#include "tables.h"

#include <string.h>

#define STEPS 128u

/* So that there is something to write to. */
static void warm(struct sim *sim)
{
	static const uint8_t some[] = {0, 0, 0, 1, 0, 1, 0x24, 0, 6, 0x4d, 2, 12};

	for (unsigned i = 0; i < SIM_CPUS; i++) {
		struct input input = {some, some + sizeof(some)};

		while (!input_is_empty(&input)) {
			const struct ref_access access = {.user = i & 1};
			uint64_t word = 0;
			uint32_t code;

			sim_access(&sim->cpu[i], tables_gva(&input, &sim->cpu[i]), access, &word,
				   &code);
		}
	}
}

/* @len bytes from @offset of a table: entries, one entry over and over, noise, or zeros. */
static void write_bytes(struct input *input, struct sim *sim)
{
	static const uint16_t lengths[] = {8, 4, 2, 1, 16, 64, 512, 4096};
	unsigned char bytes[4096] = {0};
	uint64_t gpa = tables_gfn(input) << 12, entry;
	unsigned offset = input_u16(input), how = input_u8(input);
	size_t len = how & 8 ? input_u16(input) & 4095u : lengths[how & 7];

	offset = how & 0x80 ? offset & 4095 : (offset & 63) * 8 % 4096;
	if (offset + len > sizeof(bytes))
		offset = (unsigned)(sizeof(bytes) - len);
	switch (how >> 4 & 7) {
	case 0:
		break;
	case 1:
		for (size_t i = 0; i < len && !input_is_empty(input); i++)
			bytes[i] = input_u8(input);
		break;
	case 2: /* as it is: nothing changes */
		memcpy(bytes, (const char *)sim->mirror + gpa + offset, len);
		break;
	case 3: /* as another table is */
		entry = tables_gfn(input) << 12;
		memcpy(bytes, (const char *)sim->mirror + entry + offset, len);
		break;
	default:
		entry = tables_entry(input, sim, gpa + offset);
		for (size_t i = 0; i < len; i++)
			bytes[i] = (unsigned char)(entry >> 8 * ((offset + i) & 7));
		break;
	}
	sim_op(sim, "write: gpa, len, how", gpa + offset, len, how);
	sim_device_write(sim, gpa + offset, bytes, len);
}

static void step(struct input *input, struct sim *sim, unsigned *stores)
{
	uint8_t kind = input_u8(input);
	struct sim_cpu *cpu = &sim->cpu[kind % SIM_CPUS];
	struct umbra_paging paging = cpu->paging;
	struct ref_access access;
	uint64_t gva, word = 0;
	uint32_t code;

	switch (kind >> 4) {
	case 0:
	case 1:
		tables_patch(input, sim);
		tables_calm(sim, stores);
		break;
	case 2:
	case 3:
	case 4:
		write_bytes(input, sim);
		tables_calm(sim, stores);
		break;
	case 5:
		sim_invlpg(cpu, tables_gva(input, cpu));
		break;
	case 6:
		sim_paging_set(cpu, &paging);
		break;
	case 7:
		paging = tables_paging(input);
		sim_paging_set(cpu, &paging);
		break;
	default:
		access = tables_access(input, cpu);
		gva = tables_gva(input, cpu);
		if (access.write)
			word = tables_entry(input, sim, 0);
		sim_access(cpu, gva, access, &word, &code);
		if (access.write)
			tables_calm(sim, stores);
		break;
	}
	sim_check_audit(sim);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct input input = {bytes, bytes + size};
	struct sim *sim = tables_create(&input, "fuzz_write");
	unsigned stores = 0;

	warm(sim);
	for (; sim->step < STEPS && !input_is_empty(&input); sim->step++)
		step(&input, sim, &stores);
	sim_check_mirror(sim, 0, 1);
	sim_check_tlbs(sim);
	sim_destroy(sim);
	return 0;
}
