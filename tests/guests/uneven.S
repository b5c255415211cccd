/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One of several guests of the same image, by the last digit of its command line: guest 1 triple
 * faults at once; the others take a while, and then power off.
 */
#include "boot.inc"
	mov 0x228(%rsi), %esi
3:	lodsb
	test %al, %al
	jnz 3b
	cmpb $'1', -2(%rsi)
	jne 4f
	SAY faults
	lidt nothing(%rip)
	ud2
4:	mov $40000000, %ecx
5:	dec %ecx
	jnz 5b
	SAY done
	CONTROL 3
faults:	.asciz "guest: faults\r\n"
done:	.asciz "guest: goes on\r\n"
nothing: .word 0
	.quad 0
	END
