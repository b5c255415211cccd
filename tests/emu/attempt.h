/* SPDX-License-Identifier: BSD-2-Clause */
/* An instruction to be tried, with all that it works on. See attempt.c. */
#ifndef TEST_ATTEMPT_H
#define TEST_ATTEMPT_H

#include "native.h"

#define WINDOW_SIZE 1024u
#define WINDOW      (NATIVE_DATA + 4096 - WINDOW_SIZE / 2) /* a page's border in the middle */

struct template;

struct attempt {
	const struct template *template;
	struct registers registers;
	uint8_t bytes[32];
	unsigned length;
	uint64_t target; /* of the memory operand */
	uint8_t window[WINDOW_SIZE];
};

/* @bits: 64 or 32. */
void attempt_init(uint64_t seed, unsigned bits);

/* The next one; false: what was chosen cannot be tried. */
bool attempt_make(struct attempt *attempt);

/* Where it goes on if nothing is raised. */
uint64_t attempt_end(const struct attempt *attempt);

#endif
