/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The terminal: raw mode and its keys, the guest's output, the marker of its init, and a line that
 * says what is going on while the guest says nothing.
 */
#ifndef CLI_CONSOLE_H
#define CLI_CONSOLE_H

#include <stdbool.h>
#include <stddef.h>

#define CONSOLE_MARKER "umbra-init: ready"
#define UNTIL_MAX      128 /* with the NUL */

enum console_key {
	CONSOLE_KEY_NONE,
	CONSOLE_KEY_END,   /* Ctrl-A x */
	CONSOLE_KEY_STATS, /* Ctrl-A s */
};

struct console {
	bool show;        /* forward the guest's output to standard output */
	bool interactive; /* standard input is a raw terminal */
	bool escaped;     /* Ctrl-A was the last key */
	bool gone;        /* standard output takes nothing more */
	bool ready;       /* the marker was seen, at: */
	double ready_at;
	size_t matched;       /* bytes of the marker seen so far */
	const char *until;    /* words to wait for, set after console_open(); NULL: none */
	bool said;            /* they were seen */
	char tail[UNTIL_MAX]; /* what was seen last, where they may have begun */
	size_t tail_size;
	double spoke; /* when the guest, or a progress line, was last seen */
	bool live;    /* a progress line stands on the terminal, not ended */
};

/* @show: forward output; @interactive: raw mode, read keys. */
void console_open(struct console *console, bool show, bool interactive);

/* Restore the terminal. Safe to call twice. */
void console_close(struct console *console);

/* The guest wrote @size bytes. */
void console_output(struct console *console, const char *bytes, size_t size);

/*
 * The user typed @size bytes: what is for the guest stays in @bytes, *@size shrinks; returns the
 * last command key among them.
 */
enum console_key console_input(struct console *console, char *bytes, size_t *size);

/* Called now and then: after two seconds of silence say @what, and for how long. */
void console_progress(struct console *console, const char *what, double since);

/* Take the progress line away before something else is printed. */
void console_clear(struct console *console);

#endif
