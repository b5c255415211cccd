/* SPDX-License-Identifier: BSD-2-Clause */
/* The vcpu's registers and memory for the instruction emulator (emu/). See emulate.c. */
#ifndef VMM_EMULATE_H
#define VMM_EMULATE_H

#include <emu.h>

struct vcpu;

/* An emulator that works on @vcpu. */
struct emu emulate_on(struct vcpu *vcpu);

/* Carry out the instruction at RIP, completion (vcpu_done) included. */
enum emu_result emulate(struct vcpu *vcpu);

#endif
