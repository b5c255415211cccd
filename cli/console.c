/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Owns the terminal's settings: they are taken in console_open and put back in console_close, which
 * atexit calls too, so that no way out of the command leaves a raw terminal.
 */
#include "console.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "clock.h"

#define CTRL_A      1
#define SILENCE     2.0 /* seconds before a progress line */
#define SILENCE_RUN 8.0 /* the same once init runs, which says itself how it gets on */
#define LIVE_EVERY  0.5 /* seconds between its updates on a terminal */
#define LINES_EVERY 5.0 /* and elsewhere, where each is a new line */

static struct termios before;
static bool is_raw;

static void restore(void)
{
	if (is_raw)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &before);
	is_raw = false;
}

void console_open(struct console *console, bool show, bool interactive)
{
	static bool registered;
	struct termios raw;

	*console = (struct console){.show = show, .spoke = clock_now()};
	if (!interactive || tcgetattr(STDIN_FILENO, &before) != 0)
		return;
	if (!registered)
		atexit(restore);
	registered = true;
	raw = before;
	cfmakeraw(&raw);
	raw.c_oflag |= OPOST; /* our own lines end in \n */
	is_raw = true;
	tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
	console->interactive = true;
}

void console_close(struct console *console)
{
	console_clear(console);
	restore();
	console->interactive = false;
}

void console_clear(struct console *console)
{
	if (console->live)
		fputs("\r\033[K", stderr);
	console->live = false;
}

static void write_all(struct console *console, const char *bytes, size_t size)
{
	while (size && !console->gone) {
		ssize_t wrote = write(STDOUT_FILENO, bytes, size);
		if (wrote > 0) {
			bytes += wrote;
			size -= (size_t)wrote;
		} else if (wrote < 0 && errno == EAGAIN) {
			poll(&(struct pollfd){.fd = STDOUT_FILENO, .events = POLLOUT}, 1, 100);
		} else if (wrote == 0 || errno != EINTR) {
			console->gone = true;
		}
	}
}

/* The marker's first byte occurs in it only once, so a mismatch starts over at 0 or 1. */
static void match_marker(struct console *console, const char *bytes, size_t size)
{
	static const char marker[] = CONSOLE_MARKER;

	for (size_t i = 0; i < size && !console->ready; i++) {
		if (bytes[i] == marker[console->matched])
			console->matched++;
		else
			console->matched = bytes[i] == marker[0];
		if (console->matched == sizeof(marker) - 1) {
			console->ready = true;
			console->ready_at = clock_now();
		}
	}
}

/* The words that end the run, wherever pieces of output begin. */
static void match_until(struct console *console, const char *bytes, size_t size)
{
	size_t length = console->until ? strlen(console->until) : 0;

	for (size_t i = 0; length && i < size && !console->said; i++) {
		if (console->tail_size == length) {
			memmove(console->tail, console->tail + 1, length - 1);
			console->tail_size--;
		}
		console->tail[console->tail_size++] = bytes[i];
		console->said = console->tail_size == length &&
				memcmp(console->tail, console->until, length) == 0;
	}
}

void console_output(struct console *console, const char *bytes, size_t size)
{
	match_marker(console, bytes, size);
	match_until(console, bytes, size);
	if (!console->show)
		return;
	console_clear(console);
	console->spoke = clock_now();
	fflush(stdout);
	write_all(console, bytes, size);
}

enum console_key console_input(struct console *console, char *bytes, size_t *size)
{
	enum console_key key = CONSOLE_KEY_NONE;
	size_t kept = 0;

	for (size_t i = 0; i < *size; i++) {
		char c = bytes[i];
		if (!console->escaped) {
			console->escaped = c == CTRL_A;
			if (c != CTRL_A)
				bytes[kept++] = c;
			continue;
		}
		console->escaped = false;
		if (c == 'x' || c == 'X')
			key = CONSOLE_KEY_END;
		else if (c == 's' || c == 'S')
			key = CONSOLE_KEY_STATS;
		else if (c == CTRL_A)
			bytes[kept++] = c;
		else
			fputs("\numbra: Ctrl-A x ends, Ctrl-A s prints statistics, "
			      "Ctrl-A Ctrl-A sends Ctrl-A\n",
			      stderr);
	}
	*size = kept;
	return key;
}

void console_progress(struct console *console, const char *what, double since)
{
	bool terminal = isatty(STDERR_FILENO);
	double every = terminal ? LIVE_EVERY : LINES_EVERY;
	double silence = console->ready ? SILENCE_RUN : SILENCE;
	double now = clock_now();

	if (console->interactive && console->ready)
		return; /* the guest's shell has the terminal to itself */
	if (now - console->spoke < (console->live ? every : silence))
		return;
	if (terminal)
		fprintf(stderr, "\r\033[Kumbra: %s, %.0f s", what, now - since);
	else
		fprintf(stderr, "umbra: %s, %.0f s\n", what, now - since);
	fflush(stderr);
	console->live = terminal;
	console->spoke = terminal ? now : now + LINES_EVERY - silence;
}
