/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The oracle: the reference walker (ref/), which shares nothing with the library, on the replayer's
 * guest memory, under the registers that the guest loaded last. An access that passes by the shadow
 * tables must lead where the reference says, be allowed by it, and find A and D set; and what else
 * the hardware would let pass through that entry, the reference must allow too.
 *
 * It is asked right behind a fault that the library resolved: nobody had a chance to change a table
 * since the library walked it, so there is no translation that may be stale.
 */
#include "inside.h"

static bool read_word(void *ctx, uint64_t gpa, uint64_t *word)
{
	struct replay *r = ctx;
	uint64_t gfn = gpa >> UMBRA_PAGE_SHIFT;
	const struct guest_table *table = replay_slot(r, gfn) ? guest_table(&r->guest, gfn) : NULL;

	if (!table)
		return false;
	*word = table->words[gpa % UMBRA_PAGE_SIZE / 8];
	return true;
}

void oracle_vcpu(struct replay *r, unsigned vcpu)
{
	const struct umbra_config *config = &r->options.config;

	r->cpu[vcpu] = (struct ref_cpu){.maxphyaddr = config->maxphyaddr,
					.amd = config->cpu & UMBRA_CPU_AMD,
					.no_1g = config->cpu & UMBRA_CPU_NO_1G,
					.no_pse36 = config->cpu & UMBRA_CPU_NO_PSE36};
}

/* SDM vol. 3 §4.4.1: a MOV to CR3, or to another register that changes one of some bits. */
static bool loads_pdptes(const struct ref_cpu *old, const struct umbra_paging *new)
{
	const uint64_t cr4 = REF_CR4_PAE | REF_CR4_PGE | REF_CR4_PSE | REF_CR4_SMEP;

	if (!(new->cr0 &REF_CR0_PG) || !(new->cr4 &REF_CR4_PAE) || new->efer & REF_EFER_LMA)
		return false;
	return (old->cr0 == new->cr0 && old->cr4 == new->cr4 && old->efer == new->efer) ||
	       (old->cr0 ^ new->cr0) & REF_CR0_PG || (old->cr4 ^ new->cr4) & cr4;
}

void oracle_paging(struct replay *r, unsigned vcpu, const struct umbra_paging *paging)
{
	const struct ref_memory memory = {read_word, r};
	struct ref_cpu *cpu = &r->cpu[vcpu];
	bool loads = loads_pdptes(cpu, paging);

	cpu->cr0 = paging->cr0;
	cpu->cr3 = paging->cr3;
	cpu->cr4 = paging->cr4;
	cpu->efer = paging->efer;
	if (loads && !r->options.config.nested && !ref_load_pdptes(&memory, cpu, cpu->pdpte))
		replay_violation(r, REPLAY_WRONG_RIGHTS,
				 "PDPTEs at %llx were loaded, though a reserved bit is set",
				 LL(paging->cr3));
}

/* Are all due bits set? Tables in read-only memory keep theirs. */
static bool is_settled(struct replay *r, const struct ref_result *result)
{
	for (unsigned i = 0; i < result->updates; i++) {
		uint64_t gfn = result->update[i].gpa >> UMBRA_PAGE_SHIFT;
		const struct umbra_slot *slot = replay_slot(r, gfn);
		const struct guest_frame *page = guest_frame(&r->guest, gfn);

		if (slot && !(slot->flags & UMBRA_SLOT_READONLY) && page && page->writable)
			return false;
	}
	return true;
}

/* Is @access, which the hardware lets pass, the guest's to make? */
static bool is_allowed(struct replay *r, const struct ref_cpu *cpu, uint64_t gva,
		       struct ref_access access)
{
	const struct ref_memory memory = {read_word, r};
	struct ref_result result = ref_walk(&memory, cpu, gva, access);

	return result.kind == REF_OK && is_settled(r, &result);
}

/* The hardware as umbra.h says that it is set while the guest runs. */
static struct ref_cpu hardware_of(const struct ref_cpu *cpu)
{
	struct ref_cpu hardware = *cpu;

	hardware.cr0 |= REF_CR0_WP;
	hardware.efer |= REF_EFER_NXE;
	hardware.cr4 |= REF_CR4_PAE;
	if (!(cpu->cr0 & REF_CR0_PG))
		hardware.cr4 &= ~(REF_CR4_SMEP | REF_CR4_SMAP);
	return hardware;
}

static void check_rights(struct replay *r, const struct ref_cpu *cpu, uint64_t gva,
			 const struct tlb_hit *hit)
{
	const struct ref_cpu hardware = hardware_of(cpu);

	for (unsigned i = 0; i < 6; i++) {
		struct ref_access access = {i % 3 == 1, i / 3, i % 3 == 2};
		uint32_t code;

		if (ref_permitted(&hardware, access, hit->writable, hit->user, hit->no_execute,
				  hit->key, &code) &&
		    !is_allowed(r, cpu, gva, access))
			replay_violation(r, REPLAY_WRONG_RIGHTS,
					 "gva %llx lets the %s %s, which the guest's tables do not",
					 LL(gva), access.user ? "user" : "kernel",
					 access.write   ? "write"
					 : access.fetch ? "fetch"
							: "read");
	}
}

static void check_frame(struct replay *r, uint64_t gva, uint64_t gpa, const struct tlb_hit *hit)
{
	uint64_t gfn = gpa >> UMBRA_PAGE_SHIFT;
	const struct umbra_slot *slot = replay_slot(r, gfn);
	const struct guest_frame *page = guest_frame(&r->guest, gfn);

	if (!slot || !page || !page->there || page->pfn != hit->pfn)
		replay_violation(r, REPLAY_WRONG_FRAME,
				 "gva %llx leads to pfn %llx, which is not what gfn %llx has",
				 LL(gva), LL(hit->pfn), LL(gfn));
	else if (hit->writable && (slot->flags & UMBRA_SLOT_READONLY || !page->writable))
		replay_violation(r, REPLAY_WRONG_RIGHTS,
				 "gva %llx can be written, and gfn %llx is read-only", LL(gva),
				 LL(gfn));
}

void oracle_check(struct replay *r, const struct umbra_record *fault, struct tlb_hit *hit)
{
	const struct ref_memory memory = {read_word, r};
	const struct ref_access access = {fault->c & UMBRA_PF_W, fault->c & UMBRA_PF_U,
					  fault->c & UMBRA_PF_I};
	struct ref_cpu cpu = r->cpu[fault->vcpu];
	struct ref_result result;

	hit->gfn = fault->a >> UMBRA_PAGE_SHIFT;
	if (r->options.config.nested) {
		check_frame(r, fault->a, fault->a, hit);
		return;
	}
	cpu.ac = fault->c & UMBRA_PF_AC;
	result = ref_walk(&memory, &cpu, fault->a, access);
	hit->gfn = result.gpa >> UMBRA_PAGE_SHIFT;
	if (result.kind != REF_OK)
		replay_violation(r, REPLAY_WRONG_RIGHTS,
				 "gva %llx is reached, and by the guest's tables it is not (%x)",
				 LL(fault->a), result.error_code);
	else if (!is_settled(r, &result))
		replay_violation(r, REPLAY_WRONG_RIGHTS,
				 "gva %llx is reached, and A or D is not set on the way",
				 LL(fault->a));
	else
		check_frame(r, fault->a, result.gpa, hit);
	if (cpu.cr0 & REF_CR0_PG)
		check_rights(r, &cpu, fault->a, hit);
}
