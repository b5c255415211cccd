/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Through the modes of paging, in one guest: off, 32-bit (4K and 4M pages), PAE, 4 levels, 5 levels
 * where CPUID has them, 4 levels with PCIDs, off again, and all once more. In each it reads and writes
 * a page by an alias, changes the alias with INVLPG, and compares with what lies behind.
 */
	.set A, 0x800000        /* two pages with a word of their own each */
	.set B, 0x801000
	.set ALIAS, 0x400000    /* the linear address that is turned from one to the other */
	.set TABLES, 0xa00000
	.code32
	.text
	.globl _start
	.long 0x1badb002, 0, -0x1badb002
_start:	movl $stack, %esp
	cld
	lgdt gdtr
	ljmp $0x10, $1f
1:	movw $0x18, %ax
	movw %ax, %ds
	movw %ax, %es
	movw %ax, %ss
	movl $3, rounds
round:	movl $0xaaaaaaaa, A
	movl $0xbbbbbbbb, B

	/* 32 bits: PDE 0 and 2 of 4 MiB, PDE 1 leads to a table. */
	call clear
	movl $0x83, TABLES
	movl $TABLES + 0x1003, TABLES + 4
	movl $0x800083, TABLES + 8
	movl $TABLES, %eax
	movl %eax, %cr3
	movl $0x10, %eax /* PSE */
	movl %eax, %cr4
	call paging_on
	movl $4, width
	call alias_test
	call paging_off
	movl $0, %eax
	movl %eax, %cr4

	/* PAE: PDPT, one directory of 2 MiB pages, a table. */
	call clear
	movl $TABLES + 0x2001, TABLES + 0x3000
	movl $0x83, TABLES + 0x2000
	movl $0x200083, TABLES + 0x2008
	movl $TABLES + 0x1003, TABLES + 0x2010
	movl $0xa00083, TABLES + 0x2028
	movl $0x800083, TABLES + 0x2020
	movl $TABLES + 0x3000, %eax
	movl %eax, %cr3
	movl $0x20, %eax /* PAE */
	movl %eax, %cr4
	call paging_on
	movl $8, width
	call alias_test
	call paging_off

	/* Long mode, 4 levels: the same directory. */
	movl $TABLES + 0x3003, TABLES + 0x4000
	movl $TABLES + 0x2003, TABLES + 0x3000
	movl $TABLES + 0x4000, %eax
	movl %eax, %cr3
	call long_on
	ljmp $8, $in64
back64:	call paging_off
	call long_off

	/* 5 levels. */
	movl $7, %eax
	xorl %ecx, %ecx
	cpuid
	btl $16, %ecx
	jnc 2f
	movl $TABLES + 0x4003, TABLES + 0x5000
	movl $TABLES + 0x5000, %eax
	movl %eax, %cr3
	movl $0x1020, %eax
	movl %eax, %cr4
	call long_on
	call alias_test
	call paging_off
	call long_off
2:	movl $0, %eax
	movl %eax, %cr4
	decl rounds
	jnz round
	movl $text, %esi
	call say
	xorl %eax, %eax
exit:	movw $0xf4, %dx
	outl %eax, %dx
	hlt
fail:	movl $failed, %esi
	call say
	movl $1, %eax
	jmp exit

	/* The same in 64-bit code, and with PCIDs. */
	.code64
in64:	call alias_test_64
	mov $1, %eax
	cpuid
	bt $17, %ecx
	jnc 3f
	mov %cr4, %rax
	or $1 << 17, %rax
	mov %rax, %cr4
	mov $TABLES + 0x4000 + 5, %eax /* PCID 5 */
	mov %rax, %cr3
	call alias_test_64
	bts $63, %rax
	mov $TABLES + 0x4000 + 6, %eax
	mov %rax, %cr3
	call alias_test_64
	mov $TABLES + 0x4000, %eax
	mov %rax, %cr3
	mov %cr4, %rax
	btr $17, %rax
	mov %rax, %cr4
3:	ljmp *far32(%rip)
	.code32
leave64: jmp back64
	.code64
alias_test_64:
	mov $ALIAS, %esi
	mov $TABLES + 0x1000, %edi
	movq $A + 3, (%rdi)
	invlpg (%rsi)
	cmpl $0xaaaaaaaa, (%rsi)
	jne fail64
	movq $B + 3, (%rdi)
	invlpg (%rsi)
	cmpl $0xbbbbbbbb, (%rsi)
	jne fail64
	lock incl (%rsi)
	cmpl $0xbbbbbbbc, B
	jne fail64
	lock decl B
	cmpl $0xbbbbbbbb, (%rsi)
	jne fail64
	ret
fail64:	ljmp *far_fail(%rip)
far32:	.long leave64
	.word 0x10
far_fail: .long fail
	.word 0x10

	.code32
alias_test:
	movl $ALIAS, %esi
	movl $TABLES + 0x1000, %edi
	movl $A + 3, (%edi)
	invlpg (%esi)
	cmpl $0xaaaaaaaa, (%esi)
	jne fail
	movl $B + 3, (%edi)
	invlpg (%esi)
	cmpl $0xbbbbbbbb, (%esi)
	jne fail
	lock incl (%esi)
	cmpl $0xbbbbbbbc, B
	jne fail
	lock decl B
	cmpl $0xbbbbbbbb, (%esi)
	jne fail
	ret

clear:	movl $TABLES, %edi
	movl $6 * 1024, %ecx
	xorl %eax, %eax
	rep stosl
	ret
paging_on:
	movl %cr0, %eax
	orl $0x80010000, %eax
	movl %eax, %cr0
	ret
paging_off:
	movl %cr0, %eax
	andl $0x7fffffff, %eax
	movl %eax, %cr0
	ret
long_on:
	movl $0xc0000080, %ecx
	rdmsr
	orl $0x100, %eax
	wrmsr
	jmp paging_on
long_off:
	movl $0xc0000080, %ecx
	rdmsr
	andl $~0x100, %eax
	wrmsr
	ret
say:	movw $0x3f8, %dx
1:	lodsb
	testb %al, %al
	jz 2f
	outb %al, %dx
	jmp 1b
2:	ret

	.data
width:	.long 0
rounds:	.long 0
text:	.asciz "guest: all modes\r\n"
failed:	.asciz "guest: a page that is not there\r\n"
	.balign 8
gdt:	.quad 0, 0x00af9b000000ffff, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdtr:	.word 31
	.long gdt
	.bss
	.skip 4096
stack:
	.section .note.GNU-stack, "", @progbits
