/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The machine around parts of the hypervisor in user space: memory by the frame, ports, a clock,
 * and in place of the machine's end the input's. The guest's memory is the hypervisor's own
 * (memory.c), on frames that lie apart; one that nobody took is poisoned. See outer.c.
 */
#ifndef OUTER_H
#define OUTER_H

#include <setjmp.h>
#include <stdint.h>

#include "cpu.h"
#include "host.h"
#include "vcpu.h"
#include "vm.h"

#define OUTER_FRAMES 512u

struct outer {
	struct vm vm;
	struct vcpu vcpu;
	struct vmcb vmcb;
	struct cpu cpu;
	struct frames frames;
	struct host host;
	uint64_t tsc;
	unsigned frames_left;
	unsigned keys;       /* that wait on COM1 */
	unsigned port_io;    /* accesses to outer ports */
	unsigned operations; /* the target's count, which longjmp() must not forget */
	jmp_buf end;         /* where machine_end() goes; setjmp() is the target's */
};

extern struct outer outer;

/* Everything as at power on, but the guest's memory and devices: those after setjmp(). */
void outer_reset(uint64_t memory, unsigned frames);

/* @size bytes that end where no byte may be touched, until outer_reset(). */
void *outer_block(size_t size);

#endif
