/* SPDX-License-Identifier: BSD-2-Clause */
/* What `umbra run` was asked for. */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "kernel.h"
#include "status.h"

#define MEMORY_MIN (64ull << 20)

#define MODULES_MAX 8

enum paging_kind {
	PAGING_SHADOW,
	PAGING_NESTED,
};

struct options {
	const char *kernel; /* NULL: Debian's */
	const char *initrd; /* NULL: ours */
	bool no_initrd;
	enum kernel_format format;
	const char *modules[MODULES_MAX]; /* "FILE WORDS": of a Multiboot guest */
	unsigned module_count;
	enum paging_kind paging;
	bool exit_code;      /* the guest's status, by port 0xf4, is ours */
	const char *append;  /* after the default words */
	const char *cmdline; /* instead of the default words; NULL: those */
	uint32_t guests;
	uint64_t memory;       /* bytes, of each guest */
	uint32_t record_guest; /* the number of the one that is recorded */
	uint32_t quota;        /* shadow pages; 0: the hypervisor's choice */
	uint32_t storm;        /* migrations a second */
	uint32_t compact;      /* frames moved a second, to map 2 MiB at once */
	uint32_t merge;        /* pages looked at a second, to be shared */
	const char *disk;      /* a file of raw sectors; NULL: none */
	bool disk_ro;
	uint64_t frames;     /* bytes of the machine that guests get in all; 0: as they are told */
	const char *swap;    /* a file for what finds no room there; NULL: none */
	uint64_t swap_bytes; /*   its size */
	bool virtio_console;
	bool seal;
	const char *record;
	const char *control; /* a socket's path */ /* a trace file to make; NULL: none */
	bool batch;
	bool compare;
	const char *until; /* end when the guest says this; NULL: when it ends */
	double timeout;    /* seconds; 0: none */
	const char *stats; /* JSON file or NULL */
	const char *qemu;
};

/*
 * Fill @options in from @argv. STATUS_OK; or a status after a complaint. *@done is set where
 * there is nothing left to do (--help).
 */
enum status options_parse(int argc, char **argv, struct options *options, bool *done);

/* "512M" to bytes. False: not a size. */
bool options_size(const char *text, uint64_t *bytes);

#endif
