/* SPDX-License-Identifier: BSD-2-Clause */
/* HLT with interrupts off: nothing can happen any more, which counts as power-off. */
#include "boot.inc"
	SAY text
	cli
3:	hlt
	jmp 3b
text:	.asciz "guest: halts\r\n"
	END
