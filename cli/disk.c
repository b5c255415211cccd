/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Serves the guest's disk from a file of raw sectors: requests in the machine page, data beside
 * them in the machine's RAM (umbra/machine.h). What the hypervisor writes there is not trusted:
 * each field is read once and checked against the file and the mapped data.
 */
#include "disk.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <umbra/machine.h>

#include "qemu.h"

#define SECTOR     512u
#define DATA_BYTES (UMBRA_REQUESTS * (size_t)UMBRA_REQUEST_BYTES)

static enum status judge(const struct disk *disk)
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

enum status disk_open(struct disk *disk, const char *path, bool read_only)
{
	*disk = DISK_NONE;
	disk->path = path;
	disk->read_only = read_only;
	disk->fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK);
	if (disk->fd < 0)
		return complain(STATUS_DISK, "disk %s: %s; %s", path, strerror(errno),
				errno == ENOENT ? "name a raw disk image with --disk"
						: "--disk-ro needs no right to write");
	off_t end = lseek(disk->fd, 0, SEEK_END);
	disk->bytes = end > 0 ? (uint64_t)end : 0;
	enum status status = judge(disk);
	if (status == STATUS_OK && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, disk->bell))
		status = complain(STATUS_ERROR, "socketpair: %s", strerror(errno));
	if (status == STATUS_OK)
		fcntl(disk->bell[0], F_SETFL, O_NONBLOCK);
	return status;
}

/* Map the data of a guest's requests, once the hypervisor has said where it is. */
static bool map(uint8_t **data, const struct ram *ram)
{
	uint64_t at = ram->page->data;

	if (*data)
		return true;
	if (!at || at % 4096 || at > ram->bytes || ram->bytes - at < DATA_BYTES)
		return false;
	void *mapped =
	    mmap(NULL, DATA_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, ram->fd, (off_t)at);
	if (mapped != MAP_FAILED)
		*data = mapped;
	return *data;
}

/* All of it, or errno. */
static int transfer(const struct disk *disk, bool write, uint8_t *data, size_t size, off_t offset)
{
	while (size) {
		ssize_t done = write ? pwrite(disk->fd, data, size, offset)
				     : pread(disk->fd, data, size, offset);
		if (done < 0 && errno != EINTR)
			return errno;
		if (done == 0)
			return EIO; /* the file has become shorter */
		if (done > 0) {
			data += done;
			size -= (size_t)done;
			offset += done;
		}
	}
	return 0;
}

/* 0, or errno. */
static int carry_out(struct disk *disk, uint8_t *data, uint32_t kind, uint64_t offset,
		     uint32_t size)
{
	if (size > UMBRA_REQUEST_BYTES || size > disk->bytes || offset > disk->bytes - size)
		return ERANGE;
	switch (kind) {
	case UMBRA_REQUEST_READ:
		return transfer(disk, false, data, size, (off_t)offset);
	case UMBRA_REQUEST_WRITE:
		return disk->read_only ? EROFS : transfer(disk, true, data, size, (off_t)offset);
	case UMBRA_REQUEST_FLUSH:
		return disk->read_only || fdatasync(disk->fd) == 0 ? 0 : errno;
	default:
		return EINVAL;
	}
}

static void answer(struct disk *disk, struct umbra_request *request, uint8_t *data)
{
	static const char *const doing[] = {"reading", "writing", "flushing"};
	uint32_t kind = request->kind;
	int error = carry_out(disk, data, kind, request->offset, request->size);

	if (error && !disk->complained) {
		disk->complained = true;
		complain(STATUS_DISK, "disk %s: %s: %s; the guest was told", disk->path,
			 kind <= UMBRA_REQUEST_FLUSH ? doing[kind] : "a bad request",
			 strerror(error));
	}
	request->failed = error != 0;
	__atomic_store_n(&request->state, UMBRA_REQUEST_DONE, __ATOMIC_RELEASE);
}

/* False: this guest asked for nothing. */
static bool serve(struct disk *disk, const struct ram *ram, uint8_t *data)
{
	bool answered = false;

	for (unsigned i = 0; i < UMBRA_REQUESTS; i++) {
		struct umbra_request *request = &ram->page->requests[i];

		if (__atomic_load_n(&request->state, __ATOMIC_ACQUIRE) != UMBRA_REQUEST_ASKED)
			continue;
		answer(disk, request, data + (size_t)i * UMBRA_REQUEST_BYTES);
		answered = true;
	}
	return answered;
}

void disk_serve(struct disk *disk, const struct ram *ram, unsigned guests)
{
	char rings[64];
	bool answered = false;

	while (read(disk->bell[0], rings, sizeof(rings)) > 0)
		;
	for (unsigned i = 0; i < guests; i++)
		if (map(&disk->data[i], &ram[i]))
			answered |= serve(disk, &ram[i], disk->data[i]);
	/* A full socket holds a ring already. */
	if (answered && write(disk->bell[0], "d", 1) < 0 && errno != EAGAIN)
		return;
}

void disk_close(struct disk *disk)
{
	for (unsigned i = 0; i < UMBRA_GUESTS_MAX; i++)
		if (disk->data[i])
			munmap(disk->data[i], DATA_BYTES);
	for (int i = 0; i < 2; i++)
		if (disk->bell[i] >= 0)
			close(disk->bell[i]);
	if (disk->fd >= 0) {
		if (!disk->read_only)
			fdatasync(disk->fd);
		close(disk->fd);
	}
	*disk = DISK_NONE;
}
