/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Read before each file of vmm/ that is compiled for user space: vmm/x86.h, with outer.c behind the
 * ports and the clock.
 */
#ifndef USER_X86_H
#define USER_X86_H

#define _GNU_SOURCE /* before any header: outer.c asks for memory below 4 GiB */
#define inb         x86_inb
#define outb        x86_outb
#define outl        x86_outl
#define rdtsc       x86_rdtsc
#include "../../vmm/x86.h"
#undef inb
#undef outb
#undef outl
#undef rdtsc

uint8_t inb(uint16_t port);
void outb(uint16_t port, uint8_t v);
void outl(uint16_t port, uint32_t v);
uint64_t rdtsc(void);

#endif
