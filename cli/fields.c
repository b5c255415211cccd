/* SPDX-License-Identifier: BSD-2-Clause */
/* Most verbs answer with a few numbers: here they get their names. Addresses are hexadecimal in
 * words, and in JSON strings if they have 64 bits. */
#include "fields.h"

#include <inttypes.h>
#include <string.h>

size_t fields_count(const char *fields)
{
	size_t count = *fields != 0;

	for (; *fields; fields++)
		count += *fields == ' ';
	return count;
}

static const char *after(const char *name)
{
	size_t length = strcspn(name, " ");

	return name + length + (name[length] == ' ');
}

static bool is_name(const char *name, const char *word)
{
	return strcspn(name, " ") == strlen(word) && strncmp(name, word, strlen(word)) == 0;
}

/* Of 64 bits, in any half. */
static bool is_wide(const char *name)
{
	return is_name(name, "rip") || is_name(name, "gva");
}

static bool is_address(const char *name)
{
	return is_name(name, "gfn") || is_wide(name);
}

/* Integers of JSON readers end at 63 bits, or at 53. */
static json_t *one_json(const char *name, uint64_t value)
{
	return is_wide(name) ? json_sprintf("%" PRIx64, value) : json_integer((json_int_t)value);
}

json_t *fields_json(const char *fields, const uint64_t *values)
{
	json_t *object = json_object();

	for (; *fields; fields = after(fields))
		json_object_setn_new(object, fields, strcspn(fields, " "),
				     one_json(fields, *values++));
	return object;
}

static void show_one(FILE *out, const char *name, uint64_t value)
{
	if (is_address(name))
		fprintf(out, "%17" PRIx64, value);
	else
		fprintf(out, "%13" PRIu64, value);
}

static void show_list(FILE *out, const char *fields, const uint64_t *values, size_t rows)
{
	for (const char *name = fields; *name; name = after(name))
		fprintf(out, "%*.*s%s", is_address(name) ? 17 : 13, (int)strcspn(name, " "), name,
			*after(name) ? "" : "\n");
	for (size_t row = 0; row < rows; row++)
		for (const char *name = fields; *name; name = after(name)) {
			show_one(out, name, *values++);
			if (!*after(name))
				fputc('\n', out);
		}
}

void fields_show(FILE *out, const char *fields, const uint64_t *values, size_t rows, bool list)
{
	if (list) {
		show_list(out, fields, values, rows);
		return;
	}
	for (const char *name = fields; *name; name = after(name)) {
		fprintf(out, "%-16.*s", (int)strcspn(name, " "), name);
		show_one(out, name, *values++);
		fputc('\n', out);
	}
}
