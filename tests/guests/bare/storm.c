/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A hostile guest: every port with every width and direction, MSRs at random, stores and loads all
 * over the physical address space, registers of the APICs, ring-0 oddities. Whatever they do, it
 * goes on. It stays off the few that end it or take its own ground away.
 */
#include "bare.h"

#define WINDOW 0x7000000000ull

/* Ports that end a machine, or print. */
static bool is_spared(uint16_t port)
{
	return (port >= 0xf1 && port <= 0xf7) || (port >= 0x5a0 && port < 0x5a8) ||
	       (port >= 0x3f8 && port < 0x400) || (port >= 0x60 && port <= 0x67) ||
	       (port >= 0xcf6 && port <= 0xcff) || (port >= 0x90 && port <= 0x95) || port == 0xb2 ||
	       port == 0xb3 || (port >= 0x600 && port < 0x610);
}

static void port(uint64_t at)
{
	uint16_t p = (uint16_t)at;
	uint32_t value = (uint32_t)random();

	(void)inb(p);
	(void)inw(p);
	(void)inl(p);
	outb(p, (uint8_t)value);
	outw(p, (uint16_t)value);
	outl(p, value);
}

static void ports(void)
{
	for (uint32_t p = 0; p < 65536; p++) {
		bool spared = false;

		for (unsigned i = 0; i < 4; i++)
			spared |= is_spared((uint16_t)(p + i));
		if (!spared)
			(void)call(port, p);
	}
}

static void msr_read(uint64_t msr)
{
	(void)rdmsr((uint32_t)msr);
}

static uint64_t written;

static void msr_write(uint64_t msr)
{
	wrmsr((uint32_t)msr, written);
}

/* EFER, the bases, the APIC's place and the TSC stay. */
static bool is_kept(uint32_t msr)
{
	return (msr >= 0xc0000080 && msr <= 0xc0000104) || msr == 0x10 || msr == 0x1b ||
	       (msr >= 0x800 && msr < 0x900);
}

static void msrs(void)
{
	static const uint32_t bases[] = {0,          0x170,      0x200,      0x400,      0x6e0,
					 0xc0000000, 0xc0010000, 0x40000000, 0x4b564d00, 0xda0};

	for (unsigned i = 0; i < sizeof(bases) / sizeof(bases[0]); i++)
		for (uint32_t k = 0; k < 320; k++) {
			uint32_t msr = bases[i] + k;

			(void)call(msr_read, msr);
			written = random();
			if (!is_kept(msr))
				(void)call(msr_write, msr);
		}
	for (unsigned i = 0; i < 4000; i++)
		(void)call(msr_read, (uint32_t)random());
	for (unsigned i = 0; i < 4000; i++) {
		uint32_t msr = (uint32_t)random();

		written = random();
		if (!is_kept(msr))
			(void)call(msr_write, msr);
	}
}

static void touch(uint64_t gva)
{
	uint64_t value = random();

	(void)*(volatile uint8_t *)gva;
	(void)*(volatile uint64_t *)gva;
	*(volatile uint32_t *)gva = (uint32_t)value;
	*(volatile uint16_t *)gva = (uint16_t)value;
	*(volatile uint64_t *)gva = value;
	__asm__ volatile("lock xaddq %1, (%0)" : : "r"(gva), "r"(value) : "memory", "cc");
	__asm__ volatile("rep stosb" : "+D"(gva) : "a"(7), "c"(64) : "memory");
}

/* Physical addresses where no memory of this guest's is: by entries of its own making. */
static void memory(uint64_t root)
{
	uint64_t *pte = entry(root, WINDOW, 1);

	for (unsigned i = 0; i < 6000; i++) {
		uint64_t gpa = random() >> (12 + random() % 40) << 12;

		if (i % 8 == 0)
			gpa = 0xfec00000 + (random() & 0xf000);
		if (i % 8 == 1)
			gpa = 0xfee00000;
		if (gpa < 0x10000000)
			gpa += 0x10000000;
		*pte = (gpa & PFN) | P | W | (i % 16 == 2 ? PS : 0);
		cr3_write(root);
		(void)call(touch, WINDOW + (random() & 0xf00));
	}
	*pte = 0;
}

static uint64_t odd;

static void registers(uint64_t which)
{
	switch (which % 8) {
	case 0:
		cr0_write(odd | 0x80000001);
		break;
	case 1:
		cr4_write(odd | 0x20);
		break;
	case 2:
		__asm__ volatile("mov %0, %%cr8" : : "r"(odd));
		break;
	case 3:
		__asm__ volatile("mov %0, %%dr7" : : "r"(odd & ~0x20ffull));
		break;
	case 4:
		__asm__ volatile("xor %%ecx, %%ecx\n xsetbv"
				 :
				 : "a"((uint32_t)odd), "d"(0)
				 : "rcx");
		break;
	case 5:
		__asm__ volatile("mov $3, %%eax\n vmrun" : : : "rax");
		break;
	case 6:
		__asm__ volatile("invlpga" : : "a"(odd), "c"(0));
		break;
	default:
		__asm__ volatile("rdpmc" : : "c"((uint32_t)odd) : "rax", "rdx");
	}
}

int main(void)
{
	uint64_t root = root_new(), cr0 = cr0_read(), cr4 = cr4_read();
	uint32_t r[4];

	cr3_write(root);
	say("guest: storms\r\n");
	ports();
	say("guest: ports are through\r\n");
	msrs();
	say("guest: MSRs are through\r\n");
	memory(root);
	say("guest: addresses are through\r\n");
	for (unsigned i = 0; i < 4000; i++) {
		odd = random() & random() & random();
		(void)call(registers, i);
		cr0_write(cr0);
		cr4_write(cr4);
		cpuid((uint32_t)random() & 0xc00000ff, (uint32_t)random() & 31, r);
	}
	dr7_write(0x400);
	say("guest: storms are over\r\n");
	return 0;
}
