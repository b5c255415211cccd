/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The file of raw sectors that is the guests' disk: opened and judged here, served by serve.c.
 */
#include "disk.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTOR 512u

static enum status judge(const struct store *disk)
{
	struct stat file;

	if (fstat(disk->fd, &file) != 0)
		return complain(STATUS_DISK, "disk %s: %s", disk->path, strerror(errno));
	if (!S_ISREG(file.st_mode) && !S_ISBLK(file.st_mode))
		return complain(STATUS_DISK, "disk %s: neither a file nor a block device",
				disk->path);
	if (disk->bytes < SECTOR || disk->bytes % SECTOR)
		return complain(STATUS_DISK,
				"disk %s: its %llu bytes are not a whole number of sectors of "
				"%u; is it a raw image? (qemu-img convert -O raw makes one)",
				disk->path, (unsigned long long)disk->bytes, SECTOR);
	if (flock(disk->fd, (disk->read_only ? LOCK_SH : LOCK_EX) | LOCK_NB) != 0)
		return complain(STATUS_DISK,
				"disk %s: in use by another machine; with --disk-ro several can "
				"share it",
				disk->path);
	return STATUS_OK;
}

enum status disk_open(struct store *disk, const char *path, bool read_only)
{
	static const char told[] = "the guest was told";

	*disk = (struct store){.what = "disk",
			       .path = path,
			       .read_only = read_only,
			       .status = STATUS_DISK,
			       .then = {told, told, told}};
	disk->fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK);
	if (disk->fd < 0)
		return complain(STATUS_DISK, "disk %s: %s; %s", path, strerror(errno),
				errno == ENOENT ? "name a raw disk image with --disk"
						: "--disk-ro needs no right to write");
	off_t end = lseek(disk->fd, 0, SEEK_END);
	disk->bytes = end > 0 ? (uint64_t)end : 0;
	return judge(disk);
}

void disk_close(struct store *disk)
{
	if (disk->fd >= 0) {
		if (!disk->read_only)
			fdatasync(disk->fd);
		close(disk->fd);
	}
	*disk = STORE_NONE;
}
