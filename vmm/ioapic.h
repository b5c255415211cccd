/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest's I/O APIC. */
#ifndef VMM_IOAPIC_H
#define VMM_IOAPIC_H

#include <stdbool.h>
#include <stdint.h>

struct vm;
struct vcpu;

#define IOAPIC_BASE   0xfec00000u
#define IOAPIC_INPUTS 24u

struct ioapic {
	uint32_t select, id;
	uint32_t lines;                   /* a bit an input: its level */
	uint64_t redirect[IOAPIC_INPUTS]; /* as the guest reads them */
};

void ioapic_init(struct ioapic *ioapic);

/* Set input @input (0..23). */
void ioapic_set(struct vm *vm, unsigned input, bool level);

/* The local APIC ended @vector: level-triggered inputs that still want it ask again. */
void ioapic_eoi(struct vm *vm, unsigned vector);

uint64_t ioapic_read(struct vcpu *vcpu, uint32_t offset, unsigned size);
void ioapic_write(struct vcpu *vcpu, uint32_t offset, unsigned size, uint64_t value);

#endif
