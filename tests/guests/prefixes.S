/* SPDX-License-Identifier: BSD-2-Clause */
/* CPUID behind REX and an operand-size prefix: the REX counts for nothing, the rest is legal. */
#include "boot.inc"
	SAY before
	xor %eax, %eax
	.byte 0x48, 0x66, 0x0f, 0xa2
	SAY after
	CONTROL 3
3:	jmp 3b
before:	.asciz "guest: odd prefixes\r\n"
after:	.asciz "guest: decoded\r\n"
	END
