/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's side of the control ports (include/umbra/machine.h): how the init process and the
 * workload ask the hypervisor to do things to the memory that they live in. On a machine
 * that is not umbra's every call does nothing and answers 0.
 */
#ifndef GUEST_CONTROL_H
#define GUEST_CONTROL_H

#include <stdbool.h>
#include <stdint.h>
#include <umbra/machine.h>

/* Get the right to use the ports and look who answers there. Needs root. */
void control_open(void);

/* Does umbra answer at the ports? */
bool control_present(void);

/* Give the right away: a child must not slow its context switches down with an I/O bitmap. */
void control_close(void);

/* Do @op with @argument; its result. */
uint32_t control_call(enum umbra_ctl op, uint32_t argument);

#endif
