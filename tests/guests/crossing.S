/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Stores 8 bytes, four of them in memory and four in the local APIC's page: no device access that
 * can be emulated, and no way into the hypervisor.
 */
#include "boot.inc"
	.set TABLES, 0x2000000 /* pml4, pdpt, pd, pt */
	SAY text
	mov $TABLES, %rdi
	mov $(5 * 512), %ecx
	xor %eax, %eax
	cld
	rep stosq
	movq $(TABLES + 0x1003), TABLES
	movq $(TABLES + 0x2003), TABLES + 0x1000
	mov $TABLES + 0x2000, %rdi
	mov $0x83, %eax /* present, writable, 2 MiB */
	mov $511, %ecx
3:	stosq
	add $0x200000, %rax
	loop 3b
	movq $(TABLES + 0x3003), TABLES + 0x2ff8
	movq $0x3000003, TABLES + 0x3000 /* gva 0x3fe00000: memory */
	mov $0xfee00013, %eax
	mov %rax, TABLES + 0x3008 /* and the page behind it: the APIC */
	mov $TABLES, %rax
	mov %rax, %cr3
	mov $0x3fe00000, %rdi
	movq $0x1234, 0xffc(%rdi)
	CONTROL 3
4:	jmp 4b
text:	.asciz "guest: stores across\r\n"
	END
