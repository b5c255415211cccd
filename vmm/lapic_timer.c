/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The local APIC's timer (AMD64 APM vol. 2 §16.4.1; TSC deadline: Intel SDM vol. 3 §10.5.4.1). Its
 * counter runs at LAPIC_HZ; nothing counts: the end is a moment of the TSC.
 */
#include "cpu.h"
#include "lapic.h"
#include "lapic_timer.h"
#include "vcpu.h"
#include "vm.h"
#include "x86.h"

#define LAPIC_HZ 1000000000ull

#define TIMER_MODE(lvt) ((lvt) >> 17 & 3)
#define TIMER_ONESHOT   0
#define TIMER_PERIODIC  1
#define TIMER_DEADLINE  2

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
	if (TIMER_MODE(l->lvt[LVT_TIMER]) == TIMER_DEADLINE) {
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
	if (TIMER_MODE(vcpu->lapic.lvt[LVT_TIMER]) == TIMER_DEADLINE)
		timer_start(vcpu);
}

void lapic_poll(struct vcpu *vcpu, uint64_t now)
{
	struct lapic *l = &vcpu->lapic;

	if (now < l->deadline)
		return;
	if (!(l->lvt[LVT_TIMER] & LVT_MASKED))
		lapic_request(l, l->lvt[LVT_TIMER] & 0xff);
	switch (TIMER_MODE(l->lvt[LVT_TIMER])) {
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

uint32_t lapic_timer_count(const struct vcpu *vcpu)
{
	const struct lapic *l = &vcpu->lapic;
	uint64_t now = rdtsc();

	if (TIMER_MODE(l->lvt[LVT_TIMER]) == TIMER_DEADLINE || l->deadline == UINT64_MAX ||
	    l->deadline <= now)
		return 0;
	return (uint32_t)(muldiv(l->deadline - now, LAPIC_HZ, vcpu->vm->cpu->tsc_hz) >>
			  divisor_shift(l));
}

bool lapic_timer_lvt_write(struct vcpu *vcpu, uint32_t value)
{
	struct lapic *l = &vcpu->lapic;
	uint32_t before = TIMER_MODE(l->lvt[LVT_TIMER]);

	if (TIMER_MODE(value) == 3)
		return false;
	l->lvt[LVT_TIMER] = value;
	if (TIMER_MODE(value) != before) { /* a change of mode disarms */
		if (before == TIMER_DEADLINE || TIMER_MODE(value) == TIMER_DEADLINE)
			l->deadline = UINT64_MAX, l->guest_deadline = 0, l->timer_initial = 0;
	}
	return true;
}

void lapic_timer_initial_write(struct vcpu *vcpu, uint32_t value)
{
	struct lapic *l = &vcpu->lapic;

	if (TIMER_MODE(l->lvt[LVT_TIMER]) == TIMER_DEADLINE)
		return;
	l->timer_initial = value;
	timer_start(vcpu);
}

void lapic_deadline_write(struct vcpu *vcpu, uint64_t value)
{
	if (TIMER_MODE(vcpu->lapic.lvt[LVT_TIMER]) != TIMER_DEADLINE)
		return;
	vcpu->lapic.guest_deadline = value;
	timer_start(vcpu);
}
