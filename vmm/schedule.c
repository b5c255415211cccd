/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guests' turns. A turn ends when the guest halts, after QUANTUM if another one could run, or
 * when one that has halted is to do something; in any case not before SLICE, so that everybody gets
 * on whatever the others do. A guest alone has turns without an end: nothing here runs then but
 * when it halts.
 *
 * vcpu_run() looks at cpu->turn_end when it looks at the guest's devices, and has the outer timer
 * fire at the earlier of the two. A guest that waits for its turn has its timers served late, by as
 * much as the others' quanta; that is what sharing a processor means.
 */
#include "schedule.h"
#include "cpu.h"
#include "event.h"
#include "host.h"
#include "memory.h"
#include "registers.h"
#include "vcpu.h"
#include "vm.h"
#include "x86.h"

extern char boot_stack_top[];

static uint64_t quantum(const struct cpu *cpu)
{
	return cpu->tsc_hz / 100;
}

static uint64_t slice(const struct cpu *cpu)
{
	return cpu->tsc_hz / 2000;
}

static void switch_to(struct cpu *cpu, struct vcpu *vcpu)
{
	if (cpu->vcpu == vcpu)
		return;
	if (cpu->vcpu)
		registers_take(cpu->vcpu);
	registers_load(vcpu);
	cpu->vcpu = vcpu;
}

/* ------------------------------------------------------------------ turns */

static bool can_run(const struct vm *vm, uint64_t now)
{
	const struct vcpu *vcpu = vm->vcpu;

	return !vcpu->halted || vm->uart_edge || vm->bell_edge || vcpu->next <= now ||
	       control_busy(&vm->control) || event_waits(vcpu);
}

bool schedule_edges(struct vm *vm)
{
	struct cpu *cpu = vm->cpu;
	struct host *host = vm->host;
	bool wakes = false;

	for (unsigned i = 0; i < host->guests; i++) {
		struct vm *other = host->guest[i];

		other->uart_edge |= cpu->uart_edge && i == 0;
		other->bell_edge |= cpu->bell_edge && other->hostio.waiting;
		wakes |= other != vm && !other->ended && other->vcpu->halted &&
			 (other->uart_edge || other->bell_edge);
	}
	cpu->uart_edge = cpu->bell_edge = false;
	return wakes;
}

/* When @vm's turn, which begins, is to end at the latest. */
static uint64_t turn_end(const struct host *host, const struct vm *vm, uint64_t now)
{
	uint64_t end = UINT64_MAX, least = now + slice(vm->cpu);

	for (unsigned i = 0; i < host->guests; i++) {
		const struct vm *other = host->guest[i];
		uint64_t wants;

		if (other == vm || other->ended)
			continue;
		wants = can_run(other, now) ? now + quantum(vm->cpu) : other->vcpu->next;
		if (wants < end)
			end = wants;
	}
	return end < least ? least : end;
}

/* Nobody can run: sleep until the first of them wants to. */
static void idle(const struct host *host, struct cpu *cpu)
{
	uint64_t next = UINT64_MAX;

	for (unsigned i = 0; i < host->guests; i++)
		if (!host->guest[i]->ended && host->guest[i]->vcpu->next < next)
			next = host->guest[i]->vcpu->next;
	cpu_timer_arm(cpu, next);
	interrupt_wait();
}

/* The next one after number @last who can run; the host's guests if none can. */
static unsigned choose(const struct host *host, unsigned last)
{
	uint64_t now = rdtsc();

	for (unsigned i = 1; i <= host->guests; i++) {
		unsigned number = (last + i) % host->guests;

		if (!host->guest[number]->ended && can_run(host->guest[number], now))
			return number;
	}
	return host->guests;
}

static _Noreturn void loop(struct host *host)
{
	struct cpu *cpu = cpu_this();

	for (;;) {
		unsigned number;
		struct vm *vm;

		schedule_edges(host->guest[host->turn]); /* whoever they are for can run */
		number = choose(host, host->turn);
		if (number == host->guests) {
			idle(host, cpu);
			continue;
		}
		host->turn = number;
		vm = host->guest[number];
		switch_to(cpu, vm->vcpu);
		cpu->turn_end = turn_end(host, vm, rdtsc());
		vcpu_run(vm->vcpu);
	}
}

void schedule_run(struct host *host)
{
	cpu_this()->vcpu = NULL;
	host->turn = host->guests - 1;
	host->runs = true;
	for (unsigned i = 0; i < host->guests; i++)
		vcpu_start(host->guest[i]->vcpu);
	loop(host);
}

/* ------------------------------------------------------------------ ends */

bool schedule_has_others(const struct vm *vm)
{
	const struct host *host = vm->host;

	for (unsigned i = 0; host->runs && i < host->guests; i++)
		if (host->guest[i] != vm && !host->guest[i]->ended)
			return true;
	return false;
}

/*
 * On a stack that nobody uses any more. What is large goes back; what the outside may still read or
 * write (the answer, the ring, the disk's data) and what dumps show (the vcpu) stays.
 */
static __attribute__((used)) _Noreturn void go_on(struct vm *vm)
{
	struct cpu *cpu = vm->cpu;

	if (cpu->vcpu == vm->vcpu)
		cpu->vcpu = NULL;
	control_destroy(vm);
	memory_destroy(vm);
	loop(vm->host);
}

void schedule_retire(struct vm *vm)
{
	vm->ended = true;
	__asm__ volatile("movq %0, %%rsp\n\t"
			 "xorl %%ebp, %%ebp\n\t"
			 "callq *%1"
			 :
			 : "r"(boot_stack_top), "r"(go_on), "D"(vm)
			 : "memory");
	__builtin_unreachable();
}
