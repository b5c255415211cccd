/* SPDX-License-Identifier: BSD-2-Clause */
/* Asks for a reset as PCs do: the keyboard controller's pulse. */
#include "boot.inc"
	SAY text
	mov $0xfe, %al
	outb %al, $0x64
3:	hlt
	jmp 3b
text:	.asciz "guest: reboots\r\n"
	END
