/* SPDX-License-Identifier: BSD-2-Clause */
/* The one way to complain. */
#include "status.h"

#include <stdarg.h>
#include <stdio.h>

enum status complain(enum status status, const char *format, ...)
{
	va_list args;

	fflush(stdout);
	va_start(args, format);
	fputs("umbra: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	return status;
}
