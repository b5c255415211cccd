/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a guest that begins in real mode finds of a PC's firmware: an interrupt vector table whose
 * entries lead to stubs in the segment F000h. A stub is an OUT to a port of ours and an IRET: the
 * services run here, on the guest's registers. They are the ones that boot loaders and Linux's
 * 16-bit setup call: memory maps, characters to the console, time; disks and everything else fail
 * as where there is no such device (carry set).
 *
 *     F000:0000 + 4 v   stub of vector v's service
 *     F000:0400         handler of the master's interrupts: EOI, IRET; 0410: the slave's
 *     F000:0420         of the timer's: counts at 0040:006C, calls INT 1Ch
 */
#include "bios.h"
#include "cpu.h"
#include "loader.h"
#include "memory.h"
#include "pic.h"
#include "pit.h"
#include "string.h"
#include "uart.h"
#include "vcpu.h"
#include "x86.h"

#define SEGMENT      0xf000u
#define BASE         0xf0000ull
#define AT_STUBS     0x000u
#define AT_MASTER    0x400u
#define AT_SLAVE     0x410u
#define AT_TIMER     0x420u
#define DATA_AREA    0x400ull
#define FLAT_ADDRESS 0x7c00u
#define TICKS_HZ     18206ull /* thousandths */

/* Services, by port. */
enum service {
	SERVICE_NONE,
	SERVICE_VIDEO,     /* INT 10h */
	SERVICE_EQUIPMENT, /* INT 11h */
	SERVICE_MEMORY,    /* INT 12h */
	SERVICE_DISK,      /* INT 13h */
	SERVICE_SYSTEM,    /* INT 15h */
	SERVICE_KEYBOARD,  /* INT 16h */
	SERVICE_TIME,      /* INT 1Ah */
};

static const uint8_t service_of[256] = {
    [0x10] = SERVICE_VIDEO, [0x11] = SERVICE_EQUIPMENT, [0x12] = SERVICE_MEMORY,
    [0x13] = SERVICE_DISK,  [0x15] = SERVICE_SYSTEM,    [0x16] = SERVICE_KEYBOARD,
    [0x1a] = SERVICE_TIME,
};

static bool is_irq(unsigned vector)
{
	return (vector >= 0x08 && vector < 0x10) || (vector >= 0x70 && vector < 0x78);
}

bool bios_write(struct vm *vm)
{
	static const uint8_t master[] = {0x50, 0xb0, 0x20, 0xe6, 0x20, 0x58, 0xcf};
	static const uint8_t slave[] = {0x50, 0xb0, 0x20, 0xe6, 0xa0, 0xe6, 0x20, 0x58, 0xcf};
	static const uint8_t timer[] = {0x1e, 0x50, 0x31, 0xc0, 0x8e, 0xd8, 0x66, 0xff, 0x06, 0x6c,
					0x04, 0xcd, 0x1c, 0xb0, 0x20, 0xe6, 0x20, 0x58, 0x1f, 0xcf};
	uint32_t vectors[256];
	uint8_t stubs[1024];
	uint16_t data[3] = {0x3f8, 0, 0}, memory = 639;

	for (unsigned v = 0; v < 256; v++) {
		uint8_t *stub = stubs + 4 * v;

		stub[0] = 0xe6; /* OUT port, AL */
		stub[1] = (uint8_t)(BIOS_PORT + service_of[v]);
		stub[2] = 0xcf; /* IRET */
		stub[3] = 0;
		if (!service_of[v])
			stub[0] = 0xcf;
		vectors[v] = SEGMENT << 16 |
			     (is_irq(v) ? (v < 0x10 ? AT_MASTER : AT_SLAVE) : AT_STUBS + 4 * v);
	}
	vectors[0x08] = SEGMENT << 16 | AT_TIMER;
	return memory_write(vm, 0, vectors, sizeof(vectors)) &&
	       memory_write(vm, BASE + AT_STUBS, stubs, sizeof(stubs)) &&
	       memory_write(vm, BASE + AT_MASTER, master, sizeof(master)) &&
	       memory_write(vm, BASE + AT_SLAVE, slave, sizeof(slave)) &&
	       memory_write(vm, BASE + AT_TIMER, timer, sizeof(timer)) &&
	       memory_write(vm, DATA_AREA, data, sizeof(data)) &&
	       memory_write(vm, DATA_AREA + 0x13, &memory, sizeof(memory));
}

void bios_start(struct vm *vm)
{
	static const uint8_t master[] = {0x11, 0x08, 0x04, 0x01},
			     slave[] = {0x11, 0x70, 0x02, 0x01};

	for (unsigned i = 0; i < 4; i++) {
		pic_write(&vm->pic, i ? 0x21 : 0x20, master[i]);
		pic_write(&vm->pic, i ? 0xa1 : 0xa0, slave[i]);
	}
	pic_write(&vm->pic, 0x21, 0xf8); /* timer, keyboard and the slave may ask */
	pic_write(&vm->pic, 0xa1, 0xff);
	pit_write(vm, 0x43, 0x34);
	pit_write(vm, 0x40, 0);
	pit_write(vm, 0x40, 0);
}

/* ------------------------------------------------------------------ registers */

static uint16_t ax(const struct vcpu *vcpu)
{
	return (uint16_t)vcpu->gpr[GPR_RAX];
}

static void word_set(struct vcpu *vcpu, enum gpr reg, uint16_t value)
{
	vcpu->gpr[reg] = (vcpu->gpr[reg] & ~0xffffull) | value;
}

/* The flags that the stub's IRET brings back. */
static void flag_set(struct vcpu *vcpu, uint64_t flag, bool on)
{
	uint64_t sp = vcpu->gpr[GPR_RSP] & 0xffff, at = vcpu->vmcb->ss.base + ((sp + 4) & 0xffff);
	uint8_t *page = memory_page(vcpu->vm, at >> UMBRA_PAGE_SHIFT);
	uint8_t *flags = page ? page + (at & (UMBRA_PAGE_SIZE - 1)) : NULL;

	if (!flags || (at & (UMBRA_PAGE_SIZE - 1)) == UMBRA_PAGE_SIZE - 1)
		return;
	field_set(flags, 2, on ? field(flags, 2) | flag : field(flags, 2) & ~flag);
	mmu_guest_write(vcpu->vm, at, 2);
}

static void carry(struct vcpu *vcpu, bool on)
{
	flag_set(vcpu, RFLAGS_CF, on);
}

/* ------------------------------------------------------------------ services */

static void video(struct vcpu *vcpu)
{
	switch (ax(vcpu) >> 8) {
	case 0x0e: /* a character */
		uart_say(vcpu->vm, (uint8_t)ax(vcpu));
		break;
	case 0x03: /* cursor */
		word_set(vcpu, GPR_RCX, 0x0607);
		word_set(vcpu, GPR_RDX, 0);
		break;
	case 0x0f: /* mode: text, 80 columns */
		word_set(vcpu, GPR_RAX, 0x5003);
		word_set(vcpu, GPR_RBX, (uint16_t)vcpu->gpr[GPR_RBX] & 0xff);
		break;
	default:
		break;
	}
}

/* AX=E820h: the memory map, one region a call. */
static void memory_map(struct vcpu *vcpu)
{
	struct loader_region regions[LOADER_REGIONS];
	unsigned count = loader_map(vcpu->vm, regions);
	uint32_t i = (uint32_t)vcpu->gpr[GPR_RBX];
	uint64_t to = vcpu->vmcb->es.base + (vcpu->gpr[GPR_RDI] & 0xffff);
	uint8_t entry[20];

	if (i >= count || (uint32_t)vcpu->gpr[GPR_RDX] != 0x534d4150 ||
	    (uint32_t)vcpu->gpr[GPR_RCX] < sizeof(entry)) {
		carry(vcpu, true);
		return;
	}
	field_set(entry, 8, regions[i].start);
	field_set(entry + 8, 8, regions[i].end - regions[i].start);
	field_set(entry + 16, 4, regions[i].type);
	carry(vcpu, !memory_guest_write(vcpu->vm, to, entry, sizeof(entry)));
	vcpu->gpr[GPR_RAX] = 0x534d4150;
	vcpu->gpr[GPR_RCX] = sizeof(entry);
	vcpu->gpr[GPR_RBX] = i + 1 < count ? i + 1 : 0;
}

static void system_services(struct vcpu *vcpu)
{
	uint64_t extended = (loader_low_end(vcpu->vm) - 0x100000) >> 10; /* KiB above 1 MiB */
	uint16_t first = extended > 15360 ? 15360 : (uint16_t)extended;

	carry(vcpu, false);
	switch (ax(vcpu)) {
	case 0xe820:
		memory_map(vcpu);
		return;
	case 0xe801: /* below 16 MiB in KiB, above in 64 KiB */
		word_set(vcpu, GPR_RAX, first);
		word_set(vcpu, GPR_RBX, (uint16_t)((extended - first) / 64));
		word_set(vcpu, GPR_RCX, first);
		word_set(vcpu, GPR_RDX, (uint16_t)((extended - first) / 64));
		return;
	case 0x2400: /* the A20 gate: always open */
	case 0x2401:
	case 0x2402:
		word_set(vcpu, GPR_RAX, 1);
		return;
	default:
		break;
	}
	if (ax(vcpu) >> 8 == 0x88) {
		word_set(vcpu, GPR_RAX, extended > 0xffff ? 0xffff : (uint16_t)extended);
		return;
	}
	word_set(vcpu, GPR_RAX, 0x8600 | (ax(vcpu) & 0xff)); /* no such function */
	carry(vcpu, true);
}

static void disk(struct vcpu *vcpu)
{
	word_set(vcpu, GPR_RAX, 0x0100 | (ax(vcpu) & 0xff));
	carry(vcpu, true);
}

static void keyboard(struct vcpu *vcpu)
{
	if ((ax(vcpu) >> 8 & 0xef) == 1) /* no key waits */
		flag_set(vcpu, 1u << 6, true);
	else
		word_set(vcpu, GPR_RAX, 0);
}

static void time_of_day(struct vcpu *vcpu)
{
	uint64_t ticks = muldiv(rdtsc(), TICKS_HZ, vcpu->vm->cpu->tsc_hz * 1000);

	carry(vcpu, ax(vcpu) >> 8 != 0);
	if (ax(vcpu) >> 8)
		return;
	word_set(vcpu, GPR_RAX, 0);
	word_set(vcpu, GPR_RCX, (uint16_t)(ticks >> 16));
	word_set(vcpu, GPR_RDX, (uint16_t)ticks);
}

void bios_call(struct vcpu *vcpu, uint16_t port, unsigned size, uint32_t value)
{
	(void)size;
	(void)value;
	if (!vcpu_is_real(vcpu) || vcpu->vmcb->cs.selector != SEGMENT)
		return;
	switch (port - BIOS_PORT) {
	case SERVICE_VIDEO:
		video(vcpu);
		break;
	case SERVICE_EQUIPMENT:
		word_set(vcpu, GPR_RAX, 0x0220);
		break;
	case SERVICE_MEMORY:
		word_set(vcpu, GPR_RAX, 639);
		break;
	case SERVICE_DISK:
		disk(vcpu);
		break;
	case SERVICE_SYSTEM:
		system_services(vcpu);
		break;
	case SERVICE_KEYBOARD:
		keyboard(vcpu);
		break;
	case SERVICE_TIME:
		time_of_day(vcpu);
		break;
	default:
		break;
	}
}

/* As a BIOS loads a boot sector; what follows in the file comes along. */
void bios_load_flat(struct vcpu *vcpu, const struct boot_files *files)
{
	uint64_t size = files->kernel.range.end - files->kernel.range.start;

	if (!size || size > 0x90000 - FLAT_ADDRESS)
		loader_refuse(vcpu, "a flat image has 1 to 558 KiB: it is loaded at 0x7c00");
	if (!memory_write(vcpu->vm, FLAT_ADDRESS, (const void *)files->kernel.range.start, size))
		loader_refuse(vcpu, "no frames left for the image");
	loader_enter_real(vcpu, 0, FLAT_ADDRESS, 0, FLAT_ADDRESS);
	vcpu->gpr[GPR_RDX] = 0x80; /* the drive that it came from */
}
