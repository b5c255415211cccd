/* SPDX-License-Identifier: BSD-2-Clause */
/* What the targets without a simulated machine stop with when something does not hold. */
#ifndef CHECK_H
#define CHECK_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static inline void check(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "VIOLATION: %s\n", what);
	abort();
}

#endif
