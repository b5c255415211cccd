/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The machine's devices from inside: PIT, local APIC timer in each mode, TSC deadline, RTC's
 * periodic and update interrupts, PM timer; self-IPIs and NMIs; the I/O APIC by edge and by level;
 * fw_cfg, the test device, the PICs' masks and priorities.
 */
#include "bare.h"

#define APIC   0xfee00000ull
#define IOAPIC 0xfec00000ull
#define HZ_PIT 1193182u

#define LVT_TIMER  0x320u
#define TIMER_INIT 0x380u
#define TIMER_NOW  0x390u
#define TIMER_DIV  0x3e0u
#define EOI        0xb0u
#define ICR        0x300u
#define SVR        0xf0u
#define ISR        0x100u

static volatile uint64_t count[256];
static volatile unsigned order[16], orders;

static uint32_t apic_read(uint32_t reg)
{
	return *(volatile uint32_t *)(APIC + reg);
}

static void apic_write(uint32_t reg, uint32_t value)
{
	*(volatile uint32_t *)(APIC + reg) = value;
}

static uint32_t ioapic_read(uint32_t reg)
{
	*(volatile uint32_t *)IOAPIC = reg;
	return *(volatile uint32_t *)(IOAPIC + 0x10);
}

static void ioapic_write(uint32_t reg, uint32_t value)
{
	*(volatile uint32_t *)IOAPIC = reg;
	*(volatile uint32_t *)(IOAPIC + 0x10) = value;
}

static uint8_t rtc_read(uint8_t index)
{
	outb(0x70, index);
	return inb(0x71);
}

static void rtc_write(uint8_t index, uint8_t value)
{
	outb(0x70, index);
	outb(0x71, value);
}

static bool note(struct frame *frame)
{
	if (frame->vector < 32 && frame->vector != 2)
		return false;
	count[frame->vector]++;
	if (orders < 16)
		order[orders++] = (unsigned)frame->vector;
	if (frame->vector == 0x28)
		(void)rtc_read(0x0c);
	if (frame->vector >= 0x20 && frame->vector < 0x30) {
		if (frame->vector >= 0x28)
			outb(0xa0, 0x20);
		outb(0x20, 0x20);
	} else if (frame->vector >= 0x40 && frame->vector < 0xf0) {
		/* Else it came twice: into its own handler's first instruction. */
		EXPECT(frame->rflags & 0x200, "interrupt %x with interrupts off, at %x",
		       frame->vector, frame->rip);
		if (frame->vector == 0x61)
			outb(0x2000 + 7, 0); /* the level's cause goes before its EOI */
		apic_write(EOI, 0);
	}
	return true;
}

/* Interrupts on for @pit ticks of channel 2, by count. */
static void wait(uint32_t pit)
{
	uint64_t start;

	outb(0x61, (uint8_t)((inb(0x61) & ~2) | 1));
	outb(0x43, 0xb0);
	outb(0x42, (uint8_t)pit);
	outb(0x42, (uint8_t)(pit >> 8));
	start = rdtsc();
	__asm__ volatile("sti");
	while (!(inb(0x61) & 0x20) && rdtsc() - start < 100ull * 1000 * 1000 * 1000)
		__asm__ volatile("pause");
	__asm__ volatile("cli");
}

static void pics(void)
{
	static const uint8_t setup[][2] = {{0x20, 0x11}, {0x21, 0x20}, {0x21, 4}, {0x21, 1},
					   {0xa0, 0x11}, {0xa1, 0x28}, {0xa1, 2}, {0xa1, 1},
					   {0x21, 0xff}, {0xa1, 0xff}};

	for (unsigned i = 0; i < sizeof(setup) / sizeof(setup[0]); i++)
		outb(setup[i][0], setup[i][1]);
	EXPECT(inb(0x21) == 0xff && inb(0xa1) == 0xff, "the PICs' masks");
}

static void pit(void)
{
	uint32_t divisor = HZ_PIT / 1000;

	outb(0x43, 0x34);
	outb(0x40, (uint8_t)divisor);
	outb(0x40, (uint8_t)(divisor >> 8));
	outb(0x21, 0xfe);
	wait(HZ_PIT / 20);
	outb(0x21, 0xff);
	EXPECT(count[0x20] >= 2, "PIT: %u ticks in 50 ms of 1 ms", count[0x20]);
	outb(0x43, 0x30); /* mode 0, stopped by not counting */
}

static void rtc(void)
{
	uint8_t second = rtc_read(0), a;

	EXPECT((second & 15) < 10 && second < 0x60, "RTC: second %x", (uint64_t)second);
	EXPECT((rtc_read(0x0d) & 0x80) != 0, "RTC: no battery");
	a = rtc_read(0x0a);
	rtc_write(0x0a, (uint8_t)((a & 0xf0) | 6)); /* 1024 a second */
	rtc_write(0x0b, (uint8_t)(rtc_read(0x0b) | 0x40));
	(void)rtc_read(0x0c);
	outb(0x21, 0xfb);
	outb(0xa1, 0xfe);
	wait(HZ_PIT / 20);
	rtc_write(0x0b, (uint8_t)(rtc_read(0x0b) & ~0x40));
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
	EXPECT(count[0x28] >= 2, "RTC: %u interrupts in 50 ms at 1024 Hz", count[0x28]);
	rtc_write(0x0a, a);
}

static void apic_timer(void)
{
	uint64_t before;

	apic_write(SVR, 0x1ff);
	apic_write(TIMER_DIV, 0xb);
	apic_write(LVT_TIMER, 0x40); /* one-shot */
	apic_write(TIMER_INIT, 100000);
	wait(HZ_PIT / 50);
	EXPECT(count[0x40] == 1 && apic_read(TIMER_NOW) == 0, "one-shot: %u", count[0x40]);
	apic_write(LVT_TIMER, 0x20041); /* periodic */
	apic_write(TIMER_INIT, 1000000);
	wait(HZ_PIT / 20);
	apic_write(TIMER_INIT, 0);
	EXPECT(count[0x41] >= 2, "periodic: %u", count[0x41]);
	before = count[0x41];
	wait(HZ_PIT / 100);
	EXPECT(count[0x41] <= before + 1, "a stopped timer: %u more", count[0x41] - before);
	apic_write(LVT_TIMER, 0x10042); /* masked */
	apic_write(TIMER_INIT, 1000);
	wait(HZ_PIT / 100);
	EXPECT(count[0x42] == 0, "a masked timer: %u", count[0x42]);
}

/* STI and HLT are one: no interrupt gets lost between them. The host's own come all the time. */
static void halts(void)
{
	uint64_t before = count[0x44];

	apic_write(LVT_TIMER, 0x44);
	for (uint64_t i = 1; i <= 4000; i++) {
		apic_write(TIMER_INIT, 1000 + (uint32_t)(random() % 40000));
		for (;;) {
			__asm__ volatile("cli");
			if (count[0x44] == before + i)
				break;
			__asm__ volatile("sti\n hlt");
		}
	}
	EXPECT(count[0x44] == before + 4000, "%u interrupts", count[0x44] - before);
}

static void deadline(void)
{
	uint32_t r[4];

	cpuid(1, 0, r);
	if (!(r[2] >> 24 & 1))
		return;
	apic_write(LVT_TIMER, 0x40043);
	wrmsr(0x6e0, rdtsc() + 1000000);
	wait(HZ_PIT / 50);
	EXPECT(count[0x43] == 1 && rdmsr(0x6e0) == 0, "TSC deadline: %u", count[0x43]);
	wrmsr(0x6e0, 1); /* long past: at once */
	wait(HZ_PIT / 100);
	EXPECT(count[0x43] == 2, "a deadline in the past: %u", count[0x43]);
	wrmsr(0x6e0, rdtsc() + (1ull << 40));
	wrmsr(0x6e0, 0);
	apic_write(LVT_TIMER, 0x10000);
}

static void ipis(void)
{
	/* Three to itself, the highest first. */
	orders = 0;
	apic_write(ICR, 0x50 | 1u << 18);
	apic_write(ICR, 0x90 | 1u << 18);
	apic_write(ICR, 0x70 | 1u << 18);
	wait(100);
	EXPECT(orders == 3 && order[0] == 0x90 && order[1] == 0x70 && order[2] == 0x50,
	       "self-IPIs: %u, first %x", (uint64_t)orders, (uint64_t)order[0]);
	/* Below the task priority they wait. */
	apic_write(0x80, 0x80);
	apic_write(ICR, 0x70 | 1u << 18);
	apic_write(ICR, 0x90 | 1u << 18);
	wait(100);
	EXPECT(count[0x90] == 2 && count[0x70] == 1, "the task priority");
	__asm__ volatile("mov %0, %%cr8" : : "r"(0ull));
	wait(100);
	EXPECT(count[0x70] == 2, "the task priority, lowered by CR8");
	/* NMI, though interrupts are off. */
	apic_write(ICR, 0x400 | 1u << 18);
	for (unsigned i = 0; i < 1000 && !count[2]; i++)
		(void)inb(0x61);
	EXPECT(count[2] == 1, "NMI: %u", count[2]);
}

static void ioapic(void)
{
	EXPECT((ioapic_read(1) >> 16 & 0xff) == 23, "I/O APIC: %x", (uint64_t)ioapic_read(1));
	ioapic_write(0x10 + 2 * 5 + 1, apic_read(0x20));
	ioapic_write(0x10 + 2 * 5, 0x60); /* input 5, edge */
	outb(0x2000 + 5, 1);
	wait(1000);
	outb(0x2000 + 5, 0);
	EXPECT(count[0x60] == 1, "I/O APIC, an edge: %u", count[0x60]);
	wait(1000);
	EXPECT(count[0x60] == 1, "I/O APIC, a falling edge: %u", count[0x60]);
	ioapic_write(0x10 + 2 * 5, 0x10060);
	outb(0x2000 + 5, 1);
	outb(0x2000 + 5, 0);
	ioapic_write(0x10 + 2 * 5, 0x60);
	wait(1000);
	EXPECT(count[0x60] == 1, "I/O APIC, an edge while masked: %u", count[0x60]);
	ioapic_write(0x10 + 2 * 5, 0x10060);
	ioapic_write(0x10 + 2 * 7 + 1, apic_read(0x20));
	ioapic_write(0x10 + 2 * 7, 0x8061); /* input 7, level */
	outb(0x2000 + 7, 1);
	wait(1000);
	EXPECT(count[0x61] == 1, "I/O APIC, a level: %u", count[0x61]);
	EXPECT(!(ioapic_read(0x10 + 2 * 7) & 1u << 14), "I/O APIC: remote IRR stays");
	ioapic_write(0x10 + 2 * 7, 0x18061); /* masked: it waits */
	outb(0x2000 + 7, 1);
	wait(1000);
	EXPECT(count[0x61] == 1, "I/O APIC, masked: %u", count[0x61]);
	ioapic_write(0x10 + 2 * 7, 0x8061);
	wait(1000);
	EXPECT(count[0x61] == 2, "I/O APIC, unmasked: %u", count[0x61]);
}

static void base(uint64_t value)
{
	wrmsr(0x1b, value);
}

static bool base_takes(uint64_t value)
{
	bool (*hook)(struct frame *) = trap_hook;
	bool ok;

	trap_hook = NULL;
	ok = call(base, value).vector == RETURNED;
	trap_hook = hook;
	return ok;
}

/* Off and on again, and elsewhere; an x2APIC goes off before it is an xAPIC again. */
static void modes(void)
{
	const uint64_t xapic = 0xfee00900;
	static const struct {
		uint64_t value;
		bool ok;
	} steps[] = {
	    {0xfee00500, false}, {0xfee00100, true},  {0xfee00500, false}, {0xfee00d00, false},
	    {0xfee00900, true},  {0xfee00901, false}, {0xfee00d00, true},  {0xfee00900, false},
	    {0xfee00500, false}, {0xfee00d00, true},  {0xfee00100, true},  {0xfee00900, true},
	    {1ull << 40, false},
	};
	uint32_t r[4], version = apic_read(0x30);

	cpuid(1, 0, r);
	if (!(r[2] >> 21 & 1))
		return; /* QEMU's own machine has no x2APIC */
	for (unsigned i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		bool ok = base_takes(steps[i].value);

		EXPECT(ok == steps[i].ok, "APIC_BASE, step %u", (uint64_t)i);
		cpuid(1, 0, r);
		EXPECT((r[3] >> 9 & 1) == (rdmsr(0x1b) >> 11 & 1), "CPUID's APIC, step %u",
		       (uint64_t)i);
		EXPECT((apic_read(0x30) == version) == ((rdmsr(0x1b) & 0xc00) == 0x800),
		       "the page, step %u", (uint64_t)i);
	}
	EXPECT(apic_read(0xf0) == 0xff && apic_read(LVT_TIMER) == 0x10000, "off forgets");
	apic_write(LVT_TIMER, 0x45);
	EXPECT(apic_read(LVT_TIMER) == 0x10045, "masked while off by software");
	base((xapic & ~0xfffff000ull) | 0xfed40000);
	EXPECT(*(volatile uint32_t *)0xfed40030 == version && apic_read(0x30) == ~0u, "moved");
	base(xapic);
	EXPECT(apic_read(0x30) == version && rdmsr(0x1b) == xapic, "and back");
}

static uint32_t fwcfg(uint16_t key, unsigned bytes)
{
	uint32_t value = 0;

	outw(0x510, key);
	for (unsigned i = 0; i < bytes; i++)
		value |= (uint32_t)inb(0x511) << 8 * i;
	return value;
}

static void conveniences(void)
{
	uint32_t now;

	EXPECT(fwcfg(0, 4) == 0x554d4551, "fw_cfg: signature %x", (uint64_t)fwcfg(0, 4));
	EXPECT(fwcfg(3, 4) >= 64u << 20 && fwcfg(3, 4) % (1 << 20) == 0, "fw_cfg: memory %x",
	       (uint64_t)fwcfg(3, 4));
	EXPECT(fwcfg(5, 2) == 1 && fwcfg(15, 2) == 1, "fw_cfg: processors");
	outl(0xe0, 0x12345678);
	EXPECT(inl(0xe0) == 0x12345678 && inw(0xe0) == 0x5678 && inb(0xe0) == 0x78, "echo: %x",
	       (uint64_t)inl(0xe0));
	outb(0xe0, 0xaa);
	outw(0xe0, 0xbbcc);
	EXPECT(inw(0xe0) == 0xbbcc, "echo: %x", (uint64_t)inl(0xe0));
	for (unsigned i = 0; i < 64; i++) {
		*(volatile uint64_t *)(0xff000000ull + 8 * i) = i * 0x0101010101010101ull;
		EXPECT(*(volatile uint64_t *)(0xff000000ull + 8 * i) == i * 0x0101010101010101ull,
		       "the test device's memory");
	}
	now = inl(0x608) & 0xffffff;
	wait(HZ_PIT / 100);
	now = ((inl(0x608) & 0xffffff) - now) & 0xffffff;
	if (fwcfg(0, 4) == 0x554d4551 && inl(0x5a0) == 0x61626d75)
		EXPECT(now > 20000, "PM timer: %u ticks in 10 ms of 35795", (uint64_t)now);
}

/* A pointer for far JMP that only the test device holds. */
static volatile uint8_t *const far_pointer = (volatile uint8_t *)0xff000040ull;

static void far_jump(uint64_t selector)
{
	uint64_t there;

	/* ljmp m16:64 at RAX */
	__asm__ volatile(
	    "lea 1f(%%rip), %0\n mov %0, (%1)\n mov %w2, 8(%1)\n .byte 0x48, 0xff, 0x28\n ud2\n 1:"
	    : "=&r"(there)
	    : "a"(far_pointer), "r"(selector)
	    : "memory");
}

static void to_fs(uint64_t selector)
{
	*(volatile uint16_t *)far_pointer = (uint16_t)selector;
	__asm__ volatile("mov %0, %%fs" : : "m"(*(volatile uint16_t *)far_pointer));
}

static void to_ss(uint64_t selector)
{
	*(volatile uint16_t *)far_pointer = (uint16_t)selector;
	__asm__ volatile("mov %0, %%ss" : : "m"(*(volatile uint16_t *)far_pointer));
}

static void to_tr(uint64_t selector)
{
	*(volatile uint16_t *)far_pointer = (uint16_t)selector;
	__asm__ volatile("ltr %0" : : "m"(*(volatile uint16_t *)far_pointer));
}

/* Selectors that only the test device holds. 28h is the task's, and busy. */
static void selectors(void)
{
	static const struct {
		void (*load)(uint64_t);
		uint16_t selector;
		unsigned vector;
		uint16_t error;
	} loads[] = {
	    {to_fs, 0x10, RETURNED, 0}, {to_fs, 0, RETURNED, 0},     {to_fs, 3, RETURNED, 0},
	    {to_fs, 0x28, GP, 0x28},    {to_fs, 0xfff0, GP, 0xfff0}, {to_fs, 8, RETURNED, 0},
	    {to_ss, 8, GP, 8},          {to_ss, 3, GP, 0},           {to_ss, 0x13, GP, 0x10},
	    {to_ss, 0, RETURNED, 0},    {to_ss, 0x10, RETURNED, 0},  {to_tr, 0, GP, 0},
	    {to_tr, 0x10, GP, 0x10},    {to_tr, 0x28, GP, 0x28},
	};

	for (unsigned i = 0; i < sizeof(loads) / sizeof(loads[0]); i++) {
		struct outcome o = call(loads[i].load, loads[i].selector);

		EXPECT(o.vector == loads[i].vector && o.error == loads[i].error,
		       "selector %x, step %u: %u, error %x", (uint64_t)loads[i].selector,
		       (uint64_t)i, (uint64_t)o.vector, o.error);
	}
	to_fs(0x10);
	__asm__ volatile("mov %%fs, %0" : "=m"(*(volatile uint16_t *)far_pointer));
	EXPECT(*(volatile uint16_t *)far_pointer == 0x10, "FS");
}

static void media(void)
{
	uint64_t in = 0x1122334455667788, out;

	*(volatile uint64_t *)far_pointer = in;
	__asm__ volatile("movq (%1), %%mm3\n movq %%mm3, 8(%1)\n movd %%mm3, 16(%1)\n"
			 " movq %%mm3, %0\n emms"
			 : "=m"(out)
			 : "r"(far_pointer)
			 : "memory");
	EXPECT(out == in && *(volatile uint64_t *)(far_pointer + 8) == in &&
		   *(volatile uint32_t *)(far_pointer + 16) == 0x55667788,
	       "MMX: %x", out);
}

static void far_jumps(void)
{
	static const struct {
		uint16_t selector;
		unsigned vector;
		uint16_t error;
	} jumps[] = {
	    {8, RETURNED, 0}, {0, GP, 0},     {3, GP, 0},           {0x10, GP, 0x10},
	    {0xb, GP, 8},     {0xc, GP, 0xc}, {0xfff8, GP, 0xfff8}, {8, RETURNED, 0},
	};
	bool (*hook)(struct frame *) = trap_hook;

	trap_hook = NULL;
	for (unsigned i = 0; i < sizeof(jumps) / sizeof(jumps[0]); i++) {
		struct outcome o = call(far_jump, jumps[i].selector);

		EXPECT(o.vector == jumps[i].vector && o.error == jumps[i].error,
		       "far JMP to %x: %u, error %x", (uint64_t)jumps[i].selector,
		       (uint64_t)o.vector, o.error);
	}
	*(volatile uint16_t *)far_pointer = 0;
	__asm__ volatile("smsw %0" : "=m"(*(volatile uint16_t *)far_pointer));
	EXPECT(*(volatile uint16_t *)far_pointer == (uint16_t)cr0_read(), "SMSW: %x",
	       (uint64_t) * (volatile uint16_t *)far_pointer);
	*(volatile uint16_t *)far_pointer |= 8;
	__asm__ volatile("lmsw %0" : : "m"(*(volatile uint16_t *)far_pointer));
	EXPECT(cr0_read() & 8, "LMSW: %x", cr0_read());
	__asm__ volatile("clts");
	EXPECT(!(cr0_read() & 8), "CLTS: %x", cr0_read());
	selectors();
	media();
	trap_hook = hook;
}

int main(void)
{
	trap_hook = note;
	pics();
	pit();
	rtc();
	apic_timer();
	halts();
	deadline();
	ipis();
	ioapic();
	modes();
	far_jumps();
	conveniences();
	say("guest: devices hold\r\n");
	return 0;
}
