/* SPDX-License-Identifier: BSD-2-Clause */
/* The file that guests' cold pages are in. See swapfile.c. */
#ifndef CLI_SWAPFILE_H
#define CLI_SWAPFILE_H

#include <stdint.h>

#include "serve.h"
#include "status.h"

/*
 * Open @path, for @bytes of pages, and keep others from using it meanwhile. It is made if it is not
 * there; what an earlier run left in it goes. A file that is no swap file is not touched.
 */
enum status swapfile_open(struct store *file, const char *path, uint64_t bytes);

/* What is in it means nothing any more. Safe where there is none. */
void swapfile_close(struct store *file);

#endif
