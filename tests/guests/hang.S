/* SPDX-License-Identifier: BSD-2-Clause */
/* Runs for ever without an exit that the guest itself causes. */
#include "boot.inc"
	SAY text
3:	jmp 3b
text:	.asciz "guest: hangs\r\n"
	END
