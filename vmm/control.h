/* SPDX-License-Identifier: BSD-2-Clause */
/* The control ports of umbra/machine.h and the jobs behind them. */
#ifndef VMM_CONTROL_H
#define VMM_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

struct vm;

struct control {
	uint32_t argument, result;
	uint32_t *region; /* gfns; room for every page of the guest */
	uint64_t region_count;
	uint64_t region_next; /* the migration's progress */
	bool migrating;
	uint64_t storm_rate;  /* a second; 0: off */
	uint64_t storm_due;   /* TSC of the next one */
	uint64_t audit_exits; /* exits since the last periodic audit */
	uint64_t audit_due; /* TSC before which the guest, unless it is alone, gets no other one, */
	uint32_t audit_found; /*   but what that found which it asked for last */
	uint32_t quota;       /* shadow pages, as asked for last */
	void *answer;         /* UMBRA_ANSWER_BYTES */
	bool logs;            /* a log was begun from outside */
	uint64_t skip;        /* mappings that are left out of it */
};

/* 0 or UMBRA_ENOMEM. */
int control_init(struct vm *vm);

/* The guest has ended. Before memory_destroy(). .answer stays: the outside may be reading it. */
void control_destroy(struct vm *vm);

/* 32-bit accesses to UMBRA_CTL and UMBRA_CTL_ARG. */
uint32_t control_port_read(struct vm *vm, uint16_t port);
void control_port_write(struct vm *vm, uint16_t port, uint32_t value);

/* After an exit: a piece of what is under way, and the command of the outside. */
void control_poll(struct vm *vm, uint64_t now);

/* TSC at which control_poll() wants to run again at the latest. */
uint64_t control_next(const struct vm *vm, uint64_t now);

/* Audit the MMU: violations, at most 2^32 - 1. */
uint32_t control_audit(struct vm *vm);

/* Migrations of random pages a second from now on; the quota of shadow pages, 0: the first one. */
void control_storm(struct vm *vm, uint64_t rate);
int control_quota(struct vm *vm, uint64_t pages);

/* Does somebody outside log or watch the guest? Then the guest itself must not end that. */
bool control_is_asked(const struct vm *vm);

/* Is there work that waits for nothing? */
static inline bool control_busy(const struct control *control)
{
	return control->migrating;
}

#endif
