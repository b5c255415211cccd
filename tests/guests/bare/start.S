/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From a Multiboot loader to main() in long mode: 4 GiB mapped one to one by pages of 2 MiB, a GDT with
 * segments of both rings, an IDT of 256 gates that all lead to trap() (bare.c). 3 and 4 may be used by
 * ring 3, and 0x30, by which it returns.
 *
 *   selectors   0x08 code, 0x10 data, 0x1b user's data, 0x23 user's code, 0x28 the task state
 */
	.section .multiboot, "a"
	.balign 4
	.long 0x1badb002, 0, -0x1badb002

	.code32
	.text
	.globl _start
_start:	movl $stack_top, %esp
	cld
	movl %ebx, boot_information
	/* PML4 -> PDPT -> 4 directories */
	movl $boot_pdpt + 7, boot_pml4
	movl $boot_directories + 7, %eax
	movl $boot_pdpt, %edi
	movl $4, %ecx
1:	movl %eax, (%edi)
	addl $4096, %eax
	addl $8, %edi
	loop 1b
	movl $0x83, %eax
	xorl %edx, %edx
	movl $boot_directories, %edi
	movl $2048, %ecx
2:	movl %eax, (%edi)
	movl %edx, 4(%edi)
	addl $0x200000, %eax
	addl $8, %edi
	loop 2b
	movl $boot_pml4, %eax
	movl %eax, %cr3
	movl $0x20, %eax
	movl %eax, %cr4
	movl $0xc0000080, %ecx
	rdmsr
	orl $0x900, %eax /* LME, NXE */
	wrmsr
	movl $0x80010033, %eax
	movl %eax, %cr0
	lgdt gdt_pointer
	ljmp $8, $in64

	.code64
in64:	mov $0x10, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	xor %eax, %eax
	mov %eax, %fs
	mov %eax, %gs
	/* The gates, from the stubs, which are 16 bytes each. */
	lea stubs, %rsi
	lea idt, %rdi
	xor %ecx, %ecx
3:	mov %esi, %eax
	mov %ax, (%rdi)
	movw $8, 2(%rdi)
	movw $0x8e00, 4(%rdi)
	shr $16, %eax
	mov %ax, 6(%rdi)
	movl $0, 8(%rdi)
	movl $0, 12(%rdi)
	add $16, %rsi
	add $16, %rdi
	inc %ecx
	cmp $256, %ecx
	jb 3b
	orb $0x60, idt + 3 * 16 + 5
	orb $0x60, idt + 4 * 16 + 5
	orb $0x60, idt + 0x30 * 16 + 5
	lidt idt_pointer
	/* The task state segment: RSP0, and a stack for double faults (IST1). */
	mov $tss, %eax
	mov %ax, gdt + 0x2a
	shr $16, %eax
	mov %al, gdt + 0x2c
	mov %ah, gdt + 0x2f
	movq $trap_stack_top, tss + 4
	movq $fault_stack_top, tss + 36
	movw $0x68, tss + 102 /* no port is ring 3's */
	movb $1, idt + 8 * 16 + 4
	mov $0x28, %eax
	ltr %ax
	call main
	mov %eax, %edi
	call finish

	/* ---------------------------------------------------------------- exceptions */

	.balign 16
stubs:	.set vector, 0
	.rept 256
	.balign 16
	.if vector != 8 && (vector < 10 || vector > 14) && vector != 17 && vector != 21
	push $0
	.endif
	push $vector
	jmp common
	.set vector, vector + 1
	.endr

	/* struct frame of bare.h */
	.balign 16
common:	push %rax
	push %rcx
	push %rdx
	push %rbx
	push %rbp
	push %rsi
	push %rdi
	push %r8
	push %r9
	push %r10
	push %r11
	push %r12
	push %r13
	push %r14
	push %r15
	cld
	mov %rsp, %rdi
	call trap
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %r11
	pop %r10
	pop %r9
	pop %r8
	pop %rdi
	pop %rsi
	pop %rbp
	pop %rbx
	pop %rdx
	pop %rcx
	pop %rax
	add $16, %rsp
	iretq

	/*
	 * void attempt_raw(uint64_t rip, uint64_t rsp, uint64_t cs, uint64_t flags, uint64_t rdi): go there; trap() comes
	 * back to landing. attempt_at: where RSP was.
	 */
	.globl attempt_raw, landing
attempt_raw:
	push %rbx
	push %rbp
	push %r12
	push %r13
	push %r14
	push %r15
	mov %rsp, landing_rsp
	mov %rdi, %rax
	mov $0x10, %r9
	cmp $8, %rdx
	je 4f
	mov $0x1b, %r9
4:	test %rsi, %rsi
	jnz 5f
	mov %rsp, %rsi
	sub $256, %rsi
	and $-16, %rsi
5:	push %r9
	push %rsi
	push %rcx
	push %rdx
	push %rax
	mov %r8, %rdi
	mov %rdi, %rsi
	iretq
landing:
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbp
	pop %rbx
	ret

	.data
	.balign 16
	.globl gdt, idt, tss, boot_pml4, boot_information, landing_rsp
gdt:	.quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00cff3000000ffff, 0x00affb000000ffff
	.quad 0x0000890000000067, 0
	.balign 16
gdt_pointer:
	.word gdt_pointer - gdt - 1
	.quad gdt
idt_pointer:
	.word 4095
	.quad idt
landing_rsp:
	.quad 0
boot_information:
	.quad 0
	.bss
	.balign 4096
boot_pml4:
	.skip 4096
boot_pdpt:
	.skip 4096
boot_directories:
	.skip 4 * 4096
idt:	.skip 4096
tss:	.skip 4096
	.skip 16384
stack_top:
	.skip 16384
trap_stack_top:
	.skip 8192
fault_stack_top:
	.section .note.GNU-stack, "", @progbits
