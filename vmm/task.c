/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Task switches are refused: the processor would load CR3 from a task state segment that the guest
 * wrote (AMD64 APM vol. 2 §12), and with shadow paging that is the hypervisor's own CR3.
 *
 * Processors exit before one (INTERCEPT_TASK). QEMU's TCG does not. But before it loads anything,
 * it writes the first byte of the old task state segment; so there, while a guest is outside of
 * long mode (where there are no task switches), a breakpoint waits for that write (vol. 2 §13.1).
 * It ends the guest's run behind the switch and before the first instruction under the new CR3. The
 * breakpoint follows TR: LTR exits too, and is carried out here (vol. 3, "LTR"; vol. 2 §4.8.3).
 *
 * DR3 and its bits of DR7 are the guard's then (debug.c).
 */
#include <umbra/machine.h>

#include "cpu.h"
#include "descriptor.h"
#include "emulate.h"
#include "exits.h"
#include "fetch.h"
#include "machine.h"
#include "vcpu.h"
#include "vm.h"
#include "x86.h"

#define TYPE_TASK_GATE  5u
#define TYPE_TSS_16     1u
#define TYPE_TSS_32     9u
#define DESCRIPTOR_BUSY (1ull << 41)

/* TCG aborts, hypervisor and all, at a change of privilege where TR says that its task is busy. */
#define ATTRIBUTE_BUSY 2u

void task_refuse(struct vcpu *vcpu, const char *what)
{
	machine_end(vcpu->vm, UMBRA_END_EMULATE, "%s at rip %lx is not supported", what,
		    vcpu->vmcb->rip);
}

/* ------------------------------------------------------------------ the guard */

static bool is_needed(const struct vcpu *vcpu)
{
	return vcpu->root.levels == 3 && vcpu->vm->cpu->is_tcg && !vcpu->vm->options.nested;
}

void task_guard(struct vcpu *vcpu)
{
	struct vmcb *vmcb = vcpu->vmcb;
	uint64_t wanted = is_needed(vcpu) ? vmcb->tr.base : GUARD_OFF;

	if (vcpu->guard == wanted)
		return;
	vcpu->guard = wanted;
	vcpu->debug_changed = true;
	vmcb_task(vmcb, wanted != GUARD_OFF);
	vmcb_delivery(vmcb, wanted != GUARD_OFF);
	vcpu->delivery = wanted != GUARD_OFF;
}

void task_check(struct vcpu *vcpu)
{
	if (vcpu->guard != GUARD_OFF &&
	    (vcpu->vmcb->cr3 != vcpu->root.hpa || vcpu->vmcb->tr.base != vcpu->guard))
		task_refuse(vcpu, "a task switch");
}

bool task_guard_hit(struct vcpu *vcpu)
{
	struct vmcb *vmcb = vcpu->vmcb;
	bool hit = vcpu->guard != GUARD_OFF && vmcb->dr6 & DR6_B3;

	if (hit)
		vmcb->dr6 &= ~DR6_B3;
	return hit && !(vmcb->dr6 & (DR6_BS | DR6_BT | 7));
}

void task_gate(struct vcpu *vcpu, unsigned vector)
{
	const struct emu_segment *idt = &vcpu->vmcb->idtr;
	uint64_t event = vcpu->event, error = vcpu->error, gate;
	struct emu emu = emulate_on(vcpu);

	if (vcpu->guard == GUARD_OFF || vcpu_is_real(vcpu) || 8 * vector + 7 > idt->limit)
		return;
	if (emu_system(&emu, (uint32_t)(idt->base + 8 * vector), &gate, sizeof(gate), EMU_READ) ==
		EMU_DONE &&
	    DESCRIPTOR_TYPE(gate) == TYPE_TASK_GATE)
		task_refuse(vcpu, "a task switch");
	vcpu->event = event; /* where no gate can be read, the processor finds out */
	vcpu->error = error;
}

void task_init(struct vcpu *vcpu)
{
	vcpu->guard = GUARD_OFF;
}

/* ------------------------------------------------------------------ LTR */

static void ltr(struct vcpu *vcpu, const struct insn *insn, uint16_t selector)
{
	struct emu_segment *tr = &vcpu->vmcb->tr;
	bool is_long = vcpu->efer & EFER_LMA;
	uint64_t d, high = 0; /* the upper half of the base, in long mode */

	if (!descriptor_read(vcpu, selector, false, &d) ||
	    (is_long && !descriptor_read(vcpu, (uint16_t)(selector + 8), false, &high)))
		return;
	if (DESCRIPTOR_TYPE(d) != TYPE_TSS_32 && (is_long || DESCRIPTOR_TYPE(d) != TYPE_TSS_16)) {
		vcpu_raise(vcpu, VECTOR_GP, selector & ~3u);
		return;
	}
	if (!(d & DESCRIPTOR_P)) {
		vcpu_raise(vcpu, VECTOR_NP, selector & ~3u);
		return;
	}
	d |= DESCRIPTOR_BUSY;
	if (!descriptor_write(vcpu, selector, d))
		return;
	*tr = descriptor_segment(selector, d);
	tr->base |= high << 32;
	if (vcpu->vm->cpu->is_tcg)
		tr->attributes &= (uint16_t)~ATTRIBUTE_BUSY;
	vcpu_skip(vcpu, insn->length);
}

bool task_is_ltr(const struct insn *insn)
{
	return insn->map == 1 && insn->opcode == 0x00 && (insn->reg & 7) == 3;
}

void task_ltr_exit(struct vcpu *vcpu)
{
	struct emu emu = emulate_on(vcpu);
	struct insn insn;
	uint16_t selector;

	if (!decode_at_rip(vcpu, &insn))
		return;
	if (!task_is_ltr(&insn))
		task_refuse(vcpu, "this way to load the task register");
	selector = (uint16_t)vcpu->gpr[insn.rm];
	if (insn.memory && emu_read(&emu, &insn, &selector, 2) != EMU_DONE)
		return;
	if (vcpu_is_real(vcpu) || vcpu->vmcb->rflags & RFLAGS_VM)
		vcpu_raise(vcpu, VECTOR_UD, -1);
	else if (vcpu->vmcb->cpl)
		vcpu_raise(vcpu, VECTOR_GP, 0);
	else
		ltr(vcpu, &insn, selector);
}
