/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The swap file: a page with a mark, by which it is known from files that matter to somebody, then
 * pages as the hypervisor places them. It grows as it is written to. Its contents mean something
 * only to the machine that wrote them, while that runs: whoever opens the file next, after a run
 * that was killed too, begins with an empty one. Nobody but its owner may read what guests keep in
 * memory. Served by serve.c.
 */
#include "swapfile.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const char mark[] = "umbra swap file: void when its machine has ended\n";

static enum status refuse(const struct store *file, int error)
{
	return complain(STATUS_SWAP,
			"swap file %s: %s; name a file that can be written with --swap", file->path,
			strerror(error));
}

/* Is it one of ours, or empty? Nobody else owns it, or has it? */
static enum status judge(const struct store *file)
{
	char found[sizeof(mark)] = "";
	struct stat is;

	if (fstat(file->fd, &is) != 0)
		return refuse(file, errno);
	if (!S_ISREG(is.st_mode))
		return complain(STATUS_SWAP, "swap file %s: not a regular file", file->path);
	if (is.st_uid != geteuid())
		return complain(STATUS_SWAP,
				"swap file %s: it is somebody else's, who could read what guests "
				"keep in memory; name another file",
				file->path);
	if (flock(file->fd, LOCK_EX | LOCK_NB) != 0)
		return complain(STATUS_SWAP,
				"swap file %s: in use by another machine; give each its own",
				file->path);
	if (is.st_size && (pread(file->fd, found, sizeof(mark) - 1, 0) != sizeof(mark) - 1 ||
			   memcmp(found, mark, sizeof(mark)) != 0))
		return complain(STATUS_SWAP,
				"swap file %s: there is something else in it; remove it if nobody "
				"needs it, or name another file",
				file->path);
	return STATUS_OK;
}

/* Nothing but the mark. False: errno says why. */
static bool empty(const struct store *file)
{
	ssize_t size = sizeof(mark) - 1;

	return ftruncate(file->fd, 0) == 0 && pwrite(file->fd, mark, (size_t)size, 0) == size &&
	       ftruncate(file->fd, UMBRA_SWAP_FIRST) == 0;
}

enum status swapfile_open(struct store *file, const char *path, uint64_t bytes)
{
	enum status status;

	*file = (struct store){.what = "swap file",
			       .path = path,
			       .first = UMBRA_SWAP_FIRST,
			       .bytes = UMBRA_SWAP_FIRST + bytes,
			       .status = STATUS_SWAP,
			       .then = {"its guest cannot go on", "pages stay in memory", ""}};
	file->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0600);
	if (file->fd < 0)
		return refuse(file, errno);
	status = judge(file);
	if (status == STATUS_OK && (fchmod(file->fd, 0600) != 0 || !empty(file)))
		status = refuse(file, errno);
	if (status != STATUS_OK) {
		close(file->fd);
		file->fd = -1;
	}
	return status;
}

void swapfile_close(struct store *file)
{
	if (file->fd >= 0) {
		if (!empty(file))
			complain(STATUS_SWAP, "swap file %s: cannot be emptied: %s", file->path,
				 strerror(errno));
		close(file->fd);
	}
	*file = STORE_NONE;
}
