/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's control registers: what it may write there (#GP otherwise, AMD64 APM vol. 2 §3.1),
 * what it reads, and telling the MMU. The hardware runs with other values (vmcb_paging).
 */
#include <umbra/machine.h>

#include "decode.h"
#include "exits.h"
#include "machine.h"
#include "vcpu.h"
#include "vm.h"
#include "x86.h"

#define CR3_RESERVED (~0ull << 40)
#define CR0_KNOWN    0xe005003full /* PG CD NW AM WP NE ET TS EM MP PE */
#define CR0_PAGING   (CR0_PG | CR0_WP)
#define CR4_PAGING   (CR4_PSE | CR4_PAE | CR4_PGE | CR4_SMEP | CR4_SMAP)
#define EFER_PAGING  (EFER_LME | EFER_LMA | EFER_NXE)

static bool cr0_write(struct vcpu *vcpu, uint64_t value)
{
	uint64_t old = vcpu->cr0, old_efer = vcpu->efer, efer = old_efer;

	value |= CR0_ET;
	if (value >> 32 || ((value & CR0_PG) && !(value & CR0_PE)) ||
	    ((value & CR0_NW) && !(value & CR0_CD)))
		return false;
	value &= CR0_KNOWN;
	if (!(old & CR0_PG) && (value & CR0_PG) && (efer & EFER_LME)) {
		if (!(vcpu->cr4 & CR4_PAE) || (vcpu->vmcb->cs.attributes & SVM_SEGMENT_L))
			return false;
		efer |= EFER_LMA;
	}
	if ((old & CR0_PG) && !(value & CR0_PG)) {
		if (vcpu_is_64(vcpu))
			return false;
		efer &= ~EFER_LMA;
	}
	if (!(value & CR0_PE))
		machine_end(vcpu->vm, UMBRA_END_EMULATE,
			    "real mode is not supported (CR0 write at rip %lx)", vcpu->vmcb->rip);
	vcpu->cr0 = value;
	vcpu->efer = efer;
	vcpu->repaging = true;
	if (!((old ^ value) & CR0_PAGING) || vcpu_repage(vcpu))
		return true;
	vcpu->cr0 = old;
	vcpu->efer = old_efer;
	return false;
}

static bool cr3_write(struct vcpu *vcpu, uint64_t value)
{
	uint64_t old = vcpu->cr3;

	if ((vcpu->efer & EFER_LMA) && (value & CR3_RESERVED))
		return false;
	vcpu->cr3 = value;
	if (vcpu_repage(vcpu))
		return true;
	vcpu->cr3 = old;
	return false;
}

static bool cr4_write(struct vcpu *vcpu, uint64_t value)
{
	uint64_t old = vcpu->cr4;

	if (value & ~cpuid_cr4_mask())
		return false;
	if ((vcpu->efer & EFER_LMA) && !(value & CR4_PAE))
		return false;
	vcpu->cr4 = value;
	vcpu->repaging = true;
	if (!((old ^ value) & CR4_PAGING) || vcpu_repage(vcpu))
		return true;
	vcpu->cr4 = old;
	return false;
}

bool paging_efer_write(struct vcpu *vcpu, uint64_t value)
{
	uint64_t old = vcpu->efer, known = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;

	if (cpuid(0x80000001u, 0).edx & 1u << 25)
		known |= EFER_FFXSR;
	if ((value & ~known) || ((vcpu->cr0 & CR0_PG) && ((old ^ value) & EFER_LME)))
		return false;
	vcpu->efer = (value & ~EFER_LMA) | (old & EFER_LMA);
	vcpu->repaging = true;
	if ((old ^ vcpu->efer) & EFER_PAGING)
		vcpu_repage(vcpu);
	return true;
}

static bool cr_write(struct vcpu *vcpu, unsigned number, uint64_t value)
{
	switch (number) {
	case 0:
		return cr0_write(vcpu, value);
	case 3:
		return cr3_write(vcpu, value);
	case 4:
		return cr4_write(vcpu, value);
	default:
		return false;
	}
}

static uint64_t cr_read(const struct vcpu *vcpu, unsigned number)
{
	return number == 0 ? vcpu->cr0 : number == 3 ? vcpu->cr3 : vcpu->cr4;
}

/* LMSW: the low four bits of CR0; it cannot clear PE. */
static uint64_t lmsw(const struct vcpu *vcpu, uint64_t value)
{
	return (vcpu->cr0 & ~0xeull) | (value & 0xf);
}

static void unsupported(struct vcpu *vcpu, const char *what)
{
	char bytes[48];

	machine_end(vcpu->vm, UMBRA_END_EMULATE, "%s at rip %lx is not supported (%s)", what,
		    vcpu->vmcb->rip, vcpu_bytes(vcpu, bytes, sizeof(bytes)));
}

void paging_cr_exit(struct vcpu *vcpu)
{
	struct insn insn;
	bool ok = true;

	vcpu->vm->machine->exits_cr++;
	if (!decode_at_rip(vcpu, &insn))
		return;
	if (insn.map == 1 && insn.opcode == 0x20) { /* MOV r, CRn */
		uint64_t value = cr_read(vcpu, insn.reg);
		vcpu->gpr[insn.rm] = vcpu_is_64(vcpu) ? value : (uint32_t)value;
	} else if (insn.map == 1 && insn.opcode == 0x22) { /* MOV CRn, r */
		uint64_t value = vcpu->gpr[insn.rm];
		ok = cr_write(vcpu, insn.reg, vcpu_is_64(vcpu) ? value : (uint32_t)value);
	} else if (insn.map == 1 && insn.opcode == 0x06) { /* CLTS */
		ok = cr0_write(vcpu, vcpu->cr0 & ~CR0_TS);
	} else if (insn.map == 1 && insn.opcode == 0x01 && insn.mod == 3 && (insn.reg & 7) == 6) {
		ok = cr0_write(vcpu, lmsw(vcpu, vcpu->gpr[insn.rm]));
	} else if (insn.map == 1 && insn.opcode == 0x01 && insn.mod == 3 && (insn.reg & 7) == 4) {
		insn_register_write(vcpu, &insn, insn.rm, insn.size, vcpu->cr0);
	} else {
		unsupported(vcpu, "access to a control register");
	}
	if (ok)
		vcpu_skip(vcpu, insn.length);
	else
		vcpu_raise(vcpu, VECTOR_GP, 0);
}

/* DR6 and DR7 with the bits that always read as 1 (APM vol. 2 §13.1.1). */
#define DR6_ONES 0xffff0ff0ull
#define DR7_ONES 0x400ull

static uint64_t dr_read(const struct vcpu *vcpu, unsigned number)
{
	return number == 6   ? vcpu->vmcb->dr6 | DR6_ONES
	       : number == 7 ? vcpu->dr[7] | DR7_ONES
			     : vcpu->dr[number];
}

void paging_dr_exit(struct vcpu *vcpu, unsigned number, bool write)
{
	struct insn insn;

	if (!decode_at_rip(vcpu, &insn))
		return;
	if (number == 4 || number == 5) {
		if (vcpu->cr4 & CR4_DE) {
			vcpu_raise(vcpu, VECTOR_UD, -1);
			return;
		}
		number += 2;
	}
	if (!write) {
		uint64_t value = dr_read(vcpu, number);

		vcpu->gpr[insn.rm] = vcpu_is_64(vcpu) ? value : (uint32_t)value;
	} else if (number >= 6 && vcpu->gpr[insn.rm] >> 32 && vcpu_is_64(vcpu)) {
		vcpu_raise(vcpu, VECTOR_GP, 0);
		return;
	} else {
		vcpu->dr[number] = vcpu->gpr[insn.rm];
		if (number == 6)
			vcpu->vmcb->dr6 = (uint32_t)vcpu->gpr[insn.rm] | DR6_ONES;
	}
	vcpu_skip(vcpu, insn.length);
}

void paging_invlpg_exit(struct vcpu *vcpu)
{
	struct insn insn;

	vcpu->vm->machine->exits_invlpg++;
	if (!decode_at_rip(vcpu, &insn))
		return;
	if (insn.map != 1 || insn.opcode != 0x01 || !insn.memory)
		unsupported(vcpu, "INVLPG");
	umbra_invlpg(vcpu->umbra, insn_address(vcpu, &insn));
	vcpu_skip(vcpu, insn.length);
}
