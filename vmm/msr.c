/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's model-specific registers (AMD64 APM vol. 2 appendix A). The local APIC's are in
 * lapic.c, EFER's meaning in paging.c. Memory types are kept and shown but have no effect: the
 * guest's memory is RAM throughout. Registers that nobody claims raise #GP.
 */
#include "exits.h"
#include "lapic.h"
#include "vcpu.h"
#include "vm.h"
#include "x86.h"

#define MSR_TSC       0x10u
#define MTRR_VARIABLE 0x200u
#define MTRR_CAP      0x508u /* write-combining, fixed ranges, 8 variable ones */

void msr_init(struct vcpu *vcpu)
{
	vcpu->pat = 0x0007040600070406ull;
	vcpu->mtrr_type = 0xc06; /* on, fixed on, write-back */
	for (unsigned i = 0; i < 11; i++)
		vcpu->mtrr_fixed[i] = 0x0606060606060606ull;
}

static const uint16_t mtrr_fixed[11] = {0x250, 0x258, 0x259, 0x268, 0x269, 0x26a,
					0x26b, 0x26c, 0x26d, 0x26e, 0x26f};

/* Where a memory-type register is kept; NULL: it is none. */
static uint64_t *mtrr(struct vcpu *vcpu, uint32_t msr)
{
	if (msr >= MTRR_VARIABLE && msr < MTRR_VARIABLE + VCPU_MTRRS)
		return &vcpu->mtrr_variable[msr - MTRR_VARIABLE];
	for (unsigned i = 0; i < 11; i++)
		if (msr == mtrr_fixed[i])
			return &vcpu->mtrr_fixed[i];
	if (msr == 0x2ff)
		return &vcpu->mtrr_type;
	return msr == 0x277 ? &vcpu->pat : NULL;
}

static bool is_lapic(uint32_t msr)
{
	return msr == MSR_APIC_BASE || msr == MSR_TSC_DEADLINE || (msr >= 0x800 && msr < 0x900);
}

static bool msr_read(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	const uint64_t *kept = mtrr(vcpu, msr);

	*value = 0;
	if (is_lapic(msr))
		return lapic_msr_read(vcpu, msr, value);
	if (kept) {
		*value = *kept;
		return true;
	}
	switch (msr) {
	case MSR_EFER:
		*value = vcpu->efer;
		return true;
	case MSR_PKRS:
		*value = vcpu->pkrs;
		return cpuid_cr4_mask(vcpu) & CR4_PKS;
	case MSR_TSC: /* TCG's reads as 0 */
		*value = rdtsc() + vcpu->tsc_offset;
		return true;
	case 0xfe:
		*value = MTRR_CAP;
		return true;
	case 0x8b: /* microcode level */
		*value = 0x01000065;
		return true;
	case 0xc0010015u: /* HWCR: the TSC runs at P0's rate */
		*value = 1u << 24;
		return true;
	case 0x17:        /* platform id */
	case 0xce:        /* platform information */
	case 0x179:       /* MCG_CAP: no banks */
	case 0x17a:       /* MCG_STATUS */
	case 0x1a0:       /* MISC_ENABLE */
	case 0x1d9:       /* DEBUGCTL */
	case 0xc0010010u: /* SYSCFG */
	case 0xc001001au: /* TOP_MEM */
	case 0xc001001du: /* TOP_MEM2 */
	case 0xc001001fu: /* NB_CFG */
	case 0xc0010055u: /* interrupt pending */
	case 0xc0010114u: /* VM_CR */
	case 0xc0010140u: /* OSVW */
	case 0xc0010141u:
		return true;
	default:
		return false;
	}
}

static bool pat_is_valid(uint64_t value)
{
	for (unsigned i = 0; i < 8; i++, value >>= 8)
		if ((value & 0xff) > 7 || (value & 0xff) == 2 || (value & 0xff) == 3)
			return false;
	return true;
}

static bool msr_write(struct vcpu *vcpu, uint32_t msr, uint64_t value)
{
	uint64_t *kept = mtrr(vcpu, msr);

	if (is_lapic(msr))
		return lapic_msr_write(vcpu, msr, value);
	if (kept) {
		if (msr == 0x277 && !pat_is_valid(value))
			return false;
		*kept = value;
		if (msr == 0x277)
			vcpu->vmcb->pat = value; /* heeded with nested paging */
		return true;
	}
	switch (msr) {
	case MSR_EFER:
		return paging_efer_write(vcpu, value);
	case MSR_PKRS:
		if (!(cpuid_cr4_mask(vcpu) & CR4_PKS) || value >> 32)
			return false;
		vcpu->pkrs = (uint32_t)value;
		wrmsr(MSR_PKRS, value); /* the processor's too: it judges sptes; we run without */
		return true;
	case MSR_TSC:
		vcpu->tsc_offset = value - rdtsc();
		vcpu->vmcb->tsc_offset = vcpu->tsc_offset;
		lapic_tsc_written(vcpu);
		return true;
	case 0x8b: /* these take writes and keep nothing */
	case 0x79:
	case 0x17a:
	case 0x1d9:
	case 0xc0010010u:
	case 0xc0010015u:
	case 0xc001001fu:
	case 0xc0010055u:
		return true;
	default:
		return false;
	}
}

void msr_exit(struct vcpu *vcpu)
{
	uint32_t msr = (uint32_t)vcpu->gpr[GPR_RCX];
	uint64_t value;
	unsigned length;
	bool ok;

	vcpu->vm->machine->exits_msr++;
	length = exit_length(vcpu);
	if (!length)
		return;
	if (vcpu->vmcb->exit_info1 & 1) {
		value = vcpu->gpr[GPR_RDX] << 32 | (uint32_t)vcpu->gpr[GPR_RAX];
		ok = msr_write(vcpu, msr, value);
	} else {
		ok = msr_read(vcpu, msr, &value);
		if (ok) {
			vcpu->gpr[GPR_RAX] = (uint32_t)value;
			vcpu->gpr[GPR_RDX] = value >> 32;
		}
	}
	if (ok)
		vcpu_skip(vcpu, length);
	else
		vcpu_raise(vcpu, VECTOR_GP, 0);
}
