/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The way in. A Multiboot-1 loader enters boot_entry in 32-bit protected mode, paging off,
 * with EAX = 0x2BADB002 and EBX = the information structure. We map the first 4 GiB one to
 * one with 2 MiB pages, switch to 64-bit mode and call vmm_main(magic, information).
 */
	.set MULTIBOOT_FLAGS, 3 /* modules page-aligned; memory map wanted */
	.section .multiboot, "a"
	.balign 8
	.long 0x1BADB002
	.long MULTIBOOT_FLAGS
	.long -(0x1BADB002 + MULTIBOOT_FLAGS)

	.section .stack, "aw", @nobits
	.balign 4096
boot_stack:
	.skip 32768
	.globl boot_stack_top
boot_stack_top:
	.globl fault_stack_top
	.skip 8192
fault_stack_top:

	.section .bss, "aw", @nobits
	.balign 4096
	.globl boot_pml4, boot_pdpt, boot_pd
boot_pml4:
	.skip 4096
boot_pdpt:
	.skip 4096
boot_pd:
	.skip 4096 * 4

	.section .rodata
	.balign 8
boot_gdt:
	.quad 0
	.quad 0x00AF9B000000FFFF /* 0x08: 64-bit code */
	.quad 0x00CF93000000FFFF /* 0x10: data */
boot_gdt_pointer:
	.word . - boot_gdt - 1
	.long boot_gdt

	.text
	.code32
	.globl boot_entry
boot_entry:
	cli
	cld
	movl $boot_stack_top, %esp
	movl %eax, %ebp
	movl %ebx, %esi

	/* No long mode: nothing can run, and nobody could be told more than "no SVM". */
	movl $0x80000000, %eax
	cpuid
	cmpl $0x80000001, %eax
	jb no_long_mode
	movl $0x80000001, %eax
	cpuid
	btl $29, %edx
	jnc no_long_mode

	movl $boot_pdpt + 3, boot_pml4
	xorl %ecx, %ecx
1:	leal boot_pd(,%ecx,8), %edi
	movl %ecx, %eax
	shll $21, %eax
	orl $0x83, %eax
	movl %eax, (%edi)
	incl %ecx
	cmpl $2048, %ecx
	jb 1b
	movl $boot_pd + 3, %eax
	xorl %ecx, %ecx
2:	movl %eax, boot_pdpt(,%ecx,8)
	addl $4096, %eax
	incl %ecx
	cmpl $4, %ecx
	jb 2b

	movl $boot_pml4, %eax
	movl %eax, %cr3
	movl $0x20, %eax /* PAE */
	movl %eax, %cr4
	movl $0xC0000080, %ecx /* EFER: LME, NXE */
	rdmsr
	orl $0x900, %eax
	wrmsr
	movl $0x80010011, %eax /* PG, WP, ET, PE */
	movl %eax, %cr0
	lgdt boot_gdt_pointer
	ljmp $0x08, $boot_64

no_long_mode:
	movl $9, %eax /* UMBRA_END_NO_SVM */
	movw $0xf4, %dx
	outl %eax, %dx
	cli
	hlt
	jmp no_long_mode

	.code64
boot_64:
	movl $0x10, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	xorl %eax, %eax
	movl %eax, %fs
	movl %eax, %gs
	movl $boot_stack_top, %esp
	movl %ebp, %edi
	movl %esi, %esi
	xorl %ebp, %ebp
	call vmm_main
3:	cli
	hlt
	jmp 3b

	.section .note.GNU-stack, "", @progbits
