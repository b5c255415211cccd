/* SPDX-License-Identifier: BSD-2-Clause */
/* Says hello and switches the machine off: UMBRA_CTL_POWEROFF. */
#include "boot.inc"
	SAY text
	CONTROL 3
3:	jmp 3b
text:	.asciz "guest: hello\r\n"
	END
