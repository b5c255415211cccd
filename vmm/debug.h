/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest's debug registers. See debug.c. */
#ifndef VMM_DEBUG_H
#define VMM_DEBUG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vcpu;

/* MOV to or from DR@number. */
void debug_exit(struct vcpu *vcpu, unsigned number, bool write);

/* Around the guest's run. */
void debug_enter(struct vcpu *vcpu);
void debug_leave(struct vcpu *vcpu);

/*
 * What the hypervisor did for the guest: an access to memory, or to @port. A breakpoint that it
 * hits is raised by debug_done(), when the instruction is.
 */
void debug_access(struct vcpu *vcpu, uint64_t linear, size_t size, bool write);
void debug_port(struct vcpu *vcpu, uint16_t port, unsigned size);
void debug_done(struct vcpu *vcpu);

#endif
