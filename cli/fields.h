/* SPDX-License-Identifier: BSD-2-Clause */
/* Numbers with names, in words or as JSON. @fields: the names, a space between them. See fields.c.
 */
#ifndef CLI_FIELDS_H
#define CLI_FIELDS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* How many names there are. */
size_t fields_count(const char *fields);

/* One row as an object. */
json_t *fields_json(const char *fields, const uint64_t *values);

/* @list: a heading and a line for each row; else a line for each name, of one row. */
void fields_show(FILE *out, const char *fields, const uint64_t *values, size_t rows, bool list);

#endif
