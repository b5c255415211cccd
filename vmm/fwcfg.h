/* SPDX-License-Identifier: BSD-2-Clause */
/* The firmware configuration device, as QEMU has it: ports 0x510 and 0x511. */
#ifndef VMM_FWCFG_H
#define VMM_FWCFG_H

#include <stdint.h>

struct vcpu;

struct fwcfg {
	uint16_t key;
	uint32_t at; /* of the item's bytes, the next to be read */
};

uint32_t fwcfg_read(struct vcpu *vcpu, uint16_t port, unsigned size);
void fwcfg_write(struct vcpu *vcpu, uint16_t port, unsigned size, uint32_t value);

#endif
