/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest's local APIC. */
#ifndef VMM_LAPIC_H
#define VMM_LAPIC_H

#include <stdbool.h>
#include <stdint.h>

struct vcpu;

/* The local vector table, in the order of its registers. */
enum lapic_lvt {
	LVT_TIMER,
	LVT_THERMAL,
	LVT_PERFORMANCE,
	LVT_LINT0,
	LVT_LINT1,
	LVT_ERROR,
	LAPIC_LVTS,
};

#define LVT_MASKED (1u << 16)

struct lapic {
	uint64_t base; /* MSR APIC_BASE */
	uint64_t irr[4], isr[4], tmr[4];
	uint64_t deadline; /* TSC (host's) of the next timer interrupt; UINT64_MAX: none */
	uint64_t timer_started;
	uint64_t guest_deadline; /* MSR TSC_DEADLINE */
	uint32_t timer_initial, timer_divide;
	uint32_t ldr, dfr; /* xAPIC mode: logical destination, as the guest wrote them */
	uint32_t tpr, svr, icr_high, icr_low;
	uint32_t esr, errors; /* as last shown; since then */
	uint32_t lvt[LAPIC_LVTS];
};

#define MSR_TSC_DEADLINE 0x6e0
#define LAPIC_BASE       0xfee00000u

void lapic_init(struct vcpu *vcpu);

/* The guest set its TSC: a deadline is one of that. */
void lapic_tsc_written(struct vcpu *vcpu);

/* Raise the timer's interrupt if it is due at TSC @now. */
void lapic_poll(struct vcpu *vcpu, uint64_t now);

/* Vector that would be delivered now (beats TPR and what is in service); -1: none. */
int lapic_pending(const struct lapic *lapic);

/* That vector goes into service. */
void lapic_acknowledge(struct lapic *lapic, unsigned vector);

/* MOV to CR8: the upper half of TPR. False: #GP. */
bool lapic_cr8_write(struct vcpu *vcpu, uint64_t value);

/* Does LINT0 let the PIC's interrupts in? */
bool lapic_takes_pic(const struct lapic *lapic);

/* Switched on in MSR APIC_BASE? */
bool lapic_is_enabled(const struct vcpu *vcpu);
bool lapic_is_x2apic(const struct lapic *lapic);

/* Where the register page is; LAPIC_NOWHERE: it is off, or in x2APIC mode. */
#define LAPIC_NOWHERE (1ull << 63)
uint64_t lapic_page(const struct vcpu *vcpu);

/* Accesses to the register page; @offset 0..0xfff. Writes of other than 32 bits do nothing. */
uint64_t lapic_mmio_read(struct vcpu *vcpu, uint32_t offset, unsigned size);
void lapic_mmio_write(struct vcpu *vcpu, uint32_t offset, unsigned size, uint64_t value);

/* Does @destination (bits 31:24 of the ICR, or of an entry of the I/O APIC) name this processor? */
bool lapic_is_target(struct vcpu *vcpu, uint32_t destination, bool logical);

/* An interrupt from the I/O APIC; @level: level-triggered. */
void lapic_deliver(struct vcpu *vcpu, unsigned vector, bool level);

/* What registers do (lapic_registers.c). */
uint32_t lapic_priority(const struct lapic *lapic);       /* PPR */
void lapic_request(struct lapic *lapic, unsigned vector); /* edge-triggered */
void lapic_send(struct lapic *lapic, unsigned vector);    /* to this processor */
void lapic_command(struct vcpu *vcpu, uint64_t icr);      /* send an IPI */
void lapic_eoi(struct vcpu *vcpu);                        /* of the highest in service */
bool lapic_base_write(struct vcpu *vcpu, uint64_t value); /* MSR APIC_BASE; false: #GP */

/* MSRs 0x800..0x8ff, APIC_BASE, TSC_DEADLINE. False: #GP. */
bool lapic_msr_read(struct vcpu *vcpu, uint32_t msr, uint64_t *value);
bool lapic_msr_write(struct vcpu *vcpu, uint32_t msr, uint64_t value);

#endif
