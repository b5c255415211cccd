/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * AMD SVM (AMD64 APM vol. 2 ch. 15): turns it on, owns the permission maps, and knows how a VMCB
 * is laid out and which intercepts shadow paging and the guest machine need. What an exit means
 * is vcpu.c's business.
 */
#include <umbra/umbra.h>

#include "frames.h"
#include "string.h"
#include "svm.h"
#include "x86.h"

#define MSR_VM_CR       0xc0010114u
#define MSR_VM_HSAVE_PA 0xc0010117u
#define VM_CR_SVMDIS    (1u << 4)

#define IO_MAP_SIZE  (3 * 4096)
#define MSR_MAP_SIZE (2 * 4096)

/* intercepts[0] */
#define INTERCEPT_INTR     (1u << 0)
#define INTERCEPT_NMI      (1u << 1)
#define INTERCEPT_VINTR    (1u << 4)
#define INTERCEPT_RDPMC    (1u << 15)
#define INTERCEPT_CPUID    (1u << 18)
#define INTERCEPT_INVD     (1u << 22)
#define INTERCEPT_HLT      (1u << 24)
#define INTERCEPT_INVLPG   (1u << 25)
#define INTERCEPT_INVLPGA  (1u << 26)
#define INTERCEPT_IO       (1u << 27)
#define INTERCEPT_MSR      (1u << 28)
#define INTERCEPT_TR_WRITE (1u << 13)
#define INTERCEPT_TASK     (1u << 29)
#define INTERCEPT_SHUTDOWN (1u << 31)
#define INTERCEPT_IRET     (1u << 20)
/* intercepts[1]: VMRUN..SKINIT, WBINVD, MONITOR, MWAIT twice, XSETBV */
#define INTERCEPT_SVM    0x7fu
#define INTERCEPT_WBINVD (1u << 9)
#define INTERCEPT_WAIT   (7u << 10)
#define INTERCEPT_XSETBV (1u << 13)

#define V_IRQ          (1ull << 8)
#define V_PRIORITY     (0xfull << 16)
#define V_IGN_TPR      (1ull << 20)
#define V_INTR_MASKING (1ull << 24)
#define V_VECTOR       (0xffull << 32)

/* MSRs that the guest has for itself: they are switched with VMLOAD, or nobody else uses them. */
static const uint32_t msr_open[] = {
    0x174,       0x175,       0x176,       /* SYSENTER */
    0xc0000081u, 0xc0000082u, 0xc0000083u, /* STAR, LSTAR, CSTAR */
    0xc0000084u,                           /* SFMASK */
    0xc0000100u, 0xc0000101u, 0xc0000102u, /* FS, GS, KERNEL_GS base */
    0xc0000103u,                           /* TSC_AUX */
};

bool svm_available(void)
{
	if (cpuid(0x80000000u, 0).eax < 0x8000000au || !(cpuid(0x80000001u, 0).ecx & 1u << 2))
		return false;
	return !(rdmsr(MSR_VM_CR) & VM_CR_SVMDIS);
}

/* The two bits of @msr in the permission map (§15.11). */
static unsigned msr_bit(uint32_t msr)
{
	unsigned area = msr >= 0xc0010000u ? 2 : msr >= 0xc0000000u ? 1 : 0;

	return area * 2048 * 8 + (msr & 0x1fff) * 2;
}

bool svm_init(struct svm *svm, struct frames *frames)
{
	void *save = pool_alloc(frames, 4096);
	uint32_t features = cpuid(0x8000000au, 0).edx;

	svm->host = pool_alloc(frames, sizeof(*svm->host));
	svm->io_map = pool_alloc(frames, IO_MAP_SIZE);
	svm->msr_map = pool_alloc(frames, MSR_MAP_SIZE);
	if (!save || !svm->host || !svm->io_map || !svm->msr_map)
		return false;
	svm->has_next_rip = features >> 3 & 1;
	svm->has_flush_by_asid = features >> 6 & 1;
	memset(svm->io_map, 0xff, IO_MAP_SIZE);
	memset(svm->msr_map, 0xff, MSR_MAP_SIZE);
	for (unsigned i = 0; i < sizeof(msr_open) / sizeof(msr_open[0]); i++) {
		unsigned bit = msr_bit(msr_open[i]);
		svm->msr_map[bit / 8] &= (uint8_t) ~(3u << bit % 8);
	}

	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME);
	wrmsr(MSR_VM_HSAVE_PA, (uintptr_t)save);
	__asm__ volatile("vmsave" : : "a"(svm->host) : "memory");
	return true;
}

void svm_port_open(struct svm *svm, uint16_t port)
{
	svm->io_map[port / 8] &= (uint8_t) ~(1u << port % 8);
}

struct vmcb *vmcb_new(const struct svm *svm, struct frames *frames)
{
	struct vmcb *vmcb = pool_alloc(frames, sizeof(*vmcb));

	if (!vmcb)
		return NULL;
	vmcb->cr_reads = 1u << 3;
	vmcb->cr_writes = 1u << 0 | 1u << 3 | 1u << 4;
	/* Debug registers: debug.c. */
	vmcb->dr_reads = vmcb->dr_writes = 0xff;
	/* #DB and #AC: their delivery may repeat itself for ever, with no exit in between. */
	/* #UD: INVPCID, which the guest has though the processor may not. */
	vmcb->exceptions =
	    1u << VECTOR_PF | 1u << VECTOR_UD | 1u << VECTOR_DB | 1u << VECTOR_AC | 1u << VECTOR_MC;
	vmcb->intercepts[0] = INTERCEPT_INTR | INTERCEPT_NMI | INTERCEPT_RDPMC | INTERCEPT_CPUID |
			      INTERCEPT_INVD | INTERCEPT_HLT | INTERCEPT_INVLPG |
			      INTERCEPT_INVLPGA | INTERCEPT_IO | INTERCEPT_MSR |
			      INTERCEPT_SHUTDOWN | INTERCEPT_TASK;
	vmcb->intercepts[1] = INTERCEPT_SVM | INTERCEPT_WBINVD | INTERCEPT_WAIT | INTERCEPT_XSETBV;
	vmcb->io_map = (uintptr_t)svm->io_map;
	vmcb->msr_map = (uintptr_t)svm->msr_map;
	vmcb->asid = 1;
	vmcb->interrupt = V_INTR_MASKING;
	vmcb->dr6 = 0xffff0ff0;
	vmcb->dr7 = 0x400;
	vmcb->rflags = 2;
	vmcb->pat = 0x0007040600070406ull;
	return vmcb;
}

void vmcb_paging(struct vmcb *vmcb, uint64_t cr0, uint64_t cr4, uint64_t efer,
		 const struct umbra_root *root)
{
	uint16_t reads = 1u << 3;

	vmcb->cr0 = (cr0 | CR0_PG | CR0_WP) & ~(CR0_CD | CR0_NW);
	vmcb->cr4 = cr4 | CR4_PAE;
	vmcb->efer = (efer & ~(EFER_LME | EFER_LMA)) | EFER_SVME | EFER_NXE;
	if (root->levels > 3)
		vmcb->efer |= EFER_LME | EFER_LMA;
	if (!(cr0 & CR0_PG))
		vmcb->cr4 &= ~(CR4_SMEP | CR4_SMAP);
	vmcb->cr4 &= ~(CR4_PCIDE | CR4_LA57);
	if (root->levels == 5)
		vmcb->cr4 |= CR4_LA57;
	if (root->levels == 3)
		vmcb->cr4 &= ~(CR4_PKE | CR4_PKS);
	vmcb->cr3 = root->hpa;
	if (vmcb->cr0 != cr0)
		reads |= 1u << 0;
	if (vmcb->cr4 != cr4)
		reads |= 1u << 4;
	vmcb->cr_reads = reads;
}

void vmcb_task(struct vmcb *vmcb, bool wanted)
{
	vmcb->intercepts[0] &= ~INTERCEPT_TR_WRITE;
	if (wanted)
		vmcb->intercepts[0] |= INTERCEPT_TR_WRITE;
}

void vmcb_nested(struct vmcb *vmcb, bool is_tcg)
{
	vmcb->nested = 1;
	vmcb->cr_reads = 0;
	vmcb->cr_writes = 1u << 0 | 1u << 4; /* TCG allows values that its VMRUN refuses */
	vmcb->exceptions &= ~(1u << VECTOR_PF | (is_tcg ? 0 : 1u << VECTOR_UD));
	vmcb->intercepts[0] &= ~(INTERCEPT_INVLPG | INTERCEPT_TASK);
}

void vmcb_iret(struct vmcb *vmcb, bool wanted)
{
	vmcb->intercepts[0] &= ~INTERCEPT_IRET;
	if (wanted)
		vmcb->intercepts[0] |= INTERCEPT_IRET;
}

void vmcb_delivery(struct vmcb *vmcb, bool wanted)
{
	uint32_t contributory =
	    1u << VECTOR_DE | 1u << VECTOR_TS | 1u << VECTOR_NP | 1u << VECTOR_SS | 1u << VECTOR_GP;
	uint32_t all = contributory | (vmcb->nested ? 1u << VECTOR_PF : 0);

	vmcb->exceptions = wanted ? vmcb->exceptions | all : vmcb->exceptions & ~all;
}

void vmcb_flush(const struct svm *svm, struct vmcb *vmcb)
{
	vmcb->tlb_control = svm->has_flush_by_asid ? 3 : 1;
}

void vmcb_offer(struct vmcb *vmcb, unsigned vector)
{
	vmcb_window(vmcb, false);
	vmcb->interrupt &= ~V_VECTOR;
	vmcb->interrupt |= V_IRQ | V_PRIORITY | V_IGN_TPR | (uint64_t)vector << 32;
}

bool vmcb_withdraw(struct vmcb *vmcb)
{
	bool offered = vmcb->interrupt & V_IRQ;

	vmcb_window(vmcb, false);
	return offered;
}

void vmcb_window(struct vmcb *vmcb, bool wanted)
{
	if (wanted) {
		vmcb->interrupt |= V_IRQ | V_PRIORITY | V_IGN_TPR;
		vmcb->intercepts[0] |= INTERCEPT_VINTR;
		vmcb->cr_writes |= 1u << 8; /* TCG aborts at MOV to CR8 while V_IRQ is set */
	} else {
		vmcb->interrupt &= ~(V_IRQ | V_PRIORITY | V_IGN_TPR);
		vmcb->intercepts[0] &= ~INTERCEPT_VINTR;
		vmcb->cr_writes &= (uint16_t) ~(1u << 8);
	}
}
