/* SPDX-License-Identifier: BSD-2-Clause */
/* A guest's registers in the processor while other guests run. See registers.c. */
#ifndef VMM_REGISTERS_H
#define VMM_REGISTERS_H

struct vcpu;

/* Keep what the processor has of @vcpu's; put it back, with nothing of another guest left. */
void registers_take(struct vcpu *vcpu);
void registers_load(struct vcpu *vcpu);

#endif
