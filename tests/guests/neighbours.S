/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One of several guests of the same image. What a processor has only one of is filled with a pattern
 * of the guest's number (the last digit of its command line), and must still hold it after loops
 * longer than a turn and after HLTs, while the others do the same: SSE, x87 and MXCSR, PKRU, PKRS,
 * CR2, TSC_AUX and other MSRs, and a breakpoint in DR0 that is the guest's own.
 */
#include "boot.inc"
	.set ROUNDS, 24
	.set SPIN, 4000000
	.set TIMER, 0x40
	.set KEYED, 0x2000000
	.set MSR_PKRS, 0x6e1
	.set MSR_STAR, 0xc0000081
	.set MSR_KERNEL_GS, 0xc0000102
	.set MSR_TSC_AUX, 0xc0000103

	.macro WRITE number low
	mov $\number, %ecx
	mov \low, %eax
	xor %edx, %edx
	wrmsr
	.endm

	/* Gate \vector of the IDT at %rdi leads to \handler. */
	.macro GATE vector handler
	lea \handler(%rip), %rax
	mov %ax, 16 * \vector(%rdi)
	mov %cs, 16 * \vector + 2(%rdi)
	movw $0x8e00, 16 * \vector + 4(%rdi)
	shr $16, %rax
	mov %ax, 16 * \vector + 6(%rdi)
	.endm

	/* \register must hold %r15, else \what is said. */
	.macro CHECK register what
	lea \what(%rip), %rsi
	cmp %r15, \register
	jne failed
	.endm

	lea stack_top(%rip), %rsp
	mov 0x228(%rsi), %esi
1:	lodsb
	test %al, %al
	jnz 1b
	movzbl -2(%rsi), %ebx
	movabs $0x0101010101010101, %r15
	imul %rbx, %r15
	and $7, %ebx

	lea idt(%rip), %rdi
	GATE 1 breakpoint
	GATE 14 fault
	GATE TIMER timer
	lea idt_pointer(%rip), %rax
	mov %rdi, 2(%rax)
	lidt (%rax)

	mov %cr0, %rax
	and $~0xc, %rax /* EM, TS */
	or $2, %rax
	mov %rax, %cr0
	mov %cr4, %rax
	or $0x608, %rax /* OSFXSR, OSXMMEXCPT, DE */
	mov %rax, %cr4
	push %rbx
	mov $7, %eax
	xor %ecx, %ecx
	cpuid
	mov %ecx, %r11d
	pop %rbx
	xor %r14d, %r14d
	bt $3, %ecx
	jnc 2f
	inc %r14d /* protection keys */
	mov %cr4, %rax
	bts $22, %rax
	mov %rax, %cr4
	lea (, %r15, 4), %eax
	xor %ecx, %ecx
	xor %edx, %edx
	wrpkru
2:	xor %r10d, %r10d
	bt $31, %r11d
	jnc 2f
	inc %r10d /* and for the supervisor's pages: KEYED gets key 1, which guests of odd numbers may not use */
	mov %cr3, %rax
	and $~0xfff, %rax
	mov (%rax), %rax
	and $~0xfff, %rax
	mov (%rax), %rax
	and $~0xfff, %rax
	btsl $59 - 32, 8 * (KEYED >> 21) + 4(%rax)
	mov %cr4, %rax
	bts $24, %rax
	mov %rax, %cr4
	invlpg KEYED
	mov %ebx, %eax
	and $1, %eax
	shl $2, %eax
	WRITE MSR_PKRS, %eax
2:
	movq %r15, %xmm0
	punpcklqdq %xmm0, %xmm0
	movdqa %xmm0, %xmm7
	movdqa %xmm0, %xmm15
	mov %ebx, %eax
	and $3, %eax
	shl $13, %eax
	or $0x1f80, %eax
	mov %eax, %r13d
	push %rax
	ldmxcsr (%rsp)
	mov %r15, (%rsp)
	fninit
	fildll (%rsp)
	pop %rax
	mov %r15, %cr2
	WRITE MSR_TSC_AUX, %r15d
	WRITE MSR_STAR, %r15d
	WRITE MSR_KERNEL_GS, %r15d

	lea words(%rip), %r12
	lea (%r12, %rbx, 8), %r12
	mov %r12, %dr0
	mov $0x90402, %eax /* DR0, 8 bytes, writes */
	mov %rax, %dr7

	WRITE 0x1b, $0xfee00d00 /* x2APIC */
	WRITE 0x80f, $0x1ff
	WRITE 0x83e, $0xb
	WRITE 0x832, $TIMER
	mov $ROUNDS, %ebp
round:
	mov $SPIN, %ecx
3:	dec %ecx
	jnz 3b
	call check
	WRITE 0x838, $1000000 /* a millisecond */
	sti
	hlt
	cli
	call check
	dec %ebp
	jnz round
	SAY done
	CONTROL 3

check:
	movq %xmm0, %rax
	CHECK %rax, what_sse
	movhlps %xmm7, %xmm1
	movq %xmm1, %rax
	CHECK %rax, what_sse
	movq %xmm15, %rax
	CHECK %rax, what_sse
	push %rax
	fld %st(0)
	fistpll (%rsp)
	pop %rax
	CHECK %rax, what_x87
	push %rax
	stmxcsr (%rsp)
	pop %rax
	lea what_mxcsr(%rip), %rsi
	and $0x6000, %eax
	xor %r13d, %eax
	and $0x6000, %eax
	jnz failed
	mov %cr2, %rax
	CHECK %rax, what_cr2
	lea what_msr(%rip), %rsi
	mov $MSR_TSC_AUX, %ecx
	rdmsr
	cmp %r15d, %eax
	jne failed
	mov $MSR_STAR, %ecx
	rdmsr
	cmp %r15d, %eax
	jne failed
	mov $MSR_KERNEL_GS, %ecx
	rdmsr
	cmp %r15d, %eax
	jne failed
	test %r14d, %r14d
	jz 4f
	lea what_pkru(%rip), %rsi
	xor %ecx, %ecx
	rdpkru
	lea (, %r15, 4), %ecx
	cmp %ecx, %eax
	jne failed
4:	test %r10d, %r10d
	jz 4f
	lea what_pkrs(%rip), %rsi
	xor %edi, %edi
	lea 9f(%rip), %r11
	mov KEYED, %eax /* what fault() counts in %edi, and leads to %r11 */
9:	mov %ebx, %eax
	and $1, %eax
	cmp %eax, %edi
	jne failed
4:	/* Words of all eight guests are written: one breakpoint, of one's own. */
	movl $0, hits(%rip)
	lea words(%rip), %rdi
	mov $8, %ecx
5:	mov %rax, (%rdi)
	add $8, %rdi
	dec %ecx
	jnz 5b
	lea what_dr(%rip), %rsi
	cmpl $1, hits(%rip)
	jne failed
	cmp %r12, hit_at(%rip)
	jne failed
	ret

/* Behind the store that it is about, whose %rdi is. */
breakpoint:
	push %rax
	incl hits(%rip)
	mov %rdi, hit_at(%rip)
	mov $0xffff0ff0, %eax
	mov %rax, %dr6
	pop %rax
	iretq

/* With an error code. */
fault:
	inc %edi
	mov %r11, 8(%rsp)
	mov %r15, %cr2
	add $8, %rsp
	iretq

timer:
	push %rax
	push %rcx
	push %rdx
	WRITE 0x80b, $0
	pop %rdx
	pop %rcx
	pop %rax
	iretq

failed:	/* %rsi: what */
	push %rsi
	SAY lost
	pop %rsi
	mov $0x3f8, %edx
6:	lodsb
	test %al, %al
	jz 7f
	outb %al, %dx
	jmp 6b
7:	mov $1, %eax
	out %al, $0xf4
8:	jmp 8b

done:	.asciz "guest: kept all that is its own\r\n"
lost:	.asciz "guest: another's, or lost: "
what_sse: .asciz "SSE\r\n"
what_x87: .asciz "x87\r\n"
what_mxcsr: .asciz "MXCSR\r\n"
what_cr2: .asciz "CR2\r\n"
what_msr: .asciz "an MSR\r\n"
what_pkru: .asciz "PKRU\r\n"
what_pkrs: .asciz "PKRS\r\n"
what_dr: .asciz "DR0\r\n"
	.balign 16
hits:	.long 0, 0
hit_at:	.quad 0
idt_pointer:
	.word 16 * (TIMER + 1) - 1
	.quad 0
	.balign 16
words:	.skip 64
idt:	.skip 16 * (TIMER + 1)
	.skip 1024
stack_top:
	END
