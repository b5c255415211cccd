/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's descriptors (AMD64 APM vol. 2 §4.7, §4.8), and what loads one by way of memory that
 * only the emulator reaches: far JMP to code of the same privilege, not through gates (vol. 3, "JMP
 * (Far)"), and MOV to a segment register.
 */
#include "descriptor.h"
#include "emulate.h"
#include "exits.h"
#include "vcpu.h"
#include "vm.h"
#include "x86.h"

#define DESCRIPTOR_G        (1ull << 55)
#define DESCRIPTOR_D        (1ull << 54)
#define DESCRIPTOR_L        (1ull << 53)
#define DESCRIPTOR_ACCESSED (1ull << 40)
#define SELECTOR_LDT        4u
#define TYPE_DATA           0x10u /* or code: no system segment */
#define TYPE_CODE           0x18u
#define TYPE_CONFORMING     0x04u
#define TYPE_ALLOWS         0x02u /* data: writing; code: reading */

/* Read or write its 8 bytes. */
static bool access(struct vcpu *vcpu, uint16_t selector, uint64_t *descriptor, unsigned kind)
{
	const struct vmcb *vmcb = vcpu->vmcb;
	const struct emu_segment *table = selector & SELECTOR_LDT ? &vmcb->ldtr : &vmcb->gdtr;
	uint64_t linear = table->base + (selector & ~7u);
	struct emu emu = emulate_on(vcpu);

	if (!(vcpu->efer & EFER_LMA))
		linear = (uint32_t)linear;
	return emu_system(&emu, linear, descriptor, sizeof(*descriptor), kind) == EMU_DONE;
}

bool descriptor_read(struct vcpu *vcpu, uint16_t selector, bool ldt, uint64_t *descriptor)
{
	const struct vmcb *vmcb = vcpu->vmcb;
	bool local = selector & SELECTOR_LDT;
	uint32_t limit = local ? vmcb->ldtr.limit : vmcb->gdtr.limit;

	if (!(selector & ~3u)) {
		vcpu_raise(vcpu, VECTOR_GP, 0);
		return false;
	}
	if ((local && (!ldt || !(vmcb->ldtr.selector & ~3u))) || (selector | 7u) > limit) {
		vcpu_raise(vcpu, VECTOR_GP, selector & ~3u);
		return false;
	}
	return access(vcpu, selector, descriptor, EMU_READ);
}

bool descriptor_write(struct vcpu *vcpu, uint16_t selector, uint64_t descriptor)
{
	return access(vcpu, selector, &descriptor, EMU_WRITE);
}

struct emu_segment descriptor_segment(uint16_t selector, uint64_t d)
{
	uint32_t limit = (uint32_t)((d & 0xffff) | (d >> 32 & 0xf0000));

	return (struct emu_segment){
	    .selector = selector,
	    .attributes = (uint16_t)((d >> 40 & 0xff) | (d >> 44 & 0xf00)),
	    .limit = d & DESCRIPTOR_G ? limit << 12 | 0xfff : limit,
	    .base = (d >> 16 & 0xffffff) | (d >> 32 & 0xff000000),
	};
}

/* ------------------------------------------------------------------ far JMP */

/* The fault of @d as code to go to; -1: none. */
static int fault_of(const struct vcpu *vcpu, uint16_t selector, uint64_t d)
{
	unsigned cpl = vcpu->vmcb->cpl, dpl = DESCRIPTOR_DPL(d);
	bool conforming = DESCRIPTOR_TYPE(d) & TYPE_CONFORMING;

	if ((DESCRIPTOR_TYPE(d) & TYPE_CODE) != TYPE_CODE)
		return VECTOR_GP;
	if (conforming ? dpl > cpl : dpl != cpl || (selector & 3) > cpl)
		return VECTOR_GP;
	if (vcpu->efer & EFER_LMA && d & DESCRIPTOR_L && d & DESCRIPTOR_D)
		return VECTOR_GP;
	return d & DESCRIPTOR_P ? -1 : VECTOR_NP;
}

static bool reaches(const struct vcpu *vcpu, const struct emu_segment *cs, uint64_t offset)
{
	unsigned shift = vcpu->cr4 & CR4_LA57 ? 7 : 16;

	if (vcpu->efer & EFER_LMA && cs->attributes & EMU_SEGMENT_L)
		return (uint64_t)((int64_t)(offset << shift) >> shift) == offset;
	return offset <= cs->limit;
}

/* False: not to code, so not known here. */
static bool jump(struct vcpu *vcpu, uint16_t selector, uint64_t offset)
{
	struct vmcb *vmcb = vcpu->vmcb;
	struct emu_segment cs;
	uint64_t d;
	int fault;

	if (vcpu_is_real(vcpu) || vmcb->rflags & RFLAGS_VM) {
		vmcb->cs.selector = selector;
		vmcb->cs.base = (uint64_t)selector << 4;
		vmcb->rip = offset;
		return true;
	}
	if (!descriptor_read(vcpu, selector, true, &d))
		return true;
	if (!(DESCRIPTOR_TYPE(d) & TYPE_DATA))
		return false;
	fault = fault_of(vcpu, selector, d);
	cs = descriptor_segment((uint16_t)((selector & ~3u) | vmcb->cpl), d | DESCRIPTOR_ACCESSED);
	if (fault >= 0) {
		vcpu_raise(vcpu, (unsigned)fault, selector & ~3u);
	} else if (!reaches(vcpu, &cs, offset)) {
		vcpu_raise(vcpu, VECTOR_GP, 0);
	} else if (d & DESCRIPTOR_ACCESSED ||
		   descriptor_write(vcpu, selector, d | DESCRIPTOR_ACCESSED)) {
		vmcb->cs = cs;
		vmcb->rip = offset;
		vcpu_done(vcpu);
	}
	return true;
}

static enum emu_result far_jump(struct vcpu *vcpu, const struct insn *insn)
{
	struct emu emu = emulate_on(vcpu);
	uint8_t pointer[10];
	uint64_t offset = 0;
	uint16_t selector;

	if (emu_read(&emu, insn, pointer, insn->size + 2) != EMU_DONE)
		return EMU_FAULT;
	__builtin_memcpy(&offset, pointer, insn->size);
	__builtin_memcpy(&selector, pointer + insn->size, 2);
	return jump(vcpu, selector, offset) ? EMU_DONE : EMU_UNKNOWN;
}

/* ------------------------------------------------------------------ MOV to a segment register */

/* The fault of @d as SS, or as any other; -1: none. */
static int stack_fault(const struct vcpu *vcpu, uint16_t selector, uint64_t d)
{
	unsigned cpl = vcpu->vmcb->cpl;
	bool writable =
	    (DESCRIPTOR_TYPE(d) & (TYPE_CODE | TYPE_ALLOWS)) == (TYPE_DATA | TYPE_ALLOWS);

	if (!writable || DESCRIPTOR_DPL(d) != cpl || (selector & 3) != cpl)
		return VECTOR_GP;
	return d & DESCRIPTOR_P ? -1 : VECTOR_SS;
}

static int data_fault(const struct vcpu *vcpu, uint16_t selector, uint64_t d)
{
	unsigned cpl = vcpu->vmcb->cpl, rpl = selector & 3, type = DESCRIPTOR_TYPE(d);
	bool code = (type & TYPE_CODE) == TYPE_CODE;

	if (!(type & TYPE_DATA) || (code && !(type & TYPE_ALLOWS)))
		return VECTOR_GP;
	if (!(code && type & TYPE_CONFORMING) && DESCRIPTOR_DPL(d) < (rpl > cpl ? rpl : cpl))
		return VECTOR_GP;
	return d & DESCRIPTOR_P ? -1 : VECTOR_NP;
}

/* 64-bit code of the kernel's may run without a stack segment. */
static bool may_be_null(const struct vcpu *vcpu, unsigned segment, uint16_t selector)
{
	unsigned cpl = vcpu->vmcb->cpl;

	return segment != SEGMENT_SS || (vcpu_is_64(vcpu) && cpl < 3 && (selector & 3) == cpl);
}

/* False: a fault was raised. */
static bool segment_load(struct vcpu *vcpu, unsigned segment, uint16_t selector)
{
	struct emu_segment *s = &(&vcpu->vmcb->es)[segment];
	uint64_t d;
	int fault;

	if (vcpu_is_real(vcpu) || vcpu->vmcb->rflags & RFLAGS_VM) {
		s->selector = selector;
		s->base = (uint64_t)selector << 4;
		return true;
	}
	if (!(selector & ~3u) && may_be_null(vcpu, segment, selector)) {
		*s = (struct emu_segment){.selector = selector};
		if (segment == SEGMENT_SS)
			s->attributes =
			    (uint16_t)(vcpu->vmcb->cpl << 5); /* where CPL is looked up */
		return true;
	}
	if (!descriptor_read(vcpu, selector, true, &d))
		return false;
	fault =
	    segment == SEGMENT_SS ? stack_fault(vcpu, selector, d) : data_fault(vcpu, selector, d);
	if (fault >= 0) {
		vcpu_raise(vcpu, (unsigned)fault, selector & ~3u);
		return false;
	}
	if (!(d & DESCRIPTOR_ACCESSED) &&
	    !descriptor_write(vcpu, selector, d | DESCRIPTOR_ACCESSED))
		return false;
	*s = descriptor_segment(selector, d | DESCRIPTOR_ACCESSED);
	return true;
}

static enum emu_result move(struct vcpu *vcpu, const struct insn *insn)
{
	struct emu emu = emulate_on(vcpu);
	unsigned segment = insn->reg & 7;
	uint16_t selector;

	if (segment == SEGMENT_CS || segment > SEGMENT_GS)
		return EMU_UNKNOWN;
	if (emu_read(&emu, insn, &selector, 2) != EMU_DONE ||
	    !segment_load(vcpu, segment, selector))
		return EMU_FAULT;
	vcpu_skip(vcpu, insn->length);
	vcpu->vmcb->interrupt_shadow = segment == SEGMENT_SS;
	return EMU_DONE;
}

/* ------------------------------------------------------------------ both */

bool descriptor_knows(const struct insn *insn)
{
	return insn->map == 0 && insn->memory &&
	       (insn->opcode == 0x8e || (insn->opcode == 0xff && (insn->reg & 7) == 5));
}

enum emu_result descriptor_execute(struct vcpu *vcpu, const struct insn *insn)
{
	return insn->opcode == 0x8e ? move(vcpu, insn) : far_jump(vcpu, insn);
}
