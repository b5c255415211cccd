/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Looking in (umbra_rmap_visit, umbra_view), judged by what the hardware's registers lead to: each
 * mapping that is shown stands where the processor finds it, each that the processor finds is
 * shown, and there are as many sptes as umbra_rmap_count() says.
 */
#include "sim.h"

/* What the processor finds for @gva: the word, and the level of its table. 0: nothing present. */
static uint64_t found(struct sim_cpu *cpu, uint64_t gva, unsigned *level)
{
	uint64_t table = cpu->root.hpa, value = 0;

	for (*level = cpu->root.levels; *level; --*level) {
		bool pdpte = *level == 3 && cpu->root.levels == 3;
		unsigned index = gva >> (3 + 9 * *level) & (pdpte ? 3 : 511);

		value = *(uint64_t *)arena_word(cpu->sim->arena, table + index * 8);
		if (!(value & REF_P))
			return 0;
		if (*level == 1 || (*level < 4 && !pdpte && value & REF_PS))
			break;
		table = value & REF_ADDR;
	}
	return value;
}

struct seen {
	struct sim *sim;
	uint64_t gfn;
	uint64_t sptes,
	    ways; /* different sptes: each comes with all its ways, one after the other */
	uint64_t last;
	struct sim_cpu *cpu;
	uint64_t gva; /* to be among them, for .cpu */
	bool there;
};

static bool is_of(const struct sim_cpu *cpu, const struct umbra_mapping *mapping)
{
	uint64_t mask = sim_is_pae(cpu) ? 0xffffffe0 : REF_ADDR;

	if (mapping->root == UMBRA_NO_ROOT)
		return false;
	if (cpu->sim->options.config.nested || !(cpu->paging.cr0 & REF_CR0_PG))
		return !mapping->root;
	return mapping->root && mapping->root == (cpu->paging.cr3 & mask);
}

static bool see(void *ctx, const struct umbra_mapping *mapping)
{
	struct seen *seen = ctx;
	uint64_t name = (uint64_t)mapping->table << 9 | mapping->index;
	uint64_t pages = 1ull << 9 * (mapping->level - 1);

	seen->ways++;
	if (name != seen->last)
		seen->sptes++;
	seen->last = name;
	if (seen->gfn - mapping->gfn.n >= pages || !(mapping->spte & REF_P))
		sim_fail(seen->sim, "gfn %#llx: shown is an spte of gfn %#llx",
			 (unsigned long long)seen->gfn, (unsigned long long)mapping->gfn.n);
	if (seen->cpu && is_of(seen->cpu, mapping) && seen->gva - mapping->gva < pages << 12) {
		unsigned level;
		uint64_t value = found(seen->cpu, mapping->gva, &level);

		seen->there |= level == mapping->level &&
			       (value | REF_A | REF_D) == (mapping->spte | REF_A | REF_D);
	}
	return true;
}

static void look_at(struct sim *sim, struct sim_cpu *cpu, uint64_t gva, uint64_t gfn)
{
	struct seen seen = {.sim = sim, .gfn = gfn, .last = UINT64_MAX, .cpu = cpu, .gva = gva};
	uint64_t count = 0;
	int error = umbra_rmap_visit(sim->mmu, (umbra_gfn){gfn}, see, &seen);

	if (error != umbra_rmap_count(sim->mmu, (umbra_gfn){gfn}, &count) || seen.sptes != count)
		sim_fail(sim, "gfn %#llx: %llu sptes are shown, %llu counted",
			 (unsigned long long)gfn, (unsigned long long)seen.sptes,
			 (unsigned long long)count);
	if (cpu && !seen.there)
		sim_fail(sim, "cpu %u finds gfn %#llx at gva %#llx, which is not shown",
			 cpu->number, (unsigned long long)gfn, (unsigned long long)gva);
}

static void check_view(struct sim_cpu *cpu, uint64_t gva)
{
	unsigned level;
	uint64_t value = found(cpu, gva, &level);
	struct umbra_view view;

	if (umbra_view(cpu->vcpu, gva, &view))
		sim_fail(cpu->sim, "no view of gva %#llx", (unsigned long long)gva);
	if (value && (view.shadow_end != level ||
		      (view.shadow[level].value | REF_A | REF_D) != (value | REF_A | REF_D)))
		sim_fail(cpu->sim, "gva %#llx: the view ends at level %u with %#llx",
			 (unsigned long long)gva, view.shadow_end,
			 (unsigned long long)view.shadow[view.shadow_end].value);
	for (level = view.guest_top; level && level >= view.guest_end; level--) {
		const struct umbra_view_entry *entry = &view.guest[level];
		uint64_t word = sim_word(cpu->sim, entry->address & ~7ull);
		bool bare = sim_is_pae(cpu) && level == 3;

		if (!sim_is_long_mode(cpu) && !sim_is_pae(cpu))
			word = word >> 8 * (entry->address & 4) & UINT32_MAX;
		if (!entry->missing && !bare && entry->value != word)
			sim_fail(cpu->sim, "gva %#llx: the guest's level %u is %#llx, not %#llx",
				 (unsigned long long)gva, level, (unsigned long long)word,
				 (unsigned long long)entry->value);
	}
}

void sim_check_look(struct sim *sim, uint64_t gva)
{
	look_at(sim, NULL, 0, sim_random(sim, sim->options.gfns));
	for (unsigned i = 0; i < SIM_CPUS; i++) {
		struct sim_cpu *cpu = &sim->cpu[i];
		uint64_t at = sim_fit(cpu, gva), value, size;
		unsigned level;
		umbra_gfn gfn;

		if (sim_cpu_enter(cpu))
			continue;
		check_view(cpu, at);
		value = found(cpu, at, &level);
		if (!value)
			continue;
		size = 1ull << (3 + 9 * level);
		if (arena_gfn_of(
			sim->arena,
			(umbra_pfn){((value & REF_ADDR & ~(size - 1)) | (at & (size - 1))) >> 12},
			&gfn))
			look_at(sim, cpu, at, gfn.n);
	}
}
