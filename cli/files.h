/* SPDX-License-Identifier: BSD-2-Clause */
/* Where umbra's own files are: beside the build, or installed. */
#ifndef CLI_FILES_H
#define CLI_FILES_H

#include <limits.h>
#include <stdbool.h>

/*
 * Find one of umbra's files: @built relative to the build directory, else @installed in
 * <prefix>/share/umbra. False: in neither place; @path then holds the place looked at first.
 */
bool files_find(const char *built, const char *installed, char path[PATH_MAX]);

/* The directory that holds fetched kernels; it need not exist. False: nowhere to put one. */
bool files_cache(char path[PATH_MAX]);

#endif
