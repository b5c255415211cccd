/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's local APIC (AMD64 APM vol. 2 §16): interrupts that wait and that are served, IPIs,
 * the modes. It starts in xAPIC mode, as firmware leaves it. The registers are in
 * lapic_registers.c, the timer is in lapic_timer.c. One processor, so an IPI that reaches anybody
 * reaches this one.
 */
#include "ioapic.h"
#include "lapic.h"
#include "string.h"
#include "vcpu.h"
#include "vm.h"

#define BASE_BSP     (1u << 8)
#define BASE_EXTD    (1u << 10)
#define BASE_ENABLED (1u << 11)
#define BASE_PAGE    0xfffffff000ull /* of 40 bits of address */
#define SVR_ENABLED  (1u << 8)

#define ESR_ILLEGAL_VECTOR_SENT (1u << 5)
#define MODE_NMI                4

/* As RESET leaves it (§16.3.2, table 16-3). */
static void reset(struct lapic *l)
{
	*l =
	    (struct lapic){.base = l->base, .deadline = UINT64_MAX, .dfr = 0xffffffff, .svr = 0xff};
	for (unsigned i = 0; i < LAPIC_LVTS; i++)
		l->lvt[i] = LVT_MASKED;
}

void lapic_init(struct vcpu *vcpu)
{
	struct lapic *l = &vcpu->lapic;

	l->base = LAPIC_BASE | BASE_ENABLED | BASE_BSP;
	reset(l);
	/* As firmware leaves it: the PIC's interrupts pass (virtual wire mode). */
	l->lvt[LVT_LINT0] = 0x700;
	l->svr |= SVR_ENABLED;
}

static bool is_enabled(const struct lapic *l)
{
	return l->base & BASE_ENABLED;
}

static bool is_listening(const struct lapic *l)
{
	return is_enabled(l) && l->svr & SVR_ENABLED;
}

/* The highest bit of 256; -1: none. */
static int highest(const uint64_t *bits)
{
	for (int i = 3; i >= 0; i--)
		if (bits[i])
			return i * 64 + 63 - __builtin_clzll(bits[i]);
	return -1;
}

uint32_t lapic_priority(const struct lapic *l)
{
	int isr = highest(l->isr);
	uint32_t service = isr < 0 ? 0 : (uint32_t)isr & 0xf0;

	return (l->tpr & 0xf0) >= service ? l->tpr : service;
}

void lapic_request(struct lapic *l, unsigned vector)
{
	l->irr[vector / 64] |= 1ull << vector % 64;
	l->tmr[vector / 64] &= ~(1ull << vector % 64);
}

void lapic_deliver(struct vcpu *vcpu, unsigned vector, bool level)
{
	struct lapic *l = &vcpu->lapic;

	if (!is_listening(l) || vector < 16)
		return;
	lapic_request(l, vector);
	if (level)
		l->tmr[vector / 64] |= 1ull << vector % 64;
}

int lapic_pending(const struct lapic *l)
{
	int vector;

	if (!(l->irr[0] | l->irr[1] | l->irr[2] | l->irr[3]))
		return -1;
	vector = highest(l->irr);
	if (vector < 0 || (uint32_t)vector >> 4 <= lapic_priority(l) >> 4)
		return -1;
	return vector;
}

void lapic_acknowledge(struct lapic *l, unsigned vector)
{
	l->irr[vector / 64] &= ~(1ull << vector % 64);
	l->isr[vector / 64] |= 1ull << vector % 64;
}

bool lapic_cr8_write(struct vcpu *vcpu, uint64_t value)
{
	if (value > 15)
		return false;
	vcpu->lapic.tpr = (uint32_t)value << 4;
	return true;
}

bool lapic_takes_pic(const struct lapic *l)
{
	uint32_t lint0 = l->lvt[LVT_LINT0];

	return !is_enabled(l) || (!(lint0 & LVT_MASKED) && (lint0 >> 8 & 7) == 7);
}

void lapic_eoi(struct vcpu *vcpu)
{
	struct lapic *l = &vcpu->lapic;
	int vector = highest(l->isr);

	if (vector < 0)
		return;
	l->isr[vector / 64] &= ~(1ull << vector % 64);
	if (l->tmr[vector / 64] & 1ull << vector % 64)
		ioapic_eoi(vcpu->vm, (unsigned)vector);
}

/* ------------------------------------------------------------------ IPIs */

void lapic_send(struct lapic *l, unsigned vector)
{
	if (vector >= 16) {
		if (is_listening(l))
			lapic_request(l, vector);
		return;
	}
	l->errors |= ESR_ILLEGAL_VECTOR_SENT;
	if (!(l->lvt[LVT_ERROR] & LVT_MASKED))
		lapic_request(l, l->lvt[LVT_ERROR] & 0xff);
}

/*
 * Eight bits of destination (xAPIC, I/O APIC). The flat model; in x2APIC mode the low byte of the
 * logical id, which for this processor is bit 0.
 */
static bool is_named(const struct lapic *l, uint32_t destination, bool logical)
{
	uint32_t id = lapic_is_x2apic(l) ? 1 : l->ldr >> 24;

	if (destination == 0xff)
		return true;
	if (!logical)
		return destination == 0;
	if (!lapic_is_x2apic(l) && l->dfr >> 28 == 0) /* cluster model */
		return destination >> 4 == id >> 4 && destination & id & 0xf;
	return destination & id;
}

/* Does an IPI without shorthand reach this processor (number 0)? */
static bool is_destination(const struct lapic *l, uint32_t destination, bool logical)
{
	if (lapic_is_x2apic(l)) {
		if (destination == 0xffffffff)
			return true;
		return logical ? destination >> 16 == 0 && destination & 1 : destination == 0;
	}
	return is_named(l, destination >> 24, logical);
}

bool lapic_is_target(struct vcpu *vcpu, uint32_t destination, bool logical)
{
	return is_named(&vcpu->lapic, destination, logical);
}

/* Fixed-mode IPIs to this processor; INIT and SIPI have no target here. */
void lapic_command(struct vcpu *vcpu, uint64_t value)
{
	struct lapic *l = &vcpu->lapic;
	uint32_t shorthand = value >> 18 & 3, mode = value >> 8 & 7;
	bool self = shorthand == 1 || shorthand == 2;

	l->icr_low = (uint32_t)value;
	l->icr_high = (uint32_t)(value >> 32);
	if (shorthand == 0)
		self = is_destination(l, l->icr_high, value & 1u << 11);
	if (self && mode <= 1)
		lapic_send(l, value & 0xff);
	else if (self && mode == MODE_NMI)
		vcpu->nmi_pending = true;
}

/* ------------------------------------------------------------------ modes */

bool lapic_is_x2apic(const struct lapic *l)
{
	return l->base & BASE_EXTD;
}

bool lapic_is_enabled(const struct vcpu *vcpu)
{
	return is_enabled(&vcpu->lapic);
}

uint64_t lapic_page(const struct vcpu *vcpu)
{
	const struct lapic *l = &vcpu->lapic;

	return is_enabled(l) && !lapic_is_x2apic(l) ? l->base & BASE_PAGE : LAPIC_NOWHERE;
}

/* Off, xAPIC, x2APIC (Intel SDM vol. 3 §10.12.5): what leads where. Off forgets everything. */
bool lapic_base_write(struct vcpu *vcpu, uint64_t value)
{
	static const uint8_t leads[4][4] = {
	    /* to: off, -, xAPIC, x2APIC */
	    {1, 0, 1, 0},
	    {0, 0, 0, 0},
	    {1, 0, 1, 1},
	    {1, 0, 0, 1},
	};
	struct lapic *l = &vcpu->lapic;

	if (value & ~(BASE_PAGE | BASE_ENABLED | BASE_EXTD | BASE_BSP) ||
	    !leads[l->base >> 10 & 3][value >> 10 & 3])
		return false;
	l->base = value;
	if (!is_enabled(l))
		reset(l);
	return true;
}
