/* SPDX-License-Identifier: BSD-2-Clause */
/* Numbers that people write. */
#ifndef CLI_NUMBER_H
#define CLI_NUMBER_H

#include <stdbool.h>
#include <stdint.h>

/* Decimal or 0x..; all of @text. */
bool number_parse(const char *text, uint64_t *number);

/* Hexadecimal, with 0x or without: addresses and gfns, as everything prints them. */
bool number_parse_hex(const char *text, uint64_t *number);

#endif
