/* SPDX-License-Identifier: BSD-2-Clause */
/* An exception without any handler: #UD, #DF, shutdown. */
#include "boot.inc"
	SAY text
	lidt nothing(%rip)
	ud2
nothing:
	.word 0
	.quad 0
text:	.asciz "guest: triple fault\r\n"
	END
