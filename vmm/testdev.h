/* SPDX-License-Identifier: BSD-2-Clause */
/* A device for bare-metal test suites, with the ports of QEMU's pc-testdev. See testdev.c. */
#ifndef VMM_TESTDEV_H
#define VMM_TESTDEV_H

#include <stdint.h>

struct vcpu;

#define TESTDEV_ECHO  0xe0
#define TESTDEV_FLUSH 0xe4
#define TESTDEV_IRQ   0x2000
#define TESTDEV_IRQS  24u
#define TESTDEV_EXIT  0xf4
#define TESTDEV_BASE  0xff000000u
#define TESTDEV_SIZE  0x10000u

struct testdev {
	uint32_t echo;
	uint8_t *memory; /* TESTDEV_SIZE bytes at TESTDEV_BASE; made when first written */
};

uint32_t testdev_read(struct vcpu *vcpu, uint16_t port, unsigned size);
void testdev_write(struct vcpu *vcpu, uint16_t port, unsigned size, uint32_t value);

uint64_t testdev_mmio_read(struct vcpu *vcpu, uint32_t offset, unsigned size);
void testdev_mmio_write(struct vcpu *vcpu, uint32_t offset, unsigned size, uint64_t value);

#endif
