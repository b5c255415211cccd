/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The task register of guests outside of long mode, whose hardware TR is kept away from their
 * memory (vmcb_task_hide), so that LTR exits (AMD64 APM vol. 2 §4.8.3, §12.2.2, vol. 3 "LTR"). Task
 * switches themselves are refused.
 */
#include <umbra/machine.h>

#include "emulate.h"
#include "exits.h"
#include "fetch.h"
#include "machine.h"
#include "vcpu.h"
#include "vm.h"
#include "x86.h"

#define TYPE(descriptor)    ((unsigned)((descriptor) >> 40) & 0x1f)
#define TYPE_TSS_16         1u
#define TYPE_TSS_32         9u
#define DESCRIPTOR_BUSY     (1ull << 41)
#define DESCRIPTOR_P        (1ull << 47)
#define DESCRIPTOR_G        (1ull << 55)
#define SELECTOR_LDT        4u

void task_refuse(struct vcpu *vcpu, const char *what)
{
	machine_end(vcpu->vm, UMBRA_END_EMULATE, "%s at rip %lx is not supported", what,
		    vcpu->vmcb->rip);
}

/* The descriptor's place in the GDT. False: a fault was raised. */
static bool find(struct vcpu *vcpu, uint16_t selector, struct emu_place *place)
{
	struct emu emu = emulate_on(vcpu);
	const struct emu_segment *gdt = &vcpu->vmcb->gdtr;
	uint32_t offset = selector & ~7u;

	if (!(selector & ~3u)) {
		vcpu_raise(vcpu, VECTOR_GP, 0);
		return false;
	}
	if (selector & SELECTOR_LDT || offset + 7 > gdt->limit) {
		vcpu_raise(vcpu, VECTOR_GP, selector & ~3u);
		return false;
	}
	return emu.host->translate(emu.ctx, (uint32_t)(gdt->base + offset), EMU_WRITE | EMU_SYSTEM,
				   place) == EMU_DONE;
}

static void load(struct vcpu *vcpu, uint16_t selector, uint64_t d)
{
	struct emu_segment *tr = &vcpu->vmcb->tr;
	uint32_t limit = (uint32_t)((d & 0xffff) | (d >> 32 & 0xf0000));

	tr->selector = selector;
	tr->attributes = (uint16_t)((d >> 40 & 0xff) | (d >> 44 & 0xf00));
	tr->limit = d & DESCRIPTOR_G ? limit << 12 | 0xfff : limit;
	vcpu->task_base = (d >> 16 & 0xffffff) | (d >> 32 & 0xff000000);
}

static void ltr(struct vcpu *vcpu, const struct insn *insn, uint16_t selector)
{
	struct emu_place place;
	uint64_t d;

	if (!find(vcpu, selector, &place))
		return;
	if (!place.va || (place.gpa & 4095) > 4088)
		task_refuse(vcpu, "LTR of a descriptor outside of memory or across pages");
	__builtin_memcpy(&d, place.va, sizeof(d));
	if (TYPE(d) != TYPE_TSS_16 && TYPE(d) != TYPE_TSS_32) {
		vcpu_raise(vcpu, VECTOR_GP, selector & ~3u);
		return;
	}
	if (!(d & DESCRIPTOR_P)) {
		vcpu_raise(vcpu, VECTOR_NP, selector & ~3u);
		return;
	}
	d |= DESCRIPTOR_BUSY;
	__builtin_memcpy(place.va, &d, sizeof(d));
	umbra_guest_write(vcpu->vm->mmu, place.gpa, sizeof(d));
	load(vcpu, selector, d);
	vcpu_skip(vcpu, insn->length);
}

void task_ltr_exit(struct vcpu *vcpu)
{
	struct emu emu = emulate_on(vcpu);
	struct insn insn;
	uint16_t selector;

	if (!decode_at_rip(vcpu, &insn))
		return;
	if (insn.map != 1 || insn.opcode != 0x00 || (insn.reg & 7) != 3)
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
