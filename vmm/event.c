/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Events (exceptions, interrupts, NMIs) on their way into the guest. Owns vcpu->event, which the
 * next entry injects, and what has to wait.
 *
 * An exit can interrupt the delivery of an event (EXITINTINFO, AMD64 APM vol. 2 §15.7.2). That
 * event goes to vcpu->event at once and is delivered again at the next entry unless
 * vcpu_raise() puts something in its place.
 */
#include <umbra/machine.h>

#include "cpu.h"
#include "event.h"
#include "exits.h"
#include "fetch.h"
#include "machine.h"
#include "pic.h"
#include "svm.h"
#include "trap.h"
#include "vcpu.h"
#include "vm.h"
#include "x86.h"

#define OPCODE_HLT 0xf4

/* ------------------------------------------------------------------ exceptions */

static bool is_contributory(unsigned vector)
{
	return vector == 0 || (vector >= 10 && vector <= 13);
}

void vcpu_raise(struct vcpu *vcpu, unsigned vector, int64_t error)
{
	uint64_t old = vcpu->event;
	unsigned first = (unsigned)old & 0xff;

	if (old && SVM_EVENT_TYPE(old) == SVM_EVENT_INTERRUPT)
		vcpu->displaced = (int)first;
	if (old && SVM_EVENT_TYPE(old) == SVM_EVENT_EXCEPTION) {
		bool second = is_contributory(vector);

		if (first == VECTOR_DF && (second || vector == VECTOR_PF))
			machine_end(vcpu->vm, UMBRA_END_TRIPLE_FAULT,
				    "triple fault of the guest at rip %lx, cr2 %lx",
				    vcpu->vmcb->rip, vcpu->vmcb->cr2);
		if ((is_contributory(first) && second) ||
		    (first == VECTOR_PF && (second || vector == VECTOR_PF))) {
			vector = VECTOR_DF;
			error = 0;
		}
	}
	vcpu->event = SVM_EVENT(SVM_EVENT_EXCEPTION, vector);
	if (error >= 0 && !vcpu_is_real(vcpu)) {
		vcpu->event |= SVM_EVENT_ERROR;
		vcpu->error = (uint64_t)error;
	}
}

void vcpu_raise_pf(struct vcpu *vcpu, uint64_t gva, uint32_t error_code)
{
	vcpu->vmcb->cr2 = gva;
	vcpu_raise(vcpu, VECTOR_PF, error_code);
}

void event_take(struct vcpu *vcpu)
{
	uint64_t event = vcpu->vmcb->exit_interrupted;
	unsigned type = SVM_EVENT_TYPE(event), vector = (unsigned)event & 0xff;

	vcpu->event = 0;
	if (!(event & SVM_EVENT_VALID))
		return;
	/*
	 * INTn, INT3 and INTO are executed again: RIP is still at them. They may be in the shadow
	 * of STI, which that exit does not tell: interrupts come behind them.
	 */
	if (type == SVM_EVENT_SOFTWARE ||
	    (type == SVM_EVENT_EXCEPTION && (vector == VECTOR_BP || vector == VECTOR_OF))) {
		vcpu->int_rip = vcpu->vmcb->rip;
		vcpu->int_wait = vcpu->vm->cpu->tsc_hz / 400000;
		return;
	}
	vcpu->event = event & 0xffffffffull;
	vcpu->error = event >> 32;
}

/* ------------------------------------------------------------------ interrupts */

bool event_waits(const struct vcpu *vcpu)
{
	return vcpu->displaced >= 0 || lapic_pending(&vcpu->lapic) >= 0 ||
	       (lapic_takes_pic(&vcpu->lapic) && pic_pending(&vcpu->vm->pic));
}

static unsigned acknowledge(struct vcpu *vcpu)
{
	int vector = vcpu->displaced;

	if (vector >= 0) {
		vcpu->displaced = -1;
		return (unsigned)vector;
	}
	vector = lapic_pending(&vcpu->lapic);
	if (vector >= 0) {
		lapic_acknowledge(&vcpu->lapic, (unsigned)vector);
		return (unsigned)vector;
	}
	return pic_acknowledge(&vcpu->vm->pic);
}

/* ------------------------------------------------------------------ NMIs */

/*
 * NMIs wait until the handler of the one before is left by IRET. That exits before it is carried
 * out; with one waiting, it is carried out as a single step, whose #DB comes when it is over.
 */
static void nmi_step(struct vcpu *vcpu)
{
	struct vmcb *vmcb = vcpu->vmcb;

	vcpu->stepping = true;
	vcpu->step_kept = (vmcb->rflags & RFLAGS_TF) | (vmcb->dr6 & DR6_BS);
	vmcb->rflags |= RFLAGS_TF;
}

bool event_stepped(struct vcpu *vcpu)
{
	struct vmcb *vmcb = vcpu->vmcb;
	uint64_t kept = vcpu->step_kept;

	vcpu->stepping = false;
	if (vmcb->exit_code != SVM_EXIT_EXCEPTION + VECTOR_DB) { /* IRET is not over */
		vmcb->rflags = (vmcb->rflags & ~RFLAGS_TF) | (kept & RFLAGS_TF);
		return false;
	}
	vcpu->nmi_blocked = false;
	vcpu->iret_rip = 0;
	if (kept & RFLAGS_TF)
		return false;
	vmcb->dr6 = (vmcb->dr6 & ~DR6_BS) | (kept & DR6_BS);
	return !(vmcb->dr6 & (DR6_BT | 0xf));
}

static void nmi_inject(struct vcpu *vcpu)
{
	if (vcpu->iret_rip && vcpu->vmcb->rip != vcpu->iret_rip) {
		vcpu->nmi_blocked = false;
		vcpu->iret_rip = 0;
	}
	if (!vcpu->nmi_pending || vcpu->event)
		return;
	if (vcpu->nmi_blocked && vcpu->iret_rip)
		nmi_step(vcpu);
	if (vcpu->nmi_blocked || vcpu->vmcb->interrupt_shadow & 1)
		return;
	vcpu->nmi_pending = false;
	vcpu->nmi_blocked = true;
	vcpu->event = SVM_EVENT(SVM_EVENT_NMI, VECTOR_NMI);
	vmcb_iret(vcpu->vmcb, true);
}

void event_iret_exit(struct vcpu *vcpu)
{
	vcpu->iret_rip = vcpu->vmcb->rip;
	vmcb_iret(vcpu->vmcb, false);
}

/* ------------------------------------------------------------------ injecting */

/*
 * TCG makes no double fault of an exception that strikes the delivery of an injected one. One that
 * IRET raises as a single step would show the guest our TF. And one that goes through a task gate
 * would be a double fault, by the guard's breakpoint (task.c).
 */
static void watch_delivery(struct vcpu *vcpu)
{
	bool wanted = (vcpu->event && SVM_EVENT_TYPE(vcpu->event) == SVM_EVENT_EXCEPTION &&
		       vcpu->vm->cpu->is_tcg) ||
		      vcpu->stepping || vcpu->guard != GUARD_OFF;

	if (wanted != vcpu->delivery)
		vmcb_delivery(vcpu->vmcb, wanted);
	vcpu->delivery = wanted;
}

void event_interrupted(struct vcpu *vcpu)
{
	const struct vmcb *vmcb = vcpu->vmcb;

	if (vmcb->interrupt_shadow & 1)
		vcpu->shadow_rip = vmcb->rip;
	else if (vmcb->rip != vcpu->shadow_rip)
		vcpu->shadow_rip = 0;
}

/*
 * STI and HLT are one to a guest that waits for an interrupt. The host's may end its run between
 * them, and TCG's VMRUN then forgets the shadow: the guest's interrupt would come before the HLT,
 * and the HLT wait for one that is over. So the HLT is done first.
 */
static void leave_shadow(struct vcpu *vcpu)
{
	uint8_t bytes[INSN_MAX];

	vcpu->shadow_rip = 0;
	if (fetch(vcpu, bytes) && bytes[0] == OPCODE_HLT)
		vcpu_skip(vcpu, 1);
}

/*
 * Is an INTn to be carried out before any interrupt? What waits then comes soon behind it: the
 * timer sees to that, later each time that it was too early.
 */
static bool is_at_int(struct vcpu *vcpu)
{
	struct cpu *cpu = vcpu->vm->cpu;

	if (vcpu->vmcb->rip != vcpu->int_rip) {
		vcpu->int_rip = 0;
		return false;
	}
	vcpu->int_wait *= 2;
	cpu_timer_arm(cpu, rdtsc() + vcpu->int_wait);
	return true;
}

#define OFFER_HZ 20000 /* how soon after an offer whatever waits behind it is looked at */

/*
 * TCG, where something of the outside wants its attention just when VMRUN has injected an
 * interrupt, injects it once more, into the first instruction of its handler. (It remembers the
 * vector as that of an exception which is still to be raised.) So the guest takes it by itself:
 * entered with its interrupts on, it does so before anything else. No window can be asked for
 * meanwhile: the timer ends the run soon.
 */
static void offer(struct vcpu *vcpu, bool waits)
{
	struct cpu *cpu = vcpu->vm->cpu;

	vcpu->offered = (int)(vcpu->event & 0xff);
	vcpu->event = 0;
	vcpu->vmcb->inject = 0;
	vcpu->window = false;
	vmcb_offer(vcpu->vmcb, (unsigned)vcpu->offered);
	if (waits)
		cpu_timer_arm(cpu, rdtsc() + cpu->tsc_hz / OFFER_HZ);
}

void event_withdraw(struct vcpu *vcpu)
{
	struct vmcb *vmcb = vcpu->vmcb;
	int vector = vcpu->offered;

	vcpu->offered = -1;
	if (!vmcb_withdraw(vmcb)) /* it was taken */
		return;
	if (vmcb->exit_interrupted & SVM_EVENT_VALID) /* TCG says that it was an exception */
		vmcb->exit_interrupted = SVM_EVENT(SVM_EVENT_INTERRUPT, (unsigned)vector);
	else
		vcpu->displaced = vector;
}

void event_inject(struct vcpu *vcpu)
{
	struct vmcb *vmcb = vcpu->vmcb;
	bool waits = event_waits(vcpu);

	if (waits && is_at_int(vcpu))
		waits = false;
	if (waits && !vcpu->event && vcpu->shadow_rip == vmcb->rip && vmcb->cpl == 0)
		leave_shadow(vcpu);
	nmi_inject(vcpu);
	if (waits && !vcpu->event && vmcb->rflags & RFLAGS_IF && !(vmcb->interrupt_shadow & 1)) {
		vcpu->event = SVM_EVENT(SVM_EVENT_INTERRUPT, acknowledge(vcpu));
		waits = event_waits(vcpu);
	}
	if (vcpu->event && vcpu->guard != GUARD_OFF)
		task_gate(vcpu, (unsigned)vcpu->event & 0xff);
	watch_delivery(vcpu);
	if (vcpu->event && SVM_EVENT_TYPE(vcpu->event) == SVM_EVENT_INTERRUPT &&
	    vcpu->vm->cpu->is_tcg) {
		offer(vcpu, waits);
		return;
	}
	vmcb->inject = vcpu->event;
	if (vcpu->event & SVM_EVENT_ERROR)
		vmcb->inject |= vcpu->error << 32;
	vcpu->event = 0;
	vmcb_window(vmcb, waits);
	vcpu->window = waits;
}
