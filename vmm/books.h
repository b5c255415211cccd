/* SPDX-License-Identifier: BSD-2-Clause */
/* The audit of the machine's frames. See books.c. */
#ifndef VMM_BOOKS_H
#define VMM_BOOKS_H

#include <stdint.h>

struct host;

/*
 * What is wrong with the books of frames, and how often: 0, or the hypervisor has a bug. *@what
 * (untouched where nothing is): the first of them, a sentence; *@where: a frame's number, or a
 * page's. Between guest entries.
 */
uint64_t books_audit(struct host *host, const char **what, uint64_t *where);

#endif
