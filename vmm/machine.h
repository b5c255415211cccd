/* SPDX-License-Identifier: BSD-2-Clause */
/* The machine pages, a guest's end and the machine's. */
#ifndef VMM_MACHINE_H
#define VMM_MACHINE_H

#include <stdbool.h>
#include <stdint.h>
#include <umbra/machine.h>

struct host;
struct vm;

/* The page of guest number @guest, at UMBRA_MACHINE_ADDRESS + @guest * UMBRA_MACHINE_STRIDE. */
struct umbra_machine *machine_page(unsigned guest);

/* Set up everything but the magic, which machine_ready() writes, for @guests guests. */
void machine_init(void);
void machine_ready(unsigned guests, uint64_t tsc_hz, bool nested);

/* Refresh the MMU's statistics in the guest's page. */
void machine_stats(struct vm *vm);

/* Those of an MMU that goes: what it counted still counts. */
void machine_stats_keep(struct vm *vm, const struct umbra_stats *stats);

/* Behind a message of UMBRA_END_NOMEM: what the machine needs for itself and for tables ran out. */
#define MACHINE_MORE ": give less with --quota, or more with --memory"

/*
 * End the guest @vm: fill in its page, and go on with the other guests, after a line on COM1 unless
 * the end is an orderly one. Where none is left, or with an end that is nobody's own (NULL for @vm,
 * a breach), stop the machine: write the exit port; where that does nothing, halt. After an audit's
 * violation an orderly end becomes UMBRA_END_AUDIT.
 *
 * => while guests run, @vm is the one whose turn it is: what is under way for it is given up, and
 *    would be lost for another
 */
_Noreturn void machine_end(struct vm *vm, enum umbra_end end, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
