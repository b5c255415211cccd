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
	bool (*is_there)(const struct vcpu *vcpu); /* NULL: always */
	uint64_t (*read)(struct vcpu *vcpu, uint32_t offset, unsigned size);
	void (*write)(struct vcpu *vcpu, uint32_t offset, unsigned size, uint64_t value);
};

static const struct device devices[] = {
    {LAPIC_BASE, 4096, lapic_is_mapped, lapic_mmio_read, lapic_mmio_write},
    {IOAPIC_BASE, 4096, NULL, ioapic_read, ioapic_write},
    {TESTDEV_BASE, TESTDEV_SIZE, NULL, testdev_mmio_read, testdev_mmio_write},
};

static const struct device *find(const struct vcpu *vcpu, uint64_t gpa)
{
	for (unsigned i = 0; i < sizeof(devices) / sizeof(devices[0]); i++)
		if (gpa - devices[i].base < devices[i].size &&
		    (!devices[i].is_there || devices[i].is_there(vcpu)))
			return &devices[i];
	return NULL;
}

uint64_t bus_read(struct vcpu *vcpu, uint64_t gpa, unsigned size)
{
	const struct device *device = find(vcpu, gpa);

	vcpu->poll_due = 0;
	if (!device)
		return ~0ull;
	return device->read(vcpu, (uint32_t)(gpa - device->base), size);
}

void bus_write(struct vcpu *vcpu, uint64_t gpa, unsigned size, uint64_t value)
{
	const struct device *device = find(vcpu, gpa);

	vcpu->poll_due = 0;
	if (device)
		device->write(vcpu, (uint32_t)(gpa - device->base), size, value);
	else
		vcpu->vm->machine->lost_writes++;
}
