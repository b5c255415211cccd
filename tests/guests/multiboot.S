/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A Multiboot guest: says its command line and its first module's, and checks what a loader promises
 * (Multiboot Specification §3.2, §3.3): the magic number, the memory map, the module. Built as ELF32,
 * as ELF64, and (KLUDGE) as a flat file whose header says where it goes.
 */
	.set FLAGS, 3
#ifdef KLUDGE
	.set ADDRESSES, 0x10000
#else
	.set ADDRESSES, 0
#endif
	.code32
	.text
	.globl _start
header:	.long 0x1badb002, FLAGS + ADDRESSES, -(0x1badb002 + FLAGS + ADDRESSES)
#ifdef KLUDGE
	.long header, header, 0, bss_end, _start
#endif
_start:
	movl $stack, %esp
	cmpl $0x2badb002, %eax
	jne fail
	movl (%ebx), %eax
	andl $0x4d, %eax /* memory, command line, modules, map */
	cmpl $0x4d, %eax
	jne fail
	cmpl $639, 4(%ebx)
	jne fail
	cmpl $63 * 1024, 8(%ebx) /* KiB above the first MiB, of 64 MiB */
	jne fail
	cmpl $0, zero /* .bss is cleared */
	jne fail
	/* RAM of the map, in all: 63 MiB above, 639 KiB below. */
	movl 48(%ebx), %esi
	movl 44(%ebx), %ecx
	addl %esi, %ecx
	xorl %edx, %edx
1:	cmpl %ecx, %esi
	jae 2f
	cmpl $1, 20(%esi)
	jne 3f
	addl 12(%esi), %edx
3:	addl (%esi), %esi
	addl $4, %esi
	jmp 1b
2:	cmpl $63 * 1048576 + 639 * 1024, %edx
	jne fail
	movl $text, %esi
	call say
	movl 16(%ebx), %esi
	call say
	cmpl $1, 20(%ebx)
	jne fail
	movl 24(%ebx), %edi
	movl (%edi), %eax /* its first bytes: a bzImage of ours begins with zeros, 55AA at 510 */
	cmpw $0xaa55, 510(%eax)
	jne fail
	movl $semicolon, %esi
	call say
	movl 8(%edi), %esi
	call say
	movl $end, %esi
	call say
	xorl %eax, %eax
exit:	movw $0xf4, %dx
	outl %eax, %dx
	hlt
fail:	movl $1, %eax
	jmp exit

say:	movw $0x3f8, %dx
1:	lodsb
	testb %al, %al
	jz 2f
	outb %al, %dx
	jmp 1b
2:	ret

text:	.asciz "guest: "
semicolon: .asciz "; "
end:	.asciz "\r\n"
	.bss
	.balign 16
zero:	.long 0
	.skip 4096
stack:
bss_end:
	.section .note.GNU-stack, "", @progbits
