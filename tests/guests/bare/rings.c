/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A hostile driver of the virtio disk: rings outside memory, across its end, on its page tables,
 * chains without an end, indices that jump, requests of every size, all at random; in between an
 * orderly request that must work after a reset.
 */
#include "bare.h"

#define ENTRIES     64u
#define STATUS_ALL  15u
#define NEEDS_RESET 0x40u

struct descriptor {
	uint64_t gpa;
	uint32_t size;
	uint16_t flags, next;
};

static uint16_t base;
static volatile struct descriptor *descriptors;
static volatile uint16_t *available, *returned;
static uint64_t buffer;

static uint32_t pci_read(unsigned device, unsigned at)
{
	outl(0xcf8, 0x80000000u | device << 11 | (at & 0xfc));
	return inl(0xcfc);
}

static bool find(void)
{
	for (unsigned device = 0; device < 32; device++)
		if (pci_read(device, 0) == 0x10421af4) {
			base = (uint16_t)(pci_read(device, 0x10) & ~3u);
			return true;
		}
	return false;
}

static void gpa_write(uint16_t at, uint64_t gpa)
{
	outl((uint16_t)(base + at), (uint32_t)gpa);
	outl((uint16_t)(base + at + 4), (uint32_t)(gpa >> 32));
}

static void set_up(uint16_t size, uint64_t d, uint64_t a, uint64_t r)
{
	outb((uint16_t)(base + 0x14), 0);
	outb((uint16_t)(base + 0x14), 3);
	outl((uint16_t)(base + 8), 1);
	outl((uint16_t)(base + 12), 1);
	outb((uint16_t)(base + 0x14), 11);
	outw((uint16_t)(base + 0x16), 0);
	outw((uint16_t)(base + 0x18), size);
	gpa_write(0x20, d);
	gpa_write(0x28, a);
	gpa_write(0x30, r);
	outw((uint16_t)(base + 0x1c), 1);
	outb((uint16_t)(base + 0x14), STATUS_ALL);
}

static void notify(void)
{
	outw((uint16_t)(base + 0x44), 0);
}

/* Sector 1 of the disk, in an orderly way. */
static void orderly(void)
{
	volatile uint32_t *header = (volatile uint32_t *)buffer;
	uint64_t start = rdtsc();

	for (unsigned i = 0; i < 1024; i++)
		((volatile uint32_t *)buffer)[i] = 0;
	available[0] = available[1] = returned[0] = returned[1] = 0;
	set_up(ENTRIES, (uintptr_t)descriptors, (uintptr_t)available, (uintptr_t)returned);
	header[0] = 0; /* read */
	header[2] = 1; /* sector */
	((volatile uint8_t *)buffer)[2048] = 0xff;
	descriptors[0] = (struct descriptor){buffer, 16, 1, 1};
	descriptors[1] = (struct descriptor){buffer + 1024, 512, 3, 2};
	descriptors[2] = (struct descriptor){buffer + 2048, 1, 2, 0};
	available[2] = 0;
	barrier();
	available[1] = 1;
	notify();
	while (returned[1] != 1 && rdtsc() - start < 20000000000ull)
		(void)inb(0x61);
	EXPECT(returned[1] == 1 && ((volatile uint8_t *)buffer)[2048] == 0,
	       "an orderly request: returned %u, status %x", (uint64_t)returned[1],
	       (uint64_t)((volatile uint8_t *)buffer)[2048]);
	EXPECT(WORD(buffer + 1024) == 0x6b7369642072756full, "sector 1 reads %x",
	       WORD(buffer + 1024));
}

/* An address: mostly good, sometimes at or beyond the end of memory, or the top of everything. */
static uint64_t somewhere(void)
{
	switch (random() % 8) {
	case 0:
		return random();
	case 1:
		return 0x4000000 - random() % 64; /* the end of 64 MiB */
	case 2:
		return 0xfffffffffffff000ull + random() % 4096;
	case 3:
		return 0xfee00000 + random() % 4096;
	case 4:
		return cr3_read() + random() % 2048 + 2048; /* the upper half of its root: unused */
	default:
		return buffer + random() % 4096;
	}
}

static uint32_t some_size(void)
{
	static const uint32_t sizes[] = {0,   1,    15,      16,      17,         511,       512,
					 513, 4096, 0x20000, 0x20001, 0x7fffffff, 0xffffffff};
	uint64_t i = random() % 16;

	return i < 13 ? sizes[i] : (uint32_t)random() % 8192;
}

static void disorder(void)
{
	uint16_t size = (uint16_t)(1u << random() % 8);

	for (unsigned i = 0; i < ENTRIES; i++)
		descriptors[i] = (struct descriptor){
		    somewhere(), some_size(), (uint16_t)(random() % 8 ? random() & 3 : random()),
		    (uint16_t)(random() % 16 ? random() % ENTRIES : random())};
	for (unsigned i = 0; i < 64; i++)
		available[i] = (uint16_t)(i > 1 ? random() % ENTRIES : random() % 3);
	/* What is asked for: reads, mostly, writes only beyond the disk's end. */
	for (unsigned i = 0; i < 4096 / 16; i++) {
		volatile uint32_t *header = (volatile uint32_t *)(buffer + 16 * i);

		header[0] = (uint32_t)(random() % 4 ? random() % 16 : random());
		header[2] = header[0] == 1 ? 0xffffffff : (uint32_t)(random() % 4096);
		header[3] = header[0] == 1 ? (uint32_t)random() | 1 : 0;
	}
	set_up(random() % 8 ? size : (uint16_t)random(),
	       random() % 8 ? (uintptr_t)descriptors : somewhere(),
	       random() % 8 ? (uintptr_t)available : somewhere(),
	       random() % 8 ? (uintptr_t)returned : somewhere());
	for (unsigned i = 0; i < 4; i++) {
		available[1] = (uint16_t)(available[1] + (random() % 4 ? 1 : random()));
		notify();
	}
	if (random() % 4 == 0) /* while requests are under way */
		outb((uint16_t)(base + 0x14), 0);
}

/* The device's registers, at random. */
static void registers(void)
{
	for (unsigned i = 0; i < 64; i++) {
		uint16_t at = (uint16_t)(base + random() % 256);

		switch (random() % 6) {
		case 0:
			(void)inb(at);
			break;
		case 1:
			(void)inw(at);
			break;
		case 2:
			(void)inl(at);
			break;
		case 3:
			outb(at, (uint8_t)random());
			break;
		case 4:
			outw(at, (uint16_t)random());
			break;
		default:
			outl(at, (uint32_t)random());
		}
	}
}

int main(void)
{
	uint64_t root = root_new();
	unsigned resets = 0;

	cr3_write(root);
	EXPECT(find(), "no virtio disk on PCI");
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
	descriptors = (volatile struct descriptor *)page_new();
	available = (volatile uint16_t *)page_new();
	returned = (volatile uint16_t *)page_new();
	buffer = page_new();
	orderly();
	for (unsigned i = 0; i < 3000; i++) {
		disorder();
		resets += (inb((uint16_t)(base + 0x14)) & NEEDS_RESET) != 0;
		if (i % 4 == 0)
			registers();
		if (i % 100 == 0)
			orderly();
	}
	orderly();
	EXPECT(resets > 100, "only %u rings were refused", (uint64_t)resets);
	say("guest: bad rings are refused, good ones work\r\n");
	return 0;
}
