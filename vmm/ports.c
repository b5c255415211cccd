/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's I/O ports: who answers which. Ports that nobody answers read all-ones and ignore
 * writes. Ports open in the permission map (COM1, PIT channel 2, delays) never come here.
 */
#include <umbra/machine.h>

#include "bios.h"
#include "control.h"
#include "cpu.h"
#include "debug.h"
#include "emulate.h"
#include "exits.h"
#include "fwcfg.h"
#include "machine.h"
#include "pic.h"
#include "pit.h"
#include "pit2.h"
#include "rtc.h"
#include "serial.h"
#include "testdev.h"
#include "uart.h"
#include "vcpu.h"
#include "vm.h"

#define PORT_DELAY1   0x80
#define PORT_DELAY2   0xed
#define PORT_KEYBOARD 0x64
#define PORT_RESET    0xcf9
#define PORT_PM_TIMER 0x608
#define PM_TIMER_HZ   3579545ull

/* EXITINFO1 of an I/O exit (AMD64 APM vol. 2 §15.10.2). */
#define IO_IN         1u
#define IO_STRING     4u
#define IO_SIZE(info) ((info) >> 4 & 7)
#define IO_PORT(info) ((uint16_t)((info) >> 16))

void ports_init(struct vcpu *vcpu)
{
	svm_port_open(&vcpu->vm->cpu->svm, PORT_DELAY1);
	svm_port_open(&vcpu->vm->cpu->svm, PORT_DELAY2);
	uart_attach(vcpu->vm);
}

/* ------------------------------------------------------------------ small devices */

static uint8_t pic_port_read(struct vm *vm, uint16_t port)
{
	return pic_read(&vm->pic, port);
}

static void pic_port_write(struct vm *vm, uint16_t port, uint8_t value)
{
	pic_write(&vm->pic, port, value);
}

/* No keyboard controller, but one that would take the reset command at once. */
static uint8_t keyboard_read(struct vm *vm, uint16_t port)
{
	(void)vm;
	(void)port;
	return 0xfd;
}

static void keyboard_write(struct vm *vm, uint16_t port, uint8_t value)
{
	(void)port;
	if (value == 0xfe)
		machine_end(vm, UMBRA_END_REBOOT, "the guest reset itself (port 0x64)");
}

static void reset_write(struct vm *vm, uint16_t port, uint8_t value)
{
	(void)port;
	if (value & 4)
		machine_end(vm, UMBRA_END_REBOOT, "the guest reset itself (port 0xcf9)");
}

static uint32_t control_read(struct vcpu *vcpu, uint16_t port, unsigned size)
{
	return size == 4 ? control_port_read(vcpu->vm, port) : ~0u;
}

static void control_write(struct vcpu *vcpu, uint16_t port, unsigned size, uint32_t value)
{
	if (size == 4)
		control_port_write(vcpu->vm, port, value);
}

/* ACPI's power management timer: 24 bits. */
static uint32_t pm_timer_read(struct vcpu *vcpu, uint16_t port, unsigned size)
{
	(void)port;
	(void)size;
	return (uint32_t)muldiv(rdtsc(), PM_TIMER_HZ, vcpu->vm->cpu->tsc_hz) & 0xffffff;
}

/* ------------------------------------------------------------------ who answers */

/* Devices on the ISA bus of bytes, where a wide access is a row of narrow ones. */
static const struct byte_ports {
	uint16_t first, last;
	uint8_t (*read)(struct vm *vm, uint16_t port);
	void (*write)(struct vm *vm, uint16_t port, uint8_t value);
} byte_ports[] = {
    {0x20, 0x21, pic_port_read, pic_port_write},
    {0xa0, 0xa1, pic_port_read, pic_port_write},
    {0x4d0, 0x4d1, pic_port_read, pic_port_write},
    {0x40, 0x41, pit_read, pit_write},
    {0x42, 0x42, pit2_read, pit2_write},
    {0x43, 0x43, pit_read, pit_write},
    {0x61, 0x61, pit2_read, pit2_write},
    {UART_BASE, UART_BASE + 7, serial_read, serial_write},
    {0x70, 0x71, rtc_read, rtc_write},
    {PORT_KEYBOARD, PORT_KEYBOARD, keyboard_read, keyboard_write},
    {PORT_RESET, PORT_RESET, NULL, reset_write},
};

/* Devices that see how wide an access is. */
static const struct wide_ports {
	uint16_t first, last;
	uint32_t (*read)(struct vcpu *vcpu, uint16_t port, unsigned size);
	void (*write)(struct vcpu *vcpu, uint16_t port, unsigned size, uint32_t value);
} wide_ports[] = {
    {UMBRA_CTL, UMBRA_CTL, control_read, control_write},
    {UMBRA_CTL_ARG, UMBRA_CTL_ARG, control_read, control_write},
    {BIOS_PORT, BIOS_PORT + BIOS_PORTS - 1, NULL, bios_call},
    {0x510, 0x511, fwcfg_read, fwcfg_write},
    {PORT_PM_TIMER, PORT_PM_TIMER, pm_timer_read, NULL},
    {TESTDEV_EXIT, TESTDEV_EXIT, NULL, testdev_write},
    {TESTDEV_ECHO, TESTDEV_FLUSH, testdev_read, testdev_write},
    {TESTDEV_IRQ, TESTDEV_IRQ + TESTDEV_IRQS - 1, NULL, testdev_write},
    {0xcf8, 0xcf8, pci_address_read, pci_address_write},
    {0xcfc, 0xcff, pci_config_read, pci_config_write},
    {PCI_PORTS_FIRST, PCI_PORTS_LAST, pci_port_read, pci_port_write},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct wide_ports *find_wide(uint16_t port, unsigned size)
{
	for (unsigned i = 0; i < COUNT(wide_ports); i++)
		if (port >= wide_ports[i].first && port <= wide_ports[i].last &&
		    (port != 0xcf8 || size == 4))
			return &wide_ports[i];
	return NULL;
}

static const struct byte_ports *find_byte(uint16_t port)
{
	for (unsigned i = 0; i < COUNT(byte_ports); i++)
		if (port >= byte_ports[i].first && port <= byte_ports[i].last)
			return &byte_ports[i];
	return NULL;
}

uint32_t port_read(struct vcpu *vcpu, uint16_t port, unsigned size)
{
	const struct wide_ports *wide = find_wide(port, size);
	uint32_t value = 0;

	if (wide)
		return wide->read ? wide->read(vcpu, port, size) : ~0u;
	for (unsigned i = 0; i < size; i++) {
		const struct byte_ports *byte = find_byte((uint16_t)(port + i));
		uint8_t part =
		    byte && byte->read ? byte->read(vcpu->vm, (uint16_t)(port + i)) : 0xff;

		value |= (uint32_t)part << 8 * i;
	}
	return value;
}

void port_write(struct vcpu *vcpu, uint16_t port, unsigned size, uint32_t value)
{
	const struct wide_ports *wide = find_wide(port, size);

	if (wide) {
		if (wide->write)
			wide->write(vcpu, port, size, value);
		return;
	}
	for (unsigned i = 0; i < size; i++) {
		const struct byte_ports *byte = find_byte((uint16_t)(port + i));

		if (byte && byte->write)
			byte->write(vcpu->vm, (uint16_t)(port + i), (uint8_t)(value >> 8 * i));
	}
}

/* INS and OUTS: the emulator finds their memory. */
static void string_exit(struct vcpu *vcpu, uint16_t port)
{
	char bytes[48];

	if (emulate(vcpu) == EMU_UNKNOWN)
		machine_end(vcpu->vm, UMBRA_END_EMULATE,
			    "string I/O on port 0x%x at rip %lx is not known (%s)", port,
			    vcpu->vmcb->rip, vcpu_bytes(vcpu, bytes, sizeof(bytes)));
}

void ports_exit(struct vcpu *vcpu)
{
	uint64_t info = vcpu->vmcb->exit_info1, next = vcpu->vmcb->exit_info2;
	unsigned size = IO_SIZE(info);
	uint64_t mask = (1ull << 8 * size) - 1;
	uint32_t value;

	if (info & IO_STRING) {
		string_exit(vcpu, IO_PORT(info));
		return;
	}
	debug_port(vcpu, IO_PORT(info), size);
	/* First, so that an operation that ends the machine leaves it behind the instruction. */
	vcpu_skip(vcpu, (unsigned)(next - vcpu->vmcb->rip));
	if (!(info & IO_IN)) {
		port_write(vcpu, IO_PORT(info), size, (uint32_t)(vcpu->gpr[GPR_RAX] & mask));
		return;
	}
	value = port_read(vcpu, IO_PORT(info), size);
	if (size == 4)
		vcpu->gpr[GPR_RAX] = value;
	else
		vcpu->gpr[GPR_RAX] = (vcpu->gpr[GPR_RAX] & ~mask) | (value & mask);
}
