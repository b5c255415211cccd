/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's I/O APIC (Intel 82093AA data sheet §3; version 0x20 with an EOI register, as in later
 * chipsets): 24 inputs, each with an entry that says which vector it raises, and how. There is one
 * processor, so a destination is that or nobody.
 */
#include "ioapic.h"
#include "lapic.h"
#include "string.h"
#include "vcpu.h"
#include "vm.h"

#define SELECT 0x00
#define WINDOW 0x10
#define EOI    0x40

#define ID      0x00
#define VERSION 0x01
#define ENTRIES 0x10

#define ENTRY_VECTOR(e) ((unsigned)(e)&0xff)
#define ENTRY_MODE(e)   ((unsigned)((e) >> 8) & 7)
#define ENTRY_LOGICAL   (1ull << 11)
#define ENTRY_LOW       (1ull << 13) /* active low */
#define ENTRY_REMOTE    (1ull << 14) /* a level was accepted: no more until its EOI */
#define ENTRY_LEVEL     (1ull << 15)
#define ENTRY_MASKED    (1ull << 16)
#define ENTRY_WRITABLE  0xff0000000001afffull

#define MODE_NMI    4
#define MODE_EXTINT 7

void ioapic_init(struct ioapic *io)
{
	memset(io, 0, sizeof(*io));
	for (unsigned i = 0; i < IOAPIC_INPUTS; i++)
		io->redirect[i] = ENTRY_MASKED;
}

/* Send what input @i has to say, if it may now: an edge, or its level. */
static void deliver(struct vm *vm, unsigned i, bool edge)
{
	struct ioapic *io = &vm->ioapic;
	uint64_t entry = io->redirect[i];
	uint32_t bit = 1u << i;
	bool level = entry & ENTRY_LEVEL;

	if (entry & ENTRY_MASKED)
		return;
	if (level ? !(io->lines & bit) || entry & ENTRY_REMOTE : !edge)
		return;
	if (!lapic_is_target(vm->vcpu, (uint32_t)(entry >> 56), entry & ENTRY_LOGICAL))
		return;
	if (ENTRY_MODE(entry) == MODE_NMI) {
		vm->vcpu->nmi_pending = true;
		return;
	}
	if (ENTRY_MODE(entry) > 1)
		return;
	if (level)
		io->redirect[i] |= ENTRY_REMOTE;
	lapic_deliver(vm->vcpu, ENTRY_VECTOR(entry), level);
}

void ioapic_set(struct vm *vm, unsigned input, bool level)
{
	struct ioapic *io = &vm->ioapic;
	uint32_t bit = 1u << input;

	bool edge = level && !(io->lines & bit);

	io->lines = level ? io->lines | bit : io->lines & ~bit;
	if (vm->vcpu)
		deliver(vm, input, edge);
}

void ioapic_eoi(struct vm *vm, unsigned vector)
{
	struct ioapic *io = &vm->ioapic;

	for (unsigned i = 0; i < IOAPIC_INPUTS; i++) {
		if (ENTRY_VECTOR(io->redirect[i]) != vector || !(io->redirect[i] & ENTRY_REMOTE))
			continue;
		io->redirect[i] &= ~ENTRY_REMOTE;
		deliver(vm, i, false);
	}
}

static uint32_t register_read(const struct ioapic *io)
{
	uint32_t n = io->select - ENTRIES;

	if (io->select == ID || io->select == 2)
		return io->id;
	if (io->select == VERSION)
		return (IOAPIC_INPUTS - 1) << 16 | 0x20;
	if (n < 2 * IOAPIC_INPUTS)
		return (uint32_t)(io->redirect[n / 2] >> n % 2 * 32);
	return 0;
}

static void register_write(struct vm *vm, uint32_t value)
{
	struct ioapic *io = &vm->ioapic;
	uint32_t n = io->select - ENTRIES, shift = n % 2 * 32;
	uint64_t mask = (0xffffffffull << shift) & ENTRY_WRITABLE, *entry;

	if (io->select == ID)
		io->id = value & 0xf000000;
	if (n >= 2 * IOAPIC_INPUTS)
		return;
	entry = &io->redirect[n / 2];
	*entry = (*entry & ~mask) | (((uint64_t)value << shift) & mask);
	if (!(*entry & ENTRY_LEVEL))
		*entry &= ~ENTRY_REMOTE;
	deliver(vm, n / 2, false);
}

uint64_t ioapic_read(struct vcpu *vcpu, uint32_t offset, unsigned size)
{
	(void)size;
	switch (offset) {
	case SELECT:
		return vcpu->vm->ioapic.select;
	case WINDOW:
		return register_read(&vcpu->vm->ioapic);
	default:
		return 0;
	}
}

void ioapic_write(struct vcpu *vcpu, uint32_t offset, unsigned size, uint64_t value)
{
	(void)size;
	switch (offset) {
	case SELECT:
		vcpu->vm->ioapic.select = value & 0xff;
		break;
	case WINDOW:
		register_write(vcpu->vm, (uint32_t)value);
		break;
	case EOI:
		ioapic_eoi(vcpu->vm, value & 0xff);
		break;
	default:
		break;
	}
}
