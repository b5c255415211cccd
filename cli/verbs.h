/* SPDX-License-Identifier: BSD-2-Clause */
/* What a running machine can be asked through its control socket. See verbs.c. */
#ifndef CLI_VERBS_H
#define CLI_VERBS_H

#include <stdbool.h>
#include <umbra/machine.h>

struct control;

/* Most verbs ask for one command and tell the numbers that it answers. */
struct verb {
	const char *name;
	const char *arguments; /* as help shows them; GFN and GVA are hexadecimal, [] may be left */
	unsigned count;        /* of arguments, at most */
	const char *what;
	/* Ask (control->asked), or reply at once. NULL: .command, with the arguments as numbers. */
	void (*begin)(struct control *control);
	/* The hypervisor is done: reply, or ask again. NULL: tell .fields. */
	void (*end)(struct control *control);
	enum umbra_command command;
	const char *fields; /* names of what it answers, a space between them; umbra(1) has them */
};

/* NULL: there is none of that name. */
const struct verb *verb_find(const char *name);

/* How many arguments it takes at least. */
unsigned verb_least(const struct verb *verb);

/* Does it make sense where the guest has ended: it speaks of all of them, or of none? */
bool verb_is_of_all(const struct verb *verb);

#endif
