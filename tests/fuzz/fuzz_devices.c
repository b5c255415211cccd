/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The hypervisor's devices under a guest that does what it likes with their registers and rings,
 * and a host that answers late, or that it failed. The input chooses the machine, then come
 * operations until the end:
 *
 *     machine 2, then a kind and its bytes
 *
 * What must hold after each: the requests to the host are for the file and their own data, an
 * operation does not take for ever, an interrupt has a vector; accesses outside of what is the
 * devices' or the guest's are the sanitizers' to see.
 */
#include <string.h>

#include "bios.h"
#include "bus.h"
#include "check.h"
#include "exits.h"
#include "hostio.h"
#include "input.h"
#include "memory.h"
#include "outer.h"
#include "pic.h"
#include "pit.h"
#include "testdev.h"
#include "uart.h"
#include "virtio.h"
#include "virtio_blk.h"
#include "virtio_console.h"

#define OPERATIONS  512u
#define PORT_IO_MAX (20u << 20) /* of one operation: a ring full of output, two a byte */
#define PORT_IO_ALL (4u << 20)  /* of all: enough is enough */
#define MEMORY      (2ull << 20)
#define SPARE       (2ull << 12)
#define RINGS       0x2000u /* where operations put rings, a page each */
#define BUFFERS     0x8000u

static void port_out(uint16_t port, unsigned size, uint32_t value)
{
	port_write(&outer.vcpu, port, size, size == 4 ? value : value & ((1u << 8 * size) - 1));
}

/* Ports of devices, or any. */
static uint16_t port(struct input *input)
{
	static const uint16_t ports[] = {
	    0x20,  0x21,  0xa0,  0xa1,  0x4d0, 0x4d1,       0x40,   0x43,   0x70,   0x71,
	    0x64,  0xcf8, 0xcfc, 0xcfd, 0xcfe, 0xcff,       0xe0,   0xe2,   0xe4,   0x510,
	    0x511, 0x608, 0x5a0, 0x5a4, 0xb1,  0xb3,        0xb4,   0xb5,   0xb6,   0xb7,
	    0x80,  0x3f,  0x22,  0x41,  0xdf,  TESTDEV_IRQ, 0x2002, 0x200a, 0x2017, 0x2018,
	    0x42,  0x61,  0x3f8, 0x3f9, 0x3fa, 0x3fb,       0x3fc,  0x3fd,  0x3fe,  0x3ff};
	uint8_t which = input_u8(input);

	if (which < sizeof(ports) / sizeof(ports[0]))
		return ports[which];
	return which < 0x80 ? TESTDEV_IRQ + which % TESTDEV_IRQS : input_u16(input);
}

static uint32_t word(struct input *input, unsigned size)
{
	uint32_t value = 0;

	for (unsigned i = 0; i < size; i++)
		value |= (uint32_t)input_u8(input) << 8 * i;
	return value;
}

static void port_access(struct input *input, uint8_t kind)
{
	unsigned size = 1u << (kind >> 5) % 3;
	uint16_t at = port(input);

	if (kind & 0x80)
		port_read(&outer.vcpu, at, size);
	else
		port_out(at, size, word(input, size));
}

static void bus_access(struct input *input, uint8_t kind)
{
	static const uint64_t bases[] = {LAPIC_BASE, IOAPIC_BASE, TESTDEV_BASE, 0xfd000000};
	unsigned size = 1u << (kind >> 5 & 3), where = input_u8(input);
	uint64_t at = input_u8(input);

	if ((where & 3) == 1 && where & 16) { /* an entry of the I/O APIC's, or its number */
		bus_write(&outer.vcpu, IOAPIC_BASE, 4, at);
		at = 0x10;
	} else if (where & 4) { /* registers are 16 bytes apart */
		at = at << 4 & 0xfff;
	} else if (where & 8) {
		at |= (uint64_t)input_u8(input) << 8;
	}
	at = bases[where & 3] + (at & ~(uint64_t)(size - 1));
	if (kind & 0x80)
		bus_read(&outer.vcpu, at, size);
	else if (size == 8)
		bus_write(&outer.vcpu, at, size, input_u64(input));
	else
		bus_write(&outer.vcpu, at, size, word(input, size));
}

static void poll(void)
{
	uint64_t now = rdtsc();

	lapic_poll(&outer.vcpu, now);
	pit_poll(&outer.vm, now);
	rtc_poll(&outer.vm, now);
	uart_poll(&outer.vm);
	serial_poll(&outer.vm, now);
	if (outer.vm.bell_edge)
		virtio_blk_poll(&outer.vm);
}

static void time_passes(struct input *input, uint8_t kind)
{
	outer.tsc += (uint64_t)input_u16(input) << (kind >> 4) * 2;
	poll();
}

/* The host is done with what @which names. */
static void answer(struct input *input)
{
	uint8_t which = input_u8(input), failed = input_u8(input);

	for (unsigned i = 0; i < UMBRA_REQUESTS; i++) {
		struct umbra_request *request = &outer.vm.machine->requests[i];

		if (!(which >> i & 1) || request->state != UMBRA_REQUEST_ASKED)
			continue;
		request->failed = failed >> i & 1;
		if (request->kind == UMBRA_REQUEST_READ)
			memset(hostio_data(&outer.vm, i), failed, request->size);
		request->state = UMBRA_REQUEST_DONE;
	}
	outer.vm.bell_edge = true;
	poll();
}

static void keys(struct input *input)
{
	outer.keys += input_u8(input);
	outer.vm.uart_edge = true;
	poll();
}

/* In low memory, at its ends, in the memory above, around no memory. */
static uint64_t place(struct input *input)
{
	uint8_t how = input_u8(input);
	uint16_t at = input_u16(input);

	switch (how >> 5) {
	case 0:
	case 1:
		return at;
	case 2:
		return BUFFERS + (uint64_t)(how & 31) * UMBRA_PAGE_SIZE;
	case 3:
		return MEMORY - (at & 0x1fff);
	case 4:
		return MEMORY_SPARE + (at & 0x3fff);
	case 5:
		return 0ull - at;
	case 6:
		return 0xa0000ull + at;
	default:
		return input_u64(input);
	}
}

static void guest_store(struct input *input)
{
	uint64_t at = place(input);
	uint8_t bytes[32], count = input_u8(input) % (sizeof(bytes) + 1);

	for (unsigned i = 0; i < count; i++)
		bytes[i] = input_u8(input);
	memory_guest_write(&outer.vm, at, bytes, count);
}

static void msr_access(struct input *input, uint8_t kind)
{
	uint32_t msr = 0x800u + input_u8(input);
	uint64_t value;

	switch (kind >> 5) {
	case 0: /* to x2APIC mode */
		lapic_msr_write(&outer.vcpu, MSR_APIC_BASE, outer.vcpu.lapic.base | 1u << 10);
		break;
	case 1:
		lapic_msr_write(&outer.vcpu, MSR_TSC_DEADLINE, input_u64(input));
		break;
	case 2:
		outer.vcpu.tsc_offset = input_u64(input);
		lapic_tsc_written(&outer.vcpu);
		break;
	case 3:
		lapic_msr_read(&outer.vcpu, msr, &value);
		lapic_msr_read(&outer.vcpu, msr & 1 ? MSR_APIC_BASE : MSR_TSC_DEADLINE, &value);
		break;
	case 4:
		lapic_msr_write(&outer.vcpu, MSR_APIC_BASE, input_u64(input));
		break;
	case 5:
		lapic_msr_write(&outer.vcpu, msr, input_u64(input));
		break;
	default:
		lapic_msr_write(&outer.vcpu, msr, word(input, 4));
		break;
	}
}

/* As vcpu.c takes interrupts, and a handler ends them. */
static void interrupt_taken(uint8_t kind)
{
	int vector = lapic_pending(&outer.vcpu.lapic);

	check(vector < 256, "an interrupt without a vector");
	if (vector >= 0)
		lapic_acknowledge(&outer.vcpu.lapic, (unsigned)vector);
	else if (lapic_takes_pic(&outer.vcpu.lapic) && pic_pending(&outer.vm.pic))
		pic_acknowledge(&outer.vm.pic);
	outer.vcpu.nmi_pending = false;
	if (kind & 0x80)
		bus_write(&outer.vcpu, LAPIC_BASE + 0xb0, 4, 0);
}

static void bios(struct input *input, uint8_t kind)
{
	static const uint16_t services[] = {0xe820, 0xe801, 0x8800, 0x2401, 0x0e41, 0x0300,
					    0x0f00, 0x0100, 0x0000, 0x0200, 0x1100};
	uint8_t which = input_u8(input);

	outer.vmcb.cs.selector = 0xf000;
	outer.vcpu.gpr[GPR_RAX] =
	    which < sizeof(services) / sizeof(services[0]) ? services[which] : input_u16(input);
	if (kind & 0x80)
		outer.vcpu.gpr[GPR_RDX] = 0x534d4150, outer.vcpu.gpr[GPR_RCX] = 20;
	if (kind & 0x40)
		outer.vmcb.es.base = outer.vmcb.ss.base = place(input);
	if (kind & 0x20)
		outer.vcpu.gpr[GPR_RDI] = outer.vcpu.gpr[GPR_RSP] = input_u16(input);
	port_out((uint16_t)(BIOS_PORT + input_u8(input) % BIOS_PORTS), 1, 0);
}

/* ------------------------------------------------------------------ virtio */

/* The ports of function 1 or 2, where nobody moved them. */
static uint16_t virtio_port(uint8_t kind, uint8_t offset)
{
	return (uint16_t)(PCI_PORTS_FIRST + 0x100u * (1 + (kind >> 4 & 1)) + offset);
}

static void virtio_register(struct input *input, uint8_t kind)
{
	unsigned size = 1u << (kind >> 5) % 3;
	uint16_t at = virtio_port(kind, input_u8(input));

	if (kind & 0x80)
		port_read(&outer.vcpu, at, size);
	else
		port_out(at, size, word(input, size));
}

static void virtio_wide(uint8_t kind, uint8_t offset, uint64_t value)
{
	port_out(virtio_port(kind, offset), 4, (uint32_t)value);
	port_out(virtio_port(kind, offset + 4), 4, (uint32_t)(value >> 32));
}

/* What a driver does until the device runs; with one queue, somewhere. */
static void virtio_start(struct input *input, uint8_t kind)
{
	uint8_t how = input_u8(input);
	uint16_t queue = how & 1;

	if (how & 2)
		port_out(virtio_port(kind, 20), 1, 0);
	port_out(virtio_port(kind, 8), 4, 1);
	port_out(virtio_port(kind, 12), 4, 1);
	port_out(virtio_port(kind, 20), 1, 0x0b);
	port_out(virtio_port(kind, 22), 2, queue);
	port_out(virtio_port(kind, 24), 2, 1u << (how >> 2 & 7));
	virtio_wide(kind, 32, how & 32 ? place(input) : RINGS + queue * 0x3000u);
	virtio_wide(kind, 40, how & 64 ? place(input) : RINGS + queue * 0x3000u + 0x1000);
	virtio_wide(kind, 48, how & 128 ? place(input) : RINGS + queue * 0x3000u + 0x2000);
	port_out(virtio_port(kind, 28), 2, 1);
	port_out(virtio_port(kind, 20), 1, 0x0f);
}

/* Descriptors from the @first on, each with the next, where virtio_start() puts rings. */
static void virtio_chain(struct input *input, uint8_t kind)
{
	uint8_t how = input_u8(input), count = how & 7, first = input_u8(input) & 0x7f;
	uint16_t queue = kind >> 5 & 1, idx;
	uint64_t ring = RINGS + queue * 0x3000u;

	for (unsigned i = 0; i <= count; i++) {
		struct {
			uint64_t gpa;
			uint32_t size;
			uint16_t flags, next;
		} d;
		uint8_t what = input_u8(input);

		d.gpa = what & 4 ? place(input) : BUFFERS + i * UMBRA_PAGE_SIZE;
		d.size = what & 8 ? word(input, 4) : what & 16 ? 512u << (what >> 5) : what >> 5;
		if (!i && !(what & 8))
			d.size = 16; /* a disk's header */
		/* Of eight, the last leads back: a chain that does not end. */
		d.flags = (what & 2) | (i < count || count == 7);
		d.next = i < 7 ? (uint16_t)((first + i + 1) & 0x7f) : first;
		memory_guest_write(&outer.vm, ring + 16 * ((first + i) & 0x7f), &d, sizeof(d));
	}
	if (how & 8) { /* what it asks a disk */
		uint8_t type = input_u8(input), sector = input_u8(input);
		uint64_t end = outer.vm.options.disk, header[2] = {type, sector};

		if (sector & 0x80) /* around its end */
			header[1] = end - (sector & 0x7f) / 2 + (sector & 1) * 4;
		memory_guest_write(&outer.vm, BUFFERS, header, sizeof(header));
	}
	ring += 0x1000;
	memory_guest_read(&outer.vm, ring + 2, &idx, sizeof(idx));
	for (unsigned i = 0; i <= (how >> 4 & 7u); i++, idx++) {
		uint16_t head = first;

		memory_guest_write(&outer.vm, ring + 4 + 2 * (idx & 0x7fu), &head, sizeof(head));
	}
	memory_guest_write(&outer.vm, ring + 2, &idx, sizeof(idx));
	if (how & 128)
		port_out(virtio_port(kind, 0x44), 2, queue);
}

static void pci_access(struct input *input, uint8_t kind)
{
	uint8_t at = input_u8(input);
	unsigned size = 1u << (kind >> 5) % 3;

	port_out(0xcf8, 4, 0x80000000u | (uint32_t)(kind >> 4 & 1) << 11 | 1u << 11 | (at & 0xfcu));
	if (kind & 0x80)
		port_read(&outer.vcpu, (uint16_t)(0xcfc + (at & 3)), size);
	else
		port_out((uint16_t)(0xcfc + (at & 3)), size, word(input, size));
}

/* ------------------------------------------------------------------ what must hold */

static void check_requests(void)
{
	const struct vm *vm = &outer.vm;
	uint64_t bytes = vm->options.disk * 512;
	unsigned waiting = 0;

	for (unsigned i = 0; i < UMBRA_REQUESTS; i++) {
		const struct umbra_request *r = &vm->machine->requests[i];

		waiting += vm->hostio.done[i] != NULL;
		check((r->state != UMBRA_REQUEST_FREE) == (vm->hostio.done[i] != NULL),
		      "a slot that is half free");
		if (r->state == UMBRA_REQUEST_FREE)
			continue;
		check(r->kind <= UMBRA_REQUEST_FLUSH, "a request of no kind");
		check(r->kind != UMBRA_REQUEST_WRITE || !vm->options.disk_ro,
		      "a write to a disk that is only to be read");
		check(r->size <= UMBRA_REQUEST_BYTES, "a request larger than its data");
		check(r->offset <= bytes && r->size <= bytes - r->offset,
		      "a request beyond the disk");
	}
	check(waiting == vm->hostio.waiting, "requests miscounted");
}

static void operation(struct input *input)
{
	unsigned before = outer.port_io;
	uint8_t kind = input_u8(input);

	switch (kind & 15) {
	case 0:
		time_passes(input, kind);
		break;
	case 1:
	case 2:
		port_access(input, kind);
		break;
	case 3:
	case 4:
		bus_access(input, kind);
		break;
	case 5:
		answer(input);
		break;
	case 6:
		keys(input);
		break;
	case 7:
		guest_store(input);
		break;
	case 8:
		msr_access(input, kind);
		break;
	case 9:
		interrupt_taken(kind);
		break;
	case 10:
		bios(input, kind);
		break;
	case 11:
		virtio_start(input, kind);
		break;
	case 12:
	case 13:
		virtio_chain(input, kind);
		break;
	case 14:
		virtio_register(input, kind);
		break;
	default:
		pci_access(input, kind);
		break;
	}
	check_requests();
	check(outer.vm.serial.size <= SERIAL_LINE, "a line longer than its room");
	check(outer.port_io - before <= PORT_IO_MAX, "an operation that takes too long");
}

static void machine_make(struct input *input)
{
	static const uint64_t disks[] = {4096, 1, 255, 1ull << 54};
	uint8_t what = input_u8(input), frames = input_u8(input);
	struct vm *vm = &outer.vm;

	outer_reset(MEMORY, frames ? frames : OUTER_FRAMES);
	vm->options.spare = what & 1 ? 0 : SPARE;
	vm->options.disk = what & 2 ? 0 : disks[what >> 5 & 3];
	vm->options.disk_ro = what & 4;
	vm->options.console = !(what & 8);
	vm->options.guests = 1 + (what >> 7);
	check(!memory_init(vm) && !virtio_blk_init(vm) && !virtio_console_init(vm),
	      "no memory to begin with");
	lapic_init(&outer.vcpu);
	pic_init(&vm->pic);
	ioapic_init(&vm->ioapic);
	pit_init(vm);
	rtc_init(vm);
	serial_init(vm);
	if (what & 16)
		bios_write(vm);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct input input = {bytes, bytes + size};

	machine_make(&input);
	if (setjmp(outer.end))
		return 0;
	while (outer.port_io < PORT_IO_ALL && outer.operations++ < OPERATIONS &&
	       !input_is_empty(&input))
		operation(&input);
	return 0;
}
