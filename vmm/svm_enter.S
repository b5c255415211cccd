/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * void svm_enter(uint64_t *gpr, uint64_t guest_vmcb, uint64_t host_vmcb)
 *
 * One trip into the guest (AMD64 APM vol. 2 §15.5). @gpr: the guest's registers in the
 * processor's numbering; RAX and RSP live in the VMCB and are not touched here. Called, and
 * returns, with IF = 0 and GIF = 1. Inside the CLGI region IF is 1, so that a physical
 * interrupt ends the guest's run with VMEXIT_INTR (§15.13.1) and stays pending until the
 * caller opens a window.
 */
	.text
	.balign 16
	.globl svm_enter
svm_enter:
	pushq %rbp
	pushq %rbx
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	pushq %rdx
	pushq %rdi
	movq %rsi, %rax
	clgi
	sti
	vmload
	movq 8(%rdi), %rcx
	movq 16(%rdi), %rdx
	movq 24(%rdi), %rbx
	movq 40(%rdi), %rbp
	movq 48(%rdi), %rsi
	movq 64(%rdi), %r8
	movq 72(%rdi), %r9
	movq 80(%rdi), %r10
	movq 88(%rdi), %r11
	movq 96(%rdi), %r12
	movq 104(%rdi), %r13
	movq 112(%rdi), %r14
	movq 120(%rdi), %r15
	movq 56(%rdi), %rdi
	vmrun
	vmsave
	xchgq %rdi, (%rsp)
	movq %rcx, 8(%rdi)
	movq %rdx, 16(%rdi)
	movq %rbx, 24(%rdi)
	movq %rbp, 40(%rdi)
	movq %rsi, 48(%rdi)
	movq %r8, 64(%rdi)
	movq %r9, 72(%rdi)
	movq %r10, 80(%rdi)
	movq %r11, 88(%rdi)
	movq %r12, 96(%rdi)
	movq %r13, 104(%rdi)
	movq %r14, 112(%rdi)
	movq %r15, 120(%rdi)
	popq %rax
	movq %rax, 56(%rdi)
	popq %rax
	vmload
	cli
	stgi
	cld
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %rbx
	popq %rbp
	ret

	.section .note.GNU-stack, "", @progbits
