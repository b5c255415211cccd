/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Channel 2 of the guest's 8254, and its gate and output at port 0x61, computed from the TSC (Intel
 * 8254 data sheet). A guest alone has the outer machine's instead (pit.c). Nobody hears the
 * speaker.
 */
#include "pit2.h"
#include "cpu.h"
#include "vm.h"
#include "x86.h"

#define PIT_HZ 1193182ull

#define PORT_GATE     0x61
#define GATE          0x01u
#define SPEAKER       0x02u
#define REFRESH       0x10u
#define OUTPUT        0x20u
#define REFRESH_TICKS 18u /* 15 microseconds */

static uint64_t ticks_of(const struct vm *vm, uint64_t tsc)
{
	return muldiv(tsc, PIT_HZ, vm->cpu->tsc_hz);
}

/* How far it has counted. */
static uint64_t counted(const struct vm *vm)
{
	const struct pit2 *pit = &vm->pit2;

	return pit->gate ? ticks_of(vm, rdtsc() - pit->started) : pit->started;
}

static bool is_periodic(const struct pit2 *pit)
{
	return pit->mode == 2 || pit->mode == 3;
}

static uint16_t count_now(const struct vm *vm)
{
	const struct pit2 *pit = &vm->pit2;
	uint64_t ticks = counted(vm);

	if (!pit->reload)
		return 0;
	if (pit->mode == 3)
		ticks *= 2;
	return (uint16_t)(pit->reload - (is_periodic(pit) ? ticks % pit->reload : ticks));
}

static bool output(const struct vm *vm)
{
	const struct pit2 *pit = &vm->pit2;
	uint64_t ticks = counted(vm);

	if (!pit->reload)
		return pit->mode != 0;
	if (pit->mode == 3)
		return ticks % pit->reload < (pit->reload + 1) / 2;
	return pit->mode > 1 || ticks >= pit->reload;
}

static void begin(struct pit2 *pit)
{
	pit->started = pit->gate ? rdtsc() : 0;
}

static void load(struct pit2 *pit, uint16_t value)
{
	pit->reload = value ? value : 65536;
	begin(pit);
}

/* Modes 0 and 4 wait while it is down, the others begin anew when it rises. */
static void gate_set(struct vm *vm, bool gate)
{
	struct pit2 *pit = &vm->pit2;
	uint64_t ticks = counted(vm);

	if (gate == pit->gate)
		return;
	pit->gate = gate;
	if (!gate)
		pit->started = ticks;
	else if (pit->mode == 0 || pit->mode == 4)
		pit->started = rdtsc() - muldiv(ticks, vm->cpu->tsc_hz, PIT_HZ);
	else
		begin(pit);
}

static uint8_t count_read(struct vm *vm)
{
	struct pit2 *pit = &vm->pit2;
	uint16_t count = pit->latched ? pit->latch : count_now(vm);
	bool high = pit->access == 2 || (pit->access == 3 && pit->read_high);

	if (pit->status_latched) {
		pit->status_latched = false;
		return pit->status;
	}
	if (pit->access == 3)
		pit->read_high = !pit->read_high;
	if (pit->access != 3 || !pit->read_high)
		pit->latched = false;
	return (uint8_t)(high ? count >> 8 : count);
}

uint8_t pit2_read(struct vm *vm, uint16_t port)
{
	const struct pit2 *pit = &vm->pit2;

	if (port != PORT_GATE)
		return count_read(vm);
	return (uint8_t)((pit->gate ? GATE : 0) | pit->speaker | (output(vm) ? OUTPUT : 0) |
			 (ticks_of(vm, rdtsc()) / REFRESH_TICKS % 2 ? REFRESH : 0));
}

void pit2_write(struct vm *vm, uint16_t port, uint8_t value)
{
	struct pit2 *pit = &vm->pit2;

	if (port == PORT_GATE) {
		pit->speaker = value & SPEAKER;
		gate_set(vm, value & GATE);
	} else if (pit->access == 1) {
		load(pit, value);
	} else if (pit->access == 2) {
		load(pit, (uint16_t)(value << 8));
	} else if (!pit->write_high) {
		pit->low = value;
		pit->write_high = true;
	} else {
		pit->write_high = false;
		load(pit, (uint16_t)(value << 8 | pit->low));
	}
}

static void latch(struct vm *vm)
{
	struct pit2 *pit = &vm->pit2;

	if (pit->latched)
		return;
	pit->latch = count_now(vm);
	pit->latched = true;
	pit->read_high = false;
}

void pit2_control(struct vm *vm, uint8_t value)
{
	struct pit2 *pit = &vm->pit2;

	if (value >> 6 == 3) { /* read-back */
		if (!(value & 0x20))
			latch(vm);
		if (!(value & 0x10) && !pit->status_latched) {
			pit->status = (uint8_t)(output(vm) << 7 | !pit->reload << 6 |
						pit->access << 4 | pit->mode << 1);
			pit->status_latched = true;
		}
	} else if (!(value & 0x30)) {
		latch(vm);
	} else {
		pit->access = value >> 4 & 3;
		pit->mode = value >> 1 & 7;
		if (pit->mode > 5)
			pit->mode -= 4;
		pit->write_high = pit->read_high = pit->latched = pit->status_latched = false;
		pit->reload = 0;
		begin(pit);
	}
}
