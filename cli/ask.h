/* SPDX-License-Identifier: BSD-2-Clause */
/* Asking the hypervisor, and telling what it said. See ask.c. */
#ifndef CLI_ASK_H
#define CLI_ASK_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <umbra/machine.h>

struct control;

/* Ask the guest that the request is for. */
void ask_command(struct control *control, enum umbra_command command, uint64_t first,
		 uint64_t second);

/* Where the machine puts its answers. NULL: it named a place that it does not have. */
const void *ask_answer(struct control *control);

/*
 * Copy @size bytes of what the machine has at @from: from then on they are what they are, whatever
 * becomes of the machine's. What is to be judged, and then used, must have gone through this.
 */
void ask_copy(void *to, const void *from, size_t size);

/* Reply with @json, which is used up. */
void ask_reply_json(struct control *control, json_t *json);

/* Reply that it is done, and nothing else. */
void ask_done(struct control *control);

/* A verb's begin: ask for its command, with its words as numbers. */
void ask_numbers(struct control *control);

/* A verb's end: tell the numbers that were answered. _list: any number of rows of them. */
void ask_tell(struct control *control);
void ask_tell_list(struct control *control);

/* Tell @rows rows of the verb's fields: one as an object, more (@list) as a list, or as a table. */
void ask_tell_rows(struct control *control, const uint64_t *values, size_t rows, bool list);

#endif
