/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The machine around the processors: memory and slots, devices, the exit loop that an
 * embedder would write (enter, #PF, umbra_fault(), obey). What umbra answers is compared with
 * the oracle here; what the tables let pass, in sim_check.c.
 */
#define _DEFAULT_SOURCE
#include "sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define TRIES 12u /* entries for one access, until we call it a livelock */

uint64_t sim_random(struct sim *sim, uint64_t below)
{
	uint64_t x = sim->random += 0x9e3779b97f4a7c15ull;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return (x ^ (x >> 31)) % below;
}

void sim_op(struct sim *sim, const char *what, uint64_t a, uint64_t b, uint64_t c)
{
	sim->op[sim->ops % SIM_OPS].what = what;
	sim->op[sim->ops % SIM_OPS].a = a;
	sim->op[sim->ops % SIM_OPS].b = b;
	sim->op[sim->ops % SIM_OPS].c = c;
	sim->ops++;
}

void sim_fail(struct sim *sim, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (sim->expect_violation) {
		printf("%s: seen at step %llu, as it must be: ", sim->options.name,
		       (unsigned long long)sim->step);
		vprintf(format, args);
		printf("\n");
		exit(0);
	}
	fflush(stdout);
	fprintf(stderr, "%s: VIOLATION, seed %llu, step %llu: ", sim->options.name,
		(unsigned long long)sim->options.seed, (unsigned long long)sim->step);
	vfprintf(stderr, format, args);
	fprintf(stderr, "\nlast operations:\n");
	va_end(args);
	for (uint64_t i = sim->ops > SIM_OPS ? sim->ops - SIM_OPS : 0; i < sim->ops; i++)
		fprintf(stderr, "  %s %#llx %#llx %#llx\n", sim->op[i % SIM_OPS].what,
			(unsigned long long)sim->op[i % SIM_OPS].a,
			(unsigned long long)sim->op[i % SIM_OPS].b,
			(unsigned long long)sim->op[i % SIM_OPS].c);
	if (sim->options.abort_on_violation)
		abort();
	exit(1);
}

/* ------------------------------------------------------------------ memory */

struct sim_slot *sim_slot_of(struct sim *sim, uint64_t gpa)
{
	for (unsigned i = 0; i < SIM_SLOTS; i++)
		if (sim->slot[i].present && (gpa >> 12) - sim->slot[i].first < sim->slot[i].pages)
			return &sim->slot[i];
	return NULL;
}

uint64_t sim_word(struct sim *sim, uint64_t gpa)
{
	return sim_slot_of(sim, gpa) ? sim->mirror[gpa / 8] : ~0ull;
}

int sim_slot_add(struct sim *sim, uint32_t id, uint64_t first, uint64_t pages, uint32_t flags)
{
	const struct umbra_slot slot = {.id = id, .flags = flags, .first = {first}, .pages = pages};
	int error = umbra_slot_add(sim->mmu, &slot);

	sim_op(sim, "slot add: id, first, pages", id, first, pages);
	if (!error)
		sim->slot[id] = (struct sim_slot){
		    .present = true, .flags = flags, .first = first, .pages = pages};
	return error;
}

/* The contents of the slot's memory stay, for another slot to show. */
void sim_slot_delete(struct sim *sim, uint32_t id)
{
	struct sim_slot *slot = &sim->slot[id];

	sim_op(sim, "slot delete", id, slot->first, slot->pages);
	if (umbra_slot_delete(sim->mmu, id))
		sim_fail(sim, "slot %u cannot be deleted", id);
	slot->present = false;
	sim_watch_forget(sim, slot->first, slot->pages);
	sim_check_revoked(sim, slot->first, slot->pages, false);
	sim_mirror_forget(sim, slot->first, slot->pages);
}

void sim_slot_flags_set(struct sim *sim, uint32_t id, uint32_t flags)
{
	struct sim_slot *slot = &sim->slot[id];

	sim_op(sim, "slot flags: id, flags", id, flags, 0);
	if (umbra_slot_flags_set(sim->mmu, id, flags) != (slot->present ? 0 : UMBRA_ENOENT))
		sim_fail(sim, "the flags of slot %u cannot be set", id);
	slot->flags = flags;
	if (slot->present && flags & UMBRA_SLOT_READONLY)
		sim_check_revoked(sim, slot->first, slot->pages, true);
}

void sim_store(struct sim *sim, uint64_t gpa, const void *bytes, size_t len)
{
	unsigned char *page = arena_page(sim->arena, (umbra_gfn){gpa >> 12});

	if (!page)
		sim_fail(sim, "the arena has too few frames");
	memcpy(page + (gpa & 0xfff), bytes, len);
	sim->aimed[gpa >> 12] = 1;
	for (uint64_t at = gpa & ~7ull; at < gpa + len; at += 8) {
		uint64_t word = sim->mirror[at / 8];

		for (unsigned i = 0; i < 8; i++)
			if (at + i >= gpa && at + i < gpa + len)
				((unsigned char *)&word)[i] =
				    ((const unsigned char *)bytes)[at + i - gpa];
		sim_mirror_write(sim, at, word);
	}
}

void sim_device_write(struct sim *sim, uint64_t gpa, const void *bytes, size_t len)
{
	if (!sim_slot_of(sim, gpa))
		return;
	sim_store(sim, gpa, bytes, len);
	sim->write_calls++;
	if (sim->break_write && sim->write_calls % sim->break_write == 0)
		sim->broken++;
	else if (umbra_guest_write(sim->mmu, gpa, len))
		sim_fail(sim, "umbra_guest_write refuses %#llx, %zu", (unsigned long long)gpa, len);
}

/* ------------------------------------------------------------------ the exit loop */

static bool has_no_memory(struct sim *sim, const struct ref_result *result)
{
	for (unsigned i = 0; i < result->depth; i++)
		if (!sim_slot_of(sim, result->path[i].gpa))
			return true;
	return false;
}

/* Compare an answer with what the oracle said before umbra was asked. */
static void judge(struct sim_cpu *cpu, uint64_t gva, struct ref_access access,
		  const struct ref_result *ref, const struct umbra_answer *answer, bool fault)
{
	struct sim *sim = cpu->sim;
	const struct sim_slot *slot = sim_slot_of(sim, ref->gpa);
	bool starved = answer->verdict == UMBRA_RETRY || answer->verdict == UMBRA_NOMEM;
	bool same = answer->gpa == ref->gpa;
	bool good;

	if (ref->kind == REF_OK)
		sim_check_bits(sim, ref, !starved);
	if (starved) {
		good = sim->shortage;
	} else if (ref->kind == REF_GP) {
		good = answer->verdict == UMBRA_INJECT;
	} else if (ref->kind == REF_FAULT) {
		good = answer->verdict == UMBRA_INJECT && answer->error_code == ref->error_code;
	} else if (has_no_memory(sim, ref) || !slot ||
		   (access.write && slot->flags & UMBRA_SLOT_READONLY)) {
		good = answer->verdict == UMBRA_MMIO && same;
	} else {
		good = answer->verdict == UMBRA_RESUME && (fault || same);
		if (fault && access.write && answer->verdict == UMBRA_EMULATE)
			good = same;
	}
	if (!good)
		sim_fail(sim,
			 "cpu %u, %s%s%s%s of gva %#llx: verdict %d, code %#x, gpa %#llx; the "
			 "oracle says %s, code %#x, gpa %#llx%s",
			 cpu->number, fault ? "" : "translation for ", access.user ? "user " : "",
			 access.write   ? "write"
			 : access.fetch ? "fetch"
					: "read",
			 cpu->ac ? " (AC)" : "", (unsigned long long)gva, answer->verdict,
			 answer->error_code, (unsigned long long)answer->gpa,
			 ref->kind == REF_OK      ? "ok"
			 : ref->kind == REF_FAULT ? "#PF"
						  : "#GP",
			 ref->error_code, (unsigned long long)ref->gpa, slot ? "" : ", no slot");
}

static uint32_t code_of(const struct sim_cpu *cpu, struct ref_access access)
{
	return (access.write ? UMBRA_PF_W : 0) | (access.user ? UMBRA_PF_U : 0) |
	       (access.fetch ? UMBRA_PF_I : 0) | (cpu->ac ? UMBRA_PF_AC : 0);
}

/* As the embedder has to before it asks about an access. */
static void tell_keys(struct sim_cpu *cpu)
{
	if (cpu->paging.cr4 & (REF_CR4_PKE | REF_CR4_PKS))
		umbra_vcpu_set_keys(cpu->vcpu, cpu->pkru, cpu->pkrs);
}

void sim_translate(struct sim_cpu *cpu, uint64_t gva, struct ref_access access)
{
	struct ref_result ref;
	struct umbra_answer answer;

	gva = sim_fit(cpu, gva);
	ref = sim_ref(cpu, gva, access);
	tell_keys(cpu);
	sim_op(cpu->sim, "translate: cpu, gva, code", cpu->number, gva, code_of(cpu, access));
	sim_watch_ask(cpu, gva, access, &ref);
	answer = umbra_translate(cpu->vcpu, gva, code_of(cpu, access));
	sim_watch_answered(cpu->sim, answer.verdict, false);
	judge(cpu, gva, access, &ref, &answer, false);
}

/* The access passed: move the data, in the arena and in the mirror. */
static void transfer(struct sim_cpu *cpu, uint64_t gva, struct ref_access access,
		     const struct sim_pass *pass, uint64_t *word)
{
	struct sim *sim = cpu->sim;
	uint64_t gpa = sim_check_access(cpu, gva, access, pass);
	uint64_t *at = arena_word(sim->arena, pass->hpa);

	if (access.write) {
		*at = *word;
		sim_mirror_write(sim, gpa, *word);
		sim->count.stores++;
		return;
	}
	if (*at != sim->mirror[gpa / 8])
		sim_fail(sim, "cpu %u reads %#llx at gpa %#llx; written was %#llx", cpu->number,
			 (unsigned long long)*at, (unsigned long long)gpa,
			 (unsigned long long)sim->mirror[gpa / 8]);
	*word = *at;
}

/* Carry out an instruction that umbra wants emulated; false: enter again instead. */
static bool emulate(struct sim_cpu *cpu, uint64_t gpa, const uint64_t *word)
{
	struct sim *sim = cpu->sim;

	sim->count.emulated++;
	if (sim_random(sim, 4)) {
		sim_device_write(sim, gpa, word, sizeof(*word));
		return true;
	}
	sim_op(sim, "unprotect: gfn", gpa >> 12, 0, 0);
	if (umbra_unprotect(sim->mmu, (umbra_gfn){gpa >> 12}))
		return false;
	/* Not tracked: only a kernel's write under CR0.WP = 0 and SMAP or keys cannot be mapped. */
	if (cpu->paging.cr0 & REF_CR0_WP ||
	    !(cpu->paging.cr4 & (REF_CR4_SMAP | REF_CR4_PKE | REF_CR4_PKS)))
		sim_fail(sim, "EMULATE at gpa %#llx, which nothing tracks",
			 (unsigned long long)gpa);
	sim->cover[COVER_EMULATED_PAGE]++;
	sim_device_write(sim, gpa, word, sizeof(*word));
	return true;
}

/* Whose rule was it that refused the access? */
static void cover_refusal(struct sim_cpu *cpu, uint64_t gva, struct ref_access access,
			  uint32_t code)
{
	static const struct {
		uint64_t bit;
		enum cover feature;
	} rules[] = {{REF_CR4_SMEP, COVER_SMEP_REFUSED}, {REF_CR4_SMAP, COVER_SMAP_REFUSED}};
	uint64_t cr4 = cpu->paging.cr4;

	cpu->sim->cover[COVER_KEY_REFUSED] += !!(code & UMBRA_PF_PK);
	cpu->sim->cover[COVER_RESERVED_BIT] += !!(code & UMBRA_PF_RSVD);
	for (unsigned i = 0; !access.user && i < 2; i++) {
		cpu->paging.cr4 = cr4 & ~rules[i].bit;
		if (cr4 & rules[i].bit && sim_ref(cpu, gva, access).kind == REF_OK)
			cpu->sim->cover[rules[i].feature]++;
		cpu->paging.cr4 = cr4;
	}
}

enum sim_outcome sim_access(struct sim_cpu *cpu, uint64_t gva, struct ref_access access,
			    uint64_t *word, uint32_t *code)
{
	struct sim *sim = cpu->sim;
	struct umbra_answer answer = {.verdict = UMBRA_RESUME};

	gva = sim_fit(cpu, gva) & ~7ull;
	sim_op(sim,
	       access.write   ? "write: cpu, gva, value"
	       : access.fetch ? "fetch: cpu, gva, user"
			      : "read: cpu, gva, user",
	       cpu->number, gva, access.write ? *word : access.user);
	for (unsigned try = 0; try < TRIES; try++) {
		struct ref_result ref;
		struct sim_pass pass;
		uint32_t hw_code;

		if (sim_cpu_enter(cpu)) {
			if (!sim->shortage)
				sim_fail(sim, "no root");
			return SIM_STARVED;
		}
		if (sim_cpu_translate(cpu, gva, access, &pass, &hw_code)) {
			transfer(cpu, gva, access, &pass, word);
			return SIM_DONE;
		}
		sim->count.faults++;
		ref = sim_ref(cpu, gva, access);
		tell_keys(cpu);
		sim_watch_ask(cpu, gva, access, &ref);
		answer = umbra_fault(cpu->vcpu, gva, hw_code | (cpu->ac ? UMBRA_PF_AC : 0));
		sim_watch_answered(sim, answer.verdict, true);
		judge(cpu, gva, access, &ref, &answer, true);
		switch (answer.verdict) {
		case UMBRA_RESUME:
			break;
		case UMBRA_INJECT:
			sim->count.injected++;
			cover_refusal(cpu, gva, access, answer.error_code);
			*code = answer.error_code;
			return SIM_FAULT;
		case UMBRA_MMIO:
			sim->count.mmio++;
			return SIM_MMIO;
		case UMBRA_EMULATE:
			sim->cover[COVER_OWN_TABLE] += answer.own_table;
			if (emulate(cpu, answer.gpa, word))
				return SIM_DONE;
			break;
		case UMBRA_RETRY:
			break;
		case UMBRA_NOMEM:
			return SIM_STARVED;
		}
	}
	if (answer.verdict == UMBRA_RETRY && sim->shortage)
		return SIM_STARVED;
	sim_fail(sim, "livelock: cpu %u, gva %#llx, %u entries, last verdict %d", cpu->number,
		 (unsigned long long)gva, TRIES, answer.verdict);
}

/* ------------------------------------------------------------------ life */

struct sim *sim_create(const struct sim_options *options)
{
	struct sim *sim = calloc(1, sizeof(*sim));
	const struct arena_options arena_options = {
	    .gfns = options->gfns,
	    .frames = options->gfns + 64,
	    .high = 256ull << 20,
	    .low = 1u << 20,
	    .seed = options->seed,
	    .large = options->large,
	    .huge = options->huge,
	    .flush = sim_flush,
	    .flush_ctx = sim,
	};
	struct umbra_host host;

	if (!sim)
		abort();
	sim->options = *options;
	sim->random = options->seed;
	sim->mirror = mmap(NULL, options->gfns * 4096, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	sim->touched = calloc(options->gfns, 1);
	sim->changed = calloc(options->gfns, 1);
	sim->aimed = calloc(options->gfns, 1);
	sim->touched_gfn = malloc(options->gfns * sizeof(*sim->touched_gfn));
	if (sim->mirror == MAP_FAILED || !sim->touched || !sim->changed || !sim->aimed ||
	    !sim->touched_gfn || arena_create(&arena_options, &sim->arena))
		abort();
	failing_init(&sim->failing, &arena_host, sim->arena, &host);
	sim_watch_init(sim, &host);
	if (umbra_mmu_create(&host, &sim->failing, &options->config, &sim->mmu))
		sim_fail(sim, "no MMU");
	for (unsigned i = 0; i < SIM_CPUS; i++) {
		sim->cpu[i].sim = sim;
		sim->cpu[i].number = i;
		if (umbra_vcpu_create(sim->mmu, i, &sim->cpu[i].vcpu))
			sim_fail(sim, "no vcpu");
	}
	return sim;
}

void sim_destroy(struct sim *sim)
{
	umbra_mmu_destroy(sim->mmu);
	if (arena_in_use(sim->arena) || sim->failing.allocs != sim->failing.frees)
		sim_fail(sim, "%llu bytes leaked", (unsigned long long)arena_in_use(sim->arena));
	arena_destroy(sim->arena);
	munmap(sim->mirror, sim->options.gfns * 4096);
	free(sim->touched);
	free(sim->changed);
	free(sim->aimed);
	free(sim->watched);
	free(sim->touched_gfn);
	free(sim->change);
	free(sim);
}
