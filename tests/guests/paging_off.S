/* SPDX-License-Identifier: BSD-2-Clause */
/* Sets CR4.SMEP, turns paging off and goes on: SMEP means nothing without paging. */
#include "boot.inc"
#include "protected.inc"
	SAY before
	mov %cr4, %rax
	or $0x100000, %rax
	mov %rax, %cr4
	GO32
	PAGING_OFF
	SAY32 after
	mov $0x5a0, %edx
	mov $3, %eax
	outl %eax, %dx
4:	jmp 4b
before:	.asciz "guest: sets SMEP\r\n"
after:	.asciz "guest: paging is off\r\n"
	.code64
	END
