/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One of two guests of the same image, which both touch 32 MiB: guest 0 at once, and powers off; guest
 * 1 (the last digit of its command line) some seconds later. With fewer frames than both need, it
 * gets the other's.
 */
#include "boot.inc"
	.set FIRST, 0x1400000
	.set PAGES, 8192
	mov 0x228(%rsi), %esi
3:	lodsb
	test %al, %al
	jnz 3b
	cmpb $'1', -2(%rsi)
	jne touch
	movabs $10000000000, %rbx
	call now
	add %rax, %rbx
4:	call now
	cmp %rbx, %rax
	jb 4b
touch:	mov $FIRST, %edi
	mov $PAGES, %ecx
5:	mov %rdi, (%rdi)
	add $4096, %edi
	dec %ecx
	jnz 5b
	SAY done
	CONTROL 3

now:	rdtsc
	shl $32, %rdx
	or %rdx, %rax
	ret
done:	.asciz "guest: has touched it\r\n"
	END
