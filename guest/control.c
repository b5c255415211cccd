/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Control ports. Owns the process's I/O permission for UMBRA_CTL and UMBRA_CTL_ARG, nothing else.
 */
#include "control.h"

#include <sys/io.h>

#define PORTS 8 /* two of 32 bits */

static bool present;

void control_open(void)
{
	if (ioperm(UMBRA_CTL, PORTS, 1) != 0)
		return;
	present = inl(UMBRA_CTL) == UMBRA_CTL_ID;
	if (!present)
		ioperm(UMBRA_CTL, PORTS, 0);
}

bool control_present(void)
{
	return present;
}

void control_close(void)
{
	if (present)
		ioperm(UMBRA_CTL, PORTS, 0);
	present = false;
}

uint32_t control_call(enum umbra_ctl op, uint32_t argument)
{
	if (!present)
		return 0;
	outl(argument, UMBRA_CTL_ARG);
	outl((uint32_t)op, UMBRA_CTL);
	return inl(UMBRA_CTL_ARG);
}
