/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's debug registers and single-step (AMD64 APM vol. 2 §13.1). Owns DR0 to DR3 and DR7, of
 * the VMCB and of the processor. SVM switches DR6 and DR7; DR0 to DR3 are shared, and the
 * hypervisor never arms any for itself but one: the guard of task.c, which takes DR3 from the
 * guest.
 *
 * A breakpoint of the guest's may lie at an address that the hypervisor uses. Its own DR7 is off;
 * but TCG arms breakpoints only by MOV to DR7, not by VMRUN, so there it is on from just before the
 * guest's run to just after, and #DB in between is ignored (trap.c).
 */
#include "debug.h"
#include "cpu.h"
#include "exits.h"
#include "fetch.h"
#include "svm.h"
#include "vcpu.h"
#include "vm.h"
#include "x86.h"

#define BREAKPOINTS 4u
#define ON_WRITE    1u
#define ON_PORT     2u
#define ON_ACCESS   3u

#define DR7_LOCAL   0x155ull /* and exact breakpoints, as it were */
#define DR7_ENABLES 0xffull
#define DR7_GD      (1ull << 13)
#define DR7_FIXED   0xd800ull /* bits that read as 0 */

static bool is_on(const struct vcpu *vcpu, unsigned i)
{
	return vcpu->dr[7] >> 2 * i & 3;
}

static unsigned kind(const struct vcpu *vcpu, unsigned i)
{
	return vcpu->dr[7] >> (16 + 4 * i) & 3;
}

static uint64_t length(const struct vcpu *vcpu, unsigned i)
{
	static const uint8_t bytes[] = {1, 2, 8, 4};

	return bytes[vcpu->dr[7] >> (18 + 4 * i) & 3];
}

/* ------------------------------------------------------------------ the processor's registers */

static void address_write(unsigned i, uint64_t value)
{
	switch (i) {
	case 0:
		dr0_write(value);
		break;
	case 1:
		dr1_write(value);
		break;
	case 2:
		dr2_write(value);
		break;
	default:
		dr3_write(value);
	}
}

/* Bring the VMCB and DR0 to DR3 in line with the guest's registers and the guard's. */
static void arm(struct vcpu *vcpu)
{
	bool guarded = vcpu->guard != GUARD_OFF;

	vcpu->debug_changed = false;
	vcpu->vmcb->dr7 = (vcpu->dr[7] & ~DR7_GD) | DR7_ONES;
	for (unsigned i = 0; i < BREAKPOINTS; i++)
		address_write(i, i == 3 && guarded ? vcpu->guard : vcpu->dr[i]);
	if (guarded)
		vcpu->vmcb->dr7 = (vcpu->vmcb->dr7 & ~GUARD_DR7_MASK) | GUARD_DR7;
	vcpu->armed = vcpu->vmcb->dr7 & DR7_ENABLES;
}

void debug_enter(struct vcpu *vcpu)
{
	if (vcpu->debug_changed)
		arm(vcpu);
	if (vcpu->armed && vcpu->vm->cpu->is_tcg)
		dr7_write(vcpu->vmcb->dr7);
}

void debug_leave(struct vcpu *vcpu)
{
	if (vcpu->armed && vcpu->vm->cpu->is_tcg)
		dr7_write(DR7_ONES);
}

/* ------------------------------------------------------------------ MOV to and from them */

static uint64_t read(const struct vcpu *vcpu, unsigned number)
{
	return number == 6   ? vcpu->vmcb->dr6 | DR6_ONES
	       : number == 7 ? vcpu->dr[7] | DR7_ONES
			     : vcpu->dr[number];
}

static void write(struct vcpu *vcpu, unsigned number, uint64_t value)
{
	if (number == 6) {
		vcpu->vmcb->dr6 = (uint32_t)value | DR6_ONES;
		return;
	}
	vcpu->dr[number] = number == 7 ? value & ~DR7_FIXED : value;
	vcpu->debug_changed = true;
}

void debug_exit(struct vcpu *vcpu, unsigned number, bool is_write)
{
	struct insn insn;
	uint64_t value;

	if (!decode_at_rip(vcpu, &insn))
		return;
	if ((number == 4 || number == 5) && vcpu->cr4 & CR4_DE) {
		vcpu_raise(vcpu, VECTOR_UD, -1);
		return;
	}
	if (number == 4 || number == 5)
		number += 2;
	if (vcpu->dr[7] & DR7_GD) { /* general detect: before the instruction */
		vcpu->dr[7] &= ~DR7_GD;
		vcpu->vmcb->dr6 |= DR6_BD;
		vcpu_raise(vcpu, VECTOR_DB, -1);
		return;
	}
	value = vcpu->gpr[insn.rm];
	if (!vcpu_is_64(vcpu))
		value = (uint32_t)value;
	if (!is_write) {
		value = read(vcpu, number);
		vcpu->gpr[insn.rm] = vcpu_is_64(vcpu) ? value : (uint32_t)value;
	} else if (number >= 6 && value >> 32) {
		vcpu_raise(vcpu, VECTOR_GP, 0);
		return;
	} else {
		write(vcpu, number, value);
	}
	vcpu_skip(vcpu, insn.length);
}

/* ------------------------------------------------------------------ what the hypervisor does */

static bool overlaps(const struct vcpu *vcpu, unsigned i, uint64_t at, uint64_t size)
{
	uint64_t first = vcpu->dr[i] & ~(length(vcpu, i) - 1);

	return first < at + size && at < first + length(vcpu, i);
}

void debug_access(struct vcpu *vcpu, uint64_t linear, size_t size, bool is_write)
{
	for (unsigned i = 0; vcpu->armed && i < BREAKPOINTS; i++)
		if (is_on(vcpu, i) && overlaps(vcpu, i, linear, size) &&
		    (kind(vcpu, i) == ON_ACCESS || (kind(vcpu, i) == ON_WRITE && is_write)))
			vcpu->debug_hits |= 1u << i;
}

void debug_port(struct vcpu *vcpu, uint16_t port, unsigned size)
{
	for (unsigned i = 0; vcpu->armed && vcpu->cr4 & CR4_DE && i < BREAKPOINTS; i++)
		if (is_on(vcpu, i) && kind(vcpu, i) == ON_PORT && overlaps(vcpu, i, port, size))
			vcpu->debug_hits |= 1u << i;
}

void debug_done(struct vcpu *vcpu)
{
	uint64_t why = vcpu->debug_hits;

	vcpu->debug_hits = 0;
	if (vcpu->vmcb->rflags & RFLAGS_TF)
		why |= DR6_BS;
	if (!why)
		return;
	vcpu->vmcb->dr6 |= why;
	vcpu_raise(vcpu, VECTOR_DB, -1);
}
