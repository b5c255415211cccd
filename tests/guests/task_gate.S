/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An exception whose gate is a task's, with paging off. The TSS holds a CR3 of the guest's choice; were it
 * loaded, the guest would run on tables of its own making: outside its slots.
 */
#include "boot.inc"
#include "protected.inc"
	.set TSS, 0x2101000
	GO32
	PAGING_OFF
	SAY32 text
	mov $TSS - 0x1000, %edi
	xor %eax, %eax
	mov $0x800, %ecx
	rep stosl
	movl $0x202000, TSS + 0x1c           /* CR3 */
	movl $0x1000000 + switched - 0x400, TSS + 0x20
	movl $2, TSS + 0x24
	movl $0x3000000, TSS + 0x38
	movl $8, TSS + 0x4c
	.irp at, 0x48, 0x50, 0x54, 0x58, 0x5c
	movl $0x10, TSS + \at
	.endr
	movl $0x200000, TSS + 0x800 + 8 * 13 /* a task gate to 20h */
	movl $0x8500, TSS + 0x800 + 8 * 13 + 4
	movw $0x7ff, TSS + 0x700
	movl $TSS + 0x800, TSS + 0x702
	lidt TSS + 0x700
	movl $0, 0x2fffffc /* nothing of it comes by a page fault, which has no way back */
	mov $0xfff8, %eax
	mov %eax, %es
switched:
	mov $0x5a0, %edx
	mov $3, %eax
	outl %eax, %dx
4:	jmp 4b
text:	.asciz "guest: faults into a task\r\n"
	.code64
	END
