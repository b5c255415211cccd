/* SPDX-License-Identifier: BSD-2-Clause */
/* Channel 2 of a guest's 8254, where several guests cannot have the outer one. See pit2.c. */
#ifndef VMM_PIT2_H
#define VMM_PIT2_H

#include <stdbool.h>
#include <stdint.h>

struct vm;

struct pit2 {
	uint64_t started; /* TSC when the count began; while the gate is down: ticks counted */
	uint32_t reload;  /* 1..65536; 0: not programmed */
	uint16_t latch;
	uint8_t mode, access, low, status;
	uint8_t speaker; /* bit 1 of port 0x61 */
	bool gate, write_high, read_high, latched, status_latched;
};

/* Ports 0x42 and 0x61. */
uint8_t pit2_read(struct vm *vm, uint16_t port);
void pit2_write(struct vm *vm, uint16_t port, uint8_t value);

/* A control word at port 0x43 that is for it: one of its own, or a read-back. */
void pit2_control(struct vm *vm, uint8_t value);

#endif
