/* SPDX-License-Identifier: BSD-2-Clause */
/* Loading a Linux kernel. See loader.c. */
#ifndef VMM_LOADER_H
#define VMM_LOADER_H

#include <stdint.h>

#include "frames.h"

struct vcpu;

struct boot_files {
	struct range kernel, initrd; /* in machine memory; initrd may be empty */
	const char *command_line;
};

/*
 * Put the kernel, its parameters and the initrd into guest memory and set the vcpu's registers
 * to the 64-bit entry point. What cannot be loaded ends the machine (UMBRA_END_IMAGE).
 */
void loader_load(struct vcpu *vcpu, const struct boot_files *files);

#endif
