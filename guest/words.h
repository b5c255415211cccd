/* SPDX-License-Identifier: BSD-2-Clause */
/* Words of the kernel command line: "umbra.children=32". */
#ifndef GUEST_WORDS_H
#define GUEST_WORDS_H

#include <stddef.h>

/* Read /proc/cmdline. Before it every word is absent. */
void words_read(void);

/* The value of the last "umbra.@name=value", copied to @value; @fallback where there is none. */
void words_string(const char *name, const char *fallback, char *value, size_t size);

/* The same of a word of the kernel's own: "root=/dev/vda". */
void words_kernel(const char *name, const char *fallback, char *value, size_t size);

/*
 * A word of ours as a number in @low..@high. Anything else is said on the console, counted by
 * words_refused(), and answered with @fallback.
 */
unsigned long words_number(const char *name, unsigned long fallback, unsigned long low,
			   unsigned long high);

/* How many words were no numbers, or out of range, so far. */
unsigned words_refused(void);

#endif
