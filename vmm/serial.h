/* SPDX-License-Identifier: BSD-2-Clause */
/* A COM1 of each guest's own, where several share the console. See serial.c. */
#ifndef VMM_SERIAL_H
#define VMM_SERIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vm;

#define SERIAL_LINE 240u

struct serial {
	bool on; /* the guest has these ports */
	bool raised;
	bool empty_told; /* IER's second interrupt: told since the last character */
	bool fifo;
	uint8_t ier, lcr, mcr, scratch, divisor[2];

	uint64_t due; /* TSC at which an unfinished line is shown; UINT64_MAX: none is to be */
	size_t size;
	char line[SERIAL_LINE];
};

void serial_init(struct vm *vm);

/* Bytes at 0x3f8 to 0x3ff. */
uint8_t serial_read(struct vm *vm, uint16_t port);
void serial_write(struct vm *vm, uint16_t port, uint8_t value);

/* A character of the guest's for the console. */
void serial_put(struct vm *vm, uint8_t c);

/* Keys have come: see to the interrupt. */
void serial_update(struct vm *vm);

/* Show what is due; show all that there is, since the guest has ended. */
void serial_poll(struct vm *vm, uint64_t now);
void serial_finish(struct vm *vm);

#endif
