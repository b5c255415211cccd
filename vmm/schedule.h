/* SPDX-License-Identifier: BSD-2-Clause */
/* Who runs: the guests of the machine in turn, on one processor. See schedule.c. */
#ifndef VMM_SCHEDULE_H
#define VMM_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

struct host;
struct vm;

/* Run the host's guests until the last has ended. */
_Noreturn void schedule_run(struct host *host);

/* Does another guest than @vm still run? False before schedule_run(). */
bool schedule_has_others(const struct vm *vm);

/* @vm, whose turn it is or not, has ended: give its memory back, go on with the others. */
_Noreturn void schedule_retire(struct vm *vm);

/*
 * Interrupts of devices that guests share have come: tell the guests that they are for. True: one
 * waited for that, and is to have the processor.
 */
bool schedule_edges(struct vm *vm);

#endif
