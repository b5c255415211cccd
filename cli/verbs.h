/* SPDX-License-Identifier: BSD-2-Clause */
/* What a running machine can be asked through its control socket. See verbs.c. */
#ifndef CLI_VERBS_H
#define CLI_VERBS_H

#include <stdbool.h>

struct control;

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

/* NULL: there is none of that name. */
const struct verb *verb_find(const char *name);

/* Does it speak of all guests where none is named, and of those that have ended? */
bool verb_is_of_all(const struct verb *verb);

#endif
