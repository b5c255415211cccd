/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Exits (exits.c has the table), and those of their handlers that live elsewhere. Each one
 * completes its instruction or raises a fault.
 */
#ifndef VMM_EXITS_H
#define VMM_EXITS_H

#include <stdbool.h>
#include <stdint.h>

struct insn;
struct vcpu;

/* What the guest came out for. */
void exit_handle(struct vcpu *vcpu);

/* Ports (ports.c): IN, OUT, INS, OUTS. */
void ports_exit(struct vcpu *vcpu);

/* One access of @size 1, 2 or 4 bytes. */
uint32_t port_read(struct vcpu *vcpu, uint16_t port, unsigned size);
void port_write(struct vcpu *vcpu, uint16_t port, unsigned size, uint32_t value);

/* Let the guest use the ports that go to the outer machine without exits. */
void ports_init(struct vcpu *vcpu);

/* RDMSR, WRMSR (msr.c). */
void msr_exit(struct vcpu *vcpu);
void msr_init(struct vcpu *vcpu);

/* CPUID (leaves.c), and the bits of CR4 that its features allow. */
void cpuid_exit(struct vcpu *vcpu);
uint64_t cpuid_cr4_mask(const struct vcpu *vcpu);
uint32_t cpuid_umbra(void); /* enum umbra_cpu */
bool cpuid_has_keys(void);  /* protection keys for users' pages */

/* CR accesses, CLTS, LMSW, SMSW, INVLPG (paging.c). */
void paging_cr_exit(struct vcpu *vcpu);

/* LMSW and SMSW, whose operand may also be where only the emulator gets. */
bool paging_is_msw(const struct insn *insn);
void paging_msw(struct vcpu *vcpu, const struct insn *insn);

void paging_invlpg_exit(struct vcpu *vcpu);

/* Of struct vcpu's guard: there is none; what it has in DR7: G3, writes of one byte. */
#define GUARD_OFF      (~0ull)
#define GUARD_DR7      (1ull << 7 | 1ull << 28)
#define GUARD_DR7_MASK (3ull << 6 | 15ull << 28)

/* LTR outside of long mode, or from memory that only the emulator reaches (task.c). */
bool task_is_ltr(const struct insn *insn);
void task_ltr_exit(struct vcpu *vcpu);
_Noreturn void task_refuse(struct vcpu *vcpu, const char *what);
void task_init(struct vcpu *vcpu);
void task_guard(struct vcpu *vcpu);                 /* before each entry */
void task_check(struct vcpu *vcpu);                 /* after each exit */
void task_gate(struct vcpu *vcpu, unsigned vector); /* before that is injected */
bool task_guard_hit(struct vcpu *vcpu);             /* was that #DB the guard's alone? */

/* #UD: INVPCID and INT1, which the processor may lack (paging.c); else the guest's own. */
void ud_exit(struct vcpu *vcpu);
bool paging_efer_write(struct vcpu *vcpu, uint64_t value);

/*
 * The length of the instruction at RIP, for exits that do not tell. 0: it could not be read (a
 * fault is raised, or the guest is to be entered again).
 */
unsigned exit_length(struct vcpu *vcpu);

#endif
