/* SPDX-License-Identifier: BSD-2-Clause */
/* The instruction emulator. See emulate.c. */
#ifndef VMM_EMULATE_H
#define VMM_EMULATE_H

#include <stdint.h>

struct vcpu;

enum emulated {
	EMULATED_DONE,    /* carried out, RIP behind it */
	EMULATED_FAULT,   /* a fault was raised, or the guest must be entered again first */
	EMULATED_UNKNOWN, /* not one that the emulator knows; nothing has changed */
};

/*
 * Carry out the instruction at RIP, which faulted on @gva. Its memory operand may lie in tracked
 * tables (the MMU is told) or, for reads, where nothing is (all-ones). A write to where nothing
 * is ends the machine with UMBRA_END_UNMAPPED.
 */
enum emulated emulate(struct vcpu *vcpu, uint64_t gva);

/* One of the eight operations ADD OR ADC SBB AND SUB XOR CMP on @size bytes; @flags follow. */
uint64_t alu(unsigned operation, unsigned size, uint64_t a, uint64_t b, uint64_t *flags);

#endif
