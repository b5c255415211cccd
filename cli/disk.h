/* SPDX-License-Identifier: BSD-2-Clause */
/* The file behind the guest's disk. See disk.c. */
#ifndef CLI_DISK_H
#define CLI_DISK_H

#include <stdbool.h>
#include <stdint.h>

#include <umbra/machine.h>

#include "status.h"

struct ram;

/* All guests have it; where there are several it is only read. */
struct disk {
	int fd; /* -1: no disk */
	const char *path;
	uint64_t bytes;
	bool read_only;
	uint8_t *data[UMBRA_GUESTS_MAX]; /* mapped: of each guest's requests */
	int bell[2];                     /* a socket pair: our end, the hypervisor's COM2 */
	bool complained;
};

#define DISK_NONE ((struct disk){.fd = -1, .bell = {-1, -1}})

/* Open @path, judge it, and keep others from using it meanwhile. */
enum status disk_open(struct disk *disk, const char *path, bool read_only);

/*
 * The bell rang: carry out what is asked for, ring back. A request that leads out of the file, or
 * that the file's host refuses, fails for the guest; the first of those is complained about.
 */
void disk_serve(struct disk *disk, const struct ram *ram, unsigned guests);

/* What was written reaches the file's device. Safe where there is no disk. */
void disk_close(struct disk *disk);

#endif
