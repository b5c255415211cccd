/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Jumps to a task state segment with paging off. The TSS holds a CR3 of the guest's choice; were it
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
	ljmp $0x20, $0
switched:
	mov $0x5a0, %edx
	mov $3, %eax
	outl %eax, %dx
4:	jmp 4b
text:	.asciz "guest: switches tasks\r\n"
	.code64
	END
