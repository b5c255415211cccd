/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The judge: the mirror of guest memory with its history, and every question of the form "may
 * that have happened?". See sim.h for the rules about stale translations.
 */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

#define SCAN_PAGES 8192u /* a power of 2, more than any quota of these tests */

/* ------------------------------------------------------------------ mirror and history */

/* When did the processor last flush the PCID that it has not flushed for longest? */
static uint64_t oldest_flush(const struct sim_cpu *cpu)
{
	unsigned pcids = cpu->paging.cr4 & REF_CR4_PCIDE ? SIM_PCIDS : 1;
	uint64_t oldest = UINT64_MAX;

	for (unsigned i = 0; i < pcids; i++)
		if (cpu->flushed_pcid[i] < oldest)
			oldest = cpu->flushed_pcid[i];
	return oldest > cpu->flushed_all ? oldest : cpu->flushed_all;
}

void sim_mirror_write(struct sim *sim, uint64_t gpa, uint64_t word)
{
	uint64_t *at = &sim->mirror[gpa / 8];

	if (*at == word)
		return;
	if (sim->changes == sim->changes_room) {
		uint64_t oldest = UINT64_MAX;
		size_t kept = 0;

		for (unsigned i = 0; i < SIM_CPUS; i++)
			if (oldest_flush(&sim->cpu[i]) < oldest)
				oldest = oldest_flush(&sim->cpu[i]);
		for (size_t i = 0; i < sim->changes; i++)
			if (sim->change[i].when > oldest)
				sim->change[kept++] = sim->change[i];
		sim->changes = kept;
		if (kept >= sim->changes_room / 2) {
			sim->changes_room = 2 * sim->changes_room + 1024;
			sim->change =
			    realloc(sim->change, sim->changes_room * sizeof(*sim->change));
			if (!sim->change)
				abort();
		}
	}
	sim->change[sim->changes++] = (struct sim_change){gpa & ~7ull, *at, ++sim->now};
	*at = word;
	sim->changed[gpa >> 12] = sim->aimed[gpa >> 12] = 1;
	if (!sim->touched[gpa >> 12])
		sim->touched_gfn[sim->touched_count++] = (uint32_t)(gpa >> 12);
	sim->touched[gpa >> 12] = 1;
}

void sim_mirror_forget(struct sim *sim, uint64_t first, uint64_t pages)
{
	size_t kept = 0;

	for (size_t i = 0; i < sim->changes; i++)
		if ((sim->change[i].gpa >> 12) - first >= pages)
			sim->change[kept++] = sim->change[i];
	sim->changes = kept;
}

/* ------------------------------------------------------------------ the oracle, now */

struct ref_cpu sim_ref_cpu(const struct sim_cpu *cpu)
{
	return (struct ref_cpu){
	    .cr0 = cpu->paging.cr0,
	    .cr3 = cpu->paging.cr3,
	    .cr4 = cpu->paging.cr4,
	    .efer = cpu->paging.efer,
	    .maxphyaddr = cpu->sim->options.config.maxphyaddr,
	    .ac = cpu->ac,
	    .pkru = cpu->pkru,
	    .pkrs = cpu->pkrs,
	    .pdpte = {cpu->pdpte[0], cpu->pdpte[1], cpu->pdpte[2], cpu->pdpte[3]},
	    .amd = cpu->sim->options.config.cpu & UMBRA_CPU_AMD,
	    .no_1g = cpu->sim->options.config.cpu & UMBRA_CPU_NO_1G,
	    .no_pse36 = cpu->sim->options.config.cpu & UMBRA_CPU_NO_PSE36,
	};
}

static bool read_now(void *ctx, uint64_t gpa, uint64_t *word)
{
	*word = sim_word(ctx, gpa);
	return true;
}

bool sim_ref_pdptes(struct sim_cpu *cpu, const struct umbra_paging *paging, uint64_t pdpte[4])
{
	const struct ref_memory memory = {read_now, cpu->sim};
	struct ref_cpu ref_cpu = sim_ref_cpu(cpu);

	ref_cpu.cr3 = paging->cr3;
	return ref_load_pdptes(&memory, &ref_cpu, pdpte);
}

/* What the reference says; with nested paging a gpa leads to itself, and the guest may do anything.
 */
static struct ref_result ask(struct sim_cpu *cpu, const struct ref_memory *memory, uint64_t gva,
			     struct ref_access access)
{
	const struct ref_cpu ref_cpu = sim_ref_cpu(cpu);

	if (cpu->sim->options.config.nested)
		return (struct ref_result){
		    .kind = REF_OK, .gpa = gva, .page_size = 4096, .writable = true, .user = true};
	return ref_walk(memory, &ref_cpu, gva, access);
}

struct ref_result sim_ref(struct sim_cpu *cpu, uint64_t gva, struct ref_access access)
{
	const struct ref_memory memory = {read_now, cpu->sim};

	return ask(cpu, &memory, gva, access);
}

/* Are all due bits set? Tables in read-only memory keep theirs. */
static bool is_settled(struct sim *sim, const struct ref_result *result)
{
	for (unsigned i = 0; i < result->updates; i++) {
		const struct sim_slot *slot = sim_slot_of(sim, result->update[i].gpa);

		if (slot && !(slot->flags & UMBRA_SLOT_READONLY))
			return false;
	}
	return true;
}

/* Do the hardware's keys do what the guest's would, whatever PKRU and PKRS become? */
static bool is_key_right(const struct sim_cpu *cpu, const struct ref_result *result,
			 const struct sim_pass *pass)
{
	uint64_t cr4 = sim_is_long_mode(cpu) ? cpu->paging.cr4 : 0;

	if (!(cr4 & (result->user ? REF_CR4_PKE : REF_CR4_PKS)))
		return true;
	return pass->user == result->user && pass->key == result->key;
}

static bool is_match(const struct sim_cpu *cpu, const struct ref_result *result, uint64_t gpa,
		     const struct sim_pass *pass)
{
	return result->kind == REF_OK && result->gpa == gpa && is_settled(cpu->sim, result) &&
	       result->type == pass->type && is_key_right(cpu, result, pass);
}

/* ------------------------------------------------------------------ the oracle, since then */

#define CHOICES 64u /* values considered for a word */

/* One combination of old and new words; the next run takes the next one. */
struct history {
	struct sim_cpu *cpu;
	uint64_t gva;
	unsigned depth;     /* words read in this run */
	unsigned choice[5]; /* which value to take */
	unsigned choices[5];
};

/* When did the guest last flush the page of @size around @gva on this processor? */
static uint64_t flushed(const struct sim_cpu *cpu, uint64_t gva, uint64_t size, bool global)
{
	unsigned pcid = sim_pcid(cpu);
	uint64_t when = cpu->flushed_all;

	if (cpu->flushed_pcid[pcid % SIM_PCIDS] > when)
		when = cpu->flushed_pcid[pcid % SIM_PCIDS];
	for (unsigned i = 0; i < SIM_INVLPGS; i++)
		if (cpu->invlpg[i].when > when && !((cpu->invlpg[i].gva ^ gva) & ~(size - 1)) &&
		    (cpu->invlpg[i].pcid == pcid || (global && cpu->invlpg[i].global)))
			when = cpu->invlpg[i].when;
	return when;
}

/* The level of the table that the @depth-th word of a walk is in. */
static unsigned level_at(const struct sim_cpu *cpu, unsigned depth)
{
	unsigned first = 2;

	if (sim_is_long_mode(cpu))
		first = cpu->paging.cr4 & REF_CR4_LA57 ? 5 : 4;
	return first > depth ? first - depth : 1;
}

/* The entry for @gva in @word, if it is one of two. */
static uint64_t entry_in(const struct sim_cpu *cpu, unsigned level, uint64_t gva, uint64_t word)
{
	if (cpu->paging.cr4 & REF_CR4_PAE)
		return word;
	return gva >> (level == 2 ? 22 : 12) & 1 ? word >> 32 : word & 0xffffffff;
}

/* Size of the page, if @entry is a leaf. */
static uint64_t leaf_size(const struct sim_cpu *cpu, unsigned level, uint64_t entry)
{
	if (level == 3 && entry & REF_PS)
		return 1u << 30;
	if (level != 2 || !(entry & REF_PS))
		return 1u << 12;
	if (cpu->paging.cr4 & REF_CR4_PAE)
		return 1u << 21;
	return cpu->paging.cr4 & REF_CR4_PSE ? 1u << 22 : 1u << 12;
}

/* Could the processor still use that value of the word? */
static bool is_visible(const struct sim_cpu *cpu, uint64_t gva, unsigned depth,
		       const struct sim_change *change)
{
	unsigned level = level_at(cpu, depth);
	uint64_t entry = entry_in(cpu, level, gva, change->old);
	bool global = entry & REF_G && cpu->paging.cr4 & REF_CR4_PGE;

	return change->when > flushed(cpu, gva, leaf_size(cpu, level, entry), global);
}

static bool read_then(void *ctx, uint64_t gpa, uint64_t *word)
{
	struct history *history = ctx;
	struct sim *sim = history->cpu->sim;
	unsigned depth = history->depth++, found = 1;

	*word = sim_word(sim, gpa);
	for (size_t i = sim->changes; sim_slot_of(sim, gpa) && i-- > 0 && found < CHOICES;) {
		const struct sim_change *change = &sim->change[i];

		if (change->gpa != gpa || !is_visible(history->cpu, history->gva, depth, change))
			continue;
		if (found++ == history->choice[depth])
			*word = change->old;
	}
	history->choices[depth] = found;
	return true;
}

/* Was there a way for the processor to pass like that to @gpa since the guest's last flush? */
static bool was_possible(struct sim_cpu *cpu, uint64_t gva, struct ref_access access, uint64_t gpa,
			 const struct sim_pass *pass)
{
	struct history history = {.cpu = cpu, .gva = gva};
	const struct ref_memory memory = {read_then, &history};

	for (;;) {
		struct ref_result result;
		unsigned depth;

		history.depth = 0;
		result = ask(cpu, &memory, gva, access);
		if (is_match(cpu, &result, gpa, pass))
			return true;
		for (depth = history.depth; depth > 0; depth--) {
			if (++history.choice[depth - 1] < history.choices[depth - 1])
				break;
			history.choice[depth - 1] = 0;
		}
		if (!depth)
			return false;
	}
}

/* ------------------------------------------------------------------ questions */

static const char *kind_name(struct ref_access access)
{
	static const char *const names[] = {"read",  "user read",  "write", "user write",
					    "fetch", "user fetch", "?",     "?"};

	return names[access.fetch << 2 | access.write << 1 | access.user];
}

static const char *verdict_of(const struct ref_result *result)
{
	return result->kind == REF_OK ? "ok" : result->kind == REF_FAULT ? "#PF" : "#GP";
}

uint64_t sim_check_access(struct sim_cpu *cpu, uint64_t gva, struct ref_access access,
			  const struct sim_pass *pass)
{
	struct sim *sim = cpu->sim;
	struct ref_result now;
	struct sim_slot *slot;
	umbra_gfn gfn;
	uint64_t gpa;

	sim->count.checks++;
	if (!arena_gfn_of(sim->arena, (umbra_pfn){pass->hpa >> 12}, &gfn))
		sim_fail(sim, "cpu %u: %s of gva %#llx reaches hpa %#llx, no guest's frame",
			 cpu->number, kind_name(access), (unsigned long long)gva,
			 (unsigned long long)pass->hpa);
	gpa = gfn.n << 12 | (pass->hpa & 0xfff);
	slot = sim_slot_of(sim, gpa);
	if (!slot || (access.write && slot->flags & UMBRA_SLOT_READONLY))
		sim_fail(sim, "cpu %u: %s of gva %#llx reaches gpa %#llx: %s", cpu->number,
			 kind_name(access), (unsigned long long)gva, (unsigned long long)gpa,
			 slot ? "read-only" : "not in a slot");
	if (access.write && arena_is_protected(sim->arena, gfn))
		sim_fail(sim, "cpu %u: %s of gva %#llx reaches gpa %#llx, which is protected",
			 cpu->number, kind_name(access), (unsigned long long)gva,
			 (unsigned long long)gpa);
	sim_watch_pass(cpu, gva, gfn.n, access);
	now = sim_ref(cpu, gva, access);
	if (is_match(cpu, &now, gpa, pass)) {
		cover_pass(sim, access, pass->size, now.page_size);
		return gpa;
	}
	if (!was_possible(cpu, gva, access, gpa, pass))
		sim_fail(sim,
			 "cpu %u: %s of gva %#llx reaches gpa %#llx, key %u, type %u; the oracle "
			 "says %s, gpa %#llx, key %u, type %u, code %#x, %u A/D updates due; and "
			 "it was never right since the last flush",
			 cpu->number, kind_name(access), (unsigned long long)gva,
			 (unsigned long long)gpa, pass->key, pass->type, verdict_of(&now),
			 (unsigned long long)now.gpa, now.key, now.type, now.error_code,
			 now.updates);
	sim->count.stale++;
	return gpa;
}

void sim_check_bits(struct sim *sim, const struct ref_result *due, bool must)
{
	for (unsigned i = 0; i < due->updates; i++) {
		uint64_t gpa = due->update[i].gpa, set = due->update[i].set;
		const struct sim_slot *slot = sim_slot_of(sim, gpa);
		uint64_t *mirror, *page, now;

		if (!slot || slot->flags & UMBRA_SLOT_READONLY)
			continue;
		sim->aimed[gpa >> 12] = 1;
		page = arena_page(sim->arena, (umbra_gfn){gpa >> 12});
		mirror = &sim->mirror[gpa / 8];
		now = page[gpa / 8 % 512];
		if ((now & ~set) != (*mirror & ~set) || (*mirror & ~now) ||
		    (must && (now & set) != set))
			sim_fail(sim, "A/D bits: word at gpa %#llx was %#llx, is %#llx, due %#llx",
				 (unsigned long long)gpa, (unsigned long long)*mirror,
				 (unsigned long long)now, (unsigned long long)set);
		if (now != *mirror && arena_is_protected(sim->arena, (umbra_gfn){gpa >> 12}))
			sim_fail(sim, "A/D bits were set at gpa %#llx, which is protected",
				 (unsigned long long)gpa);
		*mirror = now;
	}
}

void sim_check_revoked(struct sim *sim, uint64_t first, uint64_t pages, bool writes)
{
	for (unsigned i = 0; i < SIM_CPUS; i++) {
		for (unsigned j = 0; j < SIM_TLB; j++) {
			const struct sim_tlb_entry *entry = &sim->cpu[i].tlb[j];

			if (!entry->valid || entry->gfn >= first + pages ||
			    entry->gfn + (entry->size >> 12) <= first)
				continue;
			if (!writes || entry->writable)
				sim_fail(sim,
					 "cpu %u's TLB still maps gva %#llx to gfn %#llx, which "
					 "was %s",
					 i, (unsigned long long)entry->gva,
					 (unsigned long long)entry->gfn,
					 writes ? "protected" : "revoked");
		}
	}
}

/* Of a large page we look at the ends, and somewhere between. */
static void check_entry(struct sim *sim, const struct sim_cpu *cpu,
			const struct sim_tlb_entry *entry)
{
	uint64_t pages = entry->size >> 12, at[3] = {0, sim->step % pages, pages - 1};

	for (unsigned i = 0; i < (pages > 1 ? 3 : 1); i++) {
		umbra_gfn gfn = {UINT64_MAX};

		if (!arena_gfn_of(sim->arena, (umbra_pfn){(entry->hpa >> 12) + at[i]}, &gfn) ||
		    gfn.n != entry->gfn + at[i] || !sim_slot_of(sim, gfn.n << 12))
			sim_fail(sim,
				 "cpu %u's TLB maps gva %#llx to gfn %#llx at hpa %#llx, page "
				 "%llu of %llu, where gfn %#llx is now",
				 cpu->number, (unsigned long long)entry->gva,
				 (unsigned long long)entry->gfn, (unsigned long long)entry->hpa,
				 (unsigned long long)at[i], (unsigned long long)pages,
				 (unsigned long long)gfn.n);
	}
}

void sim_check_tlbs(struct sim *sim)
{
	for (unsigned i = 0; i < SIM_CPUS; i++)
		for (unsigned j = 0; j < SIM_TLB; j++)
			if (sim->cpu[i].tlb[j].valid)
				check_entry(sim, &sim->cpu[i], &sim->cpu[i].tlb[j]);
}

static void check_page(struct sim *sim, uint64_t gfn)
{
	static const uint64_t zero[512];
	const uint64_t *want = &sim->mirror[gfn * 512], *have = zero;
	umbra_pfn pfn;

	if (arena_frame_of(sim->arena, (umbra_gfn){gfn}, &pfn))
		have = arena_word(sim->arena, pfn.n << 12);
	else if (!sim->touched[gfn])
		return;
	if (!memcmp(want, have, 4096))
		return;
	for (unsigned i = 0; i < 512; i++)
		if (want[i] != have[i])
			sim_fail(sim, "gpa %#llx holds %#llx instead of %#llx",
				 (unsigned long long)(gfn * 4096 + i * 8),
				 (unsigned long long)have[i], (unsigned long long)want[i]);
}

/* Above CHECKED_GFNS only what was ever written: most of it is nowhere but in our tables. */
#define CHECKED_GFNS 0x1000u

void sim_check_mirror(struct sim *sim, unsigned part, unsigned parts)
{
	for (uint64_t gfn = part; gfn < sim->options.gfns && gfn < CHECKED_GFNS; gfn += parts)
		check_page(sim, gfn);
	for (uint64_t i = part; i < sim->touched_count; i += parts)
		if (sim->touched_gfn[i] >= CHECKED_GFNS)
			check_page(sim, sim->touched_gfn[i]);
}

/* ------------------------------------------------------------------ the shadow tables */

struct scan {
	struct sim *sim;
	uint64_t seen[SCAN_PAGES]; /* hash set of hpa | level */
};

static bool scan_is_new(struct scan *scan, uint64_t key)
{
	uint64_t at = (key * 0x9e3779b97f4a7c15ull) >> 51;

	for (unsigned i = 0; i < SCAN_PAGES; i++) {
		uint64_t *slot = &scan->seen[(at + i) % SCAN_PAGES];

		if (*slot == key)
			return false;
		if (!*slot) {
			*slot = key;
			return true;
		}
	}
	return false;
}

/* Of 1 GiB we look at a page in each 2 MiB. */
static void scan_leaf(struct scan *scan, uint64_t value, unsigned level)
{
	uint64_t pages = 1ull << 9 * (level - 1);
	uint64_t pfn = ((value & REF_ADDR) >> 12) & ~(pages - 1); /* PAT stands below */

	for (uint64_t i = 0; i < pages; i += level == 3 ? 511 : 1) {
		struct sim_slot *slot = NULL;
		umbra_gfn gfn;

		if (arena_gfn_of(scan->sim->arena, (umbra_pfn){pfn + i}, &gfn))
			slot = sim_slot_of(scan->sim, gfn.n << 12);
		if (!slot || (value & REF_W && slot->flags & UMBRA_SLOT_READONLY))
			sim_fail(scan->sim, "an spte %#llx maps what no slot offers",
				 (unsigned long long)value);
		if (value & REF_W && arena_is_protected(scan->sim->arena, gfn))
			sim_fail(scan->sim, "an spte %#llx lets writes to protected gfn %#llx pass",
				 (unsigned long long)value, (unsigned long long)gfn.n);
	}
}

static void scan_table(struct scan *scan, uint64_t hpa, unsigned level, bool pdpt)
{
	if (!scan_is_new(scan, hpa | level))
		return;
	for (unsigned i = 0; i < (pdpt ? 4u : 512u); i++) {
		uint64_t *word = arena_word(scan->sim->arena, hpa + i * 8);

		if (!word || !arena_is_library(scan->sim->arena, hpa))
			sim_fail(scan->sim, "a shadow table at hpa %#llx is not umbra's memory",
				 (unsigned long long)hpa);
		if (!(*word & REF_P))
			continue;
		if (level == 1 || (!pdpt && level < 4 && *word & REF_PS))
			scan_leaf(scan, *word, level);
		else
			scan_table(scan, *word & REF_ADDR, level - 1, false);
	}
}

void sim_check_tables(struct sim *sim)
{
	struct scan scan = {.sim = sim};

	for (unsigned i = 0; i < SIM_CPUS; i++) {
		struct sim_cpu *cpu = &sim->cpu[i];

		if (!sim_cpu_enter(cpu))
			scan_table(&scan, cpu->root.hpa, cpu->root.levels, cpu->root.levels == 3);
	}
}

void sim_check_audit(struct sim *sim)
{
	struct umbra_audit report;

	if (umbra_audit(sim->mmu, &report))
		sim_fail(sim, "audit: %llu violations; invariant %u, gfn %#llx, spte %#llx: %s",
			 (unsigned long long)report.violations, report.invariant,
			 (unsigned long long)report.gfn, (unsigned long long)report.spte,
			 report.what ? report.what : "?");
}

/*
 * What would pass without a fault must be right. The processor's caches must not change by
 * looking, so the walk is made on a copy of the cpu.
 */
void sim_check_gva(struct sim *sim, uint64_t gva)
{
	for (unsigned i = 0; i < SIM_CPUS; i++) {
		struct sim_cpu *cpu = &sim->cpu[i], look;
		if (sim_cpu_enter(cpu))
			continue;
		look = *cpu;
		memset(look.tlb, 0, sizeof(look.tlb));
		memset(look.cache, 0, sizeof(look.cache));
		for (unsigned kind = 0; kind < 6; kind++) {
			struct ref_access access = {
			    .user = kind & 1, .write = kind >> 1 == 1, .fetch = kind >> 1 == 2};
			uint64_t at = sim_fit(cpu, gva);
			struct sim_pass pass;
			uint32_t code;

			if (sim_cpu_translate(&look, at, access, &pass, &code))
				sim_check_access(&look, at, access, &pass);
		}
	}
}
