/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The #PF exit: asks the MMU and does what its verdict says. Also watches for a guest that gets
 * nowhere, so that a bug of ours ends with a message and not in an endless loop.
 */
#include <umbra/machine.h>

#include "emulate.h"
#include "machine.h"
#include "pagefault.h"
#include "vcpu.h"
#include "vm.h"
#include "x86.h"

/*
 * Faults at one RIP and address, each within a few exits of the one before, that we put up with.
 * (More than one exit, since a table zapped for a store is soon faulted in again for a fetch.)
 */
#define STUCK_MAX 512
#define STUCK_GAP 4

static void watch_progress(struct vcpu *vcpu, uint64_t gva)
{
	char bytes[48];

	if (vcpu->stuck_rip != vcpu->vmcb->rip || vcpu->stuck_gva != gva) {
		if (vcpu->exit_count - vcpu->stuck_exit < STUCK_GAP)
			return;
		vcpu->stuck_rip = vcpu->vmcb->rip;
		vcpu->stuck_gva = gva;
		vcpu->stuck = 0;
	}
	if (vcpu->exit_count - vcpu->stuck_exit > STUCK_GAP)
		vcpu->stuck = 0;
	vcpu->stuck_exit = vcpu->exit_count;
	if (++vcpu->stuck > STUCK_MAX)
		machine_end(vcpu->vm, UMBRA_END_EMULATE,
			    "no progress at rip %lx, address %lx, error code %lx (%s)",
			    vcpu->vmcb->rip, gva, vcpu->vmcb->exit_info1,
			    vcpu_bytes(vcpu, bytes, sizeof(bytes)));
}

/*
 * The access reaches no memory. The local APIC is a device; elsewhere loads give all-ones and
 * everything else is the end.
 */
static void unmapped(struct vcpu *vcpu, uint64_t gva, uint64_t gpa, uint32_t access)
{
	char bytes[48];
	const char *kind = access & UMBRA_PF_I   ? "instruction fetch from"
			   : access & UMBRA_PF_W ? "write to"
						 : "read from";

	bool device = lapic_is_at(&vcpu->lapic, gpa);

	vcpu->poll_due = 0;
	if ((device || !(access & UMBRA_PF_W)) && !(access & UMBRA_PF_I) &&
	    !(vcpu->event & SVM_EVENT_VALID)) {
		if (emulate(vcpu, gva) != EMULATED_UNKNOWN)
			return;
		machine_end(vcpu->vm, UMBRA_END_EMULATE,
			    "%s guest-physical %lx, where %s, at rip %lx: not emulated (%s)", kind,
			    gpa, device ? "the local APIC is" : "nothing is", vcpu->vmcb->rip,
			    vcpu_bytes(vcpu, bytes, sizeof(bytes)));
	}
	machine_end(vcpu->vm, UMBRA_END_UNMAPPED,
		    "%s guest-physical %lx, where nothing is, at rip %lx (%s)", kind, gpa,
		    vcpu->vmcb->rip, vcpu_bytes(vcpu, bytes, sizeof(bytes)));
}

/* A write to a tracked table. The delivery of an event is no instruction to emulate. */
static void tracked(struct vcpu *vcpu, uint64_t gva, const struct umbra_answer *answer)
{
	struct umbra_machine *page = vcpu->vm->machine;
	char bytes[48];
	enum emulated e = EMULATED_UNKNOWN;

	if (!(vcpu->event & SVM_EVENT_VALID))
		e = emulate(vcpu, gva);
	if (e == EMULATED_DONE) {
		page->emulated++;
		vcpu->stuck = 0;
	} else if (e == EMULATED_UNKNOWN && answer->own_table) {
		machine_end(vcpu->vm, UMBRA_END_EMULATE,
			    "write to the page table at %lx through itself, at rip %lx: not "
			    "emulated (%s)",
			    answer->gpa, vcpu->vmcb->rip, vcpu_bytes(vcpu, bytes, sizeof(bytes)));
	} else if (e == EMULATED_UNKNOWN) {
		page->unprotected++;
		umbra_unprotect(vcpu->vm->mmu, (umbra_gfn){answer->gpa >> UMBRA_PAGE_SHIFT});
	}
}

void pagefault_exit(struct vcpu *vcpu)
{
	const struct vmcb *vmcb = vcpu->vmcb;
	uint64_t gva = vmcb->exit_info2;
	uint32_t access = (uint32_t)vmcb->exit_info1 & (UMBRA_PF_W | UMBRA_PF_U | UMBRA_PF_I);
	struct umbra_answer answer;

	vcpu->vm->machine->exits_pf++;
	watch_progress(vcpu, gva);
	/* AC does not excuse the implicit accesses that user code causes. */
	if (vmcb->rflags & RFLAGS_AC && vmcb->cpl < 3)
		access |= UMBRA_PF_AC;
	answer = umbra_fault(vcpu->umbra, gva, access);
	switch (answer.verdict) {
	case UMBRA_RESUME:
	case UMBRA_RETRY:
		break;
	case UMBRA_INJECT:
		vcpu->stuck = 0; /* a guest that loops on faults of its own is the timeout's */
		vcpu_raise_pf(vcpu, gva, answer.error_code);
		break;
	case UMBRA_MMIO:
		unmapped(vcpu, gva, answer.gpa, access);
		break;
	case UMBRA_EMULATE:
		tracked(vcpu, gva, &answer);
		break;
	case UMBRA_NOMEM:
		machine_end(vcpu->vm, UMBRA_END_NOMEM,
			    "out of memory for the guest's pages or their shadow tables");
	}
}
