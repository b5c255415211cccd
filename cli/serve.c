/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Serves the guests' disk and the swap file: requests in the machine pages, data beside them in the
 * machine's RAM (umbra/machine.h). What the hypervisor writes there is not trusted: each field is
 * read once and checked against the table of files and the mapped data.
 */
#include "serve.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "qemu.h"

#define DATA_BYTES (UMBRA_REQUESTS * (size_t)UMBRA_REQUEST_BYTES)

enum status serve_open(struct server *server)
{
	bool any = false;

	for (unsigned i = 0; i < UMBRA_FILES; i++)
		any |= server->store[i].fd >= 0;
	if (!any)
		return STATUS_OK;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, server->bell))
		return complain(STATUS_ERROR, "socketpair: %s", strerror(errno));
	fcntl(server->bell[0], F_SETFL, O_NONBLOCK);
	return STATUS_OK;
}

/* Map the data of a guest's requests, once the hypervisor has said where it is. */
static bool map(uint8_t **data, const struct ram *ram)
{
	uint64_t at = __atomic_load_n(&ram->page->data, __ATOMIC_RELAXED);

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
static int transfer(const struct store *store, bool write, uint8_t *data, size_t size, off_t offset)
{
	while (size) {
		ssize_t done = write ? pwrite(store->fd, data, size, offset)
				     : pread(store->fd, data, size, offset);
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
static int carry_out(const struct store *store, uint8_t *data, uint32_t kind, uint64_t offset,
		     uint32_t size)
{
	if (store->fd < 0)
		return ENODEV;
	if (kind == UMBRA_REQUEST_FLUSH)
		return store->read_only || fdatasync(store->fd) == 0 ? 0 : errno;
	if (size > UMBRA_REQUEST_BYTES || size > store->bytes || offset < store->first ||
	    offset > store->bytes - size)
		return ERANGE;
	switch (kind) {
	case UMBRA_REQUEST_READ:
		return transfer(store, false, data, size, (off_t)offset);
	case UMBRA_REQUEST_WRITE:
		return store->read_only ? EROFS : transfer(store, true, data, size, (off_t)offset);
	default:
		return EINVAL;
	}
}

static void complain_once(struct store *store, uint32_t kind, int error)
{
	static const char *const doing[] = {"reading", "writing", "flushing"};

	if (store->complained || !store->what)
		return;
	store->complained = true;
	complain(store->status, "%s %s: %s: %s; %s", store->what, store->path,
		 kind <= UMBRA_REQUEST_FLUSH ? doing[kind] : "a bad request", strerror(error),
		 store->then[kind <= UMBRA_REQUEST_FLUSH ? kind : 0]);
}

static void answer(struct server *server, struct umbra_request *request, uint8_t *data)
{
	uint32_t kind = __atomic_load_n(&request->kind, __ATOMIC_RELAXED);
	uint32_t file = __atomic_load_n(&request->file, __ATOMIC_RELAXED);
	uint32_t size = __atomic_load_n(&request->size, __ATOMIC_RELAXED);
	uint64_t offset = __atomic_load_n(&request->offset, __ATOMIC_RELAXED);
	struct store *store = &server->store[file < UMBRA_FILES ? file : UMBRA_FILE_DISK];
	int error = file < UMBRA_FILES ? carry_out(store, data, kind, offset, size) : ENODEV;

	if (error)
		complain_once(store, kind, error);
	request->failed = error != 0;
	__atomic_store_n(&request->state, UMBRA_REQUEST_DONE, __ATOMIC_RELEASE);
}

/* False: this guest asked for nothing. */
static bool serve_guest(struct server *server, const struct ram *ram, uint8_t *data)
{
	bool answered = false;

	for (unsigned i = 0; i < UMBRA_REQUESTS; i++) {
		struct umbra_request *request = &ram->page->requests[i];

		if (__atomic_load_n(&request->state, __ATOMIC_ACQUIRE) != UMBRA_REQUEST_ASKED)
			continue;
		answer(server, request, data + (size_t)i * UMBRA_REQUEST_BYTES);
		answered = true;
	}
	return answered;
}

void serve(struct server *server, const struct ram *ram, unsigned guests)
{
	char rings[64];
	bool answered = false;

	while (read(server->bell[0], rings, sizeof(rings)) > 0)
		;
	for (unsigned i = 0; i < guests; i++)
		if (map(&server->data[i], &ram[i]))
			answered |= serve_guest(server, &ram[i], server->data[i]);
	/* A full socket holds a ring already. */
	if (answered && write(server->bell[0], "d", 1) < 0 && errno != EAGAIN)
		return;
}

void serve_close(struct server *server)
{
	for (unsigned i = 0; i < UMBRA_GUESTS_MAX; i++)
		if (server->data[i])
			munmap(server->data[i], DATA_BYTES);
	for (int i = 0; i < 2; i++)
		if (server->bell[i] >= 0)
			close(server->bell[i]);
	*server = SERVER_NONE;
}
