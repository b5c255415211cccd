/* SPDX-License-Identifier: BSD-2-Clause */
/* The files that the hypervisor may ask for. See serve.c, disk.c, swapfile.c. */
#ifndef CLI_SERVE_H
#define CLI_SERVE_H

#include <stdbool.h>
#include <stdint.h>

#include <umbra/machine.h>

#include "status.h"

struct ram;

struct store {
	int fd;           /* -1: there is none */
	const char *what; /* "disk" */
	const char *path;
	uint64_t first, bytes; /* requests reach from .first to .bytes, exclusive */
	bool read_only;
	enum status status;  /* to complain with */
	const char *then[3]; /* by enum umbra_request_kind: what becomes of a request that failed */
	bool complained;
};

#define STORE_NONE ((struct store){.fd = -1})

struct server {
	struct store store[UMBRA_FILES]; /* by enum umbra_file; all guests have them */
	uint8_t *data[UMBRA_GUESTS_MAX]; /* mapped: of each guest's requests */
	int bell[2];                     /* a socket pair: our end, the hypervisor's COM2 */
};

#define SERVER_NONE ((struct server){.store = {STORE_NONE, STORE_NONE}, .bell = {-1, -1}})

/* Have a bell, if there is a file. */
enum status serve_open(struct server *server);

/*
 * The bell rang: carry out what is asked for, ring back. A request that leads out of its file, or
 * that the file's host refuses, fails for who asked; the first of each file is complained about.
 */
void serve(struct server *server, const struct ram *ram, unsigned guests);

/* Safe where there is nothing open. */
void serve_close(struct server *server);

#endif
