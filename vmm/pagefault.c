/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The #PF exit: asks the MMU and does what its verdict says. Also watches for a guest that gets
 * nowhere, so that a bug of ours ends with a message and not in an endless loop.
 */
#include <umbra/machine.h>

#include "emulate.h"
#include "machine.h"
#include "memory.h"
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

static const char *kind_of(uint32_t access)
{
	return access & UMBRA_PF_I   ? "instruction fetch from"
	       : access & UMBRA_PF_W ? "write to"
				     : "read from";
}

/*
 * The access reaches no memory: what it is to do to the bus, the emulator finds out. Code cannot
 * run there, nor can events be delivered through it.
 */
static void unmapped(struct vcpu *vcpu, uint64_t gpa, uint32_t access)
{
	bool delivery = vcpu->event & SVM_EVENT_VALID;
	char bytes[48];

	vcpu->poll_due = 0;
	if (!(access & UMBRA_PF_I) && !delivery) {
		if (emulate(vcpu) != EMU_UNKNOWN)
			return;
		machine_end(
		    vcpu->vm, UMBRA_END_EMULATE,
		    "%s guest-physical %lx, where no memory is, at rip %lx: not emulated (%s)",
		    kind_of(access), gpa, vcpu->vmcb->rip, vcpu_bytes(vcpu, bytes, sizeof(bytes)));
	}
	machine_end(vcpu->vm, UMBRA_END_UNMAPPED,
		    "%s guest-physical %lx, where nothing is, at rip %lx%s", kind_of(access), gpa,
		    vcpu->vmcb->rip, delivery ? ", to deliver an event" : "");
}

/* A write to a tracked table. The delivery of an event is no instruction to emulate. */
static void tracked(struct vcpu *vcpu, const struct umbra_answer *answer)
{
	struct umbra_machine *page = vcpu->vm->machine;
	char bytes[48];
	enum emu_result result = EMU_UNKNOWN;

	if (!(vcpu->event & SVM_EVENT_VALID))
		result = emulate(vcpu);
	if (result == EMU_DONE) {
		page->emulated++;
	} else if (result == EMU_UNKNOWN && answer->own_table) {
		machine_end(vcpu->vm, UMBRA_END_EMULATE,
			    "write to the page table at %lx through itself, at rip %lx: not "
			    "emulated (%s)",
			    answer->gpa, vcpu->vmcb->rip, vcpu_bytes(vcpu, bytes, sizeof(bytes)));
	} else if (result == EMU_UNKNOWN) {
		page->unprotected++;
		mmu_unprotect(vcpu->vm, (umbra_gfn){answer->gpa >> UMBRA_PAGE_SHIFT});
	}
}

/* @address: a gva, or with nested paging a gpa. */
static void answer_exit(struct vcpu *vcpu, uint64_t address, uint32_t access)
{
	struct umbra_answer answer = mmu_fault(vcpu, address, access);

	switch (answer.verdict) {
	case UMBRA_RESUME:
		break;
	case UMBRA_RETRY:
		memory_settle(vcpu->vm);
		break;
	case UMBRA_INJECT:
		vcpu->stuck = 0; /* a guest that loops on faults of its own is the timeout's */
		vcpu_raise_pf(vcpu, address, answer.error_code);
		break;
	case UMBRA_MMIO:
		unmapped(vcpu, answer.gpa, access);
		break;
	case UMBRA_EMULATE:
		tracked(vcpu, &answer);
		break;
	case UMBRA_NOMEM:
		machine_end(vcpu->vm, UMBRA_END_NOMEM,
			    "no memory for a guest page or its shadow tables" MACHINE_MORE);
	}
}

void pagefault_exit(struct vcpu *vcpu)
{
	const struct vmcb *vmcb = vcpu->vmcb;
	uint32_t access = (uint32_t)vmcb->exit_info1 & (UMBRA_PF_W | UMBRA_PF_U | UMBRA_PF_I);

	vcpu->vm->machine->exits_pf++;
	if (vcpu->vm->options.nested) { /* the guest's own, behind one that is being delivered */
		vcpu_raise_pf(vcpu, vmcb->exit_info2, (uint32_t)vmcb->exit_info1);
		return;
	}
	watch_progress(vcpu, vmcb->exit_info2);
	/* AC does not excuse the implicit accesses that user code causes. */
	if (vmcb->rflags & RFLAGS_AC && vmcb->cpl < 3)
		access |= UMBRA_PF_AC;
	vcpu_keys_tell(vcpu);
	answer_exit(vcpu, vmcb->exit_info2, access);
}

void pagefault_nested_exit(struct vcpu *vcpu)
{
	const struct vmcb *vmcb = vcpu->vmcb;

	vcpu->vm->machine->exits_pf++;
	watch_progress(vcpu, vmcb->exit_info2);
	answer_exit(vcpu, vmcb->exit_info2,
		    (uint32_t)vmcb->exit_info1 & (UMBRA_PF_W | UMBRA_PF_U | UMBRA_PF_I));
}
