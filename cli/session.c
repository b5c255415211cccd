/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The event loop. One poll() over QEMU's pipes, the terminal and a signal descriptor; everything
 * happens in this one thread, so nothing here needs a lock or a signal handler. Its clock is
 * the poll's timeout.
 */
#include "session.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <umbra/machine.h>

#include "ask.h"
#include "clock.h"
#include "control.h"
#include "report.h"
#include "serve.h"

#define TICK_MS   250
#define ANSWER_MS 5   /* between looks at whether the hypervisor has answered */
#define GRACE     1.0 /* seconds that the hypervisor has to stop itself */

enum {
	AT_OUTPUT,
	AT_ERRORS,
	AT_SIGNAL,
	AT_INPUT,
	AT_BELL,
	AT_CONTROL,
	POLLS = AT_CONTROL + CONTROL_POLLS
};

static void make_set(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGHUP);
	sigaddset(set, SIGCHLD);
}

void session_block_signals(void)
{
	sigset_t set;

	make_set(&set);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
}

/* NULL: it has ended, or has not begun. */
static struct umbra_machine *page_of(const struct session *session, unsigned guest)
{
	struct umbra_machine *page = session->ram ? session->ram[guest].page : NULL;

	return page && __atomic_load_n(&page->magic, __ATOMIC_ACQUIRE) == UMBRA_MACHINE_MAGIC &&
		       page->phase != UMBRA_PHASE_ENDED
		   ? page
		   : NULL;
}

static bool hypervisor_runs(const struct session *session)
{
	for (unsigned i = 0; i < session->guests; i++)
		if (page_of(session, i))
			return true;
	return false;
}

static const char *describe(const struct session *session)
{
	bool several = session->guests > 1;
	bool booted = session->console->ready, starts = true;

	if (!session->ram)
		return "plain QEMU boots the same guest for comparison";
	if (!hypervisor_runs(session))
		return session->ram[0].page->phase == UMBRA_PHASE_ENDED ? "the machine stops"
									: "the hypervisor starts";
	for (unsigned i = 0; i < session->guests; i++) {
		booted |= session->ram[i].page->phase == UMBRA_PHASE_INIT;
		starts &= session->ram[i].page->phase == UMBRA_PHASE_START;
	}
	if (booted)
		return several ? "the guests run" : "the guest runs";
	if (starts)
		return "the hypervisor starts";
	return several ? "the guests' kernels boot" : "the guest's kernel boots";
}

/* Ask each guest that still runs, and has nothing else to do. */
static void ask_all(const struct session *session, enum umbra_command command)
{
	for (unsigned i = 0; i < session->guests; i++) {
		struct umbra_machine *page = page_of(session, i);

		if (page &&
		    (command == UMBRA_COMMAND_STOP ||
		     __atomic_load_n(&page->command, __ATOMIC_ACQUIRE) == UMBRA_COMMAND_NONE))
			__atomic_store_n(&page->command, command, __ATOMIC_RELEASE);
	}
}

/* False: end of file. */
static bool read_output(struct session *session)
{
	char bytes[4096];
	ssize_t got = read(session->qemu->output, bytes, sizeof(bytes));

	if (got > 0)
		console_output(session->console, bytes, (size_t)got);
	return got > 0 || (got < 0 && errno == EINTR);
}

static void send_input(struct session *session, const char *bytes, size_t size)
{
	while (size) {
		ssize_t wrote = write(session->qemu->input, bytes, size);
		if (wrote < 0 && errno != EINTR)
			return; /* a guest that does not read loses keys, as on a real line */
		if (wrote > 0) {
			bytes += wrote;
			size -= (size_t)wrote;
		}
	}
}

/* Returns true when the session shall end. */
static bool read_keys(struct session *session, bool *open, bool *asked)
{
	char bytes[256];
	ssize_t got = read(STDIN_FILENO, bytes, sizeof(bytes));
	size_t size = got > 0 ? (size_t)got : 0;

	if (got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN))
		*open = false;
	enum console_key key = console_input(session->console, bytes, &size);
	send_input(session, bytes, size);
	if (key == CONSOLE_KEY_STATS && hypervisor_runs(session)) {
		ask_all(session, UMBRA_COMMAND_STATS);
		*asked = true;
	}
	return key == CONSOLE_KEY_END;
}

/* A signal that ends us, or 0 (a child's end; or none). */
static int read_signal(int fd)
{
	struct signalfd_siginfo info;

	if (read(fd, &info, sizeof(info)) != sizeof(info) || info.ssi_signo == SIGCHLD)
		return 0;
	return (int)info.ssi_signo;
}

/* Has the hypervisor answered Ctrl-A s? */
static void show_stats(struct session *session, bool *asked)
{
	static struct umbra_machine seen; /* the page goes on changing */

	for (unsigned i = 0; *asked && i < session->guests; i++) {
		const struct umbra_machine *page = page_of(session, i);

		if (page &&
		    __atomic_load_n(&page->command, __ATOMIC_ACQUIRE) == UMBRA_COMMAND_STATS)
			return;
	}
	if (!*asked)
		return;
	*asked = false;
	for (unsigned i = 0; i < session->guests; i++) {
		putchar('\n');
		if (session->guests > 1)
			printf("guest %u\n", i);
		ask_copy(&seen, session->ram[i].page, sizeof(seen));
		report_stats(stdout, &seen);
	}
	fflush(stdout);
}

/* Read what is left in QEMU's pipes; its exit closed the other ends. */
static void drain(struct session *session)
{
	while (read_output(session))
		;
	while (qemu_read_errors(session->qemu))
		;
}

static enum session_end loop(struct session *session, int signals)
{
	bool keys = session->console->interactive, asked = false;
	struct pollfd polls[POLLS] = {
	    [AT_OUTPUT] = {.fd = session->qemu->output, .events = POLLIN},
	    [AT_ERRORS] = {.fd = session->qemu->errors, .events = POLLIN},
	    [AT_SIGNAL] = {.fd = signals, .events = POLLIN},
	    [AT_INPUT] = {.fd = keys ? STDIN_FILENO : -1, .events = POLLIN},
	    [AT_BELL] = {.fd = session->server ? session->server->bell[0] : -1, .events = POLLIN},
	};

	for (unsigned i = 0; i < CONTROL_POLLS; i++)
		polls[AT_CONTROL + i].fd = -1;

	for (;;) {
		int ready, tick = TICK_MS;

		if (session->control) {
			control_polls(session->control, &polls[AT_CONTROL]);
			tick = control_waits(session->control) ? ANSWER_MS : TICK_MS;
		}
		ready = poll(polls, POLLS, tick);
		if (ready < 0 && errno != EINTR)
			return SESSION_EXITED;
		if (session->control && ready >= 0)
			control_serve(session->control, &polls[AT_CONTROL]);
		if (polls[AT_BELL].revents & POLLIN)
			serve(session->server, session->ram, session->guests);
		if (polls[AT_OUTPUT].revents && !read_output(session))
			polls[AT_OUTPUT].fd = -1;
		if (polls[AT_ERRORS].revents && !qemu_read_errors(session->qemu))
			polls[AT_ERRORS].fd = -1;
		if (polls[AT_SIGNAL].revents && (session->signal = read_signal(signals)) != 0)
			return SESSION_SIGNAL;
		if (polls[AT_INPUT].revents && read_keys(session, &keys, &asked))
			return SESSION_USER;
		if (!keys)
			polls[AT_INPUT].fd = -1;
		if (session->console->said)
			return SESSION_UNTIL;
		if (session->console->ready && session->until_marker)
			return SESSION_MARKER;
		if (qemu_ended(session->qemu))
			return SESSION_EXITED;
		if (session->console->gone)
			return SESSION_NO_READER;
		if (session->deadline > 0 && clock_now() >= session->deadline)
			return SESSION_TIMEOUT;
		show_stats(session, &asked);
		console_progress(session->console, describe(session), session->qemu->started);
	}
}

/* Let the hypervisor finish its figures. */
static void ask_to_stop(struct session *session)
{
	double until = clock_now() + GRACE;

	if (!hypervisor_runs(session))
		return;
	ask_all(session, UMBRA_COMMAND_STOP);
	while (clock_now() < until && !qemu_ended(session->qemu)) {
		struct pollfd output = {.fd = session->qemu->output, .events = POLLIN};
		if (poll(&output, 1, 20) > 0 && !read_output(session))
			poll(NULL, 0, 20); /* it closed its end and is about to exit */
	}
}

enum session_end session_run(struct session *session)
{
	sigset_t set;

	make_set(&set);
	int signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	enum session_end end = loop(session, signals);
	if (end == SESSION_EXITED)
		drain(session);
	else
		ask_to_stop(session);
	close(signals);
	qemu_stop(session->qemu);
	console_clear(session->console);
	return end;
}
