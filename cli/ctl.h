/* SPDX-License-Identifier: BSD-2-Clause */
/* Asking a running machine. See ctl.c. */
#ifndef CLI_CTL_H
#define CLI_CTL_H

#include <stdbool.h>

#include "status.h"

/* Is @path a socket, where a machine may listen? */
bool ctl_is_socket(const char *path);

/* Ask the machine at @path of @guest, a number or NULL; print what it says, return its status. */
enum status ctl_ask(const char *path, bool json, const char *guest, char *const *words,
		    unsigned count);

#endif
