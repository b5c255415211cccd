/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest's interrupt lines. See irq.c. */
#ifndef VMM_IRQ_H
#define VMM_IRQ_H

#include <stdbool.h>

struct vm;

/* Set ISA line @irq (0..15) of the PICs, and of the I/O APIC. */
void irq_set(struct vm *vm, unsigned irq, bool level);

/* An edge: down and up. */
void irq_pulse(struct vm *vm, unsigned irq);

#endif
