/* SPDX-License-Identifier: BSD-2-Clause */
/* The little firmware that real-mode guests find. See bios.c. */
#ifndef VMM_BIOS_H
#define VMM_BIOS_H

#include <stdbool.h>
#include <stdint.h>

struct vm;
struct vcpu;

/* Ports by which its interrupt handlers call the hypervisor. */
#define BIOS_PORT  0xb0
#define BIOS_PORTS 8u

/* Interrupt vectors, their handlers, and the BIOS data area. False: no frames left. */
bool bios_write(struct vm *vm);

/* The timer ticks and the PICs pass its interrupts, as firmware leaves them to boot loaders. */
void bios_start(struct vm *vm);

/* A handler's OUT: carry its service out on the guest's registers. */
void bios_call(struct vcpu *vcpu, uint16_t port, unsigned size, uint32_t value);

#endif
