/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's I/O ports: who answers which. Ports that nobody answers read all-ones and ignore
 * writes. Ports open in the permission map (COM1, PIT channel 2, delays) never come here.
 */
#include <umbra/machine.h>

#include "control.h"
#include "cpu.h"
#include "exits.h"
#include "machine.h"
#include "pic.h"
#include "pit.h"
#include "rtc.h"
#include "uart.h"
#include "vcpu.h"
#include "vm.h"

#define PORT_DELAY1   0x80
#define PORT_DELAY2   0xed
#define PORT_KEYBOARD 0x64
#define PORT_RESET    0xcf9

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

static uint8_t read8(struct vm *vm, uint16_t port)
{
	switch (port) {
	case 0x20:
	case 0x21:
	case 0xa0:
	case 0xa1:
	case 0x4d0:
	case 0x4d1:
		return pic_read(&vm->pic, port);
	case 0x40:
	case 0x41:
	case 0x43:
		return pit_read(vm, port);
	case 0x70:
	case 0x71:
		return rtc_read(&vm->rtc, port);
	case PORT_KEYBOARD:
		/* No controller, but one that would take the reset command at once. */
		return 0xfd;
	default:
		return 0xff;
	}
}

static void write8(struct vm *vm, uint16_t port, uint8_t value)
{
	switch (port) {
	case 0x20:
	case 0x21:
	case 0xa0:
	case 0xa1:
	case 0x4d0:
	case 0x4d1:
		pic_write(&vm->pic, port, value);
		break;
	case 0x40:
	case 0x41:
	case 0x43:
		pit_write(vm, port, value);
		break;
	case 0x70:
	case 0x71:
		rtc_write(&vm->rtc, port, value);
		break;
	case PORT_KEYBOARD:
		if (value == 0xfe)
			machine_end(vm, UMBRA_END_REBOOT, "the guest reset itself (port 0x64)");
		break;
	case PORT_RESET:
		if (value & 4)
			machine_end(vm, UMBRA_END_REBOOT, "the guest reset itself (port 0xcf9)");
		break;
	default:
		break;
	}
}

static bool is_control(uint16_t port, unsigned size)
{
	return size == 4 && (port == UMBRA_CTL || port == UMBRA_CTL_ARG);
}

/* A wide access is a row of byte accesses, as on the ISA bus. 0xcf8 is PCI's: nobody there. */
static uint32_t port_read(struct vm *vm, uint16_t port, unsigned size)
{
	uint32_t value = 0;

	if (is_control(port, size))
		return control_port_read(vm, port);
	for (unsigned i = 0; i < size; i++)
		value |= (uint32_t)read8(vm, (uint16_t)(port + i)) << 8 * i;
	return value;
}

static void port_write(struct vm *vm, uint16_t port, unsigned size, uint32_t value)
{
	if (is_control(port, size))
		control_port_write(vm, port, value);
	else if (port != 0xcf8)
		for (unsigned i = 0; i < size; i++)
			write8(vm, (uint16_t)(port + i), (uint8_t)(value >> 8 * i));
}

void ports_exit(struct vcpu *vcpu)
{
	uint64_t info = vcpu->vmcb->exit_info1, next = vcpu->vmcb->exit_info2;
	unsigned size = IO_SIZE(info);
	uint64_t mask = (1ull << 8 * size) - 1;
	uint32_t value;
	char bytes[48];

	if (info & IO_STRING)
		machine_end(vcpu->vm, UMBRA_END_EMULATE,
			    "string I/O on port 0x%x at rip %lx is not supported (%s)",
			    IO_PORT(info), vcpu->vmcb->rip, vcpu_bytes(vcpu, bytes, sizeof(bytes)));
	/* First, so that an operation that ends the machine leaves it behind the instruction. */
	vcpu_skip(vcpu, (unsigned)(next - vcpu->vmcb->rip));
	if (!(info & IO_IN)) {
		port_write(vcpu->vm, IO_PORT(info), size, (uint32_t)(vcpu->gpr[GPR_RAX] & mask));
		return;
	}
	value = port_read(vcpu->vm, IO_PORT(info), size);
	if (size == 4)
		vcpu->gpr[GPR_RAX] = value;
	else
		vcpu->gpr[GPR_RAX] = (vcpu->gpr[GPR_RAX] & ~mask) | (value & mask);
}
