/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's memory bus, where no RAM is: which device answers at which address. A device is a
 * row of the table and two functions that know offsets.
 */
#include "bus.h"
#include "ioapic.h"
#include "lapic.h"
#include "machine.h"
#include "testdev.h"
#include "vcpu.h"
#include "vm.h"

struct device {
	uint64_t base, size;
	uint64_t (*where)(const struct vcpu *vcpu); /* the base, if the guest can move it */
	uint64_t (*read)(struct vcpu *vcpu, uint32_t offset, unsigned size);
	void (*write)(struct vcpu *vcpu, uint32_t offset, unsigned size, uint64_t value);
};

static const struct device devices[] = {
    {0, 4096, lapic_page, lapic_mmio_read, lapic_mmio_write},
    {IOAPIC_BASE, 4096, NULL, ioapic_read, ioapic_write},
    {TESTDEV_BASE, TESTDEV_SIZE, NULL, testdev_mmio_read, testdev_mmio_write},
};

/* The device at @gpa, and where in it; NULL: none. */
static const struct device *find(const struct vcpu *vcpu, uint64_t gpa, uint32_t *offset)
{
	for (unsigned i = 0; i < sizeof(devices) / sizeof(devices[0]); i++) {
		const struct device *d = &devices[i];
		uint64_t at = gpa - (d->where ? d->where(vcpu) : d->base);

		if (at < d->size) {
			*offset = (uint32_t)at;
			return d;
		}
	}
	return NULL;
}

uint64_t bus_read(struct vcpu *vcpu, uint64_t gpa, unsigned size)
{
	uint32_t offset;
	const struct device *device = find(vcpu, gpa, &offset);

	vcpu->poll_due = 0;
	if (!device)
		return ~0ull;
	return device->read(vcpu, offset, size);
}

void bus_write(struct vcpu *vcpu, uint64_t gpa, unsigned size, uint64_t value)
{
	uint32_t offset;
	const struct device *device = find(vcpu, gpa, &offset);

	vcpu->poll_due = 0;
	if (device)
		device->write(vcpu, offset, size, value);
	else
		vcpu->vm->machine->lost_writes++;
}
