/* SPDX-License-Identifier: BSD-2-Clause */
/* A trace.dat whose end is missing, made one that can be read. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "layout.h"

#define BLOCK (1u << 16)

/* Writes numbers of the file's endianness one after the other. */
struct pen {
	int file;
	bool swap, ok;
	uint64_t at;
};

static bool put(struct pen *pen, const void *bytes, size_t size)
{
	const char *from = bytes;

	while (size && pen->ok) {
		ssize_t wrote = pwrite(pen->file, from, size, (off_t)pen->at);

		if (wrote < 0 && errno == EINTR)
			continue;
		pen->ok = wrote > 0;
		if (pen->ok) {
			from += wrote;
			size -= (size_t)wrote;
			pen->at += (uint64_t)wrote;
		}
	}
	return pen->ok;
}

static void number(struct pen *pen, uint64_t value, size_t size)
{
	uint8_t bytes[8];

	for (size_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)(value >> 8 * (pen->swap ? size - 1 - i : i));
	put(pen, bytes, size);
}

static bool copy(const struct layout_source *source, struct pen *pen, uint64_t end)
{
	char block[BLOCK];

	while (pen->at < end) {
		size_t some = end - pen->at < BLOCK ? (size_t)(end - pen->at) : BLOCK;

		if (!source->read(source->ctx, pen->at, block, some) || !put(pen, block, some))
			return false;
	}
	return true;
}

/* The options that the file ended before: one ring, and where each processor's events are. */
static void append_options(struct pen *pen, const struct layout *layout)
{
	static const char names[] = "\0local"; /* the ring's, the clock's */
	uint64_t at = pen->at, buffer = 8 + sizeof(names) + 4 + 4 + layout->cpus * 20;

	number(pen, 0, 2); /* an options section */
	number(pen, 0, 2);
	number(pen, 0, 4);
	number(pen, 6 + buffer + 6 + 8, 8);
	number(pen, 3, 2); /* the option that leads to events */
	number(pen, buffer, 4);
	number(pen, layout->events, 8);
	put(pen, names, sizeof(names));
	number(pen, layout->page, 4);
	number(pen, layout->cpus, 4);
	for (size_t i = 0; i < layout->cpus; i++) {
		number(pen, layout->cpu[i].id, 4);
		number(pen, layout->cpu[i].offset, 8);
		number(pen, layout->cpu[i].size, 8);
	}
	number(pen, 0, 2); /* the end */
	number(pen, 8, 4);
	number(pen, 0, 8);
	pen->at = layout->next;
	number(pen, at, 8);
}

bool layout_repair(const struct layout_source *source, const struct layout *layout, int file)
{
	struct pen pen = {.file = file, .swap = layout->swap, .ok = true};
	bool lost = false;

	if (!copy(source, &pen, source->size))
		return false;
	for (size_t i = 0; i < layout->cpus; i++)
		lost |= !layout->cpu[i].entry;
	if (lost)
		append_options(&pen, layout);
	for (size_t i = 0; i < layout->cpus && pen.ok; i++) {
		const struct layout_cpu *cpu = &layout->cpu[i];

		if (cpu->chunks) {
			pen.at = cpu->offset;
			number(&pen, cpu->chunks, 4);
		}
		if (!lost) {
			pen.at = cpu->entry;
			number(&pen, cpu->bytes ? cpu->offset : source->size, 8);
			number(&pen, cpu->bytes ? cpu->size : 0, 8);
		}
	}
	return pen.ok;
}
