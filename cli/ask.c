/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How verbs ask the hypervisor for a command and tell what it answers: numbers, most of them, which
 * the verb's row in verbs.c has names for. Maps the place in the machine's memory where answers
 * are; control.c lets it go.
 */
#include "ask.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "control.h"
#include "fields.h"
#include "number.h"
#include "qemu.h"
#include "refusal.h"
#include "verbs.h"

void ask_reply_json(struct control *c, json_t *json)
{
	char *text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;

	json_decref(json);
	if (text)
		control_reply(c, STATUS_OK, "%s\n", text);
	else
		control_reply(c, STATUS_ERROR, "out of memory");
	free(text);
}

void ask_command(struct control *c, enum umbra_command command, uint64_t first, uint64_t second)
{
	struct umbra_machine *page = c->ram->page;

	page->argument[0] = first;
	page->argument[1] = second;
	__atomic_store_n(&page->command, command, __ATOMIC_RELEASE);
	c->asked = true;
}

const void *ask_answer(struct control *c)
{
	uint64_t address = __atomic_load_n(&c->ram->page->answer, __ATOMIC_RELAXED);
	void *map;

	if (c->answer)
		return c->answer;
	if (!address || address % 4096 || address > c->ram->bytes - UMBRA_ANSWER_BYTES)
		return NULL;
	map = mmap(NULL, UMBRA_ANSWER_BYTES, PROT_READ, MAP_SHARED, c->ram->fd, (off_t)address);
	c->answer = map == MAP_FAILED ? NULL : map;
	return c->answer;
}

/* The barrier: the compiler must not look at @from again for what it finds in @to. */
void ask_copy(void *to, const void *from, size_t size)
{
	memcpy(to, from, size);
	__asm__ volatile("" : : "r"(to) : "memory");
}

/* Word @i as a number, hexadecimal where the verb's arguments say GFN. */
static bool argument(struct control *c, unsigned i, uint64_t *value)
{
	const char *name = c->verb->arguments;

	for (unsigned skip = i; skip; skip--)
		name += strcspn(name, " ") + 1;
	return strncmp(name, "GFN", 3) == 0 ? number_parse_hex(c->words[i], value)
					    : number_parse(c->words[i], value);
}

void ask_numbers(struct control *c)
{
	uint64_t values[2] = {0};

	for (unsigned i = 0; i < c->count && i < 2; i++) {
		if (argument(c, i, &values[i]))
			continue;
		control_reply(
		    c, STATUS_USAGE,
		    "%s %s: \"%s\" is no such number; a GFN is hexadecimal, others decimal",
		    c->verb->name, c->verb->arguments, c->words[i]);
		return;
	}
	ask_command(c, c->verb->command, values[0], values[1]);
}

void ask_tell_rows(struct control *c, const uint64_t *values, size_t rows, bool list)
{
	size_t columns = fields_count(c->verb->fields), size;
	char *text = NULL;
	json_t *array;
	FILE *out;

	if (c->json && !list) {
		ask_reply_json(c, fields_json(c->verb->fields, values));
		return;
	}
	if (c->json) {
		array = json_array();
		for (size_t i = 0; i < rows; i++)
			json_array_append_new(array,
					      fields_json(c->verb->fields, values + i * columns));
		ask_reply_json(c, array);
		return;
	}
	out = open_memstream(&text, &size);
	if (!out) {
		control_reply(c, STATUS_ERROR, "out of memory");
		return;
	}
	fields_show(out, c->verb->fields, values, rows, list);
	fclose(out);
	control_reply(c, STATUS_OK, "%s", text);
	free(text);
}

void ask_done(struct control *c)
{
	control_reply(c, STATUS_OK, "%s", c->json ? "{}\n" : "");
}

void ask_tell(struct control *c)
{
	const struct umbra_machine *page = c->ram->page;
	size_t columns = fields_count(c->verb->fields),
	       count = __atomic_load_n(&page->answers, __ATOMIC_RELAXED);
	int result = __atomic_load_n(&page->result, __ATOMIC_RELAXED);

	if (result) {
		refusal_tell(c, result);
	} else if (!columns) {
		ask_done(c);
	} else if (count != columns || columns > CONTROL_KEPT || !ask_answer(c)) {
		refusal_tell(c, 0);
	} else {
		ask_copy(c->kept, ask_answer(c), columns * sizeof(c->kept[0]));
		ask_tell_rows(c, c->kept, 1, false);
	}
}

void ask_tell_list(struct control *c)
{
	const struct umbra_machine *page = c->ram->page;
	size_t columns = fields_count(c->verb->fields),
	       count = __atomic_load_n(&page->answers, __ATOMIC_RELAXED);
	int result = __atomic_load_n(&page->result, __ATOMIC_RELAXED);

	if (result || count % columns || count > UMBRA_ANSWER_BYTES / sizeof(uint64_t) ||
	    !ask_answer(c))
		refusal_tell(c, result);
	else
		ask_tell_rows(c, ask_answer(c), count / columns, true);
}
