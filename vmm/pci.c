/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's PCI bus: configuration mechanism #1 (PCI Local Bus Specification 3.0 §3.2.2.3.2), one
 * bus of single-function devices, each with at most one BAR, an I/O one. Where a machine has no
 * device, it has no bus either. Interrupts are the PICs' lines, as the firmware of a PC would have
 * set them up.
 */
#include "pci.h"
#include "string.h"
#include "vcpu.h"
#include "vm.h"

#define ADDRESS_ENABLE 0x80000000u
#define COMMAND_IO     1u
#define BAR_IO         1u

static void put(uint8_t *at, uint32_t value, unsigned size)
{
	memcpy(at, &value, size);
}

void pci_function_init(struct pci_function *function, uint32_t id, uint32_t class, uint32_t port,
		       unsigned interrupt)
{
	uint8_t *config = function->config, *writable = function->writable;

	put(&config[0], id, 4);
	put(&config[PCI_CLASS], class, 4);
	writable[PCI_COMMAND] = 7;     /* I/O, memory, bus mastering */
	writable[PCI_COMMAND + 1] = 4; /* no INTx */
	if (port) {
		put(&config[PCI_COMMAND], COMMAND_IO, 2);
		put(&config[PCI_BAR], port | BAR_IO, 4);
		put(&writable[PCI_BAR], ~(function->ports - 1u), 4);
	}
	if (interrupt) {
		config[PCI_IRQ_LINE] = (uint8_t)interrupt;
		config[PCI_IRQ_PIN] = 1; /* INTA */
		writable[PCI_IRQ_LINE] = 0xff;
	}
}

/* The function that the address register chooses, or NULL. */
static struct pci_function *chosen(const struct pci *pci)
{
	uint32_t number = pci->address >> 11 & 0x1f;

	if (!(pci->address & ADDRESS_ENABLE) || pci->address & 0xff0700 || number >= PCI_FUNCTIONS)
		return NULL;
	return pci->functions[number];
}

uint32_t pci_address_read(struct vcpu *vcpu, uint16_t port, unsigned size)
{
	(void)port;
	(void)size;
	return vcpu->vm->pci.functions[0] ? vcpu->vm->pci.address : ~0u;
}

void pci_address_write(struct vcpu *vcpu, uint16_t port, unsigned size, uint32_t value)
{
	(void)port;
	(void)size;
	vcpu->vm->pci.address = value;
}

/* The part of an access to ports 0xcfc to 0xcff that lies in one register. */
static unsigned piece(uint16_t port, unsigned size)
{
	unsigned room = 4 - (port & 3);

	return size < room ? size : room;
}

uint32_t pci_config_read(struct vcpu *vcpu, uint16_t port, unsigned size)
{
	struct pci_function *function = chosen(&vcpu->vm->pci);
	uint8_t at = (uint8_t)((vcpu->vm->pci.address & 0xfc) | (port & 3));
	uint32_t value = ~0u;

	if (!function)
		return value;
	if (function->config_read)
		function->config_read(function->device, at, size);
	memcpy(&value, &function->config[at], piece(port, size));
	return value;
}

void pci_config_write(struct vcpu *vcpu, uint16_t port, unsigned size, uint32_t value)
{
	struct pci_function *function = chosen(&vcpu->vm->pci);
	uint8_t at = (uint8_t)((vcpu->vm->pci.address & 0xfc) | (port & 3));
	unsigned bytes = piece(port, size);

	if (!function)
		return;
	for (unsigned i = 0; i < bytes; i++) {
		uint8_t mask = function->writable[at + i], byte = (uint8_t)(value >> 8 * i);

		function->config[at + i] =
		    (uint8_t)((function->config[at + i] & ~mask) | (byte & mask));
	}
	if (function->config_written)
		function->config_written(function->device, at, bytes);
}

static struct pci_function *at_port(const struct pci *pci, uint16_t port, uint32_t *offset)
{
	for (unsigned i = 1; i < PCI_FUNCTIONS; i++) {
		struct pci_function *function = pci->functions[i];
		uint32_t bar;

		if (!function || !(function->config[PCI_COMMAND] & COMMAND_IO))
			continue;
		memcpy(&bar, &function->config[PCI_BAR], sizeof(bar));
		*offset = port - (bar & ~3u);
		if (*offset < function->ports)
			return function;
	}
	return NULL;
}

uint32_t pci_port_read(struct vcpu *vcpu, uint16_t port, unsigned size)
{
	uint32_t offset;
	struct pci_function *function = at_port(&vcpu->vm->pci, port, &offset);

	return function ? function->read(function->device, offset, size) : ~0u;
}

void pci_port_write(struct vcpu *vcpu, uint16_t port, unsigned size, uint32_t value)
{
	uint32_t offset;
	struct pci_function *function = at_port(&vcpu->vm->pci, port, &offset);

	if (function)
		function->write(function->device, offset, size, value);
}
