/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Maps the second GiB of physical addresses, where this small guest has nothing, and writes there.
 * Its page tables lie at fixed addresses of its own memory, above the image: 2 MiB pages,
 * PML4 -> PDPT -> two page directories, identity for both GiB.
 */
#include "boot.inc"
	.set TABLES, 0x2000000 /* 32 MiB: pml4, pdpt, pd0, pd1 */
	SAY text
	mov $TABLES, %rdi
	mov $(4 * 4096 / 8), %ecx
	xor %eax, %eax
	cld
	rep stosq
	movq $(TABLES + 0x1003), TABLES
	movq $(TABLES + 0x2003), TABLES + 0x1000
	movq $(TABLES + 0x3003), TABLES + 0x1008
	mov $TABLES + 0x2000, %rdi
	mov $0x83, %eax /* present, writable, 2 MiB */
	mov $1024, %ecx
3:	stosq
	add $0x200000, %rax
	loop 3b
	mov $TABLES, %rax
	mov %rax, %cr3
	mov $0x50000000, %rdi
	movl $1, (%rdi)
	SAY survived
	CONTROL 3
4:	jmp 4b
text:	.asciz "guest: writes to nowhere\r\n"
survived: .asciz "guest: and got away with it\r\n"
	END
