/* SPDX-License-Identifier: BSD-2-Clause */
/* Devices in the guest's physical memory. See bus.c. */
#ifndef VMM_BUS_H
#define VMM_BUS_H

#include <stdbool.h>
#include <stdint.h>

struct vcpu;

/*
 * An access of @size bytes (1, 2, 4 or 8), aligned, to where no memory is. Devices answer; what
 * nobody answers reads as all ones, and what is written there is lost, as on a PC's bus.
 */
uint64_t bus_read(struct vcpu *vcpu, uint64_t gpa, unsigned size);
void bus_write(struct vcpu *vcpu, uint64_t gpa, unsigned size, uint64_t value);

#endif
