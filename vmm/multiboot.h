/* SPDX-License-Identifier: BSD-2-Clause */
/* Multiboot specification 0.6.96, §3.3: what the loader tells us, and we a guest. */
#ifndef VMM_MULTIBOOT_H
#define VMM_MULTIBOOT_H

#include <stdint.h>

#define MULTIBOOT_LOADED      0x2badb002u
#define MULTIBOOT_HAS_LINE    (1u << 2)
#define MULTIBOOT_HAS_MODULES (1u << 3)
#define MULTIBOOT_HAS_MAP     (1u << 6)
#define MULTIBOOT_HAS_NAME    (1u << 9)

struct multiboot {
	uint32_t flags, mem_lower, mem_upper, boot_device, command_line;
	uint32_t module_count, modules;
	uint32_t symbols[4];
	uint32_t map_length, map;
	uint32_t drives_length, drives, config, loader_name, apm;
};

struct multiboot_module {
	uint32_t start, end, string, reserved;
};

/* @size does not count itself. */
struct __attribute__((packed)) multiboot_region {
	uint32_t size;
	uint64_t base, length;
	uint32_t type; /* 1: RAM */
};

#endif
