/* SPDX-License-Identifier: BSD-2-Clause */
/* The file behind the guests' disk. See disk.c. */
#ifndef CLI_DISK_H
#define CLI_DISK_H

#include <stdbool.h>

#include "serve.h"
#include "status.h"

/* Open @path, judge it, and keep others from using it meanwhile. */
enum status disk_open(struct store *disk, const char *path, bool read_only);

/* What was written reaches the file's device. Safe where there is no disk. */
void disk_close(struct store *disk);

#endif
