/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's COM1 is the outer COM1: its eight ports are open in the I/O permission map, so
 * that console output costs no exits. The hypervisor keeps the interrupt: IRQ 4 comes to the
 * host (ending a guest run or a host HLT) and each of its edges is repeated on the guest's PIC.
 * The UART's line is edge-triggered on both sides, so nothing is lost or doubled. A guest whose
 * console is virtio_console.c has no COM1. Where there are several guests, none has the outer one
 * (serial.c): the console is for all of them, the keys are for guest 0.
 *
 * The outer COM2 is no device of the guest's: it is the bell of hostio.c.
 */
#include "cpu.h"
#include "irq.h"
#include "serial.h"
#include "svm.h"
#include "uart.h"
#include "virtio_console.h"
#include "vm.h"
#include "x86.h"

#define MASTER_MASK 0x21 /* of the outer PICs */

static void set_up(uint16_t base)
{
	outb(base + UART_IER, 0);
	outb(base + UART_LCR, 0x80);
	outb(base + UART_DATA, 1);
	outb(base + UART_IER, 0);
	outb(base + UART_LCR, 3);
	outb(base + UART_FCR, 7);
	outb(base + UART_MCR, 0x0b);
}

void uart_init(void)
{
	set_up(UART_BASE);
}

void uart_put(uint8_t c)
{
	while (!(inb(UART_BASE + 5) & 0x20))
		;
	outb(UART_BASE + UART_DATA, c);
}

void uart_say(struct vm *vm, uint8_t c)
{
	if (vm->options.guests > 1)
		serial_put(vm, c);
	else
		uart_put(c);
}

bool uart_has_key(const struct vm *vm)
{
	return vm->number == 0 && inb(UART_BASE + UART_LSR) & 1;
}

uint8_t uart_get(void)
{
	return inb(UART_BASE + UART_DATA);
}

void uart_listen(void)
{
	outb(UART_BASE + UART_IER, 1);
}

void uart_bell_init(void)
{
	set_up(UART_BELL);
	outb(UART_BELL + UART_IER, 1);
	outb(MASTER_MASK, (uint8_t)(inb(MASTER_MASK) & ~(1u << UART_BELL_IRQ)));
}

void uart_bell_ring(void)
{
	outb(UART_BELL + UART_DATA, 'r');
}

void uart_bell_answer(void)
{
	for (int i = 0; i < 64 && inb(UART_BELL + UART_LSR) & 1; i++)
		inb(UART_BELL + UART_DATA);
}

void uart_attach(struct vm *vm)
{
	if (vm->options.guests > 1)
		uart_listen();
	if (vm->options.console || vm->options.guests > 1)
		return;
	for (uint16_t port = UART_BASE; port < UART_BASE + 8; port++)
		svm_port_open(&vm->cpu->svm, port);
}

void uart_poll(struct vm *vm)
{
	if (!vm->uart_edge)
		return;
	vm->uart_edge = false;
	if (vm->console)
		virtio_console_input(vm);
	else if (vm->options.guests > 1)
		serial_update(vm);
	else
		irq_pulse(vm, UART_IRQ);
}
