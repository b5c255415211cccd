/* SPDX-License-Identifier: BSD-2-Clause */
/* `umbra run --control PATH`: a socket through which others ask the running machine. See control.c.
 */
#ifndef CLI_CONTROL_H
#define CLI_CONTROL_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "status.h"

struct ram;
struct recording;
struct umbra_mapping;
struct verb;

#define CONTROL_POLLS   2
#define CONTROL_REQUEST 8192u
#define CONTROL_WORDS   8u
#define CONTROL_KEPT    16u

struct control {
	int listener, client;   /* -1: none */
	const char *path;       /* NULL: there is no socket */
	const struct ram *rams; /* of .guests guests */
	unsigned guests;
	struct recording *recording;

	const struct ram *ram; /* of the guest that the request is for */
	const void *answer;    /* its, mapped; NULL: not yet */

	char request[CONTROL_REQUEST];
	size_t got;
	const char *words[CONTROL_WORDS];
	unsigned count;
	const struct verb *verb; /* NULL: none is under way */
	bool json;
	bool everybody; /* no guest was named: verbs that can speak of all of them do */
	bool asked;     /* .page->command is ours */
	unsigned stage; /* of a verb that asks more than once */
	double due;     /* clock_now() before which it has nothing to ask; 0: now */
	uint64_t kept[CONTROL_KEPT];
	bool failed; /* it has something to end yet, then tells that */
	int failure;
	uint64_t skip;
	struct umbra_mapping *mappings;
	size_t mapping_count, mapping_room;

	char *reply; /* NULL: nothing to send */
	size_t reply_size, sent;
};

#define CONTROL_NONE ((struct control){.listener = -1, .client = -1})

/* Could one listen at @path? STATUS_OK, or what control_open() would say. Makes nothing. */
enum status control_judge(const char *path);

/* Listen at @path, which nobody else may be using. */
enum status control_open(struct control *control, const char *path);

/* The machine that is asked. Before its session. */
void control_machine(struct control *control, const struct ram *rams, unsigned guests,
		     struct recording *recording);

/* The request under way is for the guest of @ram. */
void control_turn(struct control *control, const struct ram *ram);

/* What to wait for. */
void control_polls(const struct control *control, struct pollfd polls[CONTROL_POLLS]);

/* Something of that came, or time has passed. */
void control_serve(struct control *control, const struct pollfd polls[CONTROL_POLLS]);

/* Is the machine about to answer? */
static inline bool control_waits(const struct control *control)
{
	return control->verb != NULL;
}

/* Whoever still waits is told that the machine ended. Safe where there is no socket. */
void control_close(struct control *control);

/* The reply to the request under way: its exit status, and what to print. */
void control_reply(struct control *control, enum status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* For `umbra ctl help`, and for one command (verbs.c). False: there is none of that name. */
void control_help(void);
bool control_help_about(const char *name);

#endif
