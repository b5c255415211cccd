/* SPDX-License-Identifier: BSD-2-Clause */
/* struct vcpu: one virtual processor, and what exit handlers may ask of it. */
#ifndef VMM_VCPU_H
#define VMM_VCPU_H

#include <stdbool.h>
#include <stdint.h>
#include <umbra/umbra.h>

#include "lapic.h"
#include "svm.h"
#include "x86.h"

struct vm;

/* Indices of vcpu->gpr: the processor's numbering. RAX and RSP are valid between exits too. */
enum gpr {
	GPR_RAX,
	GPR_RCX,
	GPR_RDX,
	GPR_RBX,
	GPR_RSP,
	GPR_RBP,
	GPR_RSI,
	GPR_RDI
};

struct exit_record {
	uint64_t tsc, code, info1, info2, rip;
};

#define VCPU_EXITS 32u
#define VCPU_MTRRS 16u

struct vcpu {
	struct vm *vm;
	uint32_t number;
	struct umbra_vcpu *umbra;
	struct vmcb *vmcb;
	uint64_t gpr[16];

	/* The guest's own control registers; the hardware's differ (vmcb_paging). */
	uint64_t cr0, cr3, cr4, efer;
	uint64_t dr[8];      /* its debug registers; DR6 is the VMCB's */
	uint64_t guard;      /* task.c: the base of TR that it watches */
	bool debug_changed;  /* .dr or .guard: debug.c arms them anew */
	bool armed;          /* some breakpoint is on */
	unsigned debug_hits; /* breakpoints that the instruction under way has hit */
	bool flush;          /* forget the TLB at the next entry */
	bool repaging;       /* cr0, cr4 or efer changed: the VMCB must follow */
	struct umbra_root root;
	bool halted;
	uint64_t poll_due; /* TSC at which devices want to be looked at; 0: after this exit */
	uint64_t next;     /* TSC at which the guest, if it has halted, is to do something */

	uint64_t event; /* EVENTINJ of the next entry; 0: none */
	uint64_t error; /* its error code */
	int displaced;  /* vector of an interrupt that a fault pushed aside; -1: none */
	int offered;    /* vector of an interrupt that the guest is to take by itself; -1: none */
	bool nmi_pending, nmi_blocked; /* until IRET */
	bool window;                   /* asked to exit where an interrupt can get in */
	bool delivery;                 /* an exception is injected, and watched */
	uint64_t shadow_rip;           /* interrupted there, in the shadow of STI; 0: not */
	uint64_t int_rip;              /* of an INTn to be carried out again; 0: none */
	uint64_t int_wait;             /* TSC ticks until what waits behind it is tried again */
	uint64_t iret_rip;             /* of the IRET that is about to unblock; 0: none */
	bool stepping;                 /* over it, with the flags that were: */
	uint64_t step_kept;            /* RFLAGS.TF, DR6.BS */
	uint32_t pkrs;
	uint64_t tsc_offset;

	/* While another guest runs (registers.c). */
	struct fx_area fx;
	uint32_t pkru;
	uint64_t tsc_aux;

	struct lapic lapic;
	uint64_t pat, mtrr_type, mtrr_fixed[11], mtrr_variable[VCPU_MTRRS];

	/* Page faults in quick succession at one RIP and gva: a guest that gets nowhere. */
	uint64_t stuck_rip, stuck_gva, stuck_exit;
	unsigned stuck;

	struct exit_record exits[VCPU_EXITS]; /* ring; the last one is exit_count - 1 */
	uint64_t exit_count;
};

/* Make vcpu 0 of @vm; vm->vcpu points to it. 0 or UMBRA_ENOMEM. */
int vcpu_create(struct vm *vm, struct frames *frames);

/* The guest's state is loaded: begin. */
void vcpu_start(struct vcpu *vcpu);

/* Run the guest until it halts or its turn is over (schedule.c). */
void vcpu_run(struct vcpu *vcpu);

/*
 * Raise exception @vector, @error < 0: without an error code. Where it hits the delivery of
 * another event, the double-fault rules decide (AMD64 APM vol. 2 §8.2.9).
 */
void vcpu_raise(struct vcpu *vcpu, unsigned vector, int64_t error);
void vcpu_raise_pf(struct vcpu *vcpu, uint64_t gva, uint32_t error_code);

/* The instruction of @length bytes at RIP is done; or: the one before RIP is. */
void vcpu_skip(struct vcpu *vcpu, unsigned length);
void vcpu_done(struct vcpu *vcpu);

/* Tell the MMU what it is to translate by: registers (nested paging), protection keys. */
void vcpu_paging_tell(struct vcpu *vcpu);
void vcpu_keys_tell(struct vcpu *vcpu);

/*
 * Take over cr0, cr3, cr4 and efer into the MMU. => false: the PDPTEs that they lead to are bad,
 * and nothing has changed there. Registers that contradict one another end the machine.
 */
bool vcpu_repage(struct vcpu *vcpu);

/* Registers, VMCB and last exits on COM1. */
void vcpu_dump(const struct vcpu *vcpu);

/* One sentence's worth of instruction bytes at RIP, in hexadecimal. */
const char *vcpu_bytes(struct vcpu *vcpu, char *buffer, size_t size);

static inline bool vcpu_is_64(const struct vcpu *vcpu)
{
	return vcpu->efer & 1u << 10 && vcpu->vmcb->cs.attributes & EMU_SEGMENT_L;
}

static inline bool vcpu_is_real(const struct vcpu *vcpu)
{
	return !(vcpu->cr0 & 1);
}

#endif
