/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Watches, judged by a model: what is armed for each gfn, and the access that a processor is about
 * to make. host.touched is called for exactly those accesses that touch what is armed, with what
 * they touch; and none gets through untold, by no table and no TLB (sim_watch_pass, of every access
 * that the hardware lets through).
 */
#include <stdlib.h>

#include "sim.h"

static unsigned kinds_of(struct ref_access access)
{
	return UMBRA_WATCH_R | (access.write ? UMBRA_WATCH_W : 0) |
	       (access.fetch ? UMBRA_WATCH_X : 0);
}

static void touched(void *ctx, const struct umbra_touch *touch)
{
	struct sim *sim = (struct sim *)((char *)ctx - offsetof(struct sim, failing));
	const struct sim_access_due *due = &sim->due;
	uint64_t gfn = touch->gfn.n;
	unsigned kinds = kinds_of(due->access);

	if (!due->cpu || gfn != touch->gpa >> 12 || touch->gpa != due->gpa ||
	    touch->gva != due->gva || touch->vcpu != due->cpu->number)
		sim_fail(sim, "a touch of gpa %#llx at gva %#llx by vcpu %u: not what it does",
			 (unsigned long long)touch->gpa, (unsigned long long)touch->gva,
			 touch->vcpu);
	if (!touch->kind || touch->kind != (sim->watched[gfn] & kinds) ||
	    !(touch->access & UMBRA_PF_W) != !due->access.write ||
	    !(touch->access & UMBRA_PF_I) != !due->access.fetch)
		sim_fail(sim, "gfn %#llx, armed %u, accessed %u: told %u, access %#x",
			 (unsigned long long)gfn, sim->watched[gfn], kinds, touch->kind,
			 touch->access);
	sim->watched[gfn] &= (unsigned char)~touch->kind;
	sim->cover[COVER_TOUCHED]++;
}

void sim_watch_init(struct sim *sim, struct umbra_host *host)
{
	host->touched = touched;
	sim->watched = calloc(sim->options.gfns, 1);
	if (!sim->watched)
		abort();
}

/* umbra is about to be asked for that access, which the oracle answered by @ref. */
void sim_watch_ask(struct sim_cpu *cpu, uint64_t gva, struct ref_access access,
		   const struct ref_result *ref)
{
	const struct sim_slot *slot = sim_slot_of(cpu->sim, ref->gpa);
	bool reaches =
	    ref->kind == REF_OK && slot && !(access.write && slot->flags & UMBRA_SLOT_READONLY);

	if (reaches && access.write)
		cpu->sim->aimed[ref->gpa >> 12] = 1;
	cpu->sim->due = (struct sim_access_due){
	    .cpu = reaches ? cpu : NULL,
	    .gva = gva,
	    .gpa = ref->gpa,
	    .access = access,
	};
}

/* It answered. An access that is let through by entering again may come again before that. */
void sim_watch_answered(struct sim *sim, enum umbra_verdict verdict, bool fault)
{
	const struct sim_access_due *due = &sim->due;

	if (due->cpu && (verdict == UMBRA_EMULATE || (verdict == UMBRA_RESUME && !fault)) &&
	    sim->watched[due->gpa >> 12] & kinds_of(due->access))
		sim_fail(sim, "gfn %#llx was touched, and nobody told",
			 (unsigned long long)(due->gpa >> 12));
	sim->due.cpu = NULL;
}

void sim_watch_pass(struct sim_cpu *cpu, uint64_t gva, uint64_t gfn, struct ref_access access)
{
	if (cpu->sim->watched[gfn] & kinds_of(access))
		sim_fail(cpu->sim, "cpu %u touches gfn %#llx at gva %#llx, armed %u, untold",
			 cpu->number, (unsigned long long)gfn, (unsigned long long)gva,
			 cpu->sim->watched[gfn]);
}

void sim_watch(struct sim *sim, uint64_t gfn, unsigned kinds)
{
	int wanted = sim_slot_of(sim, gfn << 12) ? 0 : UMBRA_ENOENT;
	int error;

	sim_op(sim, "watch: gfn, kinds", gfn, kinds, 0);
	error = umbra_watch(sim->mmu, (umbra_gfn){gfn}, kinds);
	if (error != wanted)
		sim_fail(sim, "a watch of gfn %#llx says %d", (unsigned long long)gfn, error);
	if (error)
		return;
	if (kinds & ~sim->watched[gfn] & UMBRA_WATCH_R)
		sim_check_revoked(sim, gfn, 1, false);
	if (kinds & ~sim->watched[gfn] & UMBRA_WATCH_W)
		sim_check_revoked(sim, gfn, 1, true);
	sim->watched[gfn] = (unsigned char)kinds;
}

/* The slot goes: so do its watches. */
void sim_watch_forget(struct sim *sim, uint64_t first, uint64_t pages)
{
	for (uint64_t gfn = first; gfn < first + pages; gfn++)
		sim->watched[gfn] = 0;
}
