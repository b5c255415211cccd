/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * struct cpu: what the hypervisor keeps for each physical processor, reached through GS; and
 * that processor's own timer and interrupt controllers (the outer ones, not the guest's).
 */
#ifndef VMM_CPU_H
#define VMM_CPU_H

#include <stdbool.h>
#include <stdint.h>

#include "svm.h"
#include "x86.h"

struct vcpu;

/* Vectors of the hypervisor's IDT. The outer PICs are at 0x20 and 0x28. */
#define CPU_VECTOR_BELL     0x23
#define CPU_VECTOR_UART     0x24
#define CPU_VECTOR_TIMER    0x40
#define CPU_VECTOR_SPURIOUS 0xff

struct cpu {
	struct cpu *self; /* at GS:0 */
	uint64_t tsc_hz;
	uint64_t timer_hz;    /* outer APIC timer, divided by 1 */
	uint64_t timer_armed; /* TSC at which the outer timer will fire; 0: it is not armed */
	uint64_t turn_end;    /* TSC: .vcpu's, which is somebody else's then (schedule.c) */
	volatile bool uart_edge, bell_edge;
	bool is_tcg; /* QEMU's translator, which lacks some intercepts */
	struct svm svm;
	struct vcpu *vcpu; /* whose registers are in it, or NULL */
	uint64_t gdt[8];
	uint32_t tss[26];
};

static inline struct cpu *cpu_this(void)
{
	struct cpu *cpu;
	__asm__("movq %%gs:0, %0" : "=r"(cpu));
	return cpu;
}

/* GDT, TSS, GS, IDT. No interrupt is let in yet. */
void cpu_init(struct cpu *cpu);

/* Calibrate the TSC against the PIT; take over the outer PICs and the local APIC. */
void cpu_clock_init(struct cpu *cpu);

/* Have the outer timer interrupt at TSC value @deadline or a little earlier, never much later. */
void cpu_timer_arm(struct cpu *cpu, uint64_t deadline);

/* Called by trap_handle, interrupts off. False: not a vector of ours. */
bool cpu_interrupt(struct cpu *cpu, unsigned vector);

#endif
