/* SPDX-License-Identifier: BSD-2-Clause */
/* One machine from its start to its end: the event loop between QEMU, the terminal and signals. */
#ifndef CLI_SESSION_H
#define CLI_SESSION_H

#include <stdbool.h>

#include "console.h"
#include "qemu.h"
#include "status.h"

enum session_end {
	SESSION_EXITED, /* QEMU ended by itself */
	SESSION_UNTIL,  /* the console said what was waited for */
	SESSION_MARKER, /* .until_marker, and it came */
	SESSION_TIMEOUT,
	SESSION_SIGNAL,    /* .signal */
	SESSION_USER,      /* Ctrl-A x */
	SESSION_NO_READER, /* standard output was closed */
};

struct control;

struct session {
	struct qemu *qemu;
	struct console *console;
	const struct ram *ram; /* of .guests guests; NULL: plain QEMU */
	unsigned guests;
	struct server *server;   /* NULL: there is no file to serve */
	struct control *control; /* NULL: nobody may ask */
	double deadline;         /* clock_now() time; 0: none */
	bool until_marker;
	int signal;
};

/* Block the signals that a session takes. Before the first child is started. */
void session_block_signals(void);

/*
 * Run until something ends the session. A machine of umbra's that still runs is asked to stop
 * (its statistics are then whole), for a second; QEMU is gone on return.
 */
enum session_end session_run(struct session *session);

#endif
