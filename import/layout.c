/* SPDX-License-Identifier: BSD-2-Clause */
/* The beginning of a trace.dat, what both versions share, and version 6. */
#include "layout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX 4096u

static const char magic[10] = {0x17, 0x08, 0x44, 't', 'r', 'a', 'c', 'i', 'n', 'g'};

bool cursor_fail(struct cursor *c, enum layout_status status, const char *what)
{
	if (cursor_ok(c)) {
		c->status = status;
		c->error = (struct layout_error){c->at, what};
	}
	return false;
}

bool cursor_ok(const struct cursor *c)
{
	return c->status == LAYOUT_OK;
}

static bool take(struct cursor *c, void *to, size_t size)
{
	if (!cursor_ok(c))
		return false;
	if (c->at > c->source->size || c->source->size - c->at < size)
		return cursor_fail(c, LAYOUT_TRUNCATED, "the end of the file is missing");
	if (!c->source->read(c->source->ctx, c->at, to, size))
		return cursor_fail(c, LAYOUT_SYSTEM, "cannot read it");
	c->at += size;
	return true;
}

uint64_t cursor_number(struct cursor *c, size_t size)
{
	uint8_t bytes[8] = {0};
	uint64_t value = 0;

	if (!take(c, bytes, size))
		return 0;
	for (size_t i = 0; i < size; i++)
		value |= (uint64_t)bytes[i] << 8 * (c->swap ? size - 1 - i : i);
	return value;
}

void cursor_skip(struct cursor *c, uint64_t size)
{
	if (!cursor_ok(c))
		return;
	if (c->at > c->source->size || c->source->size - c->at < size)
		cursor_fail(c, LAYOUT_TRUNCATED, "the end of the file is missing");
	else
		c->at += size;
}

void cursor_string(struct cursor *c, char *to, size_t size)
{
	uint64_t begun = c->at;
	size_t used = 0;
	char byte = 1;

	while (byte && take(c, &byte, 1)) {
		if (c->at - begun > TEXT_MAX) {
			c->at = begun;
			cursor_fail(c, LAYOUT_DAMAGED, "a text has no end");
			break;
		}
		if (byte && used + 1 < size)
			to[used++] = byte >= ' ' && byte <= '~' ? byte : '?';
	}
	to[used] = 0;
}

void layout_cpu_add(struct cursor *c, struct layout *layout, const struct layout_cpu *cpu)
{
	if (!cursor_ok(c))
		return;
	if (layout->cpus == LAYOUT_CPUS)
		cursor_fail(c, LAYOUT_DAMAGED, "more than 4096 processors");
	else
		layout->cpu[layout->cpus++] = *cpu;
}

/*
 * Compressed events: how many chunks there are, which cpu->size leaves out, and each one's two
 * sizes and bytes.
 */
static void measure_chunks(struct cursor *c, struct layout *layout, struct layout_cpu *cpu)
{
	uint64_t end = cpu->offset + 4 + cpu->size, whole = 0;
	uint32_t chunks;

	c->at = cpu->offset;
	chunks = (uint32_t)cursor_number(c, 4);
	for (uint32_t i = 0; i < chunks && cursor_ok(c); i++) {
		uint64_t packed = cursor_number(c, 4), bytes = cursor_number(c, 4);

		cursor_skip(c, packed);
		if (!cursor_ok(c))
			break;
		if (c->at > end || bytes % layout->page || bytes / 4096 > packed) {
			c->at = cpu->offset + 4 + whole;
			cursor_fail(c, LAYOUT_DAMAGED, "a chunk of events has no sensible size");
			break;
		}
		whole = c->at - cpu->offset - 4;
		cpu->bytes += bytes;
		cpu->chunks++;
	}
	cpu->size = whole;
}

void layout_measure(struct cursor *c, struct layout *layout, struct layout_cpu *cpu)
{
	struct cursor inside = *c;

	if (!cursor_ok(c))
		return;
	cpu->bytes = cpu->chunks = 0;
	if (cpu->size && layout->compressed) {
		measure_chunks(&inside, layout, cpu);
	} else {
		inside.at = cpu->offset;
		cursor_skip(&inside, cpu->size);
		if (!cursor_ok(&inside)) /* ends in a page, or before them all */
			cpu->size =
			    c->source->size > cpu->offset
				? (c->source->size - cpu->offset) / layout->page * layout->page
				: 0;
		cpu->bytes = cpu->size;
	}
	if (inside.status == LAYOUT_TRUNCATED) {
		if (!layout->is_cut)
			c->error = (struct layout_error){
			    c->source->size,
			    "the end of the file is missing, with some of the events"};
		layout->is_cut = true;
	} else if (!cursor_ok(&inside)) {
		c->status = inside.status;
		c->error = inside.error;
	}
}

/* ------------------------------------------------------------------ options */

enum {
	OPTION_CPUSTAT = 2,
	OPTION_CLOCK = 4,
	OPTION_UNAME = 5,
};

/* "overrun: 12", "dropped events: 3": lines of a ring's own figures. */
static uint64_t stat_number(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

/* "global [local] uptime": the one in brackets. */
static void clock_name(struct layout *layout, char *text)
{
	char *from = strchr(text, '['), *to = from ? strchr(from, ']') : NULL;

	if (!to)
		return;
	*to = 0;
	snprintf(layout->clock, sizeof(layout->clock), "%s", from + 1);
}

void layout_option(struct cursor *c, struct layout *layout, uint32_t id, uint32_t size)
{
	uint64_t end = c->at + size;
	char text[512];

	if (id == OPTION_CPUSTAT || id == OPTION_CLOCK || id == OPTION_UNAME) {
		size_t length = size < sizeof(text) - 1 ? size : sizeof(text) - 1;

		if (!take(c, text, length))
			return;
		text[length] = 0;
		if (id == OPTION_CPUSTAT)
			layout->lost += stat_number(text, "\noverrun: ") +
					stat_number(text, "dropped events: ");
		else if (id == OPTION_CLOCK)
			clock_name(layout, text);
		else
			for (size_t i = 0; i + 1 < sizeof(layout->kernel) && text[i] >= ' '; i++)
				layout->kernel[i] = text[i] <= '~' ? text[i] : '?';
	}
	if (cursor_ok(c))
		c->at = end;
}

/* ------------------------------------------------------------------ version 6 */

static void skip_sized(struct cursor *c, size_t width)
{
	cursor_skip(c, cursor_number(c, width));
}

static void expect(struct cursor *c, const char *name)
{
	uint64_t at = c->at;
	char text[16];

	cursor_string(c, text, sizeof(text));
	if (cursor_ok(c) && strcmp(text, name)) {
		c->at = at;
		cursor_fail(c, LAYOUT_DAMAGED, "no heading where one is due");
	}
}

static void skip_formats(struct cursor *c)
{
	uint64_t count = cursor_number(c, 4), systems;
	char name[64];

	while (count-- && cursor_ok(c))
		skip_sized(c, 8);
	systems = cursor_number(c, 4);
	while (systems-- && cursor_ok(c)) {
		cursor_string(c, name, sizeof(name));
		for (count = cursor_number(c, 4); count-- && cursor_ok(c);)
			skip_sized(c, 8);
	}
}

static void read_options6(struct cursor *c, struct layout *layout)
{
	while (cursor_ok(c)) {
		uint32_t id = (uint32_t)cursor_number(c, 2), size;

		if (!id)
			return;
		size = (uint32_t)cursor_number(c, 4);
		if (c->source->size - c->at < size)
			cursor_fail(c, LAYOUT_TRUNCATED, "the end of the file is missing");
		else
			layout_option(c, layout, id, size);
	}
}

void layout_read6(struct cursor *c, struct layout *layout)
{
	char heading[16];
	uint32_t cpus;

	expect(c, "header_page");
	skip_sized(c, 8);
	expect(c, "header_event");
	skip_sized(c, 8);
	skip_formats(c);
	skip_sized(c, 4); /* the kernel's symbols */
	skip_sized(c, 4); /* its texts */
	skip_sized(c, 8); /* names of threads */
	cpus = (uint32_t)cursor_number(c, 4);
	cursor_string(c, heading, sizeof(heading));
	if (cursor_ok(c) && !strcmp(heading, "options  ")) {
		read_options6(c, layout);
		cursor_string(c, heading, sizeof(heading));
	}
	if (cursor_ok(c) && !strcmp(heading, "latency  "))
		cursor_fail(c, LAYOUT_DAMAGED, "it holds text, not events");
	if (cursor_ok(c) && strcmp(heading, "flyrecord"))
		cursor_fail(c, LAYOUT_DAMAGED, "no events where they are due");
	for (uint32_t id = 0; id < cpus && cursor_ok(c); id++) {
		struct layout_cpu cpu = {.id = id, .entry = c->at};

		cpu.offset = cursor_number(c, 8);
		cpu.size = cursor_number(c, 8);
		layout_measure(c, layout, &cpu);
		layout_cpu_add(c, layout, &cpu);
	}
}

/* ------------------------------------------------------------------ both */

static void read_header(struct cursor *c, struct layout *layout)
{
	char version[8];
	uint8_t bytes[2];

	cursor_string(c, version, sizeof(version));
	layout->version = (unsigned)strtoul(version, NULL, 10);
	if (!cursor_ok(c))
		return;
	if (layout->version != 6 && layout->version != 7) {
		c->at = sizeof(magic);
		cursor_fail(c, LAYOUT_VERSION, "a version other than 6 and 7");
		return;
	}
	if (take(c, bytes, 2)) {
		c->swap = layout->swap = bytes[0] == 1;
		if (bytes[0] > 1 || (bytes[1] != 4 && bytes[1] != 8)) {
			c->at -= 2;
			cursor_fail(c, LAYOUT_DAMAGED, "no machine has such numbers");
		}
	}
	layout->page = (uint32_t)cursor_number(c, 4);
	if (cursor_ok(c) && (layout->page < 1024 || layout->page > 1u << 20 ||
			     (layout->page & (layout->page - 1)))) {
		c->at -= 4;
		cursor_fail(c, LAYOUT_DAMAGED, "no machine has such pages");
	}
}

enum layout_status layout_read(const struct layout_source *source, struct layout *layout,
			       struct layout_error *error)
{
	struct cursor c = {.source = source};
	char begun[sizeof(magic)];

	memset(layout, 0, sizeof(*layout));
	if (!source->size)
		cursor_fail(&c, LAYOUT_NOT, "the file is empty");
	else if (source->size < sizeof(magic))
		cursor_fail(&c, LAYOUT_NOT, "this is no trace.dat");
	else if (take(&c, begun, sizeof(begun)) && memcmp(begun, magic, sizeof(magic)))
		c.at = 0, cursor_fail(&c, LAYOUT_NOT, "this is no trace.dat");
	if (cursor_ok(&c))
		read_header(&c, layout);
	if (cursor_ok(&c) && layout->version == 6)
		layout_read6(&c, layout);
	else if (cursor_ok(&c))
		layout_read7(&c, layout);
	*error = c.error;
	return cursor_ok(&c) && layout->is_cut ? LAYOUT_CUT : c.status;
}
