/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A boot sector: real mode under paging that it knows nothing of. Asks the firmware for the memory
 * map and adds it up, waits for the firmware's timer, takes timer interrupts through the vector
 * table, goes to protected mode and back, and leaves with status 85.
 */
	.code16
	.text
	.globl _start
_start:	xorw %ax, %ax
	movw %ax, %ds
	movw %ax, %es
	movw %ax, %ss
	movw $0x7c00, %sp
	/* E820: RAM in KiB. */
	xorl %ebx, %ebx
	xorl %ebp, %ebp
1:	movl $0xe820, %eax
	movl $20, %ecx
	movl $0x534d4150, %edx
	movw $0x8000, %di
	int $0x15
	jc fail
	cmpl $0x534d4150, %eax
	jne fail
	cmpl $1, 0x8010
	jne 2f
	movl 0x8008, %eax
	shrl $10, %eax
	addl %eax, %ebp
2:	testl %ebx, %ebx
	jnz 1b
	cmpl $639 + 63 * 1024, %ebp
	jne fail
	/* Two of the firmware's own ticks, counted at 0040:006C. */
	movl 0x46c, %eax
	addl $2, %eax
	sti
0:	hlt
	cmpl %eax, 0x46c
	jb 0b
	cli
	/* Eight ticks of the timer, by INT 8. */
	movw $tick, 4 * 8
	movw $0, 4 * 8 + 2
	movb $0x11, %al /* the PICs as a BIOS has them: vectors 8 and 70h */
	outb %al, $0x20
	movb $8, %al
	outb %al, $0x21
	movb $4, %al
	outb %al, $0x21
	movb $1, %al
	outb %al, $0x21
	movb $0xfe, %al
	outb %al, $0x21
	movb $0x34, %al
	outb %al, $0x43
	movb $0x00, %al
	outb %al, $0x40
	movb $0x10, %al
	outb %al, $0x40
	sti
3:	hlt
	cmpb $8, ticks
	jb 3b
	cli
	/* Protected mode, a store beyond 1 MiB, and back. */
	lgdt gdtr
	movl %cr0, %eax
	orb $1, %al
	movl %eax, %cr0
	ljmp $8, $in32
	.code32
in32:	movw $0x10, %ax
	movw %ax, %ds
	movl $0x12345678, 0x200000
	addl $1, 0x200000
	cmpl $0x12345679, 0x200000
	jne stop
	ljmp $0x18, $in16
stop:	hlt
	.code16
in16:	movw $0x20, %ax
	movw %ax, %ds
	movl %cr0, %eax
	andb $0xfe, %al
	movl %eax, %cr0
	ljmp $0, $real
real:	xorw %ax, %ax
	movw %ax, %ds
	movw $text, %si
4:	lodsb
	testb %al, %al
	jz 5f
	movb $0x0e, %ah
	int $0x10
	jmp 4b
5:	movl $42, %eax
exit:	movw $0xf4, %dx
	outl %eax, %dx
	hlt
fail:	xorl %eax, %eax
	jmp exit

tick:	pushw %ax
	incb %cs:ticks
	movb $0x20, %al
	outb %al, $0x20
	popw %ax
	iretw

ticks:	.byte 0
text:	.asciz "guest: real mode\r\n"
	.balign 8
gdt:	.quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00009b000000ffff, 0x000093000000ffff
gdtr:	.word 39
	.long gdt
	.org 510
	.word 0xaa55
	.section .note.GNU-stack, "", @progbits
