/* SPDX-License-Identifier: BSD-2-Clause */
/* The head of aliases.c's bzImage. boot.inc wants to know where it ends: aliases.ld fills it up. */
	.set image_end, loaded + 0x4000
#include "boot.inc"
	mov %rsi, %rdi
	lea stack_top(%rip), %rsp
	call aliases_main
1:	hlt
	jmp 1b

	.balign 16
	.skip 4096
stack_top:
	.section .note.GNU-stack, "", @progbits
