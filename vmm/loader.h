/* SPDX-License-Identifier: BSD-2-Clause */
/* Loading a guest: what its image is, and what the loaders of each kind have in common. */
#ifndef VMM_LOADER_H
#define VMM_LOADER_H

#include <stdint.h>

#include "frames.h"
#include "vm.h"

struct vcpu;

#define LOADER_MODULES 14

/* A file for the guest, in machine memory; @words: what stood behind its name. */
struct boot_file {
	struct range range;
	const char *words;
};

struct boot_files {
	struct boot_file kernel, module[LOADER_MODULES];
	unsigned modules; /* for Linux the first is its initrd */
};

/* The option format=. */
enum format {
	FORMAT_AUTO, /* what the image says; 64-bit entry of a bzImage that has one */
	FORMAT_LINUX_16,
	FORMAT_LINUX_32,
	FORMAT_LINUX_64,
	FORMAT_MULTIBOOT,
	FORMAT_FLAT, /* a boot sector and what follows it: 0x7c00, real mode */
	FORMATS
};

/*
 * Put the image, its files and what it expects of firmware and loader into guest memory and set the
 * vcpu's registers to its entry. What cannot be loaded ends the machine (UMBRA_END_IMAGE).
 */
void loader_load(struct vcpu *vcpu, const struct boot_files *files);

/* ---- one file each ---- */

void linux_load(struct vcpu *vcpu, const struct boot_files *files, enum format format);
void mbload_load(struct vcpu *vcpu, const struct boot_files *files);
void bios_load_flat(struct vcpu *vcpu, const struct boot_files *files);

/* Is there a Multiboot header in the image? */
bool mbload_is_multiboot(const struct boot_file *kernel);
bool linux_is_image(const struct boot_file *kernel);

/* ---- in common ---- */

_Noreturn void loader_refuse(struct vcpu *vcpu, const char *why);

/* The end of guest RAM below 4 GiB. */
uint64_t loader_low_end(const struct vm *vm);

/* Little-endian numbers of any size, unaligned. */
uint64_t field(const uint8_t *at, unsigned size);
void field_set(uint8_t *at, unsigned size, uint64_t value);

struct loader_region {
	uint64_t start, end;
	uint32_t type; /* of INT 15h, AX=E820h: 1 memory, 2 reserved */
};

#define LOADER_REGIONS (VM_SLOTS + 3)

/* The guest's memory map; the number of regions. */
unsigned loader_map(const struct vm *vm, struct loader_region *regions);

/* Registers of the entries: flat 32-bit code and data, or real mode at cs:ip. GDT at @gdt. */
void loader_enter_32(struct vcpu *vcpu, uint64_t gdt, uint64_t entry);
void loader_enter_real(struct vcpu *vcpu, uint16_t cs, uint16_t ip, uint16_t ds, uint16_t sp);

/* A GDT with code and data of 64 bits (0x08), 32 bits (0x10), data (0x18). False: no memory. */
bool loader_gdt_write(struct vm *vm, uint64_t at);

#endif
