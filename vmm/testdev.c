/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What bare-metal suites written for QEMU's pc-testdev and isa-debug-exit expect:
 *
 *   port 0xf4          the guest is done; its status is (value << 1) | 1
 *   port 0xe0          keeps what is written, of 1, 2 or 4 bytes
 *   port 0xe4          the host takes the page at the guest-physical address written away
 *   ports 0x2000..     input 0..23 of the I/O APIC (and of the PICs) up or down
 *   0xff000000         64 KiB that every load and store comes here for
 */
#include "testdev.h"
#include "ioapic.h"
#include "irq.h"
#include "machine.h"
#include "string.h"
#include "vcpu.h"
#include "vm.h"

uint32_t testdev_read(struct vcpu *vcpu, uint16_t port, unsigned size)
{
	uint32_t value = vcpu->vm->testdev.echo >> 8 * (port & 3);

	if (port >= TESTDEV_ECHO && port < TESTDEV_ECHO + 4)
		return size == 4 ? value : value & ((1u << 8 * size) - 1);
	return ~0u;
}

static void guest_exit(struct vcpu *vcpu, uint32_t value)
{
	vcpu->vm->machine->guest_status = value << 1 | 1;
	machine_end(vcpu->vm, UMBRA_END_GUEST, "the guest exited with status %u",
		    (value << 1 | 1) & 0xff);
}

void testdev_write(struct vcpu *vcpu, uint16_t port, unsigned size, uint32_t value)
{
	struct vm *vm = vcpu->vm;
	unsigned input = port - TESTDEV_IRQ;

	if (port == TESTDEV_EXIT)
		guest_exit(vcpu, value);
	if (port == TESTDEV_FLUSH) {
		mmu_drop(vm, (umbra_gfn){value >> UMBRA_PAGE_SHIFT}, 1, NULL);
	} else if (port >= TESTDEV_ECHO && port < TESTDEV_ECHO + 4) {
		uint32_t mask = (size == 4 ? ~0u : (1u << 8 * size) - 1) << 8 * (port & 3);

		vm->testdev.echo = (vm->testdev.echo & ~mask) | (value << 8 * (port & 3) & mask);
	} else if (input < 16 && input != 2) {
		irq_set(vm, input, value);
	} else if (input < TESTDEV_IRQS) {
		ioapic_set(vm, input, value);
	}
}

static uint8_t *memory(struct vm *vm)
{
	if (!vm->testdev.memory)
		vm->testdev.memory = pool_alloc(vm->frames, TESTDEV_SIZE);
	return vm->testdev.memory;
}

uint64_t testdev_mmio_read(struct vcpu *vcpu, uint32_t offset, unsigned size)
{
	const uint8_t *bytes = memory(vcpu->vm);
	uint64_t value = 0;

	if (bytes)
		memcpy(&value, bytes + offset, size);
	return value;
}

void testdev_mmio_write(struct vcpu *vcpu, uint32_t offset, unsigned size, uint64_t value)
{
	uint8_t *bytes = memory(vcpu->vm);

	if (bytes)
		memcpy(bytes + offset, &value, size);
}
