/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's control registers: what it may write there (#GP otherwise, AMD64 APM vol. 2 §3.1),
 * what it reads, and telling the MMU. The hardware runs with other values (vmcb_paging).
 */
#include <umbra/machine.h>

#include "cpu.h"
#include "emulate.h"
#include "exits.h"
#include "fetch.h"
#include "machine.h"
#include "vcpu.h"
#include "vm.h"
#include "x86.h"

#define CR3_RESERVED (~0ull << 40)
#define CR0_KNOWN    0xe005003full /* PG CD NW AM WP NE ET TS EM MP PE */
#define CR0_PAGING   (CR0_PG | CR0_WP)
#define CR4_PAGING                                                                            \
	(CR4_PSE | CR4_PAE | CR4_PGE | CR4_SMEP | CR4_SMAP | CR4_LA57 | CR4_PCIDE | CR4_PKE | \
	 CR4_PKS)
#define CR3_PCID    0xfffull
#define EFER_PAGING (EFER_LME | EFER_LMA | EFER_NXE)

static bool cr0_write(struct vcpu *vcpu, uint64_t value)
{
	uint64_t old = vcpu->cr0, old_efer = vcpu->efer, efer = old_efer;

	value |= CR0_ET;
	if (value >> 32 || ((value & CR0_PG) && !(value & CR0_PE)) ||
	    ((value & CR0_NW) && !(value & CR0_CD)))
		return false;
	value &= CR0_KNOWN;
	if (!(old & CR0_PG) && (value & CR0_PG) && (efer & EFER_LME)) {
		if (!(vcpu->cr4 & CR4_PAE) || (vcpu->vmcb->cs.attributes & EMU_SEGMENT_L))
			return false;
		efer |= EFER_LMA;
	}
	if ((old & CR0_PG) && !(value & CR0_PG)) {
		if (vcpu_is_64(vcpu) || vcpu->cr4 & CR4_PCIDE)
			return false;
		efer &= ~EFER_LMA;
	}
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
	uint64_t old = vcpu->cr3, reserved = CR3_RESERVED;

	if (vcpu->cr4 & CR4_PCIDE)
		reserved &= ~CR3_KEEP;
	if ((vcpu->efer & EFER_LMA) && (value & reserved))
		return false;
	vcpu->cr3 = value;
	if (vcpu_repage(vcpu)) {
		if (vcpu->cr4 & CR4_PCIDE)
			vcpu->cr3 &= ~CR3_KEEP;
		return true;
	}
	vcpu->cr3 = old;
	return false;
}

static bool cr4_write(struct vcpu *vcpu, uint64_t value)
{
	uint64_t old = vcpu->cr4;

	if (value & ~cpuid_cr4_mask(vcpu))
		return false;
	if ((vcpu->efer & EFER_LMA) && (!(value & CR4_PAE) || (old ^ value) & CR4_LA57))
		return false;
	if (value & ~old & CR4_PCIDE && (!(vcpu->efer & EFER_LMA) || vcpu->cr3 & CR3_PCID))
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
	case 8:
		return lapic_cr8_write(vcpu, value);
	default:
		return false;
	}
}

static uint64_t cr_read(const struct vcpu *vcpu, unsigned number)
{
	return number == 0 ? vcpu->cr0 : number == 3 ? vcpu->cr3 : vcpu->cr4;
}

/* LMSW: the low four bits of CR0; it cannot clear PE. */
static bool lmsw(struct vcpu *vcpu, uint64_t value)
{
	return cr0_write(vcpu, (vcpu->cr0 & ~0xeull) | (value & 0xf));
}

bool paging_is_msw(const struct insn *insn)
{
	return insn->map == 1 && insn->opcode == 0x01 && (insn->reg & 5) == 4;
}

void paging_msw(struct vcpu *vcpu, const struct insn *insn)
{
	struct emu emu = emulate_on(vcpu);
	uint16_t word = (uint16_t)vcpu->gpr[insn->rm];
	enum emu_result result = EMU_DONE;

	if ((insn->reg & 2) && insn->memory)
		result = emu_read(&emu, insn, &word, 2);
	else if (insn->memory)
		result = emu_write(&emu, insn, &vcpu->cr0, 2);
	else if (!(insn->reg & 2))
		emu_register_set(&emu, insn, insn->rm, insn->size, vcpu->cr0);
	if (result != EMU_DONE)
		return;
	if (insn->reg & 2 && !lmsw(vcpu, word))
		vcpu_raise(vcpu, VECTOR_GP, 0);
	else
		vcpu_skip(vcpu, insn->length);
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
	} else if (paging_is_msw(&insn)) {
		paging_msw(vcpu, &insn);
		return;
	} else {
		unsupported(vcpu, "access to a control register");
	}
	if (ok)
		vcpu_skip(vcpu, insn.length);
	else
		vcpu_raise(vcpu, VECTOR_GP, 0);
}

void paging_invlpg_exit(struct vcpu *vcpu)
{
	struct insn insn;
	struct emu emu;

	vcpu->vm->machine->exits_invlpg++;
	if (!decode_at_rip(vcpu, &insn))
		return;
	if (insn.map != 1 || insn.opcode != 0x01 || !insn.memory)
		unsupported(vcpu, "INVLPG");
	emu = emulate_on(vcpu);
	mmu_invlpg(vcpu, emu_address(&emu, &insn));
	vcpu_skip(vcpu, insn.length);
}

/* SDM vol. 2, INVPCID. */
static void invpcid(struct vcpu *vcpu, const struct insn *insn)
{
	struct emu emu = emulate_on(vcpu);
	uint64_t descriptor[2], type = vcpu->gpr[insn->reg];

	if (!vcpu_is_64(vcpu))
		type = (uint32_t)type;
	if (vcpu->vmcb->cpl) {
		vcpu_raise(vcpu, VECTOR_GP, 0);
		return;
	}
	if (emu_read(&emu, insn, descriptor, sizeof(descriptor)) != EMU_DONE)
		return;
	if (descriptor[0] > CR3_PCID || type > UMBRA_INVPCID_ALL ||
	    mmu_invpcid(vcpu, (enum umbra_invpcid)type, (uint16_t)descriptor[0], descriptor[1]))
		vcpu_raise(vcpu, VECTOR_GP, 0);
	else
		vcpu_skip(vcpu, insn->length);
}

void ud_exit(struct vcpu *vcpu)
{
	uint8_t bytes[INSN_MAX];
	size_t count = fetch(vcpu, bytes);
	struct emu emu = emulate_on(vcpu);
	struct insn insn;

	if (!count)
		return;
	if (!insn_decode(bytes, count, emu_mode(&emu), &insn) || insn.lock) {
		vcpu_raise(vcpu, VECTOR_UD, -1);
	} else if (insn.map == 2 && insn.opcode == 0x82 && insn.operand_prefix && insn.memory &&
		   !insn.rep && !insn.repne && !vcpu_is_real(vcpu) && !vcpu->vm->options.nested) {
		invpcid(vcpu, &insn);
	} else if (insn.map == 0 && insn.opcode == 0xf1 && vcpu->vm->cpu->is_tcg) {
		vcpu_skip(vcpu, insn.length); /* INT1, which TCG lacks */
		vcpu_raise(vcpu, VECTOR_DB, -1);
	} else {
		vcpu_raise(vcpu, VECTOR_UD, -1);
	}
}
