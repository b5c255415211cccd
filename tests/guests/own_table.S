/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Stores its GDTR into the page table that maps everything, by an instruction that nobody emulates: no
 * way to let it through, and no reason to try for ever.
 */
#include "boot.inc"
	.set TABLES, 0x2000000 /* pml4, pdpt, pd */
	SAY text
	mov $TABLES, %rdi
	mov $(3 * 512), %ecx
	xor %eax, %eax
	cld
	rep stosq
	movq $(TABLES + 0x1003), TABLES
	movq $(TABLES + 0x2003), TABLES + 0x1000
	mov $TABLES + 0x2000, %rdi
	mov $0x83, %eax /* present, writable, 2 MiB */
	mov $512, %ecx
3:	stosq
	add $0x200000, %rax
	loop 3b
	mov $TABLES, %rax
	mov %rax, %cr3
	sgdt TABLES + 0x800
	SAY survived
	CONTROL 3
4:	jmp 4b
text:	.asciz "guest: writes its root\r\n"
survived: .asciz "guest: and goes on\r\n"
	END
