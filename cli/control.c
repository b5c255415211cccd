/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The control socket's server, inside the event loop. One client at a time; others wait in the
 * socket's queue. A request is words, each with a NUL behind it, up to the end of what the client
 * sends: "text" or "json", a verb, its arguments. The reply is an exit status, a newline, and what
 * to print. A client that is slow, or goes away, holds up nobody but the next client.
 *
 * A verb is a row of a table: what it checks and asks of the hypervisor (begin), and what it says
 * when the hypervisor is done (end).
 */
#include "control.h"

#include <errno.h>
#include <inttypes.h>
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

#include "number.h"
#include "qemu.h"
#include "record.h"
#include "report.h"
#include "show.h"

struct verb {
	const char *name;
	const char *arguments;
	unsigned count; /* of arguments */
	const char *what;
	/* Ask (control->asked), or reply at once. */
	void (*begin)(struct control *control);
	/* The hypervisor is done: reply, or ask again. */
	void (*end)(struct control *control);
};

/* ------------------------------------------------------------------ replies */

static void reply(struct control *c, enum status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void reply(struct control *c, enum status status, const char *format, ...)
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

/* @json, which is used up. */
static void reply_json(struct control *c, json_t *json)
{
	char *text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;

	json_decref(json);
	if (text)
		reply(c, STATUS_OK, "%s\n", text);
	else
		reply(c, STATUS_ERROR, "out of memory");
	free(text);
}

static void ask(struct control *c, enum umbra_command command, uint64_t first, uint64_t second)
{
	struct umbra_machine *page = c->ram->page;

	page->argument[0] = first;
	page->argument[1] = second;
	__atomic_store_n(&page->command, command, __ATOMIC_RELEASE);
	c->asked = true;
}

/* Where the machine puts its answers. NULL: it named a place that it does not have. */
static const void *answer(struct control *c)
{
	uint64_t address = c->ram->page->answer;
	void *map;

	if (c->answer)
		return c->answer;
	if (!address || address % 4096 || address > c->ram->bytes - UMBRA_ANSWER_BYTES)
		return NULL;
	map = mmap(NULL, UMBRA_ANSWER_BYTES, PROT_READ, MAP_SHARED, c->ram->fd, (off_t)address);
	c->answer = map == MAP_FAILED ? NULL : map;
	return c->answer;
}

/* ------------------------------------------------------------------ verbs */

static void begin_stats(struct control *c)
{
	ask(c, UMBRA_COMMAND_STATS, 0, 0);
}

static void end_stats(struct control *c)
{
	char *text = NULL;
	size_t size;
	FILE *out;

	if (c->json) {
		reply_json(c, report_stats_json(c->ram->page));
		return;
	}
	out = open_memstream(&text, &size);
	if (out) {
		report_stats(out, c->ram->page);
		fclose(out);
	}
	reply(c, text ? STATUS_OK : STATUS_ERROR, "%s", text ? text : "out of memory");
	free(text);
}

static void begin_rmap(struct control *c)
{
	uint64_t gfn;

	if (!number_parse_hex(c->words[0], &gfn)) {
		reply(c, STATUS_USAGE, "rmap %s: give a gfn, hexadecimal", c->words[0]);
		return;
	}
	ask(c, UMBRA_COMMAND_RMAP, gfn, c->skip);
}

static bool keep_mappings(struct control *c, const struct umbra_mapping *from, size_t count)
{
	struct umbra_mapping *more =
	    realloc(c->mappings, (c->mapping_count + count + 1) * sizeof(*more));

	if (!more)
		return false;
	c->mappings = more;
	memcpy(more + c->mapping_count, from, count * sizeof(*more));
	c->mapping_count += count;
	return true;
}

static void say_mappings(struct control *c)
{
	char *text = NULL;
	size_t size;
	FILE *out;

	if (c->json) {
		json_t *list = json_array();

		for (size_t i = 0; i < c->mapping_count; i++)
			json_array_append_new(list, show_mapping_json(&c->mappings[i]));
		reply_json(c, list);
		return;
	}
	out = open_memstream(&text, &size);
	if (out) {
		show_mappings(out, c->words[0], c->mappings, c->mapping_count);
		fclose(out);
	}
	reply(c, text ? STATUS_OK : STATUS_ERROR, "%s", text ? text : "out of memory");
	free(text);
}

static void end_rmap(struct control *c)
{
	const struct umbra_machine *page = c->ram->page;
	const size_t room = UMBRA_ANSWER_BYTES / sizeof(struct umbra_mapping);
	size_t count = page->answers;

	if (page->result == UMBRA_ENOENT)
		reply(c, STATUS_NO_SUCH, "gfn %s is no memory of this guest's", c->words[0]);
	else if (page->result || count > room || !answer(c) || !keep_mappings(c, answer(c), count))
		reply(c, STATUS_ERROR, "the machine does not answer as it should");
	else if (count == room) {
		c->skip += count;
		begin_rmap(c);
	} else
		say_mappings(c);
}

static void begin_walk(struct control *c)
{
	uint64_t gva;

	if (number_parse_hex(c->words[0], &gva))
		ask(c, UMBRA_COMMAND_VIEW, gva, 0);
	else
		reply(c, STATUS_USAGE, "walk %s: give a gva, hexadecimal", c->words[0]);
}

static void end_walk(struct control *c)
{
	const struct umbra_machine *page = c->ram->page;
	const struct umbra_view *view = answer(c);
	char *text = NULL;
	uint64_t gva;
	size_t size;
	FILE *out;

	number_parse_hex(c->words[0], &gva);
	if (page->result || !view) {
		reply(c, STATUS_NO_SUCH, "gva %s is not canonical in the mode that the guest is in",
		      c->words[0]);
		return;
	}
	if (c->json) {
		reply_json(c, show_view_json(view, gva, NULL, NULL));
		return;
	}
	out = open_memstream(&text, &size);
	if (out) {
		show_view(out, view, gva, NULL, NULL);
		fclose(out);
	}
	reply(c, text ? STATUS_OK : STATUS_ERROR, "%s", text ? text : "out of memory");
	free(text);
}

static void begin_record(struct control *c)
{
	char why[512];
	enum status status;

	if (c->recording->recorder) {
		reply(c, STATUS_TRACE, "a recording is on; record-end ends it");
		return;
	}
	if (c->words[0][0] != '/') {
		reply(c, STATUS_USAGE, "record %s: give a path that begins with /", c->words[0]);
		return;
	}
	status = record_open(c->recording, c->words[0], why, sizeof(why));
	if (status == STATUS_OK)
		status = record_start(c->recording, c->ram);
	if (status != STATUS_OK)
		reply(c, status, "record: %s", why);
	else
		ask(c, UMBRA_COMMAND_RECORD, 0, 0);
}

static void end_record(struct control *c)
{
	int result = c->ram->page->result;

	if (!result) {
		reply(c, STATUS_OK, "%s", "");
		return;
	}
	record_discard(c->recording);
	reply(c, STATUS_TRACE, "the machine cannot begin to record now (error %d); try again",
	      result);
}

static void begin_record_end(struct control *c)
{
	if (c->recording->recorder)
		ask(c, UMBRA_COMMAND_RECORD_END, 0, 0);
	else
		reply(c, STATUS_TRACE, "no recording is on");
}

static void end_record_end(struct control *c)
{
	enum status status = record_close(c->recording);

	reply(c, status, "%s",
	      status ? "the trace ends early: see what the machine's side says" : "");
}

static void begin_stop(struct control *c)
{
	reply(c, STATUS_OK, "%s", "");
	__atomic_store_n(&c->ram->page->command, UMBRA_COMMAND_STOP, __ATOMIC_RELEASE);
}

static const struct verb verbs[] = {
    {"stats", "", 0, "what the MMU did so far", begin_stats, end_stats},
    {"rmap", "GFN", 1, "every spte of a guest page: address space, gva, rights", begin_rmap,
     end_rmap},
    {"walk", "GVA", 1, "the guest's and the shadow tables for an address, side by side", begin_walk,
     end_walk},
    {"record", "FILE", 1, "record from now on; the MMU starts anew", begin_record, end_record},
    {"record-end", "", 0, "end the recording", begin_record_end, end_record_end},
    {"stop", "", 0, "stop the machine", begin_stop, NULL},
};

#define VERBS (sizeof(verbs) / sizeof(verbs[0]))

void control_help(void)
{
	for (size_t i = 0; i < VERBS; i++)
		printf("  %-11s%-6s %s\n", verbs[i].name, verbs[i].arguments, verbs[i].what);
}

/* ------------------------------------------------------------------ requests */

/* The request is whole: take it apart. */
static void begin(struct control *c)
{
	const char *end = c->request + c->got, *at = c->request, *name;
	const struct verb *verb = NULL;

	c->count = 0;
	if (c->got && end[-1])
		end = at; /* the last word has no end: not one of ours */
	for (; at < end && c->count < CONTROL_WORDS; at += strlen(at) + 1)
		c->words[c->count++] = at;
	if (c->count < 2 || at < end) {
		reply(c, STATUS_USAGE, "not a request of umbra ctl");
		return;
	}
	c->json = strcmp(c->words[0], "json") == 0;
	name = c->words[1];
	for (size_t i = 0; i < VERBS; i++)
		if (strcmp(verbs[i].name, name) == 0)
			verb = &verbs[i];
	c->count -= 2;
	memmove(c->words, c->words + 2, c->count * sizeof(c->words[0]));
	c->skip = 0;
	c->mapping_count = 0;
	if (!verb)
		reply(c, STATUS_USAGE, "no command \"%s\"; `umbra ctl help` lists them", name);
	else if (c->count != verb->count)
		reply(c, STATUS_USAGE, "%s %s: %u arguments were given", name, verb->arguments,
		      c->count);
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
		reply(c, STATUS_USAGE, "a request of more than %u bytes", CONTROL_REQUEST - 1);
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

	if (__atomic_load_n(&page->magic, __ATOMIC_ACQUIRE) != UMBRA_MACHINE_MAGIC ||
	    __atomic_load_n(&page->command, __ATOMIC_ACQUIRE) != UMBRA_COMMAND_NONE)
		return;
	if (c->asked) {
		c->asked = false;
		c->verb->end(c);
	} else {
		c->verb->begin(c);
	}
}

void control_polls(const struct control *c, struct pollfd polls[CONTROL_POLLS])
{
	bool reads = c->client >= 0 && !c->reply && !c->verb;

	polls[0] = (struct pollfd){.fd = c->client < 0 ? c->listener : -1, .events = POLLIN};
	polls[1] = (struct pollfd){.fd = reads || c->reply ? c->client : -1,
				   .events = c->reply ? POLLOUT : POLLIN};
}

void control_serve(struct control *c, const struct pollfd polls[CONTROL_POLLS])
{
	if (polls[0].revents & POLLIN)
		c->client = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (polls[1].revents && c->reply)
		send_reply(c);
	else if (polls[1].revents)
		read_request(c);
	if (c->verb)
		go_on(c);
}

/* ------------------------------------------------------------------ the socket */

/* A socket that nobody listens at is of a machine that was killed. */
static enum status take_place(const struct sockaddr_un *address)
{
	struct stat stat;
	int fd;
	bool used;

	if (lstat(address->sun_path, &stat))
		return STATUS_OK;
	if (!S_ISSOCK(stat.st_mode))
		return complain(STATUS_CONTROL, "--control %s: is there and is no socket",
				address->sun_path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	used = fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0;
	if (fd >= 0)
		close(fd);
	if (used)
		return complain(STATUS_CONTROL, "--control %s: another machine listens there",
				address->sun_path);
	unlink(address->sun_path);
	return STATUS_OK;
}

enum status control_open(struct control *c, const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	enum status status;
	mode_t before;
	int bound;

	if (strlen(path) >= sizeof(address.sun_path))
		return complain(STATUS_CONTROL, "--control %s: longer than a socket's name can be",
				path);
	strcpy(address.sun_path, path);
	status = take_place(&address);
	if (status != STATUS_OK)
		return status;
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
		reply(c, STATUS_CONTROL, "the machine ended");
	if (c->client >= 0)
		send_reply(c);
	hang_up(c);
	if (c->path)
		unlink(c->path);
	if (c->listener >= 0)
		close(c->listener);
	if (c->answer)
		munmap((void *)c->answer, UMBRA_ANSWER_BYTES);
	free(c->mappings);
	*c = CONTROL_NONE;
}
