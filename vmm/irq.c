/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which inputs of which interrupt controller a device's line leads to: as on every PC, to the PICs
 * and to the I/O APIC's input of the same number; the timer's, line 0, to its input 2. A guest
 * masks the one it does not use.
 */
#include "irq.h"
#include "ioapic.h"
#include "pic.h"
#include "vm.h"

#define TIMER_INPUT 2

void irq_set(struct vm *vm, unsigned irq, bool level)
{
	pic_set(&vm->pic, irq, level);
	ioapic_set(vm, irq ? irq : TIMER_INPUT, level);
}

void irq_pulse(struct vm *vm, unsigned irq)
{
	irq_set(vm, irq, false);
	irq_set(vm, irq, true);
}
