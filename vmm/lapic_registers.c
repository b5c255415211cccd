/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The local APIC's registers: the page of xAPIC mode (AMD64 APM vol. 2 §16.3.2) and the MSRs of
 * x2APIC mode (§16.11; Intel SDM vol. 3 §10.12), which are the same: offset 16 n is MSR 800h + n.
 */
#include "lapic.h"
#include "lapic_timer.h"
#include "vcpu.h"
#include "x86.h"

enum {
	ID = 0x802,
	VERSION,
	TPR = 0x808,
	PPR = 0x80a,
	EOI,
	LDR = 0x80d,
	SVR = 0x80f,
	ISR,
	ESR = 0x828,
	ICR = 0x830,
	LVT = 0x832, /* in the order of enum lapic_lvt */
	INITIAL = 0x838,
	CURRENT,
	DIVIDE = 0x83e,
	SELF_IPI,
};

#define VERSION_VALUE (0x14 | (LAPIC_LVTS - 1) << 16)
#define SVR_ENABLED   (1u << 8)

static uint64_t bits_read(const uint64_t *bits, uint32_t index)
{
	return (uint32_t)(bits[index / 2] >> (index % 2 * 32));
}

static bool register_read(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	const struct lapic *l = &vcpu->lapic;
	const uint64_t *const sets[] = {l->isr, l->tmr, l->irr};

	if (msr >= ISR && msr < ESR) {
		*value = bits_read(sets[(msr - ISR) / 8], msr & 7);
		return true;
	}
	if (msr >= LVT && msr < LVT + LAPIC_LVTS) {
		*value = l->lvt[msr - LVT];
		return true;
	}
	switch (msr) {
	case ID:
		*value = vcpu->number;
		return true;
	case VERSION:
		*value = VERSION_VALUE;
		return true;
	case TPR:
		*value = l->tpr;
		return true;
	case PPR:
		*value = lapic_priority(l);
		return true;
	case LDR:
		*value = 1u << vcpu->number;
		return true;
	case SVR:
		*value = l->svr;
		return true;
	case ESR:
		*value = l->esr;
		return true;
	case ICR:
		*value = (uint64_t)l->icr_high << 32 | l->icr_low;
		return true;
	case INITIAL:
		*value = l->timer_initial;
		return true;
	case CURRENT:
		*value = lapic_timer_count(vcpu);
		return true;
	case DIVIDE:
		*value = l->timer_divide;
		return true;
	default:
		return false;
	}
}

/* The registers that can be written, and what may be set in them; 0: only the write counts. */
static const struct writable {
	uint32_t msr;
	uint64_t bits;
} writable[] = {
    {TPR, 0xff},
    {EOI, 0},
    {SVR, 0x3ff},
    {ESR, 0},
    {ICR, 0xffffffff000ccfff},
    {LVT + LVT_TIMER, 0x700ff},
    {LVT + LVT_THERMAL, 0x107ff},
    {LVT + LVT_PERFORMANCE, 0x107ff},
    {LVT + LVT_LINT0, 0x1a7ff},
    {LVT + LVT_LINT1, 0x1a7ff},
    {LVT + LVT_ERROR, 0x100ff},
    {INITIAL, 0xffffffff},
    {DIVIDE, 0xb},
    {SELF_IPI, 0xff},
};

static bool register_bits(uint32_t msr, uint64_t *bits)
{
	for (unsigned i = 0; i < sizeof(writable) / sizeof(writable[0]); i++) {
		if (writable[i].msr == msr) {
			*bits = writable[i].bits;
			return true;
		}
	}
	return false;
}

/* Switched off by software, it keeps every entry masked (§16.4.7 of the APM, SDM §10.4.7.2). */
static void svr_write(struct lapic *l, uint32_t value)
{
	l->svr = value;
	for (unsigned i = 0; i < LAPIC_LVTS && !(value & SVR_ENABLED); i++)
		l->lvt[i] |= LVT_MASKED;
}

static bool lvt_write(struct vcpu *vcpu, enum lapic_lvt which, uint32_t value)
{
	if (!(vcpu->lapic.svr & SVR_ENABLED))
		value |= LVT_MASKED;
	if (which == LVT_TIMER)
		return lapic_timer_lvt_write(vcpu, value);
	vcpu->lapic.lvt[which] = value;
	return true;
}

/* @value has no bits but those of register_bits(). False: it is refused all the same. */
static bool register_write(struct vcpu *vcpu, uint32_t msr, uint64_t value)
{
	struct lapic *l = &vcpu->lapic;

	if (msr >= LVT && msr < LVT + LAPIC_LVTS)
		return lvt_write(vcpu, msr - LVT, (uint32_t)value);
	switch (msr) {
	case TPR:
		l->tpr = (uint32_t)value;
		break;
	case EOI:
		lapic_eoi(vcpu);
		break;
	case SVR:
		svr_write(l, (uint32_t)value);
		break;
	case ESR: /* shows what went wrong since the last write */
		l->esr = l->errors;
		l->errors = 0;
		break;
	case ICR:
		lapic_command(vcpu, value);
		break;
	case INITIAL:
		lapic_timer_initial_write(vcpu, (uint32_t)value);
		break;
	case DIVIDE:
		l->timer_divide = (uint32_t)value;
		break;
	case SELF_IPI:
		lapic_send(l, (unsigned)value);
		break;
	}
	return true;
}

/* ------------------------------------------------------------------ MSRs */

/*
 * x2APIC mode: reserved bits raise #GP, and nothing has changed then. Bits 12 and 14 of LVT entries
 * are the APIC's own to set: a guest that writes back what it reads may have them.
 */
static bool x2apic_write(struct vcpu *vcpu, uint32_t msr, uint64_t value)
{
	uint64_t bits;

	if (msr >= LVT && msr < LVT + LAPIC_LVTS)
		value &= ~(uint64_t)(1u << 12 | 1u << 14);
	return register_bits(msr, &bits) && !(value & ~bits) && register_write(vcpu, msr, value);
}

bool lapic_msr_read(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	switch (msr) {
	case MSR_APIC_BASE:
		*value = vcpu->lapic.base;
		return true;
	case MSR_TSC_DEADLINE:
		*value = vcpu->lapic.guest_deadline;
		return true;
	default:
		return lapic_is_x2apic(&vcpu->lapic) && register_read(vcpu, msr, value);
	}
}

bool lapic_msr_write(struct vcpu *vcpu, uint32_t msr, uint64_t value)
{
	switch (msr) {
	case MSR_APIC_BASE:
		return lapic_base_write(vcpu, value);
	case MSR_TSC_DEADLINE:
		lapic_deadline_write(vcpu, value);
		return true;
	default:
		return lapic_is_x2apic(&vcpu->lapic) && x2apic_write(vcpu, msr, value);
	}
}

/* ------------------------------------------------------------------ the page */

static uint32_t mmio_read(struct vcpu *vcpu, uint32_t offset)
{
	const struct lapic *l = &vcpu->lapic;
	uint64_t value = 0;

	switch (offset) {
	case 0x020:
		return vcpu->number << 24;
	case 0x0d0:
		return l->ldr;
	case 0x0e0:
		return l->dfr;
	case 0x300:
		return l->icr_low;
	case 0x310:
		return l->icr_high;
	default:
		register_read(vcpu, 0x800 + (offset >> 4), &value);
		return (uint32_t)value;
	}
}

uint64_t lapic_mmio_read(struct vcpu *vcpu, uint32_t offset, unsigned size)
{
	if (size > 4)
		return lapic_mmio_read(vcpu, offset, 4) | lapic_mmio_read(vcpu, offset + 4, 4)
							      << 32;
	if (offset & 12) /* registers are 16 bytes apart */
		return 0;
	return mmio_read(vcpu, offset & ~3u) >> 8 * (offset & 3);
}

void lapic_mmio_write(struct vcpu *vcpu, uint32_t offset, unsigned size, uint64_t wide)
{
	struct lapic *l = &vcpu->lapic;
	uint32_t msr = 0x800 + (offset >> 4), value = (uint32_t)wide;
	uint64_t bits;

	if (size != 4 || offset & 15)
		return;

	switch (offset) {
	case 0x0d0:
		l->ldr = value & 0xff000000;
		break;
	case 0x0e0:
		l->dfr = value | 0x0fffffff;
		break;
	case 0x300:
		lapic_command(vcpu, (uint64_t)l->icr_high << 32 | value);
		break;
	case 0x310:
		l->icr_high = value;
		break;
	case 0x3f0: /* SELF IPI is x2APIC's alone */
		break;
	default: /* reserved bits are ignored */
		if (register_bits(msr, &bits))
			register_write(vcpu, msr, value & bits);
	}
}
