/* SPDX-License-Identifier: BSD-2-Clause */
/* The machine page, and the machine's end. */
#ifndef VMM_MACHINE_H
#define VMM_MACHINE_H

#include <umbra/machine.h>

struct vm;

/* The page at UMBRA_MACHINE_ADDRESS. */
extern struct umbra_machine machine_page;

/* Set up everything but the magic, which machine_ready() writes. */
void machine_init(void);
void machine_ready(void);

/* Refresh the MMU's statistics in the page. */
void machine_stats(struct vm *vm);

/* Those of an MMU that goes: what it counted still counts. */
void machine_stats_keep(const struct umbra_stats *stats);

/*
 * Stop the machine. Fills in the page, says it on COM1 unless the end is an orderly one, writes
 * the exit port; where that does nothing, halts. @vm may be NULL (then the MMU's statistics stay
 * as they are). After an audit's violation an orderly end becomes UMBRA_END_AUDIT.
 */
_Noreturn void machine_end(struct vm *vm, enum umbra_end end, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
