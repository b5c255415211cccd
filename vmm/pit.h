/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest's 8254 timer. */
#ifndef VMM_PIT_H
#define VMM_PIT_H

#include <stdbool.h>
#include <stdint.h>

struct vm;

struct pit {
	uint64_t started; /* TSC when the count was loaded */
	uint64_t next;    /* TSC of the next IRQ 0; UINT64_MAX: none */
	uint32_t reload;  /* 1..65536; 0: not programmed */
	uint16_t latch;
	uint8_t status;
	uint8_t mode, access; /* access 1 low, 2 high, 3 both bytes */
	uint8_t low;          /* first byte of a two-byte write */
	bool write_high, read_high, latched, status_latched;
};

void pit_init(struct vm *vm);

/* Raise IRQ 0 if it is due at TSC @now. */
void pit_poll(struct vm *vm, uint64_t now);

/* @port: 0x40, 0x41, 0x43. (0x42 and 0x61 are the outer ones, or pit2.c's.) */
uint8_t pit_read(struct vm *vm, uint16_t port);
void pit_write(struct vm *vm, uint16_t port, uint8_t value);

#endif
