/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The control socket's server, inside the event loop. One client at a time; others wait in the
 * socket's queue. A request is words, each with a NUL behind it, up to the end of what the client
 * sends: "text" or "json", a guest's number or "-" where none was named, a verb, its arguments. The
 * reply is an exit status, a newline, and what
 * to print. A client that is slow, or goes away, holds up nobody but the next client.
 * What can be asked is in verbs.c.
 */
#include "control.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <umbra/machine.h>

#include "ask.h"
#include "clock.h"
#include "number.h"
#include "qemu.h"
#include "verbs.h"

/* ------------------------------------------------------------------ replies */

void control_reply(struct control *c, enum status status, const char *format, ...)
{
	FILE *out = open_memstream(&c->reply, &c->reply_size);
	va_list list;

	c->verb = NULL;
	c->asked = false;
	c->sent = 0;
	if (!out)
		return;
	fprintf(out, "%d\n", (int)status);
	va_start(list, format);
	vfprintf(out, format, list);
	va_end(list);
	fclose(out);
}

/* ------------------------------------------------------------------ requests */

static void forget_answer(struct control *c)
{
	if (c->answer)
		munmap((void *)c->answer, UMBRA_ANSWER_BYTES);
	c->answer = NULL;
}

void control_turn(struct control *c, const struct ram *ram)
{
	if (c->ram != ram)
		forget_answer(c);
	c->ram = ram;
}

/* False after a reply: there is no such guest. */
static bool choose_guest(struct control *c, const char *text)
{
	uint64_t number = 0;

	c->everybody = strcmp(text, "-") == 0;
	if (!c->everybody && !number_parse(text, &number)) {
		control_reply(c, STATUS_USAGE, "--guest %s: give a number, 0 to %u", text,
			      c->guests - 1);
		return false;
	}
	if (number >= c->guests) {
		control_reply(c, STATUS_NO_SUCH,
			      "--guest %s: no such guest; this machine has %u, from 0 on", text,
			      c->guests);
		return false;
	}
	control_turn(c, &c->rams[number]);
	return true;
}

void control_machine(struct control *c, const struct ram *rams, unsigned guests,
		     struct recording *recording)
{
	c->ram = c->rams = rams;
	c->guests = guests;
	c->recording = recording;
}

static void wrong_count(struct control *c, const struct verb *verb)
{
	const char *were = c->count == 1 ? "was" : "were";
	unsigned wanted = c->count < verb_least(verb) ? verb_least(verb) : verb->count;

	if (!verb->count)
		control_reply(c, STATUS_USAGE, "%s: takes no argument, and %u %s given", verb->name,
			      c->count, were);
	else
		control_reply(c, STATUS_USAGE, "%s %s: takes %s%u argument%s, and %u %s given",
			      verb->name, verb->arguments,
			      verb_least(verb) == verb->count ? ""
			      : c->count < verb_least(verb)   ? "at least "
							      : "at most ",
			      wanted, wanted == 1 ? "" : "s", c->count, were);
}

/* The request is whole: take it apart. */
static void begin(struct control *c)
{
	const char *end = c->request + c->got, *at = c->request, *name;
	const struct verb *verb;

	c->count = 0;
	c->everybody = false;
	if (c->got && end[-1])
		end = at; /* the last word has no end: not one of ours */
	for (; at < end && c->count < CONTROL_WORDS; at += strlen(at) + 1)
		c->words[c->count++] = at;
	if (c->count < 3 || at < end) {
		control_reply(c, STATUS_USAGE, "not a request of umbra ctl");
		return;
	}
	c->json = strcmp(c->words[0], "json") == 0;
	if (!choose_guest(c, c->words[1]))
		return;
	name = c->words[2];
	verb = verb_find(name);
	c->count -= 3;
	memmove(c->words, c->words + 3, c->count * sizeof(c->words[0]));
	c->skip = 0;
	c->stage = 0;
	c->failure = 0;
	c->failed = false;
	c->due = 0;
	c->mapping_count = 0;
	if (!verb)
		control_reply(c, STATUS_USAGE, "no command \"%s\"; `umbra ctl help` lists them",
			      name);
	else if (c->count > verb->count || c->count < verb_least(verb))
		wrong_count(c, verb);
	else
		c->verb = verb;
}

static void hang_up(struct control *c)
{
	if (c->client >= 0)
		close(c->client);
	free(c->reply);
	c->client = -1;
	c->reply = NULL;
	c->got = 0;
	c->verb = NULL;
}

static void read_request(struct control *c)
{
	ssize_t got = read(c->client, c->request + c->got, sizeof(c->request) - c->got);

	if (got < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (got < 0)
		hang_up(c);
	else if (got > 0 && c->got + (size_t)got < sizeof(c->request))
		c->got += (size_t)got;
	else if (got > 0)
		control_reply(c, STATUS_USAGE, "a request of more than %u bytes",
			      CONTROL_REQUEST - 1);
	else
		begin(c);
}

static void send_reply(struct control *c)
{
	ssize_t wrote = send(c->client, c->reply + c->sent, c->reply_size - c->sent, MSG_NOSIGNAL);

	if (wrote < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (wrote > 0)
		c->sent += (size_t)wrote;
	if (wrote < 0 || c->sent == c->reply_size)
		hang_up(c);
}

/* The verb under way: ask as soon as there is a machine that listens; then see whether it is done.
 */
static void go_on(struct control *c)
{
	const struct umbra_machine *page = c->ram->page;
	bool ended = __atomic_load_n(&page->phase, __ATOMIC_ACQUIRE) == UMBRA_PHASE_ENDED;

	if (__atomic_load_n(&page->magic, __ATOMIC_ACQUIRE) != UMBRA_MACHINE_MAGIC ||
	    (!ended && (__atomic_load_n(&page->command, __ATOMIC_ACQUIRE) != UMBRA_COMMAND_NONE ||
			clock_now() < c->due)))
		return;
	if (ended && !verb_is_of_all(c->verb)) {
		char message[sizeof(page->message) + 1] = "";

		ask_copy(message, page->message, sizeof(page->message));
		control_reply(c, STATUS_CONTROL, "guest %u has ended: %s",
			      (unsigned)(c->ram - c->rams), message);
	} else if (c->asked) {
		c->asked = false;
		c->verb->end(c);
	} else {
		c->verb->begin(c);
	}
}

void control_polls(const struct control *c, struct pollfd polls[CONTROL_POLLS])
{
	bool reads = c->client >= 0 && !c->reply && !c->verb;
	bool waits = c->client >= 0 && c->verb && c->due > 0; /* does the client, too? */

	polls[0] = (struct pollfd){.fd = c->client < 0 ? c->listener : -1, .events = POLLIN};
	polls[1] = (struct pollfd){.fd = reads || waits || c->reply ? c->client : -1,
				   .events = waits      ? 0
					     : c->reply ? POLLOUT
							: POLLIN};
}

void control_serve(struct control *c, const struct pollfd polls[CONTROL_POLLS])
{
	if (polls[0].revents & POLLIN)
		c->client = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (polls[1].revents && c->reply)
		send_reply(c);
	else if (polls[1].revents && c->verb)
		c->due = 0; /* nobody waits any more: what began ends now */
	else if (polls[1].revents)
		read_request(c);
	if (c->verb)
		go_on(c);
}

/* ------------------------------------------------------------------ the socket */

/* *@stale: a socket is there that nobody listens at, of a machine that was killed. */
static enum status look_at(const struct sockaddr_un *address, bool *stale)
{
	struct stat stat;
	int fd;

	*stale = false;
	if (lstat(address->sun_path, &stat))
		return STATUS_OK;
	if (!S_ISSOCK(stat.st_mode))
		return complain(STATUS_CONTROL, "--control %s: is there and is no socket",
				address->sun_path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	*stale = fd < 0 || connect(fd, (const struct sockaddr *)address, sizeof(*address)) != 0;
	if (fd >= 0)
		close(fd);
	return *stale ? STATUS_OK
		      : complain(STATUS_CONTROL, "--control %s: another machine listens there",
				 address->sun_path);
}

static enum status address_of(const char *path, struct sockaddr_un *address)
{
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(address->sun_path))
		return complain(STATUS_CONTROL, "--control %s: longer than a socket's name can be",
				path);
	strcpy(address->sun_path, path);
	return STATUS_OK;
}

enum status control_judge(const char *path)
{
	struct sockaddr_un address;
	enum status status = address_of(path, &address);
	bool stale;

	return status == STATUS_OK ? look_at(&address, &stale) : status;
}

enum status control_open(struct control *c, const char *path)
{
	struct sockaddr_un address;
	enum status status = address_of(path, &address);
	bool stale = false;
	mode_t before;
	int bound;

	if (status == STATUS_OK)
		status = look_at(&address, &stale);
	if (status != STATUS_OK)
		return status;
	if (stale)
		unlink(path);
	c->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	before = umask(0077); /* whoever can connect can look into the guest */
	bound =
	    c->listener < 0 ? -1 : bind(c->listener, (struct sockaddr *)&address, sizeof(address));
	umask(before);
	if (bound || listen(c->listener, 8))
		return complain(STATUS_CONTROL, "--control %s: %s", path, strerror(errno));
	c->path = path;
	return STATUS_OK;
}

void control_close(struct control *c)
{
	if (c->client >= 0 && !c->reply)
		control_reply(c, STATUS_CONTROL, "the machine ended");
	if (c->client >= 0)
		send_reply(c);
	hang_up(c);
	if (c->path)
		unlink(c->path);
	if (c->listener >= 0)
		close(c->listener);
	forget_answer(c);
	free(c->mappings);
	*c = CONTROL_NONE;
}
