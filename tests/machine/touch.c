/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * See touch.h.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "touch.h"

#define GIB      (1ull << 30)
#define RAM      (6 * GIB)
#define PFN_BASE (1ull << 24) /* frames lie as gfns do, elsewhere; both 1 GiB aligned */

struct toucher {
	struct umbra_mmu *mmu;
	struct umbra_vcpu *vcpu;
	struct umbra_config config;
	struct touch_state state;
	struct ref_cpu cpu, hardware;
	struct umbra_root root;
	char *ram;
	char message[256];
};

/* ------------------------------------------------------------------ the host */

static int host_alloc(void *ctx, size_t size, bool low, struct umbra_memory *memory)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | (low ? MAP_32BIT : 0);
	void *va = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, -1, 0);

	(void)ctx;
	if (va == MAP_FAILED)
		return UMBRA_ENOMEM;
	*memory = (struct umbra_memory){va, (uintptr_t)va};
	return 0;
}

static void host_free(void *ctx, size_t size, struct umbra_memory memory)
{
	(void)ctx;
	munmap(memory.va, size);
}

static bool is_writable(uint64_t gpa)
{
	return !(gpa >= GIB / 2 && gpa < GIB) && !(gpa >= 4 * GIB && gpa < 5 * GIB);
}

static int host_frame_get(void *ctx, umbra_gfn gfn, enum umbra_want want, struct umbra_frame *frame)
{
	const struct toucher *toucher = ctx;
	uint64_t gpa = gfn.n << UMBRA_PAGE_SHIFT;

	(void)want;
	*frame = (struct umbra_frame){
	    .pfn = {gfn.n + PFN_BASE},
	    .writable = is_writable(gpa),
	    .level =
		(uint8_t)(gpa < GIB && toucher->state.backing > 2 ? 2 : toucher->state.backing),
	};
	return 0;
}

static void *host_frame_va(void *ctx, umbra_pfn pfn)
{
	const struct toucher *toucher = ctx;

	return toucher->ram + ((pfn.n - PFN_BASE) << UMBRA_PAGE_SHIFT);
}

static void host_flush(void *ctx, const struct umbra_flush *flush)
{
	(void)ctx;
	(void)flush;
}

static const struct umbra_host host = {
    .alloc = host_alloc,
    .free = host_free,
    .frame_get = host_frame_get,
    .frame_va = host_frame_va,
    .flush = host_flush,
};

/* ------------------------------------------------------------------ the machine */

static bool is_memory(uint64_t gpa)
{
	return gpa < RAM && !(gpa >= 3 * GIB && gpa < 4 * GIB);
}

static bool ref_read(void *ctx, uint64_t gpa, uint64_t *word)
{
	const struct toucher *toucher = ctx;

	if (!is_memory(gpa))
		return false;
	*word = *(const uint64_t *)(const void *)(toucher->ram + gpa);
	return true;
}

static struct ref_memory memory_of(struct toucher *toucher)
{
	return (struct ref_memory){ref_read, toucher};
}

struct toucher *toucher_create(const struct umbra_config *config)
{
	static const struct umbra_slot slots[] = {
	    {.id = 0, .first = {0}, .pages = 2 * GIB >> 12},
	    {.id = 1, .first = {2 * GIB >> 12}, .pages = GIB >> 12, .flags = UMBRA_SLOT_READONLY},
	    {.id = 2, .first = {4 * GIB >> 12}, .pages = 2 * GIB >> 12},
	};
	struct toucher *toucher = calloc(1, sizeof(*toucher));

	if (!toucher)
		abort();
	toucher->ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	toucher->config = *config;
	toucher->state.backing = 1;
	if (toucher->ram == MAP_FAILED || umbra_mmu_create(&host, toucher, config, &toucher->mmu) ||
	    umbra_vcpu_create(toucher->mmu, 0, &toucher->vcpu))
		abort();
	for (unsigned i = 0; i < 3; i++)
		if (umbra_slot_add(toucher->mmu, &slots[i]))
			abort();
	return toucher;
}

void toucher_destroy(struct toucher *toucher)
{
	umbra_mmu_destroy(toucher->mmu);
	munmap(toucher->ram, RAM);
	free(toucher);
}

static bool is_long(const struct umbra_paging *paging)
{
	return paging->cr0 & REF_CR0_PG && paging->efer & REF_EFER_LMA;
}

static bool is_32bit(const struct umbra_paging *paging)
{
	return paging->cr0 & REF_CR0_PG && !(paging->cr4 & REF_CR4_PAE);
}

static const char *cpus_set(struct toucher *toucher)
{
	const struct touch_state *state = &toucher->state;
	const struct umbra_paging *paging = &state->paging;
	struct ref_memory memory = memory_of(toucher);
	uint64_t use = paging->cr0 & REF_CR0_PG ? REF_CR4_SMEP | REF_CR4_SMAP : 0;

	if (is_long(paging))
		use |= REF_CR4_PKE | REF_CR4_PKS;
	toucher->cpu = (struct ref_cpu){
	    .cr0 = paging->cr0,
	    .cr3 = paging->cr3,
	    .cr4 = paging->cr4,
	    .efer = paging->efer,
	    .maxphyaddr = toucher->config.maxphyaddr,
	    .ac = state->ac,
	    .pkru = state->pkru,
	    .pkrs = state->pkrs,
	    .amd = toucher->config.cpu & UMBRA_CPU_AMD,
	    .no_1g = toucher->config.cpu & UMBRA_CPU_NO_1G,
	    .no_pse36 = toucher->config.cpu & UMBRA_CPU_NO_PSE36,
	};
	toucher->hardware = (struct ref_cpu){
	    .cr0 = REF_CR0_PG | REF_CR0_WP,
	    .cr4 = REF_CR4_PAE | (paging->cr4 & use),
	    .efer = REF_EFER_NXE | (is_long(paging) ? REF_EFER_LME | REF_EFER_LMA : 0),
	    .maxphyaddr = 52,
	    .ac = state->ac,
	    .pkru = state->pkru,
	    .pkrs = state->pkrs,
	};
	if (paging->cr0 & REF_CR0_PG && paging->cr4 & REF_CR4_PAE && !is_long(paging) &&
	    !ref_load_pdptes(&memory, &toucher->cpu, toucher->cpu.pdpte))
		return "the oracle refuses PDPTEs that umbra takes";
	return NULL;
}

const char *toucher_set(struct toucher *toucher, const struct touch_state *state)
{
	if (state->backing != toucher->state.backing)
		umbra_zap_all(toucher->mmu);
	toucher->state = *state;
	if (!toucher->config.nested && umbra_vcpu_set_paging(toucher->vcpu, &state->paging))
		return "the registers are refused";
	umbra_vcpu_set_keys(toucher->vcpu, state->pkru, state->pkrs);
	return cpus_set(toucher);
}

void toucher_write(struct toucher *toucher, uint64_t gpa, uint64_t value, unsigned size)
{
	void *at = toucher->ram + gpa;

	if (!memcmp(at, &value, size))
		return;
	memcpy(at, &value, size);
	umbra_guest_write(toucher->mmu, gpa, size);
}

const char *toucher_audit(struct toucher *toucher)
{
	struct umbra_audit report;

	if (!umbra_audit(toucher->mmu, &report))
		return NULL;
	snprintf(toucher->message, sizeof(toucher->message), "audit: invariant %u, gfn %#llx: %s",
		 report.invariant, (unsigned long long)report.gfn, report.what);
	return toucher->message;
}

struct umbra_stats toucher_stats(struct toucher *toucher)
{
	struct umbra_stats stats;

	umbra_stats_get(toucher->mmu, &stats);
	return stats;
}

/* ------------------------------------------------------------------ the hardware */

struct pass {
	uint64_t hpa;
	unsigned key, type;
};

/* Whether the shadow tables let the access pass. */
static bool hardware_passes(struct toucher *toucher, uint64_t gva, struct ref_access access,
			    struct pass *pass)
{
	unsigned level = toucher->root.levels;
	uint64_t table = toucher->root.hpa, entry;
	bool writable = true, user = true, no_execute = false;
	uint32_t code;

	for (;; level--) {
		unsigned shift = 12 + 9 * (level - 1);

		entry = ((const uint64_t *)(uintptr_t)table)[gva >> shift & 511];
		if (!(entry & REF_P))
			return false;
		if (level == 3 && toucher->root.levels == 3) { /* a PDPTE */
			table = entry & REF_ADDR;
			continue;
		}
		writable &= !!(entry & REF_W);
		user &= !!(entry & REF_U);
		no_execute |= !!(entry & REF_NX);
		if (level == 1 || entry & REF_PS) {
			uint64_t offset = (1ull << shift) - 1;

			pass->hpa = (entry & REF_ADDR & ~offset) | (gva & offset);
			pass->key = is_long(&toucher->state.paging) ? entry >> 59 & 15 : 0;
			pass->type = (entry >> 3 & 3) | !!(entry & (level > 1 ? REF_PAT : REF_PS))
							    << 2;
			break;
		}
		table = entry & REF_ADDR;
	}
	return ref_permitted(&toucher->hardware, access, writable, user, no_execute, pass->key,
			     &code);
}

/* ------------------------------------------------------------------ judging */

static struct ref_access access_of(unsigned kind)
{
	return (struct ref_access){
	    .write = kind % 3 == 1, .fetch = kind % 3 == 2, .user = kind >= 3};
}

static const char *wrong(struct toucher *toucher, const char *what, uint64_t is, uint64_t should)
{
	snprintf(toucher->message, sizeof(toucher->message), "%s: %#llx, should be %#llx", what,
		 (unsigned long long)is, (unsigned long long)should);
	return toucher->message;
}

static struct ref_result oracle(struct toucher *toucher, uint64_t gva, struct ref_access access)
{
	struct ref_memory memory = memory_of(toucher);

	if (toucher->config.nested)
		return (struct ref_result){
		    .gpa = gva, .writable = true, .user = true, .page_size = 4096};
	return ref_walk(&memory, &toucher->cpu, gva, access);
}

/* umbra.h: what hardware with WP = 1 cannot be made to let pass. */
static bool is_emulated(const struct toucher *toucher, const struct ref_result *result,
			struct ref_access access)
{
	const struct umbra_paging *paging = &toucher->state.paging;
	bool keys = is_long(paging) && paging->cr4 & (REF_CR4_PKE | REF_CR4_PKS);
	bool keyed = is_long(paging) && paging->cr4 & (result->user ? REF_CR4_PKE : REF_CR4_PKS);
	uint32_t registers = result->user ? toucher->state.pkru : toucher->state.pkrs;

	if (!access.write || access.user || paging->cr0 & REF_CR0_WP ||
	    !(paging->cr0 & REF_CR0_PG) || toucher->config.nested)
		return false;
	if (keyed && registers >> (2 * result->key + 1) & 1)
		return true;
	return result->user && !result->writable && (paging->cr4 & REF_CR4_SMAP || keys);
}

static enum umbra_verdict verdict_due(const struct toucher *toucher,
				      const struct ref_result *result, struct ref_access access)
{
	if (result->kind != REF_OK)
		return UMBRA_INJECT;
	if (!is_memory(result->gpa))
		return UMBRA_MMIO;
	if (access.write && (!is_writable(result->gpa) || result->gpa >> 30 == 2))
		return UMBRA_MMIO;
	return is_emulated(toucher, result, access) ? UMBRA_EMULATE : UMBRA_RESUME;
}

/* The words on the way are as they were, with what was due set. */
static const char *check_words(struct toucher *toucher, const struct ref_result *result)
{
	for (unsigned i = 0; i < result->updates; i++) {
		uint64_t word = 0;

		ref_read(toucher, result->update[i].gpa, &word);
		if (~word & result->update[i].set)
			return wrong(toucher, "A or D missing in", word, result->update[i].set);
	}
	for (unsigned i = 0; i < result->depth; i++) {
		uint64_t gpa = result->path[i].gpa & ~7ull, word = 0, due;
		unsigned shift = result->path[i].gpa & 4 ? 32 : 0;

		ref_read(toucher, gpa, &word);
		due = result->path[i].word << shift;
		for (unsigned j = 0; result->kind == REF_OK && j < result->updates; j++)
			if (result->update[j].gpa == gpa)
				due |= result->update[j].set;
		if (is_32bit(&toucher->state.paging)) {
			word = (uint32_t)(word >> shift);
			due = (uint32_t)(due >> shift);
		}
		if (word != due)
			return wrong(toucher, "a guest's entry", word, due);
	}
	return NULL;
}

/* One access that faults in hardware. */
static const char *fault(struct toucher *toucher, uint64_t gva, struct ref_access access,
			 struct ref_result *result)
{
	uint32_t code = (access.write ? UMBRA_PF_W : 0) | (access.user ? UMBRA_PF_U : 0) |
			(access.fetch ? UMBRA_PF_I : 0) | (toucher->state.ac ? UMBRA_PF_AC : 0);
	enum umbra_verdict due;
	struct umbra_answer answer;

	*result = oracle(toucher, gva, access);
	due = verdict_due(toucher, result, access);
	answer = umbra_fault(toucher->vcpu, gva, code);
	if (answer.verdict != due)
		return wrong(toucher, "the verdict", answer.verdict, due);
	if (due == UMBRA_INJECT && answer.error_code != result->error_code)
		return wrong(toucher, "the error code", answer.error_code, result->error_code);
	if ((due == UMBRA_MMIO || due == UMBRA_EMULATE) && answer.gpa != result->gpa)
		return wrong(toucher, "the gpa", answer.gpa, result->gpa);
	if (umbra_vcpu_root(toucher->vcpu, &toucher->root))
		return "no root";
	return check_words(toucher, result);
}

/* The hardware lets the access pass: the oracle does too, with nothing left to set. */
static const char *check_pass(struct toucher *toucher, uint64_t gva, struct ref_access access,
			      const struct pass *pass)
{
	struct ref_result result = oracle(toucher, gva, access);
	uint64_t gpa = pass->hpa - (PFN_BASE << UMBRA_PAGE_SHIFT);

	if (verdict_due(toucher, &result, access) != UMBRA_RESUME)
		return wrong(toucher, "hardware lets pass what is due a verdict", UMBRA_RESUME,
			     verdict_due(toucher, &result, access));
	if (gpa != result.gpa)
		return wrong(toucher, "hardware reaches gpa", gpa, result.gpa);
	for (unsigned i = 0; i < result.updates; i++) {
		uint64_t word = 0;

		ref_read(toucher, result.update[i].gpa, &word);
		if (~word & result.update[i].set)
			return wrong(toucher, "hardware passes while A or D is due", word,
				     result.update[i].set);
	}
	if (pass->type != result.type)
		return wrong(toucher, "the memory type", pass->type, result.type);
	if (pass->key != result.key)
		return wrong(toucher, "the protection key", pass->key, result.key);
	return NULL;
}

static const char *touch(struct toucher *toucher, uint64_t gva, unsigned kind)
{
	struct ref_access access = access_of(kind);
	struct ref_result result;
	struct pass pass;
	const char *error;

	if (hardware_passes(toucher, gva, access, &pass))
		return check_pass(toucher, gva, access, &pass);
	error = fault(toucher, gva, access, &result);
	if (error)
		return error;
	if (verdict_due(toucher, &result, access) != UMBRA_RESUME)
		return hardware_passes(toucher, gva, access, &pass)
			   ? "hardware lets pass what umbra does not"
			   : NULL;
	if (!hardware_passes(toucher, gva, access, &pass))
		return "mapped, and the hardware faults again";
	return check_pass(toucher, gva, access, &pass);
}

const char *toucher_touch(struct toucher *toucher, uint64_t gva, unsigned kind, uint64_t *touches)
{
	const char *error = NULL;

	if (umbra_vcpu_root(toucher->vcpu, &toucher->root))
		return "no root";
	for (unsigned i = 0; i <= KINDS && !error; i++) {
		error = touch(toucher, gva, i ? (kind + i) % KINDS : kind);
		++*touches;
	}
	return error;
}
