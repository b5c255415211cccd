/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * QEMU's firmware configuration device (its specification: docs/specs/fw_cfg): a guest selects a
 * key by a 16-bit write and reads its bytes one by one. Here the few keys that bare-metal guests
 * ask for: how much memory, how many processors. There are no files and no DMA.
 */
#include "fwcfg.h"
#include "vcpu.h"
#include "vm.h"

#define PORT_SELECT 0x510

#define KEY_SIGNATURE 0x00
#define KEY_ID        0x01
#define KEY_RAM       0x03
#define KEY_CPUS      0x05
#define KEY_CPUS_MAX  0x0f

/* An item of at most 8 bytes, little-endian; what is read behind it is 0. */
static uint64_t item(const struct vm *vm, uint16_t key)
{
	switch (key) {
	case KEY_SIGNATURE:
		return 0x554d4551; /* "QEMU" */
	case KEY_ID:
		return 1; /* the traditional interface */
	case KEY_RAM:
		return vm->options.memory;
	case KEY_CPUS:
	case KEY_CPUS_MAX:
		return 1;
	default:
		return 0;
	}
}

uint32_t fwcfg_read(struct vcpu *vcpu, uint16_t port, unsigned size)
{
	struct fwcfg *f = &vcpu->vm->fwcfg;
	uint32_t value = 0;

	if (port == PORT_SELECT && size == 2)
		return f->key;
	for (unsigned i = 0; i < size; i++, f->at++)
		if (f->at < 8)
			value |= (uint32_t)(item(vcpu->vm, f->key) >> 8 * f->at & 0xff) << 8 * i;
	return value;
}

void fwcfg_write(struct vcpu *vcpu, uint16_t port, unsigned size, uint32_t value)
{
	if (port != PORT_SELECT || size != 2)
		return;
	vcpu->vm->fwcfg = (struct fwcfg){.key = (uint16_t)value};
}
