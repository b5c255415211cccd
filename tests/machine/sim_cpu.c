/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The processor: walks the shadow tables like hardware (AMD64 APM vol. 2 §5.2 for the PAE root
 * of a guest outside of long mode, §5.3 for long mode, §15.25 for nested paging), and caches like
 * the worst hardware that the manual allows: pages and upper-level entries stay until sim_flush()
 * names them, whatever root is loaded in between. As on hardware, an entry that would cause a #PF
 * is looked up again in memory first, so an spte that gains rights needs no flush.
 *
 * Hardware's registers here: CR0.WP = 1, EFER.NXE = 1, no PCID; CR4.SMEP and SMAP as the guest's
 * while that has paging on, CR4.PKE and PKS while it is in long mode. Nested tables are walked with
 * user's rights (§15.25.6), and without any of these.
 */
#include "sim.h"

#define PDPTE_RESERVED 0xfff00000000001e6ull /* APM vol. 2 §5.2.3 */
#define SPTE_RESERVED  0x000f000000000000ull /* the machine has 48 address bits */
#define PAE_RESERVED   0x7ff0000000000000ull /* APM vol. 2 §5.2: no software bits there */

static bool is_nested(const struct sim_cpu *cpu)
{
	return cpu->sim->options.config.nested;
}

static struct ref_cpu hardware(const struct sim_cpu *cpu)
{
	uint64_t guest = cpu->paging.cr0 & REF_CR0_PG ? cpu->paging.cr4 : 0;
	uint64_t use = REF_CR4_SMEP | REF_CR4_SMAP;

	if (cpu->root.levels > 3)
		use |= REF_CR4_PKE | REF_CR4_PKS;
	if (is_nested(cpu))
		use = 0;
	return (struct ref_cpu){
	    .cr0 = REF_CR0_PG | REF_CR0_WP,
	    .cr4 = REF_CR4_PAE | (guest & use),
	    .efer = REF_EFER_NXE | (cpu->root.levels > 3 ? REF_EFER_LME | REF_EFER_LMA : 0),
	    .maxphyaddr = 48,
	    .ac = cpu->ac,
	    .pkru = cpu->pkru,
	    .pkrs = cpu->pkrs,
	};
}

static uint64_t span_of(unsigned level)
{
	return 1ull << (12 + 9 * (level - 1));
}

/* ------------------------------------------------------------------ flushes */

static bool overlaps(uint64_t gva, uint64_t size, const struct umbra_flush *flush)
{
	uint64_t first = flush->gva >> 12, last = first + flush->pages - 1;

	return !flush->pages || (gva >> 12 <= last && (gva + size - 1) >> 12 >= first);
}

void sim_flush(void *ctx, const struct umbra_flush *flush)
{
	struct sim *sim = ctx;

	sim->flush_calls++;
	if (sim->break_flush && sim->flush_calls % sim->break_flush == 0) {
		sim->broken++;
		return;
	}
	for (unsigned i = 0; i < SIM_CPUS; i++) {
		struct sim_cpu *cpu = &sim->cpu[i];

		if (!(flush->vcpus >> i & 1))
			continue;
		for (unsigned j = 0; j < SIM_TLB; j++)
			if (overlaps(cpu->tlb[j].gva, cpu->tlb[j].size, flush))
				cpu->tlb[j].valid = false;
		for (unsigned j = 0; j < SIM_CACHE; j++)
			if (overlaps(cpu->cache[j].gva, span_of(cpu->cache[j].level + 1), flush))
				cpu->cache[j].valid = false;
	}
}

/* ------------------------------------------------------------------ the TLB */

/*
 * SIM_WAYS entries for each of SIM_TLB / SIM_WAYS sets; pages of different sizes may be there for
 * the same address, when the tables had both one after the other.
 */
static struct sim_tlb_entry *tlb_set(struct sim_cpu *cpu, uint64_t gva, unsigned shift)
{
	uint64_t page = gva >> shift;

	page = (page ^ page >> 9 ^ page >> 18 ^ page >> 27) + shift;
	return &cpu->tlb[page % (SIM_TLB / SIM_WAYS) * SIM_WAYS];
}

static struct sim_tlb_entry *tlb_find(struct sim_cpu *cpu, uint64_t gva)
{
	for (unsigned shift = 12; shift <= 30; shift += 9) {
		struct sim_tlb_entry *entry = tlb_set(cpu, gva, shift);

		for (unsigned i = 0; i < SIM_WAYS; i++, entry++)
			if (entry->valid && gva - entry->gva < entry->size)
				return entry;
	}
	return NULL;
}

static void tlb_fill(struct sim_cpu *cpu, const struct sim_tlb_entry *new)
{
	struct sim_tlb_entry *set, *entry = NULL;

	set = tlb_set(cpu, new->gva, (unsigned)__builtin_ctzll(new->size));
	for (unsigned i = 0; i < SIM_WAYS; i++)
		if (!set[i].valid || (set[i].gva == new->gva &&set[i].size == new->size))
			entry = &set[i];
	for (unsigned i = 0; i < SIM_WAYS; i++)
		if (set[i].valid && set[i].gva == new->gva &&set[i].size == new->size)
			entry = &set[i];
	if (!entry)
		entry = &set[sim_random(cpu->sim, SIM_WAYS)];
	*entry = *new;
}

/* ------------------------------------------------------------------ the walk */

static void cache_fill(struct sim_cpu *cpu, uint64_t gva, unsigned level,
		       const struct sim_cache_entry *at)
{
	struct sim_cache_entry *entry = &cpu->cache[sim_random(cpu->sim, SIM_CACHE)];

	*entry = *at;
	entry->valid = true;
	entry->level = level;
	entry->gva = gva & ~(span_of(level + 1) - 1);
}

/* Where to begin: the lowest table that is cached, or the root. */
static struct sim_cache_entry walk_start(struct sim_cpu *cpu, uint64_t gva, bool use_cache)
{
	struct sim_cache_entry start = {
	    .table = cpu->root.hpa,
	    .level = cpu->root.levels,
	    .writable = true,
	    .user = true,
	};

	for (unsigned i = 0; use_cache && i < SIM_CACHE; i++) {
		const struct sim_cache_entry *entry = &cpu->cache[i];

		if (entry->valid && entry->level < start.level &&
		    gva >> (12 + 9 * entry->level) == entry->gva >> (12 + 9 * entry->level))
			start = *entry;
	}
	return start;
}

static bool is_reserved(const struct sim_cpu *cpu, unsigned level, uint64_t value)
{
	if (value & SPTE_RESERVED || (level > 3 && value & REF_PS))
		return true;
	return cpu->root.levels == 3 && value & PAE_RESERVED;
}

static uint64_t *table_word(struct sim_cpu *cpu, uint64_t hpa)
{
	uint64_t *word = arena_word(cpu->sim->arena, hpa);

	if (!word || !arena_is_library(cpu->sim->arena, hpa))
		sim_fail(cpu->sim, "cpu %u walks a table at hpa %#llx that is not umbra's",
			 cpu->number, (unsigned long long)hpa);
	return word;
}

/* One walk. false: not present, or *rsvd. */
static bool walk(struct sim_cpu *cpu, uint64_t gva, bool use_cache, struct sim_tlb_entry *leaf,
		 uint64_t **leaf_word, bool *rsvd)
{
	struct sim_cache_entry at = walk_start(cpu, gva, use_cache);
	bool pae = cpu->root.levels == 3;
	umbra_gfn owner = {UINT64_MAX};

	*rsvd = false;
	for (;; at.level--) {
		bool pdpte = pae && at.level == 3;
		unsigned index = (gva >> (12 + 9 * (at.level - 1))) & (pdpte ? 3 : 511);
		uint64_t *word = pdpte ? NULL : table_word(cpu, at.table + index * 8);
		uint64_t value =
		    pdpte ? cpu->root_pdpte[index] : __atomic_load_n(word, __ATOMIC_RELAXED);
		bool last = at.level == 1 || (at.level < 4 && !pdpte && value & REF_PS);

		if (!(value & REF_P))
			return false;
		if (!pdpte && is_reserved(cpu, at.level, value)) {
			*rsvd = true;
			return false;
		}
		if (!pdpte) {
			__atomic_fetch_or(word, REF_A, __ATOMIC_RELAXED);
			at.writable = at.writable && value & REF_W;
			at.user = at.user && value & REF_U;
			at.no_execute = at.no_execute || value & REF_NX;
		}
		if (last) {
			uint64_t size = span_of(at.level);
			uint64_t hpa = (value & REF_ADDR & ~(size - 1)) | (gva & (size - 1));
			bool pat = value & (size > 4096 ? REF_PAT : REF_PS);

			arena_gfn_of(cpu->sim->arena, (umbra_pfn){hpa >> 12}, &owner);
			*leaf = (struct sim_tlb_entry){
			    .valid = true,
			    .gva = gva & ~(size - 1),
			    .size = size,
			    .hpa = value & REF_ADDR & ~(size - 1),
			    .gfn = owner.n - ((gva & (size - 1)) >> 12),
			    .key = cpu->root.levels > 3 ? value >> 59 & 15 : 0,
			    .type = (uint8_t)(pat << 2 | (value >> 3 & 3)),
			    .writable = at.writable,
			    .user = at.user,
			    .no_execute = at.no_execute,
			    .dirty = value & REF_D,
			};
			*leaf_word = word;
			cpu->sim->count.walks++;
			cpu->sim->count.large += size > 4096;
			if (size > 4096)
				cpu->sim->cover[at.level == 2 ? COVER_WALK_2M : COVER_WALK_1G]++;
			return true;
		}
		at.table = value & REF_ADDR;
		if (!pdpte || sim_random(cpu->sim, 2))
			cache_fill(cpu, gva, at.level - 1, &at);
	}
}

static bool passes(const struct sim_cpu *cpu, const struct sim_tlb_entry *entry,
		   struct ref_access access, uint32_t *code)
{
	struct ref_cpu hw = hardware(cpu);

	return ref_permitted(&hw, access, entry->writable, entry->user, entry->no_execute,
			     entry->key, code);
}

static struct sim_pass pass_through(const struct sim_tlb_entry *entry, uint64_t gva)
{
	return (struct sim_pass){
	    .hpa = entry->hpa + (gva - entry->gva),
	    .size = entry->size,
	    .key = entry->key,
	    .type = entry->type,
	    .user = entry->user,
	};
}

/* The processor says that it writes to the page, whether it does or not. */
static void aim(struct sim_cpu *cpu, const struct sim_tlb_entry *leaf, uint64_t gva)
{
	uint64_t gfn = leaf->gfn + ((gva - leaf->gva) >> 12);

	if (gfn < cpu->sim->options.gfns)
		cpu->sim->aimed[gfn] = 1;
}

bool sim_cpu_translate(struct sim_cpu *cpu, uint64_t gva, struct ref_access access,
		       struct sim_pass *pass, uint32_t *code)
{
	struct sim_tlb_entry *hit, leaf;
	bool rsvd = false, present = false;
	uint64_t *word;

	if (is_nested(cpu))
		access.user = true;
	hit = tlb_find(cpu, gva);
	if (hit && passes(cpu, hit, access, code) && (!access.write || hit->dirty)) {
		*pass = pass_through(hit, gva);
		cpu->sim->count.hits++;
		return true;
	}
	for (; hit; hit = tlb_find(cpu, gva))
		hit->valid = false;
	/* From the caches first; a fault is only raised on what memory says. */
	for (int use_cache = 1; use_cache >= 0; use_cache--) {
		if (!use_cache) {
			for (unsigned i = 0; i < SIM_CACHE; i++)
				if (gva >> (12 + 9 * cpu->cache[i].level) ==
				    cpu->cache[i].gva >> (12 + 9 * cpu->cache[i].level))
					cpu->cache[i].valid = false;
		}
		present = walk(cpu, gva, use_cache, &leaf, &word, &rsvd);
		if (present && passes(cpu, &leaf, access, code)) {
			if (access.write && !leaf.dirty) {
				__atomic_fetch_or(word, REF_D, __ATOMIC_RELAXED);
				aim(cpu, &leaf, gva);
				leaf.dirty = true;
			}
			tlb_fill(cpu, &leaf);
			*pass = pass_through(&leaf, gva);
			return true;
		}
	}
	if (!present) {
		struct ref_cpu hw = hardware(cpu);

		*code = ref_code(&hw, access);
	}
	*code |= present ? REF_PF_P : rsvd ? REF_PF_P | REF_PF_RSVD : 0;
	return false;
}

void sim_cpu_speculate(struct sim_cpu *cpu, uint64_t gva)
{
	struct sim_tlb_entry leaf;
	uint64_t *word;
	bool rsvd;

	if (walk(cpu, gva, sim_random(cpu->sim, 2), &leaf, &word, &rsvd))
		tlb_fill(cpu, &leaf);
}

static unsigned levels_due(const struct sim_cpu *cpu)
{
	if (is_nested(cpu))
		return cpu->sim->options.config.nested;
	if (!sim_is_long_mode(cpu))
		return 3;
	return cpu->paging.cr4 & REF_CR4_LA57 ? 5 : 4;
}

int sim_cpu_enter(struct sim_cpu *cpu)
{
	struct umbra_root root;
	int error = umbra_vcpu_root(cpu->vcpu, &root);

	if (error)
		return error;
	if (root.hpa & 0xfff || root.levels != levels_due(cpu) ||
	    (root.levels == 3 && root.hpa >> 32))
		sim_fail(cpu->sim, "bad root %#llx, %u levels", (unsigned long long)root.hpa,
			 root.levels);
	cpu->root = root;
	/* As VMRUN does. */
	for (unsigned i = 0; root.levels == 3 && i < 4; i++) {
		uint64_t value = *table_word(cpu, root.hpa + i * 8);

		if (value & REF_P && value & (PDPTE_RESERVED | SPTE_RESERVED))
			sim_fail(cpu->sim, "PDPTE %u has reserved bits: %#llx", i,
				 (unsigned long long)value);
		cpu->root_pdpte[i] = value;
	}
	return 0;
}
