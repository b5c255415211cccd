/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the guest is made of: its kernel and initrd, opened and judged before anything is started,
 * and its command line.
 */
#ifndef CLI_GUEST_H
#define CLI_GUEST_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "kernel.h"
#include "options.h"
#include "status.h"

struct guest {
	int kernel_fd;
	int initrd_fd; /* -1: none */
	int module_fd[MODULES_MAX];
	enum kernel_format format;
	char modules[PATH_MAX]; /* the default kernel's, for our initramfs */
	char name[256];         /* of the kernel, for the report: its version, or its file's name */
	char *cmdline;
	bool expect_workload; /* our init runs and was told to run the workload */
};

/*
 * Open and check everything @options name; fetch Debian's kernel where none is named.
 * @shell: init shall run a shell, not the workload. STATUS_OK, or a status after a complaint.
 */
enum status guest_open(struct guest *guest, const struct options *options, bool shell);

void guest_close(struct guest *guest);

#endif
