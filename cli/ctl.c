/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `umbra ctl`: the client of a running machine's control socket (control.c has the other side and
 * says what goes over it). What a reply says goes to standard output if its status is 0, else to
 * standard error; the status is ours.
 */
#include "ctl.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "commands.h"
#include "control.h"

bool ctl_is_socket(const char *path)
{
	struct stat stat_of;

	return stat(path, &stat_of) == 0 && S_ISSOCK(stat_of.st_mode);
}

static enum status reach(const char *path, int *fd)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (strlen(path) >= sizeof(address.sun_path))
		return complain(STATUS_CONTROL, "%s: longer than a socket's name can be", path);
	strcpy(address.sun_path, path);
	*fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (*fd >= 0 && connect(*fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return STATUS_OK;
	return complain(STATUS_CONTROL,
			"%s: no machine listens there: %s; start one with umbra run --control %s",
			path, strerror(errno), path);
}

static bool send_all(int fd, const char *bytes, size_t size)
{
	while (size) {
		ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent <= 0)
			return false;
		bytes += sent;
		size -= (size_t)sent;
	}
	return true;
}

/* All that comes, NUL-terminated. NULL: nothing that makes sense. */
static char *receive(int fd)
{
	size_t size = 0, room = 0;
	char *text = NULL;

	for (;;) {
		ssize_t got;

		if (size + 1 >= room) {
			char *more = realloc(text, room = 2 * room + 4096);

			if (!more)
				break;
			text = more;
		}
		got = read(fd, text + size, room - size - 1);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		size += (size_t)got;
	}
	if (text)
		text[size] = 0;
	return text;
}

static enum status judge(const char *path, const char *text)
{
	char *body = text ? strchr(text, '\n') : NULL;
	int status = body ? atoi(text) : -1;

	if (status < 0 || status > 255)
		return complain(STATUS_CONTROL, "%s: the machine went away without an answer",
				path);
	if (status)
		return complain((enum status)status, "%s", body + 1);
	fputs(body + 1, stdout);
	return STATUS_OK;
}

enum status ctl_ask(const char *path, bool json, const char *guest, char *const *words,
		    unsigned count)
{
	const char *form = json ? "json" : "text";
	enum status status;
	char *text;
	bool ok;
	int fd = -1;

	status = reach(path, &fd);
	if (status != STATUS_OK) {
		if (fd >= 0)
			close(fd);
		return status;
	}
	if (!guest)
		guest = "-";
	ok = send_all(fd, form, strlen(form) + 1) && send_all(fd, guest, strlen(guest) + 1);
	for (unsigned i = 0; ok && i < count; i++)
		ok = send_all(fd, words[i], strlen(words[i]) + 1);
	shutdown(fd, SHUT_WR);
	text = receive(fd);
	close(fd);
	status = judge(path, text);
	free(text);
	return status;
}

static void print_help(void)
{
	fputs("usage: umbra ctl [--json] [--guest N] SOCKET COMMAND [ARGUMENT...]\n"
	      "       umbra ctl help [COMMAND]\n"
	      "\n"
	      "Ask the machine that was started with umbra run --control SOCKET: of guest N, or\n"
	      "without --guest of guest 0; stats and stop are then for all of them. Commands:\n\n",
	      stdout);
	control_help();
}

/* The machine's own directory may be another one. */
static enum status absolute(char **word)
{
	char here[PATH_MAX];
	char *path;

	if (**word == '/')
		return STATUS_OK;
	if (!getcwd(here, sizeof(here)) || asprintf(&path, "%s/%s", here, *word) < 0)
		return complain(STATUS_ERROR, "%s: %s", *word, strerror(errno));
	*word = path;
	return STATUS_OK;
}

/* A word behind the socket that was meant to go before it? */
static enum status in_place(int count, char *const *words)
{
	for (int i = 1; i < count; i++)
		if (strncmp(words[i], "--", 2) == 0)
			return complain(STATUS_USAGE,
					"ctl: %s comes too late; options go before the socket: "
					"umbra ctl %s%s %s %s",
					words[i], words[i], strcmp(words[i], "--guest") ? "" : " N",
					words[0], words[1] == words[i] ? "COMMAND" : words[1]);
	return STATUS_OK;
}

int ctl_command(int argc, char **argv)
{
	static const struct option table[] = {{"json", no_argument, NULL, 'j'},
					      {"guest", required_argument, NULL, 'g'},
					      {"help", no_argument, NULL, 'h'},
					      {NULL, 0, NULL, 0}};
	const char *guest = NULL;
	bool json = false;
	int option;

	optind = 1;
	while ((option = getopt_long(argc, argv, "+", table, NULL)) != -1) {
		if (option == 'h') {
			print_help();
			return STATUS_OK;
		}
		if (option == '?')
			return STATUS_USAGE;
		if (option == 'g')
			guest = optarg;
		else
			json = true;
	}
	argc -= optind;
	argv += optind;
	if (argc == 1 && strcmp(argv[0], "help") == 0) {
		print_help();
		return STATUS_OK;
	}
	if (argc > 1 && strcmp(argv[0], "help") == 0 && !ctl_is_socket(argv[0])) {
		if (argc > 2)
			return complain(STATUS_USAGE,
					"ctl help: takes one command, and %d were given", argc - 1);
		return control_help_about(argv[1])
			   ? STATUS_OK
			   : complain(STATUS_USAGE,
				      "no command \"%s\"; `umbra ctl help` lists them", argv[1]);
	}
	if (in_place(argc, argv) != STATUS_OK)
		return STATUS_USAGE;
	if (argc < 2)
		return complain(STATUS_USAGE,
				"ctl: give a socket and a command; `umbra ctl help` lists them");
	if (argc == 3 && strcmp(argv[1], "record") == 0 && absolute(&argv[2]) != STATUS_OK)
		return STATUS_ERROR;
	return (int)ctl_ask(argv[0], json, guest, argv + 1, (unsigned)argc - 1);
}
