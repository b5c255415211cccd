/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's 8254 (Intel 8254 data sheet). Channel 0, the timer interrupt, is computed from the
 * TSC: nothing ticks while nobody looks. Channel 2 and its gate (port 0x61) are the outer
 * machine's, open in the I/O permission map, since the hypervisor needs them only before the
 * guest runs: so a guest that measures its TSC against it does so without an exit and gets the
 * true rate. Control words come here and those for channel 2 are forwarded. Several guests have a
 * channel 2 of their own each (pit2.c).
 */
#include "cpu.h"
#include "irq.h"
#include "pit.h"
#include "vm.h"
#include "x86.h"

#define PIT_HZ 1193182ull

void pit_init(struct vm *vm)
{
	vm->pit.next = UINT64_MAX;
	vm->pit.access = 3;
	vm->pit.mode = 3;
	vm->pit2.access = 3;
	if (vm->options.guests > 1)
		return;
	svm_port_open(&vm->cpu->svm, 0x42);
	svm_port_open(&vm->cpu->svm, 0x61);
}

static uint64_t to_tsc(struct vm *vm, uint64_t ticks)
{
	return muldiv(ticks, vm->cpu->tsc_hz, PIT_HZ);
}

static bool is_periodic(const struct pit *pit)
{
	return pit->mode == 2 || pit->mode == 3;
}

static uint64_t ticks_since(struct vm *vm, uint64_t now)
{
	return muldiv(now - vm->pit.started, PIT_HZ, vm->cpu->tsc_hz);
}

static uint16_t count_now(struct vm *vm)
{
	const struct pit *pit = &vm->pit;
	uint64_t ticks;

	if (!pit->reload)
		return 0;
	ticks = ticks_since(vm, rdtsc());
	if (!is_periodic(pit))
		return (uint16_t)(pit->reload - ticks);
	if (pit->mode == 3)
		return (uint16_t)(pit->reload - (2 * ticks % pit->reload));
	return (uint16_t)(pit->reload - ticks % pit->reload);
}

static bool output(struct vm *vm)
{
	const struct pit *pit = &vm->pit;
	uint64_t ticks = pit->reload ? ticks_since(vm, rdtsc()) : 0;

	switch (pit->mode) {
	case 0:
		return pit->reload && ticks >= pit->reload;
	case 3:
		return !pit->reload || ticks % pit->reload < (pit->reload + 1) / 2;
	default:
		return true;
	}
}

static void load(struct vm *vm, uint16_t value)
{
	struct pit *pit = &vm->pit;

	pit->reload = value ? value : 65536;
	pit->started = rdtsc();
	pit->next = pit->started + to_tsc(vm, pit->reload);
}

void pit_poll(struct vm *vm, uint64_t now)
{
	struct pit *pit = &vm->pit;

	if (now < pit->next)
		return;
	irq_pulse(vm, 0);
	if (is_periodic(pit)) /* ticks that nobody could take are one tick, as on a PC */
		pit->next = pit->started +
			    to_tsc(vm, (ticks_since(vm, now) / pit->reload + 1) * pit->reload);
	else
		pit->next = UINT64_MAX;
	if (pit->next <= now && pit->next != UINT64_MAX)
		pit->next += to_tsc(vm, pit->reload);
}

uint8_t pit_read(struct vm *vm, uint16_t port)
{
	struct pit *pit = &vm->pit;
	uint16_t count;
	bool high;

	if (port != 0x40)
		return 0xff;
	if (pit->status_latched) {
		pit->status_latched = false;
		return pit->status;
	}
	count = pit->latched ? pit->latch : count_now(vm);
	high = pit->access == 2 || (pit->access == 3 && pit->read_high);
	if (pit->access == 3)
		pit->read_high = !pit->read_high;
	if (pit->access != 3 || !pit->read_high)
		pit->latched = false;
	return (uint8_t)(high ? count >> 8 : count);
}

static void latch_count(struct vm *vm)
{
	if (!vm->pit.latched) {
		vm->pit.latch = count_now(vm);
		vm->pit.latched = true;
		vm->pit.read_high = false;
	}
}

static void channel2_control(struct vm *vm, uint8_t value)
{
	if (vm->options.guests > 1)
		pit2_control(vm, value);
	else
		outb(0x43, value);
}

static void control_write(struct vm *vm, uint8_t value)
{
	struct pit *pit = &vm->pit;

	switch (value >> 6) {
	case 0:
		if (!(value & 0x30)) {
			latch_count(vm);
			break;
		}
		pit->access = value >> 4 & 3;
		pit->mode = value >> 1 & 7;
		if (pit->mode > 5)
			pit->mode -= 4;
		pit->write_high = pit->read_high = pit->latched = pit->status_latched = false;
		pit->reload = 0;
		pit->next = UINT64_MAX;
		break;
	case 2:
		channel2_control(vm, value);
		break;
	case 3: /* read-back */
		if (value & 0x02) {
			if (!(value & 0x20))
				latch_count(vm);
			if (!(value & 0x10) && !pit->status_latched) {
				pit->status = (uint8_t)(output(vm) << 7 | !pit->reload << 6 |
							pit->access << 4 | pit->mode << 1);
				pit->status_latched = true;
			}
		}
		if (value & 0x08)
			channel2_control(vm, (value & 0xf0) | 0x08);
		break;
	default:
		break;
	}
}

void pit_write(struct vm *vm, uint16_t port, uint8_t value)
{
	struct pit *pit = &vm->pit;

	if (port == 0x43) {
		control_write(vm, value);
	} else if (port == 0x40) {
		if (pit->access == 1) {
			load(vm, value);
		} else if (pit->access == 2) {
			load(vm, (uint16_t)(value << 8));
		} else if (!pit->write_high) {
			pit->low = value;
			pit->write_high = true;
		} else {
			pit->write_high = false;
			load(vm, (uint16_t)(value << 8 | pit->low));
		}
	}
}
