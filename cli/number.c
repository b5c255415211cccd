/* SPDX-License-Identifier: BSD-2-Clause */
/* strtoull(), without the forms that nobody means. */
#include "number.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

static bool parse(const char *text, int base, uint64_t *number)
{
	char *end;

	errno = 0;
	*number = strtoull(text, &end, base);
	return isxdigit((unsigned char)*text) && !*end && !errno;
}

bool number_parse(const char *text, uint64_t *number)
{
	return parse(text, 0, number);
}

bool number_parse_hex(const char *text, uint64_t *number)
{
	return parse(text, 16, number);
}
