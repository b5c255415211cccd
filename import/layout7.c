/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Version 7 of trace.dat: sections with headers, and a chain of options sections that lead to them.
 * trace-cmd writes the option that leads to the events last. So of a file whose end is missing the
 * chain leads nowhere; its sections are then found one after the other, as they were written.
 */
#include "layout.h"

#include <string.h>

enum {
	SECTION_OPTIONS = 0,
	SECTION_EVENTS = 3, /* also the option that leads to one */
	SECTION_FIRST = 16, /* 16 to 21: what describes the events; options of the same numbers */
	SECTION_LAST = 21,
};

#define COMPRESSED  1u
#define HEADER      16u
#define CHAIN       1024u
#define OPTION_DONE 0u

struct section {
	uint32_t id, flags;
	uint64_t at, size; /* of what follows its header */
};

/* The header at @at. */
static struct section section_at(struct cursor *c, uint64_t at)
{
	struct section s;

	c->at = at;
	s.id = (uint32_t)cursor_number(c, 2);
	s.flags = (uint32_t)cursor_number(c, 2);
	cursor_number(c, 4); /* its description, which is a text elsewhere */
	s.size = cursor_number(c, 8);
	s.at = at + HEADER;
	if (s.flags > COMPRESSED) {
		c->at = at;
		cursor_fail(c, LAYOUT_DAMAGED, "no section has such a header");
	}
	return s;
}

/* A section that describes the events: all of it must be there. */
static void check_section(struct cursor *c, uint32_t id, uint64_t at)
{
	struct cursor inside = *c;
	struct section s = section_at(&inside, at);

	if (cursor_ok(&inside) && s.id != id) {
		inside.at = at;
		cursor_fail(&inside, LAYOUT_DAMAGED, "another section than was announced");
	}
	cursor_skip(&inside, s.size);
	c->status = inside.status;
	c->error = inside.error;
}

/* Where the events of each processor are. */
static void read_buffer(struct cursor *c, struct layout *layout, uint64_t end)
{
	uint64_t at = cursor_number(c, 8);
	struct cursor inside = *c;
	uint32_t count, buffer = layout->cpus ? layout->cpu[layout->cpus - 1].buffer + 1 : 0;
	char name[256];

	layout->compressed = section_at(&inside, at).flags & COMPRESSED;
	if (!cursor_ok(&inside) && inside.status != LAYOUT_TRUNCATED) {
		c->status = inside.status;
		c->error = inside.error;
	}
	cursor_string(c, name, sizeof(name));
	cursor_string(c, layout->clock, sizeof(layout->clock));
	if (cursor_number(c, 4) != layout->page && cursor_ok(c)) {
		c->at -= 4;
		cursor_fail(c, LAYOUT_DAMAGED, "a ring has other pages than the machine");
	}
	count = (uint32_t)cursor_number(c, 4);
	while (count-- && cursor_ok(c)) {
		struct layout_cpu cpu = {.id = (uint32_t)cursor_number(c, 4), .buffer = buffer};

		cpu.entry = c->at;
		cpu.offset = cursor_number(c, 8);
		cpu.size = cursor_number(c, 8);
		if (c->at > end)
			cursor_fail(c, LAYOUT_DAMAGED, "more processors than an option holds");
		layout_measure(c, layout, &cpu);
		layout_cpu_add(c, layout, &cpu);
	}
	if (cursor_ok(c))
		c->at = end;
}

/* One options section; returns where the next one is, 0: it is the last. */
static uint64_t read_options(struct cursor *c, struct layout *layout, const struct section *s)
{
	uint64_t end = s->at + s->size;

	c->at = s->at;
	while (cursor_ok(c) && c->at < end) {
		uint32_t id = (uint32_t)cursor_number(c, 2);
		uint32_t size = (uint32_t)cursor_number(c, 4);

		if (cursor_ok(c) && end - c->at < size)
			cursor_fail(c, LAYOUT_DAMAGED, "an option is longer than its section");
		if (!cursor_ok(c))
			return 0;
		if (id == OPTION_DONE) {
			layout->next = c->at;
			layout->last = end;
			return size == 8 ? cursor_number(c, 8) : 0;
		}
		if (id == SECTION_EVENTS) {
			read_buffer(c, layout, c->at + size);
		} else if (id >= SECTION_FIRST && id <= SECTION_LAST && size == 8) {
			check_section(c, id, cursor_number(c, 8));
		} else {
			layout_option(c, layout, id, size);
		}
	}
	cursor_fail(c, LAYOUT_DAMAGED, "an options section has no end");
	return 0;
}

/* Pages from @at on that are one processor's: each begins with its time, which does not go back. */
static uint64_t measure_pages(const struct cursor *c, uint32_t page, uint64_t at, uint64_t end)
{
	struct cursor inside = *c;
	uint64_t begun = at, before = 0;

	for (; at + page <= end; at += page) {
		uint64_t time;

		inside.at = at;
		time = cursor_number(&inside, 8);
		if (time < before || !cursor_ok(&inside))
			break;
		before = time;
	}
	return at - begun;
}

/* The processors' events of a section that no option tells of: each begins with a page. */
static void find_cpus(struct cursor *c, struct layout *layout, const struct section *s)
{
	uint64_t at = s->at, page = layout->page, end = c->source->size;

	layout->compressed = s->flags & COMPRESSED;
	if (end - s->at > s->size)
		end = s->at + s->size;
	for (uint32_t id = 0; cursor_ok(c); id++) {
		struct layout_cpu cpu = {.id = id};

		at = (at + page - 1) / page * page;
		if (at >= end)
			return;
		cpu.offset = at;
		cpu.size = layout->compressed ? end - at : measure_pages(c, layout->page, at, end);
		layout_measure(c, layout, &cpu);
		if (!cpu.bytes)
			return;
		layout_cpu_add(c, layout, &cpu);
		at += cpu.size + (layout->compressed ? 4 : 0);
	}
}

/* What the chain would lead to, had it not been cut. */
static void find_events(struct cursor *c, struct layout *layout)
{
	uint64_t at = layout->last;

	for (unsigned i = 0; i < CHAIN && cursor_ok(c); i++) {
		struct section s = section_at(c, at);

		if (cursor_ok(c) && s.id == SECTION_EVENTS) {
			layout->is_cut = true;
			layout->events = at;
			c->error = (struct layout_error){c->source->size,
							 "the end of the file is missing"};
			find_cpus(c, layout, &s);
			return;
		}
		cursor_skip(c, s.size);
		at = c->at;
	}
}

/* Texts that nobody needs are what the file ends with: if they are not whole, it was cut. */
static void check_tail(struct cursor *c, struct layout *layout)
{
	struct cursor inside = *c;

	if (!cursor_ok(c) || layout->last >= c->source->size)
		return;
	cursor_skip(&inside, section_at(&inside, layout->last).size);
	if (inside.status != LAYOUT_TRUNCATED)
		return;
	layout->is_cut = true;
	c->error = (struct layout_error){c->source->size, "the end of the file is missing"};
}

void layout_read7(struct cursor *c, struct layout *layout)
{
	uint64_t at;

	cursor_string(c, layout->compression, sizeof(layout->compression));
	cursor_string(c, layout->clock, sizeof(layout->clock)); /* its version: not needed */
	layout->clock[0] = 0;
	at = cursor_number(c, 8);
	for (unsigned i = 0; at && cursor_ok(c); i++) {
		struct section s = section_at(c, at);

		if (cursor_ok(c) && (s.id != SECTION_OPTIONS || i == CHAIN)) {
			c->at = at;
			cursor_fail(c, LAYOUT_DAMAGED, "no options where they are due");
		}
		if (cursor_ok(c) && c->source->size - c->at < s.size)
			cursor_fail(c, LAYOUT_TRUNCATED, "the end of the file is missing");
		if (c->status == LAYOUT_TRUNCATED && i && !layout->cpus) {
			c->status = LAYOUT_OK;
			find_events(c, layout);
			return;
		}
		if (cursor_ok(c) && (s.flags & COMPRESSED)) {
			layout->is_opaque = true;
			return;
		}
		at = read_options(c, layout, &s);
	}
	check_tail(c, layout);
}
