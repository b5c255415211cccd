/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The physical processor: descriptor tables, and its interrupt and time sources. Owns the outer
 * PIC pair (only COM1's IRQ 4 open, and the bell's where there is one, in through LINT0), the outer
 * local APIC and its one-shot timer, and, until calibration is over, PIT channel 2. The hypervisor
 * runs with interrupts off and opens windows for them; handlers only leave notes in struct cpu.
 */
#include "cpu.h"
#include "exits.h"
#include "print.h"
#include "trap.h"
#include "uart.h"
#include "x86.h"

#define APIC             0xfee00000ull
#define APIC_EOI         0xb0
#define APIC_SVR         0xf0
#define APIC_LVT_TIMER   0x320
#define APIC_LVT_LINT0   0x350
#define APIC_LVT_LINT1   0x360
#define APIC_LVT_ERROR   0x370
#define APIC_TIMER_START 0x380
#define APIC_TIMER_NOW   0x390
#define APIC_TIMER_DIV   0x3e0
#define APIC_MASKED      0x10000

#define PIT_HZ          1193182ull
#define LEAF_HYPERVISOR 0x40000000u

extern char fault_stack_top[];

static void apic_write(uint32_t reg, uint32_t value)
{
	*(volatile uint32_t *)(APIC + reg) = value;
}

static uint32_t apic_read(uint32_t reg)
{
	return *(volatile uint32_t *)(APIC + reg);
}

void cpu_init(struct cpu *cpu)
{
	uint64_t tss = (uintptr_t)cpu->tss, cr4;
	uint64_t stack = (uintptr_t)fault_stack_top;
	struct __attribute__((packed)) {
		uint16_t limit;
		uint64_t base;
	} gdtr = {sizeof(cpu->gdt) - 1, (uintptr_t)cpu->gdt};

	cpu->self = cpu;
	cpu->is_tcg = cpuid(LEAF_HYPERVISOR, 0).ebx == 0x54474354; /* "TCGT" */
	cpu->gdt[1] = 0x00af9b000000ffffull;
	cpu->gdt[2] = 0x00cf93000000ffffull;
	cpu->gdt[4] = (sizeof(cpu->tss) - 1) | (tss & 0xffffff) << 16 | 0x89ull << 40 |
		      (tss >> 24 & 0xff) << 56;
	cpu->gdt[5] = tss >> 32;
	cpu->tss[9] = (uint32_t)stack; /* IST1 */
	cpu->tss[10] = (uint32_t)(stack >> 32);
	cpu->tss[25] = sizeof(cpu->tss) << 16;
	__asm__ volatile("lgdt %0" : : "m"(gdtr));
	__asm__ volatile("ltr %w0" : : "r"(0x20));
	wrmsr(MSR_GS_BASE, (uintptr_t)cpu);
	/* To reach the guest's SSE registers and PKRU; no page of ours is a user's. */
	__asm__ volatile("movq %%cr4, %0; orq %1, %0; movq %0, %%cr4"
			 : "=&r"(cr4)
			 : "r"(CR4_OSFXSR | (cpuid_has_keys() ? CR4_PKE : 0)));
	trap_init();
}

/* A PIT count and the TSC values read just before and after it. */
struct sample {
	uint64_t before, after;
	uint32_t count;
	uint32_t apic;
};

static struct sample sample_take(void)
{
	struct sample s;

	s.before = rdtsc();
	outb(0x43, 0x80); /* latch channel 2 */
	s.apic = apic_read(APIC_TIMER_NOW);
	s.after = rdtsc();
	s.count = inb(0x42);
	s.count |= (uint32_t)inb(0x42) << 8;
	return s;
}

/* The tightest of a number of samples: the least disturbed one. */
static struct sample sample_best(void)
{
	struct sample best = sample_take();

	for (int i = 0; i < 40; i++) {
		struct sample s = sample_take();
		if (s.after - s.before < best.after - best.before)
			best = s;
	}
	return best;
}

/* One measurement over some 10 ms of channel 2: rates of the TSC and of the APIC timer. */
static void measure(uint64_t *tsc_hz, uint64_t *timer_hz)
{
	struct sample a, b;
	uint64_t ticks, elapsed;

	outb(0x61, (inb(0x61) & 0xfc) | 1); /* gate on, speaker off */
	outb(0x43, 0xb0);                   /* channel 2, mode 0, low then high byte */
	outb(0x42, 0xff);
	outb(0x42, 0xff);
	apic_write(APIC_TIMER_START, 0xffffffff);
	a = sample_best();
	do
		b = sample_take();
	while (a.count - b.count < 12000 && b.count < a.count);
	b = sample_best();
	apic_write(APIC_TIMER_START, 0);

	ticks = a.count > b.count ? a.count - b.count : 1;
	elapsed = (b.before + b.after) / 2 - (a.before + a.after) / 2;
	*tsc_hz = muldiv(elapsed, PIT_HZ, ticks);
	*timer_hz = muldiv(a.apic - b.apic, PIT_HZ, ticks);
}

/*
 * The lowest of several measurements. What can go wrong makes a rate too high only: a count that
 * wraps while we are held up, or a TSC that jumps because an emulator moved to another processor.
 */
static void calibrate(struct cpu *cpu)
{
	cpu->tsc_hz = UINT64_MAX;
	for (int i = 0; i < 6; i++) {
		uint64_t tsc_hz, timer_hz;

		measure(&tsc_hz, &timer_hz);
		if (tsc_hz < cpu->tsc_hz) {
			cpu->tsc_hz = tsc_hz;
			cpu->timer_hz = timer_hz;
		}
	}
}

static void pic_init(void)
{
	static const uint8_t setup[][2] = {
	    {0x20, 0x11}, {0x21, 0x20}, {0x21, 0x04}, {0x21, 0x01}, {0xa0, 0x11},
	    {0xa1, 0x28}, {0xa1, 0x02}, {0xa1, 0x01}, {0x21, 0xef}, {0xa1, 0xff},
	};

	for (unsigned i = 0; i < sizeof(setup) / sizeof(setup[0]); i++)
		outb(setup[i][0], setup[i][1]);
}

void cpu_clock_init(struct cpu *cpu)
{
	wrmsr(MSR_APIC_BASE, APIC | 0x900);
	pic_init();
	apic_write(APIC_SVR, 0x100 | CPU_VECTOR_SPURIOUS);
	apic_write(APIC_LVT_LINT0, 0x700); /* ExtINT */
	apic_write(APIC_LVT_LINT1, 0x400); /* NMI */
	apic_write(APIC_LVT_ERROR, APIC_MASKED);
	apic_write(APIC_TIMER_DIV, 0xb);
	apic_write(APIC_LVT_TIMER, APIC_MASKED | CPU_VECTOR_TIMER);
	calibrate(cpu);
	apic_write(APIC_LVT_TIMER, CPU_VECTOR_TIMER);
}

void cpu_timer_arm(struct cpu *cpu, uint64_t deadline)
{
	uint64_t now, wait, count;

	if (cpu->timer_armed && cpu->timer_armed <= deadline)
		return;
	now = rdtsc();
	wait = deadline > now ? deadline - now : 0;
	if (wait > cpu->tsc_hz)
		wait = cpu->tsc_hz;
	count = muldiv(wait, cpu->timer_hz, cpu->tsc_hz) + 1;
	cpu->timer_armed = now + wait;
	apic_write(APIC_TIMER_START, count > 0xffffffff ? 0xffffffff : (uint32_t)count);
}

bool cpu_interrupt(struct cpu *cpu, unsigned vector)
{
	switch (vector) {
	case CPU_VECTOR_TIMER:
		cpu->timer_armed = 0;
		apic_write(APIC_EOI, 0);
		return true;
	case CPU_VECTOR_UART:
		cpu->uart_edge = true;
		outb(0x20, 0x20);
		return true;
	case CPU_VECTOR_BELL:
		cpu->bell_edge = true;
		uart_bell_answer();
		outb(0x20, 0x20);
		return true;
	case 0x27: /* spurious, of either PIC */
	case 0x2f:
	case CPU_VECTOR_SPURIOUS:
		return true;
	default:
		return false;
	}
}
