/* SPDX-License-Identifier: BSD-2-Clause */
/* The local APIC's timer, for the registers that govern it. */
#ifndef VMM_LAPIC_TIMER_H
#define VMM_LAPIC_TIMER_H

#include <stdbool.h>
#include <stdint.h>

struct vcpu;

/* The entry of the LVT. False: there is no such mode. */
bool lapic_timer_lvt_write(struct vcpu *vcpu, uint32_t value);

/* The initial count: starts it, 0 stops it. Nothing in TSC-deadline mode. */
void lapic_timer_initial_write(struct vcpu *vcpu, uint32_t value);

/* What the counter shows. */
uint32_t lapic_timer_count(const struct vcpu *vcpu);

/* MSR TSC_DEADLINE; nothing in other modes. */
void lapic_deadline_write(struct vcpu *vcpu, uint64_t value);

#endif
