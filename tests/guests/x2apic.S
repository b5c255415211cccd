/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Switches its local APIC to x2APIC mode and tries the registers: identity, priority, IPIs to
 * itself, the timer by count and by TSC deadline, with #GP for what is reserved and nothing
 * changed then. A failed step is printed as two letters, 16 * first + second from AA on.
 *
 * Its own GDT and stack; the IDT at 33 MiB. Counters: %r13 #GPs, %r14 IPIs (vector 0x41),
 * %r15 timer interrupts (0x42); %rbx #GPs expected, %r10 when the last timer interrupt came.
 */
#include "boot.inc"
	.set STACK, 0x3000000
	.set IDT, 0x2100000

	/* Does not return if the comparison before it failed. */
	.macro EQUAL
	jne failed
	inc %ebp
	.endm

	.macro WRITE msr, low, high=0
	mov $\msr, %ecx
	mov $\low, %eax
	mov $\high, %edx
	wrmsr
	.endm

	.macro READS msr, low, high=0
	mov $\msr, %ecx
	rdmsr
	cmp $\low, %eax
	EQUAL
	cmp $\high, %edx
	EQUAL
	.endm

	/* The last instruction was a RDMSR or WRMSR that must have raised #GP, */
	.macro REFUSED
	inc %rbx
	cmp %rbx, %r13
	EQUAL
	.endm

	.macro REFUSES msr, low, high=0
	WRITE \msr, \low, \high
	REFUSED
	.endm

	.macro UNREADABLE msr
	mov $\msr, %ecx
	rdmsr
	REFUSED
	.endm

	/* CPUID leaf 1 ECX has that bit. */
	.macro OFFERS bit
	push %rbx
	mov $1, %eax
	cpuid
	pop %rbx
	shr $\bit, %ecx
	and $1, %ecx
	cmp $1, %ecx
	EQUAL
	.endm

	/* Let interrupts in; then \count of them have come by the counter \counter. */
	.macro ARRIVED counter, count
	sti
	nop
	nop
	cli
	cmp $\count, \counter
	EQUAL
	.endm

	.macro GATE vector, handler
	lea \handler(%rip), %rax
	mov $IDT + \vector * 16, %edi
	mov %ax, (%rdi)
	movw $8, 2(%rdi)
	movw $0x8e00, 4(%rdi)
	shr $16, %rax
	mov %ax, 6(%rdi)
	shr $16, %rax
	mov %rax, 8(%rdi)
	.endm

	/* The guest's TSC in %rax. */
	.macro TSC
	rdtsc
	shl $32, %rdx
	or %rdx, %rax
	.endm

	/* Write %rax to an MSR. */
	.macro WRITE_RAX msr
	mov %rax, %rdx
	shr $32, %rdx
	mov $\msr, %ecx
	wrmsr
	.endm

	/* A deadline that no delay of ours reaches; also in %r12. */
	.macro FAR_DEADLINE
	TSC
	bts $50, %rax
	mov %rax, %r12
	WRITE_RAX 0x6e0
	.endm

	/* Halt until \count timer interrupts have come. */
	.macro AWAIT count
3:	cli
	cmp $\count, %r15
	je 4f
	sti
	hlt
	jmp 3b
4:	cli
	.endm

	mov $STACK, %esp
	SAY before
	lea gdt(%rip), %rax
	mov %rax, gdt_pointer + 2(%rip)
	lgdt gdt_pointer(%rip)
	pushq $8
	lea 3f(%rip), %rax
	push %rax
	lretq
3:	mov $0x10, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov $IDT, %edi
	xor %eax, %eax
	mov $512, %ecx
	cld
	rep stosq
	GATE 13, refused
	GATE 0x41, ipi
	GATE 0x42, timer
	lidt idt_pointer(%rip)
	xor %ebx, %ebx
	xor %ebp, %ebp
	xor %r13d, %r13d
	xor %r14d, %r14d
	xor %r15d, %r15d

	/* CPUID offers x2APIC; before the switch there are no such MSRs, and nothing else is. */
	OFFERS 21
	UNREADABLE 0x802
	REFUSES 0x808, 0
	READS 0x1b, 0xfee00900
	REFUSES 0x1b, 0xfee00902
	WRITE 0x1b, 0xfee00d00
	READS 0x1b, 0xfee00d00
	REFUSES 0x1b, 0xfee00900 /* no way back but by a reset */

	/* Who we are. */
	READS 0x802, 0
	READS 0x80d, 1 /* cluster 0, processor 0 */
	mov $0x803, %ecx
	rdmsr
	and $0xf0, %eax
	cmp $0x10, %eax
	EQUAL
	REFUSES 0x802, 0 /* read-only */
	REFUSES 0x80d, 0
	UNREADABLE 0x80b /* write-only */
	UNREADABLE 0x83f
	UNREADABLE 0x80e /* gone in this mode */
	UNREADABLE 0x831
	UNREADABLE 0x8ff

	/* The priority is CR8's, and the other way round. */
	WRITE 0x808, 0x25
	READS 0x808, 0x25
	READS 0x80a, 0x25
	mov %cr8, %rax
	cmp $2, %rax
	EQUAL
	mov $5, %eax
	mov %rax, %cr8
	READS 0x808, 0x50
	REFUSES 0x808, 0x100
	READS 0x808, 0x50

	/* IPIs to ourselves: they wait for their priority, then for us, then for EOI. */
	WRITE 0x80f, 0x1ff
	REFUSES 0x80f, 0x11ff
	READS 0x80f, 0x1ff
	WRITE 0x830, 0x40041
	READS 0x822, 2 /* requested */
	ARRIVED %r14, 0
	WRITE 0x808, 0
	ARRIVED %r14, 1
	READS 0x822, 0
	READS 0x812, 0
	cmp $2, %r9d /* was in service */
	EQUAL
	WRITE 0x83f, 0x41 /* SELF IPI */
	ARRIVED %r14, 2
	WRITE 0x830, 0x41 /* by number, */
	ARRIVED %r14, 3
	WRITE 0x830, 0x841, 1 /* by logical number, */
	ARRIVED %r14, 4
	WRITE 0x830, 0x80041 /* to all, */
	ARRIVED %r14, 5
	WRITE 0x830, 0x41, 0xffffffff /* to all by number; */
	ARRIVED %r14, 6
	READS 0x830, 0x41, 0xffffffff
	WRITE 0x830, 0xc0041 /* to all others, */
	WRITE 0x830, 0x41, 7 /* to one that is not there, */
	WRITE 0x830, 0x841, 2
	ARRIVED %r14, 6
	REFUSES 0x830, 0x41041 | 1 << 20
	REFUSES 0x830, 0x50041
	REFUSES 0x83f, 0x141
	ARRIVED %r14, 6
	WRITE 0x830, 0x40005 /* an illegal vector */
	WRITE 0x828, 0
	READS 0x828, 0x20
	WRITE 0x828, 0
	READS 0x828, 0
	REFUSES 0x828, 1

	/* A wrong EOI ends nothing: TPR is below what is in service until the right one. */
	WRITE 0x83f, 0x41
	mov $1, %r8d /* no EOI this time */
	ARRIVED %r14, 7
	xor %r8d, %r8d
	REFUSES 0x80b, 1
	READS 0x812, 2
	READS 0x80a, 0x40
	WRITE 0x80b, 0
	READS 0x812, 0

	/* The timer by count. */
	WRITE 0x832, 0x10042
	READS 0x832, 0x10042
	REFUSES 0x832, 0x60042 /* no such mode */
	REFUSES 0x832, 0x80042
	REFUSES 0x832, 0x142, 1
	READS 0x832, 0x10042
	REFUSES 0x83e, 4
	WRITE 0x83e, 0xb
	READS 0x83e, 0xb
	WRITE 0x838, 1 /* masked: it runs out, and that is all */
3:	mov $0x839, %ecx
	rdmsr
	test %eax, %eax
	jnz 3b
	ARRIVED %r15, 0
	WRITE 0x838, 0
	WRITE 0x832, 0x42
	REFUSES 0x838, 1, 1
	READS 0x838, 0
	WRITE 0x838, 100000
	READS 0x838, 100000
	AWAIT 1
	READS 0x839, 0
	REFUSES 0x839, 1

	/* And by TSC deadline: not before, and once. */
	OFFERS 24
	WRITE 0x6e0, 0x1000 /* in another mode: of no effect */
	READS 0x6e0, 0
	WRITE 0x832, 0x40042
	FAR_DEADLINE
	rdmsr
	shl $32, %rdx
	or %rdx, %rax
	cmp %rax, %r12
	EQUAL
	TSC
	add $2000000, %rax
	mov %rax, %r12
	WRITE_RAX 0x6e0
	AWAIT 2
	cmp %r12, %r10
	setae %al
	cmp $1, %al
	EQUAL
	READS 0x6e0, 0
	ARRIVED %r15, 2
	TSC
	sub $1000, %rax /* over already */
	WRITE_RAX 0x6e0
	AWAIT 3
	READS 0x6e0, 0

	/* 0 disarms; so does another mode. */
	FAR_DEADLINE
	WRITE 0x6e0, 0
	mov %r12, %rax
	WRITE_RAX 0x10
	ARRIVED %r15, 3
	WRITE 0x6e0, 0, 0x1000000
	WRITE 0x832, 0x42
	READS 0x6e0, 0
	WRITE 0x832, 0x40042

	/* It is the guest's own TSC, wherever the guest sets it. */
	WRITE 0x10, 0, 0x100
	WRITE 0x6e0, 1
	AWAIT 4
	WRITE 0x6e0, 0, 0x200
	ARRIVED %r15, 4
	WRITE 0x10, 1, 0x200
	AWAIT 5
	READS 0x6e0, 0

	SAY after
	CONTROL 3
3:	jmp 3b

failed:	mov %ebp, %eax
	shr $4, %al
	add $'A', %al
	mov %al, letters(%rip)
	and $15, %ebp
	add $'A', %bp
	mov %bpl, letters + 1(%rip)
	SAY step
	CONTROL 3
3:	jmp 3b

refused: /* RDMSR and WRMSR have two bytes */
	add $8, %rsp
	addq $2, (%rsp)
	inc %r13
	iretq

ipi:	push %rax
	push %rcx
	push %rdx
	mov $0x812, %ecx
	rdmsr
	mov %eax, %r9d
	inc %r14
	test %r8d, %r8d
	jnz 3f
	WRITE 0x80b, 0
3:	pop %rdx
	pop %rcx
	pop %rax
	iretq

timer:	push %rax
	push %rcx
	push %rdx
	TSC
	mov %rax, %r10
	inc %r15
	WRITE 0x80b, 0
	pop %rdx
	pop %rcx
	pop %rax
	iretq

	.balign 8
gdt:	.quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
gdt_pointer:
	.word 0x17
	.quad 0
idt_pointer:
	.word 0xfff
	.quad IDT
before:	.asciz "guest: x2APIC\r\n"
after:	.asciz "guest: x2APIC obeys\r\n"
step:	.ascii "guest: x2APIC fails at step "
letters: .asciz "??\r\n"
	END
