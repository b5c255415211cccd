/* SPDX-License-Identifier: BSD-2-Clause */
/* COM1: a 16550 UART. What the guest sees of it is in uart.c. */
#ifndef VMM_UART_H
#define VMM_UART_H

#include <stdbool.h>
#include <stdint.h>

#define UART_BASE      0x3f8
#define UART_DATA      0
#define UART_IER       1
#define UART_FCR       2
#define UART_LCR       3
#define UART_MCR       4
#define UART_LSR       5
#define UART_LSR_EMPTY 0x20
#define UART_IRQ       4
#define UART_BELL      0x2f8 /* COM2 */
#define UART_BELL_IRQ  3

struct vm;

/* Set the outer UART up for print(): 115200 8N1, FIFOs on, no interrupts. */
void uart_init(void);

/* A character for the console; the same from a guest that does not have the UART itself. */
void uart_put(uint8_t c);
void uart_say(struct vm *vm, uint8_t c);

/* A key from the console: is there one for this guest? Take it. */
bool uart_has_key(const struct vm *vm);
uint8_t uart_get(void);

/* Have keys interrupt, for a guest that does not have the UART itself. */
void uart_listen(void);

/* The bell: the outer COM2, at whose other end the `umbra` command is (hostio.c). */
void uart_bell_init(void);
void uart_bell_ring(void);
void uart_bell_answer(void); /* its interrupt came: quiet it */

/* Hand the guest the outer UART's ports, unless its console is another. */
void uart_attach(struct vm *vm);

/* Pass interrupts of the outer UART on to the guest: to its PIC, or as keys. */
void uart_poll(struct vm *vm);

#endif
