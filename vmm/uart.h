/* SPDX-License-Identifier: BSD-2-Clause */
/* COM1: a 16550 UART. What the guest sees of it is in uart.c. */
#ifndef VMM_UART_H
#define VMM_UART_H

#define UART_BASE      0x3f8
#define UART_DATA      0
#define UART_IER       1
#define UART_FCR       2
#define UART_LCR       3
#define UART_MCR       4
#define UART_LSR       5
#define UART_LSR_EMPTY 0x20
#define UART_IRQ       4

struct vm;

/* Set the outer UART up for print(): 115200 8N1, FIFOs on, no interrupts. */
void uart_init(void);

/* A character for the console. */
void uart_put(uint8_t c);

/* Hand the guest the outer UART's ports. */
void uart_attach(struct vm *vm);

/* Pass interrupts of the outer UART on to the guest's PIC. */
void uart_poll(struct vm *vm);

#endif
