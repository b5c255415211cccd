/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * AMD SVM: the VMCB (AMD64 APM vol. 2 appendix B) and entering a guest. Only svm.c and the
 * exit handlers read VMCB fields; devices know nothing of it.
 */
#ifndef VMM_SVM_H
#define VMM_SVM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <emu.h>

struct vmcb {
	uint16_t cr_reads, cr_writes; /* intercepts, a bit a register */
	uint16_t dr_reads, dr_writes;
	uint32_t exceptions;
	uint32_t intercepts[3];
	uint8_t reserved1[0x40 - 0x18];
	uint64_t io_map;
	uint64_t msr_map;
	uint64_t tsc_offset;
	uint32_t asid;
	uint8_t tlb_control;
	uint8_t reserved2[3];
	uint64_t interrupt; /* V_TPR 7:0, V_IRQ 8, V_IGN_TPR 20, V_INTR_MASKING 24 */
	uint64_t interrupt_shadow;
	uint64_t exit_code;
	uint64_t exit_info1;
	uint64_t exit_info2;
	uint64_t exit_interrupted; /* EXITINTINFO */
	uint64_t nested;
	uint8_t reserved3[0x10];
	uint64_t inject; /* EVENTINJ */
	uint64_t nested_cr3;
	uint64_t lbr;
	uint64_t clean;
	uint64_t next_rip;
	uint8_t reserved4[0x400 - 0xd0];

	struct emu_segment es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr;
	uint8_t reserved5[0x4cb - 0x4a0];
	uint8_t cpl;
	uint32_t reserved6;
	uint64_t efer;
	uint8_t reserved7[0x548 - 0x4d8];
	uint64_t cr4, cr3, cr0, dr7, dr6, rflags, rip;
	uint8_t reserved8[0x5d8 - 0x580];
	uint64_t rsp;
	uint8_t reserved9[0x5f8 - 0x5e0];
	uint64_t rax;
	uint64_t star, lstar, cstar, sfmask, kernel_gs_base;
	uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
	uint64_t cr2;
	uint8_t reserved10[0x668 - 0x648];
	uint64_t pat;
	uint8_t reserved11[0x1000 - 0x670];
};

_Static_assert(offsetof(struct vmcb, exit_code) == 0x70, "VMCB layout");
_Static_assert(offsetof(struct vmcb, next_rip) == 0xc8, "VMCB layout");
_Static_assert(offsetof(struct vmcb, efer) == 0x4d0, "VMCB layout");
_Static_assert(offsetof(struct vmcb, rip) == 0x578, "VMCB layout");
_Static_assert(offsetof(struct vmcb, cr2) == 0x640, "VMCB layout");
_Static_assert(sizeof(struct vmcb) == 4096, "VMCB layout");

/* Exit codes (appendix C). */
enum svm_exit {
	SVM_EXIT_CR_READ = 0x00,
	SVM_EXIT_CR_WRITE = 0x10,
	SVM_EXIT_DR_READ = 0x20,
	SVM_EXIT_DR_WRITE = 0x30,
	SVM_EXIT_EXCEPTION = 0x40,
	SVM_EXIT_PF = 0x4e,
	SVM_EXIT_INTR = 0x60,
	SVM_EXIT_NMI = 0x61,
	SVM_EXIT_VINTR = 0x64,
	SVM_EXIT_TR_WRITE = 0x6d,
	SVM_EXIT_RDPMC = 0x6f,
	SVM_EXIT_CPUID = 0x72,
	SVM_EXIT_IRET = 0x74,
	SVM_EXIT_INVD = 0x76,
	SVM_EXIT_HLT = 0x78,
	SVM_EXIT_INVLPG = 0x79,
	SVM_EXIT_INVLPGA = 0x7a,
	SVM_EXIT_IO = 0x7b,
	SVM_EXIT_MSR = 0x7c,
	SVM_EXIT_TASK = 0x7d,
	SVM_EXIT_SHUTDOWN = 0x7f,
	SVM_EXIT_VMRUN = 0x80,
	SVM_EXIT_SKINIT = 0x86,
	SVM_EXIT_WBINVD = 0x89,
	SVM_EXIT_MONITOR = 0x8a,
	SVM_EXIT_MWAIT = 0x8b,
	SVM_EXIT_MWAIT_ARMED = 0x8c,
	SVM_EXIT_XSETBV = 0x8d,
	SVM_EXIT_NPF = 0x400,
};

/* EVENTINJ and EXITINTINFO (§15.20). */
#define SVM_EVENT_VALID         (1ull << 31)
#define SVM_EVENT_ERROR         (1ull << 11)
#define SVM_EVENT_TYPE(e)       ((unsigned)((e) >> 8 & 7))
#define SVM_EVENT_INTERRUPT     0
#define SVM_EVENT_NMI           2
#define SVM_EVENT_EXCEPTION     3
#define SVM_EVENT_SOFTWARE      4
#define SVM_EVENT(type, vector) (SVM_EVENT_VALID | (uint64_t)(type) << 8 | (vector))

/* Per physical processor. */
struct svm {
	struct vmcb *host; /* what VMLOAD brings back after an exit */
	uint8_t *io_map;   /* 12 KiB; a set bit intercepts the port */
	uint8_t *msr_map;  /* 8 KiB; a set bit intercepts the read, the next one the write */
	bool has_next_rip;
	bool has_flush_by_asid;
};

struct frames;
struct umbra_root;

/* Does this processor have SVM, and did the firmware leave it enabled? */
bool svm_available(void);

/* Turn SVM on, save what VMLOAD restores. Needs cpu_init() before. False: no memory. */
bool svm_init(struct svm *svm, struct frames *frames);

/* Let the guest use @port without exits. */
void svm_port_open(struct svm *svm, uint16_t port);

/* Exit at the guest's LTR, or stop doing so. */
void vmcb_task(struct vmcb *vmcb, bool wanted);

/* A VMCB with this hypervisor's intercepts, guest state zeroed. NULL: no memory. */
struct vmcb *vmcb_new(const struct svm *svm, struct frames *frames);

/*
 * Put the paging state of the hardware into @vmcb: the guest's @cr0, @cr4, @efer with what
 * shadow paging wants on top (umbra.h, "Hardware settings"), @root as CR3. CR reads are
 * intercepted only where the guest would see a difference.
 */
void vmcb_paging(struct vmcb *vmcb, uint64_t cr0, uint64_t cr4, uint64_t efer,
		 const struct umbra_root *root);

/*
 * Nested paging: the guest's registers are the hardware's own, and what only shadow paging asks for
 * is not intercepted.
 */
void vmcb_nested(struct vmcb *vmcb, bool is_tcg);

/* Exit at the guest's next IRET, or stop doing so. */
void vmcb_iret(struct vmcb *vmcb, bool wanted);

/*
 * Exit at exceptions that may turn one whose delivery is under way into a double fault, or stop
 * doing so.
 */
void vmcb_delivery(struct vmcb *vmcb, bool wanted);

/* Forget all translations of the guest at the next entry. */
void vmcb_flush(const struct svm *svm, struct vmcb *vmcb);

/*
 * Have the guest take interrupt @vector as its next event, by itself (V_IRQ, AMD64 APM vol. 2
 * §15.21.4). _withdraw: no more; true: it had not taken it yet.
 */
void vmcb_offer(struct vmcb *vmcb, unsigned vector);
bool vmcb_withdraw(struct vmcb *vmcb);

/* Exit when the guest can take an interrupt, or stop doing so. */
void vmcb_window(struct vmcb *vmcb, bool wanted);

void svm_enter(uint64_t *gpr, uint64_t guest_vmcb, uint64_t host_vmcb);

#endif
