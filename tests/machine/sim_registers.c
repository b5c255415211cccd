/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's registers: what it may load, what of its TLBs goes with that, and its INVLPG and
 * INVPCID; each told to umbra, whose answer must be a processor's.
 */
#include "sim.h"

bool sim_is_long_mode(const struct sim_cpu *cpu)
{
	return cpu->paging.cr0 & REF_CR0_PG && cpu->paging.efer & REF_EFER_LMA;
}

static bool is_pae(const struct umbra_paging *paging)
{
	return paging->cr0 & REF_CR0_PG && paging->cr4 & REF_CR4_PAE &&
	       !(paging->efer & REF_EFER_LMA);
}

bool sim_is_pae(const struct sim_cpu *cpu)
{
	return is_pae(&cpu->paging);
}

unsigned sim_pcid(const struct sim_cpu *cpu)
{
	return cpu->paging.cr4 & REF_CR4_PCIDE ? cpu->paging.cr3 & 0xfff : 0;
}

uint64_t sim_fit(const struct sim_cpu *cpu, uint64_t gva)
{
	unsigned unused = 64 - 48;

	if (cpu->sim->options.config.nested)
		return gva & ((1ull << cpu->sim->options.config.maxphyaddr) - 1);
	if (!sim_is_long_mode(cpu))
		return gva & 0xffffffff;
	if (cpu->paging.cr4 & REF_CR4_LA57)
		unused = 64 - 57;
	return (uint64_t)((int64_t)(gva << unused) >> unused);
}

/* What the registers' bits are that paging depends on. */
#define CR0_USED (REF_CR0_PG | REF_CR0_WP)
#define CR4_LOAD (REF_CR4_PAE | REF_CR4_PGE | REF_CR4_PSE | REF_CR4_SMEP)
#define CR4_USED \
	(CR4_LOAD | REF_CR4_SMAP | REF_CR4_LA57 | REF_CR4_PCIDE | REF_CR4_PKE | REF_CR4_PKS)
#define EFER_USED (REF_EFER_LME | REF_EFER_LMA | REF_EFER_NXE)

/* Is that no more than a MOV to CR3? */
static bool is_cr3_load(const struct umbra_paging *old, const struct umbra_paging *new)
{
	return !((old->cr0 ^ new->cr0) & CR0_USED || (old->cr4 ^ new->cr4) & CR4_USED ||
		 (old->efer ^ new->efer) & EFER_USED);
}

/* SDM vol. 3 §4.4.1. */
static bool is_pdpte_load(const struct umbra_paging *old, const struct umbra_paging *new)
{
	return is_pae(new) && (is_cr3_load(old, new) || (old->cr0 ^ new->cr0) & REF_CR0_PG ||
			       (old->cr4 ^ new->cr4) & CR4_LOAD);
}

/* SDM vol. 3 §4.1.1, §4.10.1: registers that no processor can have together. */
static bool is_contradiction(const struct umbra_paging *paging)
{
	bool lma = paging->efer & REF_EFER_LMA, lme = paging->efer & REF_EFER_LME;

	return paging->cr0 & REF_CR0_PG && (lma != lme || (lma && !(paging->cr4 & REF_CR4_PAE)) ||
					    (paging->cr4 & REF_CR4_PCIDE && !lma));
}

/* Note what the guest flushed by that. */
static void note_flush(struct sim_cpu *cpu, const struct umbra_paging *new, bool cr3_load)
{
	uint64_t now = ++cpu->sim->now;

	if (!cr3_load)
		cpu->flushed_all = now;
	else if (!(new->cr4 &REF_CR4_PCIDE))
		cpu->flushed_pcid[0] = now;
	else if (!(new->cr3 >> 63))
		cpu->flushed_pcid[new->cr3 % SIM_PCIDS] = now;
}

static int paging_set(struct sim_cpu *cpu, const struct umbra_paging *paging)
{
	struct sim *sim = cpu->sim;
	bool cr3_load = is_cr3_load(&cpu->paging, paging), good = true;
	uint64_t pdpte[4] = {0};
	int error;

	if (is_contradiction(paging)) {
		if (umbra_vcpu_set_paging(cpu->vcpu, paging) != UMBRA_EINVAL)
			sim_fail(sim, "cr0 %#llx, cr4 %#llx, efer %#llx were not refused",
				 (unsigned long long)paging->cr0, (unsigned long long)paging->cr4,
				 (unsigned long long)paging->efer);
		return UMBRA_EINVAL;
	}
	if (is_pdpte_load(&cpu->paging, paging))
		good = sim_ref_pdptes(cpu, paging, pdpte);
	sim_op(sim, "set paging: cpu, cr3, cr0", cpu->number, paging->cr3, paging->cr0);
	sim_op(sim, "  cr4, efer, PDPTEs are good", paging->cr4, paging->efer, good);
	error = umbra_vcpu_set_paging(cpu->vcpu, paging);
	if (is_pdpte_load(&cpu->paging, paging))
		sim->cover[good ? COVER_PDPTES_GOOD : COVER_PDPTES_BAD]++;
	if (error == UMBRA_EPDPTE ? good : !good && !(sim->shortage && error))
		sim_fail(sim, "set_paging says %d; the oracle: PDPTEs at %#llx are %s", error,
			 (unsigned long long)paging->cr3, good ? "good" : "bad");
	if (error)
		return error;
	note_flush(cpu, paging, cr3_load);
	cover_paging(sim, paging);
	if (is_pdpte_load(&cpu->paging, paging))
		for (unsigned i = 0; i < 4; i++)
			cpu->pdpte[i] = pdpte[i];
	cpu->paging = *paging;
	if (cpu->paging.cr4 & REF_CR4_PCIDE)
		cpu->paging.cr3 &= ~(1ull << 63);
	return 0;
}

/*
 * One instruction writes one register; where it matters to the PDPTEs, we do: CR3 comes last, and
 * PAE paging comes from long mode by way of no paging.
 */
int sim_paging_set(struct sim_cpu *cpu, const struct umbra_paging *paging)
{
	struct umbra_paging first = *paging;
	int error = 0;

	if (cpu->sim->options.config.nested) /* they are the hardware's business */
		return 0;
	first.cr3 = cpu->paging.cr3;
	if (is_pae(paging) && sim_is_long_mode(cpu)) {
		first.cr0 &= ~REF_CR0_PG;
		error = paging_set(cpu, &first);
	} else if (is_pae(paging) && sim_is_pae(cpu) && first.cr3 != paging->cr3 &&
		   !is_cr3_load(&cpu->paging, paging)) {
		error = paging_set(cpu, &first);
	}
	return error ? error : paging_set(cpu, paging);
}

static void note_invlpg(struct sim_cpu *cpu, uint64_t gva, unsigned pcid, bool global)
{
	unsigned at = cpu->invlpgs++ % SIM_INVLPGS;

	cpu->invlpg[at].gva = gva;
	cpu->invlpg[at].when = ++cpu->sim->now;
	cpu->invlpg[at].pcid = pcid;
	cpu->invlpg[at].global = global;
}

void sim_invlpg(struct sim_cpu *cpu, uint64_t gva)
{
	gva = sim_fit(cpu, gva);
	sim_op(cpu->sim, "invlpg: cpu, gva", cpu->number, gva, 0);
	umbra_invlpg(cpu->vcpu, gva);
	note_invlpg(cpu, gva, sim_pcid(cpu), true);
}

void sim_invpcid(struct sim_cpu *cpu, enum umbra_invpcid type, unsigned pcid, uint64_t gva)
{
	bool all = type == UMBRA_INVPCID_ALL || type == UMBRA_INVPCID_ALL_GLOBAL;
	bool bad;
	int error;

	gva = sim_fit(cpu, gva);
	bad = type > UMBRA_INVPCID_ALL || pcid > 4095 ||
	      (!all && pcid && !(cpu->paging.cr4 & REF_CR4_PCIDE));
	sim_op(cpu->sim, "invpcid: type, pcid, gva", type, pcid, gva);
	error = umbra_invpcid(cpu->vcpu, type, (uint16_t)pcid, gva);
	if (error != (bad ? UMBRA_EINVAL : 0))
		sim_fail(cpu->sim, "invpcid, type %d, pcid %u: %d", type, pcid, error);
	if (bad)
		return;
	cpu->sim->cover[COVER_INVPCID_ADDRESS + type]++;
	if (all)
		cpu->flushed_all = ++cpu->sim->now;
	else if (type == UMBRA_INVPCID_PCID && pcid < SIM_PCIDS)
		cpu->flushed_pcid[pcid] = ++cpu->sim->now;
	else if (type == UMBRA_INVPCID_ADDRESS)
		note_invlpg(cpu, gva, pcid, false);
}

void sim_keys_set(struct sim_cpu *cpu, uint32_t pkru, uint32_t pkrs)
{
	sim_op(cpu->sim, "keys: cpu, pkru, pkrs", cpu->number, pkru, pkrs);
	cpu->pkru = pkru;
	cpu->pkrs = pkrs;
}
