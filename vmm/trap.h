/* SPDX-License-Identifier: BSD-2-Clause */
/* The hypervisor's own exceptions, and the ways for the machine to end. */
#ifndef VMM_TRAP_H
#define VMM_TRAP_H

#include <stdint.h>
#include <umbra/machine.h>

/* What trap_entry.S leaves on the stack. */
struct trap_frame {
	uint64_t rax, rcx, rdx, rbx, rbp, rsi, rdi;
	uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
	uint64_t vector, error_code;
	uint64_t rip, cs, rflags, rsp, ss;
};

/* Load the IDT. #DF, NMI and #MC get a stack of their own (IST1). */
void trap_init(void);

void trap_handle(struct trap_frame *frame);

/* A bug of ours: the formatted sentence, a dump on COM1, UMBRA_END_PANIC. */
_Noreturn void panic(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
