/* SPDX-License-Identifier: BSD-2-Clause */
/* Pages that somebody outside wants to hear of: who touched them. See watch.c. */
#ifndef VMM_WATCH_H
#define VMM_WATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <umbra/machine.h>

struct vm;

#define WATCHES UMBRA_WATCHED_MAX
#define TOUCHES 512u /* the last ones are kept */
#define KINDS   3u   /* enum umbra_watch */

struct watch {
	uint64_t gfn;
	uint64_t touches[KINDS]; /* by kind */
	uint32_t kinds;
	bool tired; /* something of it is not armed */
};

struct touch {
	uint64_t tsc, gfn, kind, rip, gva;
};

struct watching {
	struct watch watch[WATCHES];
	unsigned count;
	bool tired;                  /* one of them is */
	uint64_t due;                /* TSC at which what is tired is armed again */
	struct touch touch[TOUCHES]; /* ring */
	uint64_t touches;            /* in all */
};

/* Watch @gfn for @kinds from now on; 0: no more. 0 or UMBRA_E*. */
int watch_set(struct vm *vm, uint64_t gfn, uint64_t kinds);

/* Watch nothing. */
void watch_clear(struct vm *vm);

/* host.touched */
void watch_touched(void *ctx, const struct umbra_touch *touch);

/* Arm what was touched, if it is time; all: at once, everything, for a new MMU. */
void watch_poll(struct vm *vm, uint64_t now);
void watch_renew(struct vm *vm);

#endif
