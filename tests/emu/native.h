/* SPDX-License-Identifier: BSD-2-Clause */
/* One instruction, run by the processor itself. See native.c. */
#ifndef TEST_NATIVE_H
#define TEST_NATIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct registers {
	uint64_t gpr[16]; /* in the processor's numbering */
	uint64_t rip, rflags;
	uint8_t xmm[24][16] __attribute__((aligned(16))); /* from 16: MMX, 8 bytes each */
};

/* The arena: code, and data that instructions work on, at addresses of 32 bits. */
#define NATIVE_CODE 0x10000000ul
#define NATIVE_DATA 0x10002000ul /* two pages */

#define FLAGS 0xcd5ull /* OF DF SF ZF AF PF CF */

/* Where an instruction may jump to: its run ends there, as behind it. For each mode. */
extern const uint64_t native_stub, native_stub32;

/* Map the arena, catch faults. */
void native_init(void);

/* Whether the processor runs code of 32 bits for us: some virtual ones have none. */
bool native_has_32(void);

/*
 * Run the instruction of @length bytes at registers->rip in the arena with @registers, which are
 * afterwards what it left. Returns -1, or the vector of the exception it raised (0 or 13), with
 * registers as the handler found them. @bits: 64; or 32, in compatibility mode, where only the low
 * halves of the first eight registers count.
 */
int native_run(struct registers *registers, unsigned length, unsigned bits);

#endif
