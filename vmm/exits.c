/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the guest came out for: a table of exit codes (AMD64 APM vol. 2 appendix C) and who handles
 * each. Those that are too small for a file of their own are handled here.
 */
#include <umbra/machine.h>

#include "debug.h"
#include "event.h"
#include "exits.h"
#include "fetch.h"
#include "machine.h"
#include "pagefault.h"
#include "trap.h"
#include "vcpu.h"
#include "vm.h"
#include "x86.h"

static void hlt_exit(struct vcpu *vcpu)
{
	unsigned length = exit_length(vcpu);

	if (!length)
		return;
	vcpu_skip(vcpu, length);
	if (!(vcpu->vmcb->rflags & RFLAGS_IF))
		machine_end(vcpu->vm, UMBRA_END_POWEROFF, "halted");
	vcpu->halted = true;
}

static void skip_instruction(struct vcpu *vcpu)
{
	unsigned length = exit_length(vcpu);

	if (length)
		vcpu_skip(vcpu, length);
}

static void unexpected(struct vcpu *vcpu)
{
	struct insn insn;

	if ((int32_t)vcpu->vmcb->exit_code == -1) { /* VMEXIT_INVALID (§15.5.1) */
		if (vcpu_is_64(vcpu) && vcpu->vmcb->cs.attributes & EMU_SEGMENT_D)
			task_refuse(vcpu, "a code segment with both L and D set");
		if (!decode_at_rip(vcpu, &insn))
			return;
		if (insn.map != 1 || insn.opcode != 0x22)
			task_refuse(vcpu, "the state that the guest has brought itself into");
		vcpu_raise(vcpu, VECTOR_GP, 0); /* TCG, of MOV to CRn with a reserved bit */
		return;
	}
	panic("exit code %lx, information %lx %lx, at guest rip %lx", vcpu->vmcb->exit_code,
	      vcpu->vmcb->exit_info1, vcpu->vmcb->exit_info2, vcpu->vmcb->rip);
}

/* ------------------------------------------------------------------ small ones */

static void interrupt_exit(struct vcpu *vcpu)
{
	vcpu->vm->machine->exits_intr++;
	event_interrupted(vcpu);
	interrupt_window();
}

static void io_exit(struct vcpu *vcpu)
{
	vcpu->vm->machine->exits_io++;
	ports_exit(vcpu);
}

static void nmi_exit(struct vcpu *vcpu)
{
	(void)vcpu;
	interrupt_window();
}

/* The window is open: event_inject() does the rest. */
static void window_exit(struct vcpu *vcpu)
{
	(void)vcpu;
}

static void task_exit(struct vcpu *vcpu)
{
	task_refuse(vcpu, "a task switch");
}

static void shutdown_exit(struct vcpu *vcpu)
{
	machine_end(vcpu->vm, UMBRA_END_TRIPLE_FAULT, "triple fault of the guest");
}

/* SVM's own instructions and others that the guest does not have. */
static void absent_exit(struct vcpu *vcpu)
{
	vcpu_raise(vcpu, VECTOR_UD, -1);
}

static void rdpmc_exit(struct vcpu *vcpu)
{
	vcpu_raise(vcpu, VECTOR_GP, 0);
}

static void db_exit(struct vcpu *vcpu)
{
	if (!task_guard_hit(vcpu))
		vcpu_raise(vcpu, VECTOR_DB, -1);
}

static void de_exit(struct vcpu *vcpu)
{
	vcpu_raise(vcpu, VECTOR_DE, -1);
}

static void ac_exit(struct vcpu *vcpu)
{
	vcpu_raise(vcpu, VECTOR_AC, 0);
}

/* Its error code is what the processor found. */
static void selector_exit(struct vcpu *vcpu)
{
	vcpu_raise(vcpu, (unsigned)(vcpu->vmcb->exit_code - SVM_EXIT_EXCEPTION),
		   (int64_t)vcpu->vmcb->exit_info1);
}

/* ------------------------------------------------------------------ all of them */

struct exit {
	void (*handle)(struct vcpu *vcpu);
	bool counts; /* by itself; others are exits_other */
};

static const struct exit exits[] = {
    [SVM_EXIT_CR_READ + 0] = {paging_cr_exit, true},
    [SVM_EXIT_CR_READ + 3] = {paging_cr_exit, true},
    [SVM_EXIT_CR_READ + 4] = {paging_cr_exit, true},
    [SVM_EXIT_CR_WRITE + 0] = {paging_cr_exit, true},
    [SVM_EXIT_CR_WRITE + 3] = {paging_cr_exit, true},
    [SVM_EXIT_CR_WRITE + 4] = {paging_cr_exit, true},
    [SVM_EXIT_CR_WRITE + 8] = {paging_cr_exit, true},
    [SVM_EXIT_EXCEPTION + VECTOR_DE] = {de_exit, false},
    [SVM_EXIT_EXCEPTION + VECTOR_DB] = {db_exit, false},
    [SVM_EXIT_EXCEPTION + VECTOR_UD] = {ud_exit, false},
    [SVM_EXIT_EXCEPTION + VECTOR_TS] = {selector_exit, false},
    [SVM_EXIT_EXCEPTION + VECTOR_NP] = {selector_exit, false},
    [SVM_EXIT_EXCEPTION + VECTOR_SS] = {selector_exit, false},
    [SVM_EXIT_EXCEPTION + VECTOR_GP] = {selector_exit, false},
    [SVM_EXIT_EXCEPTION + VECTOR_AC] = {ac_exit, false},
    [SVM_EXIT_PF] = {pagefault_exit, true},
    [SVM_EXIT_INTR] = {interrupt_exit, true},
    [SVM_EXIT_NMI] = {nmi_exit, false},
    [SVM_EXIT_VINTR] = {window_exit, false},
    [SVM_EXIT_TR_WRITE] = {task_ltr_exit, false},
    [SVM_EXIT_RDPMC] = {rdpmc_exit, false},
    [SVM_EXIT_CPUID] = {cpuid_exit, false},
    [SVM_EXIT_IRET] = {event_iret_exit, false},
    [SVM_EXIT_INVD] = {skip_instruction, false}, /* caches are coherent */
    [SVM_EXIT_HLT] = {hlt_exit, false},
    [SVM_EXIT_INVLPG] = {paging_invlpg_exit, true},
    [SVM_EXIT_INVLPGA] = {absent_exit, false},
    [SVM_EXIT_IO] = {io_exit, true},
    [SVM_EXIT_MSR] = {msr_exit, true},
    [SVM_EXIT_TASK] = {task_exit, false},
    [SVM_EXIT_SHUTDOWN] = {shutdown_exit, false},
    [SVM_EXIT_VMRUN + 0] = {absent_exit, false},
    [SVM_EXIT_VMRUN + 1] = {absent_exit, false}, /* VMMCALL */
    [SVM_EXIT_VMRUN + 2] = {absent_exit, false}, /* VMLOAD */
    [SVM_EXIT_VMRUN + 3] = {absent_exit, false}, /* VMSAVE */
    [SVM_EXIT_VMRUN + 4] = {absent_exit, false}, /* STGI */
    [SVM_EXIT_VMRUN + 5] = {absent_exit, false}, /* CLGI */
    [SVM_EXIT_SKINIT] = {absent_exit, false},
    [SVM_EXIT_WBINVD] = {skip_instruction, false},
    [SVM_EXIT_MONITOR] = {absent_exit, false},
    [SVM_EXIT_MWAIT] = {absent_exit, false},
    [SVM_EXIT_MWAIT_ARMED] = {absent_exit, false},
    [SVM_EXIT_XSETBV] = {absent_exit, false},
};

#define EXITS (sizeof(exits) / sizeof(exits[0]))

static bool is_debug_register(uint64_t code)
{
	return code >= SVM_EXIT_DR_READ && code < SVM_EXIT_DR_WRITE + 8;
}

/* Exits after which no device's state can have changed; pagefault.c sees to emulated ones. */
static bool is_quiet(uint64_t code)
{
	return code == SVM_EXIT_PF || code == SVM_EXIT_NPF || code == SVM_EXIT_CPUID ||
	       code == SVM_EXIT_INVLPG || code < SVM_EXIT_DR_READ;
}

void exit_handle(struct vcpu *vcpu)
{
	static const struct exit nested = {pagefault_nested_exit, true}, none = {unexpected, false};
	uint64_t code = vcpu->vmcb->exit_code;
	const struct exit *exit = code < EXITS && exits[code].handle ? &exits[code]
				  : code == SVM_EXIT_NPF             ? &nested
								     : &none;

	if (!is_quiet(code))
		vcpu->poll_due = 0;
	if (!exit->counts)
		vcpu->vm->machine->exits_other++;
	if (is_debug_register(code))
		debug_exit(vcpu, code & 7, code >= SVM_EXIT_DR_WRITE);
	else
		exit->handle(vcpu);
}
