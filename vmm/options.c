/* SPDX-License-Identifier: BSD-2-Clause */
/* The image's command line: one table of what may stand there. Owns nothing. */
#include <stddef.h>

#include "loader.h"
#include "machine.h"
#include "options.h"
#include "string.h"

struct option {
	const char *name;
	size_t offset; /* in struct options */
	uint64_t initial, least, most;
};

static const struct option table[] = {
    {"memory", offsetof(struct options, memory), 0, 16ull << 20, 64ull << 30},
    {"quota", offsetof(struct options, quota), 16384, UMBRA_QUOTA_MIN, UMBRA_QUOTA_MAX},
    {"storm", offsetof(struct options, storm), 0, 0, 1000000},
    {"compact", offsetof(struct options, compact), 0, 0, UMBRA_COMPACT_RATE_MAX},
    {"merge", offsetof(struct options, merge), 0, 0, UMBRA_MERGE_RATE_MAX},
    {"audit", offsetof(struct options, audit), 0, 0, UINT64_MAX},
    {"prefetch", offsetof(struct options, prefetch), 8, 0, 64},
    {"nested", offsetof(struct options, nested), 0, 0, 1},
    {"format", offsetof(struct options, format), FORMAT_AUTO, FORMAT_AUTO, FORMATS - 1},
    {"spare", offsetof(struct options, spare), 0, 0, 1ull << 30},
    {"disk", offsetof(struct options, disk), 0, 0, 1ull << 54},
    {"disk_ro", offsetof(struct options, disk_ro), 0, 0, 1},
    {"record", offsetof(struct options, record), 0, 0, 1},
    {"guests", offsetof(struct options, guests), 1, 1, UMBRA_GUESTS_MAX},
    {"record_guest", offsetof(struct options, record_guest), 0, 0, UMBRA_GUESTS_MAX - 1},
    {"frames", offsetof(struct options, frames), 0, 16ull << 20, 64ull << 30},
    {"swap", offsetof(struct options, swap), 0, 0, 1ull << 29},
    {"seal", offsetof(struct options, seal), 0, 0, 1},
    {"console", offsetof(struct options, console), 0, 0, 1},
};

#define OPTIONS (sizeof(table) / sizeof(table[0]))

static uint64_t *value_of(struct options *options, const struct option *option)
{
	return (uint64_t *)((char *)options + option->offset);
}

static _Noreturn void refuse(const char *word, size_t length)
{
	char text[64];

	if (length >= sizeof(text))
		length = sizeof(text) - 1;
	memcpy(text, word, length);
	text[length] = 0;
	machine_end(NULL, UMBRA_END_IMAGE, "bad option \"%s\" for the hypervisor", text);
}

static bool number(const char *s, const char *end, uint64_t *value)
{
	uint64_t v = 0;

	if (s == end)
		return false;
	for (; s < end; s++) {
		if (*s < '0' || *s > '9' || v > (UINT64_MAX - 9) / 10)
			return false;
		v = v * 10 + (uint64_t)(*s - '0');
	}
	*value = v;
	return true;
}

static void option_parse(const char *word, const char *end, struct options *options)
{
	for (size_t i = 0; i < OPTIONS; i++) {
		const struct option *o = &table[i];
		size_t length = strlen(o->name);
		uint64_t value;

		if ((size_t)(end - word) <= length || memcmp(word, o->name, length) ||
		    word[length] != '=')
			continue;
		if (!number(word + length + 1, end, &value) || value < o->least || value > o->most)
			break;
		*value_of(options, o) = value;
		return;
	}
	refuse(word, (size_t)(end - word));
}

void options_parse(const char *line, struct options *options)
{
	for (size_t i = 0; i < OPTIONS; i++)
		*value_of(options, &table[i]) = table[i].initial;
	while (*line) {
		const char *end = line;

		while (*end && *end != ' ')
			end++;
		if (end != line)
			option_parse(line, end, options);
		line = *end ? end + 1 : end;
	}
	if (!options->memory || options->memory % UMBRA_PAGE_SIZE)
		machine_end(NULL, UMBRA_END_IMAGE,
			    "memory= must be given, a multiple of 4096 from 16 MiB to 64 GiB");
	if (options->spare % UMBRA_PAGE_SIZE)
		machine_end(NULL, UMBRA_END_IMAGE, "spare= must be a multiple of 4096");
}
