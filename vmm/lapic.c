/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's local APIC (AMD64 APM vol. 2 §16; x2APIC registers §16.11 and Intel SDM vol. 3
 * §10.12), with the TSC-deadline timer (SDM vol. 3 §10.5.4.1). It starts in xAPIC mode, whose
 * register page is at 0xfee00000 and is emulated access by access; the guest may switch to x2APIC
 * mode, not back. Both views share the registers below: an offset in the page is an MSR number.
 * One processor, so an IPI that reaches anybody reaches this one. Timer counts run at LAPIC_HZ.
 */
#include "cpu.h"
#include "ioapic.h"
#include "lapic.h"
#include "string.h"
#include "vcpu.h"
#include "vm.h"
#include "x86.h"

#define LAPIC_HZ   1000000000ull
#define LVT_MASKED (1u << 16)

#define BASE_ADDRESS LAPIC_BASE
#define BASE_BSP     (1u << 8)
#define BASE_EXTD    (1u << 10)
#define BASE_ENABLED (1u << 11)
#define SVR_ENABLED  (1u << 8)

#define TIMER_MODE(lvt) ((lvt) >> 17 & 3)
#define TIMER_ONESHOT   0
#define TIMER_PERIODIC  1
#define TIMER_DEADLINE  2

#define ESR_ILLEGAL_VECTOR_SENT (1u << 5)
#define MODE_NMI                4

void lapic_init(struct vcpu *vcpu)
{
	struct lapic *l = &vcpu->lapic;

	memset(l, 0, sizeof(*l));
	l->base = BASE_ADDRESS | BASE_ENABLED | BASE_BSP;
	l->dfr = 0xffffffff;
	l->svr = 0xff;
	l->deadline = UINT64_MAX;
	l->lvt_timer = l->lvt_thermal = l->lvt_perf = LVT_MASKED;
	l->lvt_lint1 = l->lvt_error = LVT_MASKED;
	/* As firmware leaves it: the PIC's interrupts pass (virtual wire mode). */
	l->lvt_lint0 = 0x700;
	l->svr |= SVR_ENABLED;
}

static int highest(const uint64_t *bits)
{
	for (int i = 3; i >= 0; i--)
		if (bits[i])
			return i * 64 + 63 - __builtin_clzll(bits[i]);
	return -1;
}

static uint32_t processor_priority(const struct lapic *l)
{
	int isr = highest(l->isr);
	uint32_t service = isr < 0 ? 0 : (uint32_t)isr & 0xf0;

	return (l->tpr & 0xf0) >= service ? l->tpr : service;
}

static void request(struct lapic *l, unsigned vector)
{
	l->irr[vector / 64] |= 1ull << vector % 64;
	l->tmr[vector / 64] &= ~(1ull << vector % 64);
}

void lapic_deliver(struct vcpu *vcpu, unsigned vector, bool level)
{
	struct lapic *l = &vcpu->lapic;

	if (!(l->svr & SVR_ENABLED) || vector < 16)
		return;
	request(l, vector);
	if (level)
		l->tmr[vector / 64] |= 1ull << vector % 64;
}

int lapic_pending(const struct lapic *l)
{
	int vector;

	if (!(l->irr[0] | l->irr[1] | l->irr[2] | l->irr[3]))
		return -1;
	vector = highest(l->irr);
	if (vector < 0 || (uint32_t)vector >> 4 <= processor_priority(l) >> 4)
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
	return (l->svr & SVR_ENABLED) && !(l->lvt_lint0 & LVT_MASKED) &&
	       (l->lvt_lint0 >> 8 & 7) == 7;
}

static unsigned divisor_shift(const struct lapic *l)
{
	return (((l->timer_divide & 3) | (l->timer_divide >> 1 & 4)) + 1) & 7;
}

/* Ticks of the counter to TSC ticks. */
static uint64_t to_tsc(const struct vcpu *vcpu, uint64_t count)
{
	return muldiv(count << divisor_shift(&vcpu->lapic), vcpu->vm->cpu->tsc_hz, LAPIC_HZ);
}

static void timer_start(struct vcpu *vcpu)
{
	struct lapic *l = &vcpu->lapic;

	l->deadline = UINT64_MAX;
	if (TIMER_MODE(l->lvt_timer) == TIMER_DEADLINE) {
		uint64_t now = rdtsc(), guest_now = now + vcpu->tsc_offset;

		if (!l->guest_deadline)
			return;
		if (l->guest_deadline <= guest_now)
			l->deadline = now;
		else if (l->guest_deadline - guest_now < UINT64_MAX - now)
			l->deadline = now + (l->guest_deadline - guest_now);
	} else if (l->timer_initial) {
		l->timer_started = rdtsc();
		l->deadline = l->timer_started + to_tsc(vcpu, l->timer_initial);
	}
}

void lapic_tsc_written(struct vcpu *vcpu)
{
	if (TIMER_MODE(vcpu->lapic.lvt_timer) == TIMER_DEADLINE)
		timer_start(vcpu);
}

void lapic_poll(struct vcpu *vcpu, uint64_t now)
{
	struct lapic *l = &vcpu->lapic;

	if (now < l->deadline)
		return;
	if (!(l->lvt_timer & LVT_MASKED))
		request(l, l->lvt_timer & 0xff);
	switch (TIMER_MODE(l->lvt_timer)) {
	case TIMER_PERIODIC:
		l->timer_started = l->deadline;
		l->deadline += to_tsc(vcpu, l->timer_initial);
		if (l->deadline <= now) { /* far behind: drop what was missed */
			l->timer_started = now;
			l->deadline = now + to_tsc(vcpu, l->timer_initial) + 1;
		}
		break;
	case TIMER_DEADLINE:
		l->guest_deadline = 0;
		/* fall through */
	default:
		l->deadline = UINT64_MAX;
	}
}

static uint32_t timer_count(const struct vcpu *vcpu)
{
	const struct lapic *l = &vcpu->lapic;
	uint64_t now = rdtsc();

	if (TIMER_MODE(l->lvt_timer) == TIMER_DEADLINE || l->deadline == UINT64_MAX ||
	    l->deadline <= now)
		return 0;
	return (uint32_t)(muldiv(l->deadline - now, LAPIC_HZ, vcpu->vm->cpu->tsc_hz) >>
			  divisor_shift(l));
}

static bool is_x2apic(const struct lapic *l)
{
	return l->base & BASE_EXTD;
}

/* An IPI to this processor. */
static void send(struct lapic *l, unsigned vector)
{
	if (vector >= 16) {
		request(l, vector);
		return;
	}
	l->errors |= ESR_ILLEGAL_VECTOR_SENT;
	if (!(l->lvt_error & LVT_MASKED))
		request(l, l->lvt_error & 0xff);
}

/*
 * Eight bits of destination (xAPIC, I/O APIC). The flat model; in x2APIC mode the low byte of the
 * logical id, which for this processor is bit 0.
 */
static bool is_named(const struct lapic *l, uint32_t destination, bool logical)
{
	uint32_t id = is_x2apic(l) ? 1 : l->ldr >> 24;

	if (destination == 0xff)
		return true;
	if (!logical)
		return destination == 0;
	if (!is_x2apic(l) && l->dfr >> 28 == 0) /* cluster model */
		return destination >> 4 == id >> 4 && destination & id & 0xf;
	return destination & id;
}

/* Does an IPI without shorthand reach this processor (number 0)? */
static bool is_destination(const struct lapic *l, uint32_t destination, bool logical)
{
	if (is_x2apic(l)) {
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
static void command(struct vcpu *vcpu, uint64_t value)
{
	struct lapic *l = &vcpu->lapic;
	uint32_t shorthand = value >> 18 & 3, mode = value >> 8 & 7;
	bool self = shorthand == 1 || shorthand == 2;

	l->icr_low = (uint32_t)value;
	l->icr_high = (uint32_t)(value >> 32);
	if (shorthand == 0)
		self = is_destination(l, l->icr_high, value & 1u << 11);
	if (self && mode <= 1)
		send(l, value & 0xff);
	else if (self && mode == MODE_NMI)
		vcpu->nmi_pending = true;
}

static uint64_t bits_read(const uint64_t *bits, uint32_t index)
{
	return (uint32_t)(bits[index / 2] >> (index % 2 * 32));
}

static bool register_read(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
	const struct lapic *l = &vcpu->lapic;

	if (msr >= 0x810 && msr < 0x828) {
		const uint64_t *set = msr < 0x818 ? l->isr : msr < 0x820 ? l->tmr : l->irr;
		*value = bits_read(set, msr & 7);
		return true;
	}
	switch (msr) {
	case 0x802:
		*value = vcpu->number;
		break;
	case 0x803:
		*value = 0x50014;
		break; /* six LVT entries */
	case 0x808:
		*value = l->tpr;
		break;
	case 0x80a:
		*value = processor_priority(l);
		break;
	case 0x80d:
		*value = 1u << vcpu->number;
		break;
	case 0x80f:
		*value = l->svr;
		break;
	case 0x828:
		*value = l->esr;
		break;
	case 0x830:
		*value = (uint64_t)l->icr_high << 32 | l->icr_low;
		break;
	case 0x832:
		*value = l->lvt_timer;
		break;
	case 0x833:
		*value = l->lvt_thermal;
		break;
	case 0x834:
		*value = l->lvt_perf;
		break;
	case 0x835:
		*value = l->lvt_lint0;
		break;
	case 0x836:
		*value = l->lvt_lint1;
		break;
	case 0x837:
		*value = l->lvt_error;
		break;
	case 0x838:
		*value = l->timer_initial;
		break;
	case 0x839:
		*value = timer_count(vcpu);
		break;
	case 0x83e:
		*value = l->timer_divide;
		break;
	default:
		return false;
	}
	return true;
}

/* False: there is no such mode. */
static bool timer_lvt_write(struct vcpu *vcpu, uint32_t value)
{
	struct lapic *l = &vcpu->lapic;
	uint32_t before = TIMER_MODE(l->lvt_timer);

	if (TIMER_MODE(value) == 3)
		return false;
	l->lvt_timer = value;
	if (TIMER_MODE(value) != before) { /* a change of mode disarms */
		if (before == TIMER_DEADLINE || TIMER_MODE(value) == TIMER_DEADLINE)
			l->deadline = UINT64_MAX, l->guest_deadline = 0, l->timer_initial = 0;
	}
	return true;
}

static void end_of_interrupt(struct vcpu *vcpu)
{
	struct lapic *l = &vcpu->lapic;
	int vector = highest(l->isr);

	if (vector < 0)
		return;
	l->isr[vector / 64] &= ~(1ull << vector % 64);
	if (l->tmr[vector / 64] & 1ull << vector % 64)
		ioapic_eoi(vcpu->vm, (unsigned)vector);
}

/* The registers that can be written, and what may be set in them; 0: only the write counts. */
static const struct writable {
	uint32_t msr;
	uint64_t bits;
} writable[] = {
    {0x808, 0xff},
    {0x80b, 0},
    {0x80f, 0x3ff},
    {0x828, 0},
    {0x830, 0xffffffff000ccfff},
    {0x832, 0x700ff},
    {0x833, 0x107ff},
    {0x834, 0x107ff},
    {0x835, 0x1a7ff},
    {0x836, 0x1a7ff},
    {0x837, 0x100ff},
    {0x838, 0xffffffff},
    {0x83e, 0xb},
    {0x83f, 0xff},
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

/* @value has no bits but those of register_bits(). False: it is refused all the same. */
static bool register_write(struct vcpu *vcpu, uint32_t msr, uint64_t value)
{
	struct lapic *l = &vcpu->lapic;

	switch (msr) {
	case 0x808:
		l->tpr = (uint32_t)value;
		break;
	case 0x80b:
		end_of_interrupt(vcpu);
		break;
	case 0x80f:
		l->svr = (uint32_t)value;
		break;
	case 0x828: /* shows what went wrong since the last write */
		l->esr = l->errors;
		l->errors = 0;
		break;
	case 0x830:
		command(vcpu, value);
		break;
	case 0x832:
		return timer_lvt_write(vcpu, (uint32_t)value);
	case 0x833:
		l->lvt_thermal = (uint32_t)value;
		break;
	case 0x834:
		l->lvt_perf = (uint32_t)value;
		break;
	case 0x835:
		l->lvt_lint0 = (uint32_t)value;
		break;
	case 0x836:
		l->lvt_lint1 = (uint32_t)value;
		break;
	case 0x837:
		l->lvt_error = (uint32_t)value;
		break;
	case 0x838:
		if (TIMER_MODE(l->lvt_timer) != TIMER_DEADLINE) {
			l->timer_initial = (uint32_t)value;
			timer_start(vcpu);
		}
		break;
	case 0x83e:
		l->timer_divide = (uint32_t)value;
		break;
	case 0x83f:
		send(l, (unsigned)value);
		break;
	}
	return true;
}

/*
 * x2APIC mode: reserved bits raise #GP, and nothing has changed then. Bits 12 and 14 of LVT entries
 * are the APIC's own to set: a guest that writes back what it reads may have them.
 */
static bool x2apic_write(struct vcpu *vcpu, uint32_t msr, uint64_t value)
{
	uint64_t bits;

	if (msr >= 0x832 && msr <= 0x837)
		value &= ~(uint64_t)(1u << 12 | 1u << 14);
	return register_bits(msr, &bits) && !(value & ~bits) && register_write(vcpu, msr, value);
}

static bool base_write(struct lapic *l, uint64_t value)
{
	if (value != l->base && value != (l->base | BASE_EXTD))
		return false;
	l->base = value;
	return true;
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
		return is_x2apic(&vcpu->lapic) && register_read(vcpu, msr, value);
	}
}

bool lapic_msr_write(struct vcpu *vcpu, uint32_t msr, uint64_t value)
{
	switch (msr) {
	case MSR_APIC_BASE:
		return base_write(&vcpu->lapic, value);
	case MSR_TSC_DEADLINE:
		if (TIMER_MODE(vcpu->lapic.lvt_timer) == TIMER_DEADLINE) {
			vcpu->lapic.guest_deadline = value;
			timer_start(vcpu);
		}
		return true;
	default:
		return is_x2apic(&vcpu->lapic) && x2apic_write(vcpu, msr, value);
	}
}

bool lapic_is_mapped(const struct vcpu *vcpu)
{
	return vcpu->lapic.base & BASE_ENABLED && !is_x2apic(&vcpu->lapic);
}

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
		command(vcpu, (uint64_t)l->icr_high << 32 | value);
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
