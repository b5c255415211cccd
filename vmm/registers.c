/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a guest has in the processor between its exits, and must be kept when another guest is to
 * run: VMRUN and VMLOAD switch all but this (AMD64 APM vol. 2 §15.5).
 *
 *   x87, MMX, SSE   the hypervisor uses none of it. There is nothing beyond them: no guest has
 * XSAVE PKRU, PKRS      see cpu.c; the guest's PKRS is written through (msr.c) TSC_AUX         its
 * MSR is the guest's without an exit (svm.c) DR0 to DR3      debug.c writes them anew the TLB all
 * guests run under one ASID: it is flushed
 */
#include "registers.h"
#include "exits.h"
#include "vcpu.h"
#include "x86.h"

static bool has_tsc_aux(void)
{
	return cpuid(0x80000001u, 0).edx & 1u << 27;
}

void registers_take(struct vcpu *vcpu)
{
	fx_save(&vcpu->fx);
	if (cpuid_has_keys())
		vcpu->pkru = rdpkru();
	if (has_tsc_aux())
		vcpu->tsc_aux = rdmsr(MSR_TSC_AUX);
}

void registers_load(struct vcpu *vcpu)
{
	/* FXRSTOR may leave the addresses of the last x87 instruction, which are another guest's.
	 */
	__asm__ volatile("fninit");
	fx_restore(&vcpu->fx);
	if (cpuid_has_keys())
		wrpkru(vcpu->pkru);
	if (cpuid_cr4_mask(vcpu) & CR4_PKS)
		wrmsr(MSR_PKRS, vcpu->pkrs);
	if (has_tsc_aux())
		wrmsr(MSR_TSC_AUX, vcpu->tsc_aux);
	vcpu->debug_changed = true;
	vcpu->flush = true;
}
