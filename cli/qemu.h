/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One QEMU process: its arguments, its pipes, its end. It dies with us, however we die.
 */
#ifndef CLI_QEMU_H
#define CLI_QEMU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "guest.h"
#include "options.h"
#include "status.h"

struct server;
struct umbra_machine;

/*
 * The machine's RAM, a file without a name, and a guest's machine page, mapped: one of these for
 * each guest, in an array. They share the file.
 */
struct ram {
	int fd;
	uint64_t bytes;
	struct umbra_machine *page;
};

#define RAM_NONE ((struct ram){.fd = -1})

struct qemu {
	pid_t pid;  /* 0: not running */
	int input;  /* we write: the guest's serial line */
	int output; /* we read: the guest's serial line */
	int errors; /* we read: what QEMU itself has to say */
	char said[2048];
	size_t said_length;
	double started; /* clock_now() */
	bool reaped;
	int wait_status; /* when reaped */
};

/* Memory of the machine that hosts the guests. */
uint64_t qemu_machine_bytes(const struct options *options);

/* @ram: UMBRA_GUESTS_MAX of them; those of the guests that there are get a page. */
enum status ram_open(struct ram *ram, const struct options *options);
void ram_close(struct ram *ram);

/* Start the hypervisor @vmm_fd with @guest and what @server has in it. */
enum status qemu_start_umbra(struct qemu *qemu, const struct options *options,
			     const struct guest *guest, const struct ram *ram,
			     const struct server *server, int vmm_fd);

/* Start @guest itself, without umbra, on the same kind of machine. */
enum status qemu_start_plain(struct qemu *qemu, const struct options *options,
			     const struct guest *guest);

/* Keep what QEMU wrote to its standard error. False: end of file. */
bool qemu_read_errors(struct qemu *qemu);

/* Has it ended? Does not wait. */
bool qemu_ended(struct qemu *qemu);

/* Kill it if it runs, wait for it, close the pipes. Safe at any time after a start. */
void qemu_stop(struct qemu *qemu);

#endif
