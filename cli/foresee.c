/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Looks at the files that the options name before the kernel is fetched, which takes a while: what
 * will be refused then need not wait for it. Makes nothing and keeps nothing open; those who use
 * the files judge again.
 */
#include "foresee.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control.h"

/* Can a file be made beside @path, to take its place? 0, or errno. */
static int can_make(const char *path)
{
	char directory[PATH_MAX];
	const char *slash = strrchr(path, '/');
	struct stat is;

	if (stat(path, &is) == 0 && S_ISDIR(is.st_mode))
		return EISDIR;
	if (strlen(path) >= sizeof(directory))
		return ENAMETOOLONG;
	snprintf(directory, sizeof(directory), "%.*s", slash ? (int)(slash - path) + 1 : 1,
		 slash ? path : ".");
	return access(directory, W_OK | X_OK) ? errno : 0;
}

static enum status made(const char *what, const char *path, enum status status)
{
	int error = path ? can_make(path) : 0;

	return error ? complain(status, "%s: cannot write %s: %s", what, path, strerror(error))
		     : STATUS_OK;
}

static enum status read_by_guest(const struct options *options)
{
	if (options->initrd && access(options->initrd, R_OK))
		return complain(STATUS_INITRD_MISSING, "initrd %s: %s; name another with --initrd",
				options->initrd, strerror(errno));
	if (options->kernel && access(options->kernel, R_OK))
		return complain(STATUS_KERNEL_MISSING,
				"kernel %s: %s; name one with --kernel, or none for Debian's",
				options->kernel, strerror(errno));
	if (options->module_count && !options->kernel)
		return complain(STATUS_USAGE, "--module is for Multiboot guests; name one with "
					      "--kernel");
	return STATUS_OK;
}

enum status foresee(const struct options *options)
{
	enum status status = read_by_guest(options);

	if (status == STATUS_OK && options->qemu && strchr(options->qemu, '/') &&
	    access(options->qemu, X_OK))
		status =
		    complain(STATUS_QEMU_MISSING, "cannot run %s: %s; name another with --qemu",
			     options->qemu, strerror(errno));
	if (status == STATUS_OK)
		status = made("--stats", options->stats, STATUS_ERROR);
	if (status == STATUS_OK)
		status = made("--record", options->record, STATUS_TRACE);
	if (status == STATUS_OK)
		status = made("--control", options->control, STATUS_CONTROL);
	if (status == STATUS_OK && options->control)
		status = control_judge(options->control);
	return status;
}
