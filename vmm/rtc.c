/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's CMOS clock, a Motorola MC146818A (its data sheet names the registers). The time is
 * the outer clock's, in the form that the guest asks for; setting it changes nothing. Interrupts
 * (periodic, at each second, by alarm) are the guest's own, by the TSC. Other CMOS bytes are kept.
 */
#include "rtc.h"
#include "cpu.h"
#include "irq.h"
#include "vm.h"
#include "x86.h"

#define RTC_IRQ 8

enum index {
	SECOND = 0,
	SECOND_ALARM = 1,
	MINUTE_ALARM = 3,
	HOUR = 4,
	HOUR_ALARM = 5,
	YEAR = 9,
	STATUS_A = 10,
	STATUS_B = 11,
	STATUS_C = 12,
	STATUS_D = 13,
	CENTURY = 0x32,
};

#define B_24_HOURS    2u
#define B_BINARY      4u
#define FLAG_UPDATE   0x10u /* of C; the same bits of B ask for their interrupts */
#define FLAG_ALARM    0x20u
#define FLAG_PERIODIC 0x40u
#define FLAG_IRQ      0x80u
#define ALARM_ANY     0xc0u
#define OUTER_B       2u /* BCD, 24 hours: so firmware leaves it */

static uint8_t outer_read(uint8_t index)
{
	outb(0x70, index | 0x80);
	return inb(0x71);
}

/* A byte of the outer clock's time as a number. */
static unsigned number(uint8_t index)
{
	uint8_t value = outer_read(index);

	return outer_read(STATUS_B) & B_BINARY ? value : (value >> 4) * 10u + (value & 15);
}

static uint8_t encode(const struct rtc *rtc, unsigned value)
{
	return (uint8_t)(rtc->b & B_BINARY ? value : value / 10 << 4 | value % 10);
}

/* The time as the guest wants it. */
static uint8_t time_read(const struct rtc *rtc, uint8_t index)
{
	unsigned value = number(index);

	if (index != HOUR || rtc->b & B_24_HOURS)
		return encode(rtc, value);
	return (uint8_t)(encode(rtc, (value + 11) % 12 + 1) | (value >= 12 ? 0x80 : 0));
}

/* TSC ticks between two periodic interrupts; 0: there are none. */
static uint64_t period(const struct vm *vm)
{
	unsigned rate = vm->rtc.a & 15;

	if (!rate || !(vm->rtc.b & FLAG_PERIODIC))
		return 0;
	if (rate < 3)
		rate += 7;
	return muldiv(vm->cpu->tsc_hz, 1ull << (rate - 1), 32768);
}

static void schedule(struct vm *vm, uint64_t now)
{
	struct rtc *rtc = &vm->rtc;
	uint64_t ticks = period(vm);

	if (!ticks)
		rtc->tick = UINT64_MAX;
	else if (rtc->tick == UINT64_MAX || rtc->tick > now + ticks)
		rtc->tick = now + ticks;
	if (!(rtc->b & (FLAG_ALARM | FLAG_UPDATE)))
		rtc->second = UINT64_MAX;
	else if (rtc->second == UINT64_MAX)
		rtc->second = now + vm->cpu->tsc_hz;
	rtc->next = rtc->tick < rtc->second ? rtc->tick : rtc->second;
}

static void raise(struct vm *vm, uint8_t flags)
{
	vm->rtc.c |= flags;
	if (!(vm->rtc.c & vm->rtc.b & (FLAG_PERIODIC | FLAG_ALARM | FLAG_UPDATE)))
		return;
	vm->rtc.c |= FLAG_IRQ;
	irq_set(vm, RTC_IRQ, true);
}

static bool is_alarm(const struct rtc *rtc)
{
	for (uint8_t at = SECOND; at <= HOUR; at += 2) {
		uint8_t wanted = rtc->memory[at + 1];

		if ((wanted & ALARM_ANY) != ALARM_ANY && wanted != time_read(rtc, at))
			return false;
	}
	return true;
}

void rtc_init(struct vm *vm)
{
	vm->rtc.a = 0x26;
	vm->rtc.b = OUTER_B;
	vm->rtc.tick = vm->rtc.second = vm->rtc.next = UINT64_MAX;
}

void rtc_poll(struct vm *vm, uint64_t now)
{
	struct rtc *rtc = &vm->rtc;

	if (now < rtc->next)
		return;
	if (now >= rtc->tick) {
		rtc->tick += period(vm);
		if (rtc->tick <= now) /* late: some are lost, as where a handler is */
			rtc->tick = UINT64_MAX;
		raise(vm, FLAG_PERIODIC);
	}
	if (now >= rtc->second) {
		rtc->second = UINT64_MAX;
		raise(vm, FLAG_UPDATE | (is_alarm(rtc) ? FLAG_ALARM : 0));
	}
	schedule(vm, now);
}

static uint8_t flags_take(struct vm *vm)
{
	uint8_t flags = vm->rtc.c;

	vm->rtc.c = 0;
	irq_set(vm, RTC_IRQ, false);
	return flags;
}

uint8_t rtc_read(struct vm *vm, uint16_t port)
{
	uint8_t index = vm->rtc.index & 0x7f;

	if (port == 0x70)
		return 0xff;
	switch (index) {
	case SECOND_ALARM:
	case MINUTE_ALARM:
	case HOUR_ALARM:
		return vm->rtc.memory[index];
	case STATUS_A:
		return (outer_read(STATUS_A) & 0x80) | vm->rtc.a;
	case STATUS_B:
		return vm->rtc.b;
	case STATUS_C:
		return flags_take(vm);
	case STATUS_D:
		return 0x80; /* the battery is good */
	case CENTURY:
		return time_read(&vm->rtc, index);
	default:
		return index <= YEAR ? time_read(&vm->rtc, index) : vm->rtc.memory[index];
	}
}

void rtc_write(struct vm *vm, uint16_t port, uint8_t value)
{
	uint8_t index = vm->rtc.index & 0x7f;

	if (port == 0x70) {
		vm->rtc.index = value;
		return;
	}
	if (index == STATUS_A)
		vm->rtc.a = value & 0x7f;
	else if (index == STATUS_B)
		vm->rtc.b = value;
	else if (index != STATUS_C && index != STATUS_D)
		vm->rtc.memory[index] = value;
	schedule(vm, rdtsc());
	raise(vm, 0);
}
