/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The MultiProcessor table (Intel MultiProcessor Specification 1.4, ch. 4): one processor, an ISA
 * bus, no I/O APIC, the PICs on LINT0. It says no more than a guest could find out by itself; but a
 * Linux that finds none searches the BIOS area for one, and maps and unmaps pages some 70,000
 * times while it does.
 */
#include "mptable.h"
#include "memory.h"
#include "string.h"
#include "x86.h"

#define AT_TABLE 0x9fc00ull

struct __attribute__((packed)) pointer {
	char signature[4];
	uint32_t address;
	uint8_t paragraphs, revision, checksum, features[5];
};

struct __attribute__((packed)) processor {
	uint8_t type, apic_id, apic_version, flags;
	uint32_t signature, features, reserved[2];
};

struct __attribute__((packed)) bus {
	uint8_t type, id;
	char name[6];
};

struct __attribute__((packed)) wire {
	uint8_t type, kind;
	uint16_t flags;
	uint8_t bus, irq, apic_id, lint;
};

struct __attribute__((packed)) table {
	struct pointer pointer;
	char signature[4];
	uint16_t length;
	uint8_t revision, checksum;
	char vendor[8], product[12];
	uint32_t oem;
	uint16_t oem_size, entries;
	uint32_t apic_address;
	uint16_t extended_length;
	uint8_t extended_checksum, reserved;
	struct processor processor;
	struct bus bus;
	struct wire extint, nmi;
};

static uint8_t checksum(const void *from, size_t size)
{
	const uint8_t *bytes = from;
	uint8_t sum = 0;

	while (size--)
		sum = (uint8_t)(sum + *bytes++);
	return (uint8_t)(0 - sum);
}

bool mptable_write(struct vm *vm)
{
	struct cpuid_regs one = cpuid(1, 0);
	struct table t = {
	    .pointer = {{'_', 'M', 'P', '_'}, AT_TABLE + sizeof(struct pointer), 1, 4, 0, {0}},
	    .signature = {'P', 'C', 'M', 'P'},
	    .length = sizeof(t) - sizeof(t.pointer),
	    .revision = 4,
	    .vendor = {'u', 'm', 'b', 'r', 'a', ' ', ' ', ' '},
	    .product = {'v', 'm', 'm', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' '},
	    .entries = 4,
	    .apic_address = 0xfee00000,
	    .processor = {0, 0, 0x14, 3, one.eax, one.edx, {0}}, /* enabled, boot processor */
	    .bus = {1, 0, {'I', 'S', 'A', ' ', ' ', ' '}},
	    .extint = {4, 3, 0, 0, 0, 0, 0},
	    .nmi = {4, 1, 0, 0, 0, 0, 1},
	};

	t.pointer.checksum = checksum(&t.pointer, sizeof(t.pointer));
	t.checksum = checksum(t.signature, t.length);
	return memory_write(vm, AT_TABLE, &t, sizeof(t));
}
