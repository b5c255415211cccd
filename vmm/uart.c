/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's COM1 is the outer COM1: its eight ports are open in the I/O permission map, so
 * that console output costs no exits. The hypervisor keeps the interrupt: IRQ 4 comes to the
 * host (ending a guest run or a host HLT) and each of its edges is repeated on the guest's PIC.
 * The UART's line is edge-triggered on both sides, so nothing is lost or doubled. A second
 * guest would need a UART of its own.
 */
#include "cpu.h"
#include "irq.h"
#include "svm.h"
#include "uart.h"
#include "vm.h"
#include "x86.h"

void uart_init(void)
{
	outb(UART_BASE + UART_IER, 0);
	outb(UART_BASE + UART_LCR, 0x80);
	outb(UART_BASE + UART_DATA, 1);
	outb(UART_BASE + UART_IER, 0);
	outb(UART_BASE + UART_LCR, 3);
	outb(UART_BASE + UART_FCR, 7);
	outb(UART_BASE + UART_MCR, 0x0b);
}

void uart_put(uint8_t c)
{
	while (!(inb(UART_BASE + 5) & 0x20))
		;
	outb(UART_BASE + UART_DATA, c);
}

void uart_attach(struct vm *vm)
{
	for (uint16_t port = UART_BASE; port < UART_BASE + 8; port++)
		svm_port_open(&vm->cpu->svm, port);
}

void uart_poll(struct vm *vm)
{
	if (!vm->cpu->uart_edge)
		return;
	vm->cpu->uart_edge = false;
	irq_pulse(vm, UART_IRQ);
}
