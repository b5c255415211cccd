/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sets execution breakpoints on the hypervisor's addresses and exits to it; reads back what it wrote.
 */
#include "boot.inc"
	SAY before
	mov $0x100000, %eax
	mov %rax, %dr0
	mov $0x402, %eax
	mov %rax, %dr7
	mov $4096, %ebp
3:	mov %dr0, %rax
	inc %rax
	mov %rax, %dr0
	xor %eax, %eax
	cpuid
	dec %ebp
	jnz 3b
	mov %dr0, %rax
	cmp $0x101000, %rax
	jne 4f
	mov %dr7, %rax
	cmp $0x402, %rax
	jne 4f
	SAY after
	CONTROL 3
4:	jmp 4b
before:	.asciz "guest: sets breakpoints\r\n"
after:	.asciz "guest: debug registers hold\r\n"
	END
