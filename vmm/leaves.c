/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's CPUID: the processor's own, minus what the guest machine does not provide (SVM;
 * XSAVE and all that needs it; MONITOR; performance and speculation
 * controls, whose MSRs do not exist here), plus x2APIC, PCIDs (with shadow paging), the
 * TSC-deadline timer, an invariant TSC and the hypervisor leaf. Features pass by lists of what may
 * pass: an unknown one is off.
 */
#include "exits.h"
#include "vcpu.h"
#include "vm.h"
#include "x86.h"

#define BIT(n) (1u << (n))

/* Leaf 1 ECX: SSE3 PCLMUL SSSE3 CX16 SSE4.1 SSE4.2 MOVBE POPCNT AES RDRAND; then ours. */
#define LEAF1_ECX_PASS                                                                          \
	(BIT(0) | BIT(1) | BIT(9) | BIT(13) | BIT(19) | BIT(20) | BIT(22) | BIT(23) | BIT(25) | \
	 BIT(30))
#define LEAF1_APIC     BIT(9)
#define LEAF1_ECX_OURS (BIT(21) | BIT(24) | BIT(31)) /* x2APIC, TSC deadline, hypervisor */
#define LEAF1_PCID     BIT(17)                       /* with shadow paging */
/* Leaf 1 EDX: all of the classic ones but VME, machine check, DS, ACPI clock, HTT, thermal. */
#define LEAF1_EDX_PASS                                                                      \
	(BIT(0) | BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(8) | BIT(11) | BIT(12) | \
	 BIT(13) | BIT(15) | BIT(16) | BIT(19) | BIT(23) | BIT(24) | BIT(25) | BIT(26) | BIT(27))
/* Leaf 7 EBX: FSGSBASE BMI1 SMEP BMI2 ERMS RDSEED ADX SMAP PCOMMIT CLFLUSHOPT CLWB SHA. */
#define LEAF7_EBX_PASS                                                                        \
	(BIT(0) | BIT(3) | BIT(7) | BIT(8) | BIT(9) | BIT(18) | BIT(19) | BIT(20) | BIT(22) | \
	 BIT(23) | BIT(24) | BIT(29))
#define LEAF7_EBX_OURS BIT(10) /* INVPCID: emulated where the processor has none */
/* UMIP PKU LA57 RDPID PKS; OSPKE shows CR4. */
#define LEAF7_ECX_PASS (BIT(2) | BIT(3) | BIT(16) | BIT(22) | BIT(31))
#define LEAF7_OSPKE    BIT(4)
#define LEAF7_EDX_PASS BIT(4) /* FSRM */
/* 0x80000001 ECX: LAHF ABM SSE4A MISALIGNSSE 3DNOWPREFETCH CR8. EDX: see leaf 1, plus AMD's. */
#define EXT1_ECX_PASS (BIT(0) | BIT(4) | BIT(5) | BIT(6) | BIT(7) | BIT(8))
#define EXT1_EDX_PASS                                                                        \
	(0x0183f9ffu | BIT(11) | BIT(20) | BIT(22) | BIT(23) | BIT(24) | BIT(25) | BIT(26) | \
	 BIT(27) | BIT(29) | BIT(30) | BIT(31))

#define LEAF_HYPERVISOR 0x40000000u

static struct cpuid_regs leaf_7(void)
{
	struct cpuid_regs none = {0};

	return cpuid(0, 0).eax >= 7 ? cpuid(7, 0) : none;
}

bool cpuid_has_keys(void)
{
	return leaf_7().ecx & BIT(3);
}

/* Nested paging: PCIDs are the processor's affair. */
static bool is_nested(const struct vcpu *vcpu)
{
	return vcpu && vcpu->vm->options.nested;
}

uint64_t cpuid_cr4_mask(const struct vcpu *vcpu)
{
	struct cpuid_regs seven = leaf_7();
	uint64_t mask = BIT(0) | BIT(1) | BIT(2) | BIT(3) | BIT(4) | CR4_PAE | BIT(6) | CR4_PGE |
			BIT(8) | BIT(9) | BIT(10);

	if (!is_nested(vcpu))
		mask |= CR4_PCIDE;
	if (seven.ecx & BIT(2))
		mask |= CR4_UMIP;
	if (seven.ecx & BIT(3))
		mask |= CR4_PKE;
	if (seven.ecx & BIT(16))
		mask |= CR4_LA57;
	if (seven.ecx & BIT(31))
		mask |= CR4_PKS;
	if (seven.ebx & BIT(0))
		mask |= CR4_FSGSBASE;
	if (seven.ebx & BIT(7))
		mask |= CR4_SMEP;
	if (seven.ebx & BIT(20))
		mask |= CR4_SMAP;
	return mask;
}

/* The guest can switch it off. */
static uint32_t apic(const struct vcpu *vcpu)
{
	return vcpu && lapic_is_enabled(vcpu) ? LEAF1_APIC : 0;
}

static struct cpuid_regs standard(const struct vcpu *vcpu, uint32_t leaf, uint32_t subleaf)
{
	struct cpuid_regs r = cpuid(leaf, subleaf), none = {0};

	switch (leaf) {
	case 1:
		r.ebx = (r.ebx & 0xffff) | 1u << 16; /* APIC id 0, one processor */
		r.ecx = (r.ecx & LEAF1_ECX_PASS) | LEAF1_ECX_OURS;
		if (!is_nested(vcpu))
			r.ecx |= LEAF1_PCID;
		r.edx = (r.edx & LEAF1_EDX_PASS) | apic(vcpu);
		return r;
	case 4: /* caches: shared by one, one core */
		r.eax &= 0x3fff;
		return r;
	case 7:
		if (subleaf)
			return none;
		r.eax = 0;
		r.ebx &= LEAF7_EBX_PASS;
		if (!is_nested(vcpu))
			r.ebx |= LEAF7_EBX_OURS;
		r.ecx &= LEAF7_ECX_PASS;
		if (vcpu && vcpu->cr4 & CR4_PKE)
			r.ecx |= LEAF7_OSPKE;
		r.edx &= LEAF7_EDX_PASS;
		return r;
	case 0:
		if (r.eax > 7)
			r.eax = 7; /* no leaf above is offered */
		return r;
	case 2:
	case 3:
		return r;
	default:
		return none;
	}
}

static struct cpuid_regs extended(const struct vcpu *vcpu, uint32_t leaf)
{
	struct cpuid_regs r = cpuid(leaf, 0), none = {0};

	switch (leaf) {
	case 0x80000000u:
		if (r.eax > 0x80000008u)
			r.eax = 0x80000008u;
		return r;
	case 0x80000001u:
		r.ecx &= EXT1_ECX_PASS;
		r.edx = (r.edx & EXT1_EDX_PASS) | apic(vcpu);
		return r;
	case 0x80000007u:
		r.eax = r.ebx = r.ecx = 0;
		r.edx = BIT(8); /* invariant TSC */
		return r;
	case 0x80000008u:
		r.eax = (r.eax & 0xff00) | 40; /* physical bits: memory.c */
		r.ebx = r.ecx = r.edx = 0;
		return r;
	default:
		return leaf <= 0x80000006u ? r : none;
	}
}

uint32_t cpuid_umbra(void)
{
	uint32_t cpu = UMBRA_CPU_AMD;

	if (!(extended(NULL, 0x80000001u).edx & BIT(26)))
		cpu |= UMBRA_CPU_NO_1G;
	if (!(standard(NULL, 1, 0).edx & BIT(17)))
		cpu |= UMBRA_CPU_NO_PSE36;
	return cpu;
}

static struct cpuid_regs leaf_of(const struct vcpu *vcpu, uint32_t leaf, uint32_t subleaf)
{
	struct cpuid_regs none = {0};

	if (leaf == LEAF_HYPERVISOR)
		return (struct cpuid_regs){LEAF_HYPERVISOR, 0x72626d75, 0x6d752061, 0x20617262};
	if (leaf > LEAF_HYPERVISOR && leaf < 0x50000000u)
		return none;
	if (leaf & 0x80000000u)
		return extended(vcpu, leaf);
	return standard(vcpu, leaf, subleaf);
}

void cpuid_exit(struct vcpu *vcpu)
{
	struct cpuid_regs r;
	unsigned length = exit_length(vcpu);

	if (!length)
		return;
	r = leaf_of(vcpu, (uint32_t)vcpu->gpr[GPR_RAX], (uint32_t)vcpu->gpr[GPR_RCX]);
	vcpu->gpr[GPR_RAX] = r.eax;
	vcpu->gpr[GPR_RBX] = r.ebx;
	vcpu->gpr[GPR_RCX] = r.ecx;
	vcpu->gpr[GPR_RDX] = r.edx;
	vcpu_skip(vcpu, length);
}
