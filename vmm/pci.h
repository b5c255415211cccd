/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest's PCI bus. See pci.c. */
#ifndef VMM_PCI_H
#define VMM_PCI_H

#include <stdbool.h>
#include <stdint.h>

struct vcpu;

#define PCI_FUNCTIONS 4u

/* Offsets in the configuration space (PCI Local Bus Specification 3.0 §6.1). */
#define PCI_COMMAND      0x04
#define PCI_STATUS       0x06
#define PCI_CLASS        0x08
#define PCI_BAR          0x10
#define PCI_SUBSYSTEM    0x2c
#define PCI_CAPABILITIES 0x34
#define PCI_IRQ_LINE     0x3c
#define PCI_IRQ_PIN      0x3d

struct pci_function {
	uint8_t config[256];
	uint8_t writable[256]; /* the bits of it that the guest may change */
	uint16_t ports;        /* behind BAR 0, an I/O one; a power of two; 0: none */
	void *device;
	uint32_t (*read)(void *device, uint32_t offset, unsigned size);
	void (*write)(void *device, uint32_t offset, unsigned size, uint32_t value);
	/* Capabilities with registers that do something; NULL: there are none. */
	void (*config_read)(void *device, uint8_t offset, unsigned size);
	void (*config_written)(void *device, uint8_t offset, unsigned size);
};

struct pci {
	uint32_t address;                              /* port 0xcf8 */
	struct pci_function *functions[PCI_FUNCTIONS]; /* by their number on bus 0; 0: the bridge */
	struct pci_function bridge;
};

/* Fill in what every function has. @interrupt: the PICs' line, or 0. */
void pci_function_init(struct pci_function *function, uint32_t id, uint32_t class, uint32_t port,
		       unsigned interrupt);

/* Ports 0xcf8 (32 bits wide) and 0xcfc to 0xcff. */
uint32_t pci_address_read(struct vcpu *vcpu, uint16_t port, unsigned size);
void pci_address_write(struct vcpu *vcpu, uint16_t port, unsigned size, uint32_t value);
uint32_t pci_config_read(struct vcpu *vcpu, uint16_t port, unsigned size);
void pci_config_write(struct vcpu *vcpu, uint16_t port, unsigned size, uint32_t value);

/* Ports where BARs may lie. */
#define PCI_PORTS_FIRST 0xc000
#define PCI_PORTS_LAST  0xffff
uint32_t pci_port_read(struct vcpu *vcpu, uint16_t port, unsigned size);
void pci_port_write(struct vcpu *vcpu, uint16_t port, unsigned size, uint32_t value);

#endif
