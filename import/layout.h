/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a trace.dat is made of, looked at before libtracecmd gets it: that library trusts sizes and
 * offsets, and says of a bad file no more than that it is bad. Here each is checked against the
 * file's size, so that damage is told with its offset; and a file whose end is missing is told
 * apart from one that is no use: what it holds can be read after layout_repair().
 */
#ifndef IMPORT_LAYOUT_H
#define IMPORT_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LAYOUT_CPUS 4096u

struct layout_source {
	void *ctx;
	uint64_t size;
	/* @size bytes at @at, which is inside; false: an I/O error. */
	bool (*read)(void *ctx, uint64_t at, void *to, size_t size);
};

/* The events of one processor, one after the other in pages. */
struct layout_cpu {
	uint32_t id;
	uint32_t buffer;       /* number of its ring: 0, unless there were several */
	uint64_t offset, size; /* in the file; of a file that was cut: of what is whole */
	uint64_t bytes;        /* of pages, decompressed */
	uint64_t entry;        /* where in the file @offset and @size are; 0: they were lost */
	uint32_t chunks;       /* compressed ones */
};

struct layout {
	unsigned version; /* 6 or 7 */
	bool swap;        /* the file is big-endian */
	bool is_cut;
	bool compressed; /* the events are */
	bool is_opaque;  /* options are compressed: what events there are is not known here */
	uint32_t page;   /* bytes */
	char compression[32], clock[32], kernel[128];
	uint64_t lost;   /* events that the ring had no room for, by its own count */
	uint64_t next;   /* version 7: where an options section names the next one */
	uint64_t events; /* version 7: the section that no option led to any more */
	uint64_t last;   /* version 7: end of the last options section that was seen */
	size_t cpus;
	struct layout_cpu cpu[LAYOUT_CPUS];
};

enum layout_status {
	LAYOUT_OK,
	LAYOUT_CUT,       /* the end is missing: layout_repair() */
	LAYOUT_TRUNCATED, /* so much is missing that there are no events */
	LAYOUT_DAMAGED,
	LAYOUT_NOT,     /* not a trace.dat */
	LAYOUT_VERSION, /* of a version that is not known here */
	LAYOUT_SYSTEM,  /* it could not be read: errno */
};

struct layout_error {
	uint64_t at;
	const char *what;
};

/* Unless it is LAYOUT_OK: *@error. */
enum layout_status layout_read(const struct layout_source *source, struct layout *layout,
			       struct layout_error *error);

/*
 * A copy of a file that was cut, into @file, which is empty: its events' sizes are what is there,
 * and an options section leads to those that none led to. False: errno.
 */
bool layout_repair(const struct layout_source *source, const struct layout *layout, int file);

/* Of layout.c, for the one that follows the sections: */

/* Goes through a file, and stops for good at the first thing that is wrong. */
struct cursor {
	const struct layout_source *source;
	bool swap;
	uint64_t at;
	enum layout_status status;
	struct layout_error error;
};

bool cursor_fail(struct cursor *c, enum layout_status status, const char *what);
/* Is what was read so far good? */
bool cursor_ok(const struct cursor *c);
uint64_t cursor_number(struct cursor *c, size_t size);
void cursor_skip(struct cursor *c, uint64_t size);
/* A string that ends with a zero byte; what is beyond @size is left out. */
void cursor_string(struct cursor *c, char *to, size_t size);

/* One option, of @size bytes. */
void layout_option(struct cursor *c, struct layout *layout, uint32_t id, uint32_t size);
void layout_cpu_add(struct cursor *c, struct layout *layout, const struct layout_cpu *cpu);
/* How much of @cpu's events is there; 0 chunks where the first one already is not. */
void layout_measure(struct cursor *c, struct layout *layout, struct layout_cpu *cpu);
/* Versions 6 and 7, behind what they have in common. */
void layout_read6(struct cursor *c, struct layout *layout);
void layout_read7(struct cursor *c, struct layout *layout);

#endif
