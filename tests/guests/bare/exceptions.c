/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Exceptions in every state (AMD64 APM vol. 2 §8): each vector with its error code and RIP from
 * rings 0 and 3; the same while the host has taken away the IDT, the GDT, the stack and the code,
 * so that the delivery itself stops half-way; double faults; interrupts behind the shadow of STI
 * and MOV SS.
 */
#include "bare.h"

#define USER   0x300000000ull /* code that ring 3 runs, and its stack above */
#define VICTIM 0x400000000ull /* nothing is there */
#define APIC   0xfee00000ull
#define CR0_TS 8ull
#define CR0_AM (1ull << 18)
#define CR0_NW (1ull << 29)
#define CR0_CD (1ull << 30)

extern uint64_t idt[512], gdt[6], tss[16];
static uint64_t user_stack, code_page;

struct step {
	const char *what;
	uint8_t code[12];
	uint8_t rings; /* 1: ring 0, 2: ring 3 */
	uint8_t vector;
	uint8_t after; /* how far RIP is then */
	uint16_t error;
};

/* rdi and rsi are 0x400000000. */
static const struct step steps[] = {
    {"#DE", {0x31, 0xc9, 0xf7, 0xf1}, 3, 0, 2, 0},
    {"#BP", {0xcc}, 3, 3, 1, 0},
    {"#UD", {0x0f, 0x0b}, 3, 6, 0, 0},
    {"#NM", {0xd9, 0xd0}, 3, 7, 0, 0},
    {"#PF read", {0x8a, 0x07}, 1, 14, 0, 0},
    {"#PF read", {0x8a, 0x07}, 2, 14, 0, 4},
    {"#PF write", {0x88, 0x07}, 1, 14, 0, 2},
    {"#PF write", {0x88, 0x07}, 2, 14, 0, 6},
    {"#PF fetch", {0xff, 0xe7}, 1, 14, 0xff, 0x10},
    {"#PF fetch", {0xff, 0xe7}, 2, 14, 0xff, 0x14},
    {"#GP, not canonical", {0x48, 0x0f, 0xba, 0xef, 0x3f, 0x8a, 0x07}, 3, 13, 5, 0},
    {"#GP, INT without the right", {0xcd, 0x80}, 2, 13, 0, 0x80 * 8 + 2},
    {"#GP, HLT", {0xf4}, 2, 13, 0, 0},
    {"#GP, MOV CR3", {0x0f, 0x22, 0xd8}, 2, 13, 0, 0},
    {"#GP, RDMSR", {0x0f, 0x32}, 2, 13, 0, 0},
    {"#GP, OUT", {0xe6, 0xe0}, 2, 13, 0, 0},
    {"#GP, STI", {0xfb}, 2, 13, 0, 0},
    {"#GP, INVLPG", {0x0f, 0x01, 0x3f}, 2, 13, 0, 0},
    {"#GP, LTR", {0x0f, 0x00, 0xdf}, 2, 13, 0, 0},
    {"#GP, a segment beyond the GDT", {0x66, 0xb8, 0xf8, 0x0f, 0x8e, 0xd8}, 3, 13, 4, 0xff8},
    {"INT 0x30", {0xcd, 0x30}, 3, 0x30, 2, 0},
};

#define STEPS (sizeof(steps) / sizeof(steps[0]))

/* Let the host take the page behind @gpa away. */
static void take(uint64_t gpa)
{
	outl(0xe4, (uint32_t)gpa);
}

static void take_what(unsigned what)
{
	if (what & 1)
		take((uintptr_t)idt);
	if (what & 2)
		take((uintptr_t)gdt);
	if (what & 4)
		take((uintptr_t)tss);
	if (what & 8)
		take(code_page);
	if (what & 16)
		take(user_stack);
}

/* QEMU's TCG says 16 n + 2 for vector n, for gates are 16 bytes long; the manuals say 8 n + 2. */
static bool is_error(uint64_t error, uint64_t wanted)
{
	return error == wanted || (wanted & 2 && error == 2 * wanted - 2 && wanted > 0x20);
}

static void one(const struct step *s, unsigned ring, unsigned what)
{
	struct outcome o;
	uint64_t rip = ring ? USER : code_page;

	for (unsigned i = 0; i < sizeof(s->code); i++)
		((volatile uint8_t *)code_page)[i] = s->code[i];
	cr0_write((cr0_read() & ~CR0_TS) | CR0_AM | (s->vector == 7 ? CR0_TS : 0));
	take_what(what);
	o = attempt(ring ? 3 : 0, rip, VICTIM, ring ? USER + 0x2000 : 0, FLAGS);
	cr0_write(cr0_read() & ~CR0_TS);
	EXPECT(o.vector == s->vector && is_error(o.error, s->error) &&
		   o.rip == (s->after == 0xff ? VICTIM : rip + s->after),
	       "%s, ring %u, taken %x: vector %u, error %x, rip %x", s->what, (uint64_t)ring,
	       (uint64_t)what, (uint64_t)o.vector, o.error, o.rip - rip);
	EXPECT(s->vector != PF || o.cr2 == VICTIM, "%s: cr2 %x", s->what, o.cr2);
}

static void every_exception(void)
{
	for (unsigned what = 0; what < 32; what++)
		for (unsigned i = 0; i < STEPS; i++) {
			if (steps[i].rings & 1)
				one(&steps[i], 0, what);
			if (steps[i].rings & 2)
				one(&steps[i], 3, what);
		}
}

/* A gate that is not present while something else is delivered. */
static void double_faults(void)
{
	uint64_t gate = idt[2 * PF], gp = idt[2 * GP];
	struct outcome o;

	((volatile uint8_t *)code_page)[0] = 0x8a; /* mov (%rdi), %al */
	((volatile uint8_t *)code_page)[1] = 0x07;
	WORD(code_page + 16) = 0x0b0f; /* UD2 */
	for (unsigned what = 0; what < 32; what++) {
		idt[2 * PF] = gate & ~(1ull << 47);
		take_what(what);
		o = attempt(3, USER, VICTIM, USER + 0x2000, FLAGS);
		EXPECT(o.vector == 8 && !o.error, "#NP at #PF, taken %x: %u, error %x",
		       (uint64_t)what, (uint64_t)o.vector, o.error);
		o = attempt(0, code_page, VICTIM, VICTIM + 64, FLAGS);
		EXPECT(o.vector == 8, "a bad stack at #PF, taken %x: %u", (uint64_t)what,
		       (uint64_t)o.vector);
		idt[2 * PF] = gate;
		o = attempt(0, code_page, VICTIM, VICTIM + 64, FLAGS);
		EXPECT(o.vector == 8, "a stack where nothing is, at #PF, taken %x: %u",
		       (uint64_t)what, (uint64_t)o.vector);
		/* A #PF on the way to #UD is a #PF; its own push faults too. */
		o = attempt(0, code_page + 16, VICTIM, VICTIM + 64, FLAGS);
		EXPECT(o.vector == 8, "a bad stack at #UD: %u", (uint64_t)o.vector);
		/* #NP in place of #GP, where its gate is not present: contributory twice. */
		idt[2 * GP] = gp & ~(1ull << 47);
		take_what(what);
		((volatile uint8_t *)code_page)[0] = 0xf4;
		o = attempt(3, USER, VICTIM, USER + 0x2000, FLAGS);
		EXPECT(o.vector == 8, "#NP at #GP, taken %x: %u", (uint64_t)what,
		       (uint64_t)o.vector);
		((volatile uint8_t *)code_page)[0] = 0x8a;
		idt[2 * GP] = gp;
	}
	/* An interrupt gate that is not present, and nothing else: #NP alone. */
	gate = idt[2 * 0x30];
	idt[2 * 0x30] &= ~(1ull << 47);
	((volatile uint8_t *)code_page)[0] = 0xcd;
	((volatile uint8_t *)code_page)[1] = 0x30;
	o = attempt(3, USER, VICTIM, USER + 0x2000, FLAGS);
	EXPECT(o.vector == 11 && is_error(o.error, 0x30 * 8 + 2), "#NP: %u, error %x",
	       (uint64_t)o.vector, o.error);
	idt[2 * 0x30] = gate;
}

/* ------------------------------------------------------------------ interrupts */

static volatile uint64_t interrupted_at, interrupts;

static bool note(struct frame *frame)
{
	if (frame->vector != 0x40)
		return false;
	interrupted_at = frame->rip;
	interrupts++;
	frame->rflags &= ~EFLAGS_IF;
	*(volatile uint32_t *)(APIC + 0xb0) = 0;
	return true;
}

static void ask(void)
{
	*(volatile uint32_t *)(APIC + 0x310) = 0;
	*(volatile uint32_t *)(APIC + 0x300) = 0x40 | 1u << 18; /* to itself */
}

/* STI, then @code: where the interrupt that waits comes. */
#define SHADOW(code, name)                                                                         \
	do {                                                                                       \
		uint64_t first, second;                                                            \
		ask();                                                                             \
		__asm__ volatile(                                                                  \
		    "lea 1f(%%rip), %0\n lea 2f(%%rip), %1\n xor %%eax, %%eax\n sti\n"             \
		    "1: " code "\n 2: nop\n nop\n cli"                                             \
		    : "=&r"(first), "=&r"(second)                                                  \
		    :                                                                              \
		    : "rax", "rbx", "rcx", "rdx", "memory", "cc");                                 \
		EXPECT(interrupted_at == second, "%s behind STI: interrupted %u bytes late", name, \
		       interrupted_at - second);                                                   \
	} while (0)

static void shadows(void)
{
	uint64_t before;

	trap_hook = note;
	outb(0x21, 0xff); /* the PICs are silent */
	outb(0xa1, 0xff);
	*(volatile uint32_t *)(APIC + 0xf0) = 0x1ff;
	for (unsigned i = 0; i < 20; i++) {
		SHADOW("nop", "NOP");
		SHADOW("outb %%al, $0xe0", "OUT");
		SHADOW("mov %%cr3, %%rcx\n", "MOV from CR3");
		take((uintptr_t)idt);
		SHADOW("nop", "NOP, the IDT taken");
	}
	/* MOV SS: nothing comes between it and the next. */
	before = interrupts;
	ask();
	__asm__ volatile("mov %%ss, %%ecx\n sti\n mov %%ecx, %%ss\n nop\n nop\n cli" : : : "rcx");
	EXPECT(interrupts == before + 1, "%u interrupts behind MOV SS", interrupts - before);
	/* HLT in the shadow: the interrupt ends it. */
	before = interrupts;
	ask();
	__asm__ volatile("sti\n hlt\n cli");
	EXPECT(interrupts == before + 1, "HLT in the shadow");
	trap_hook = NULL;
}

static volatile unsigned interrupted_by, softly;

static bool note_both(struct frame *frame)
{
	if (frame->vector == 0x41)
		softly = 1 + interrupted_by;
	else
		interrupted_by = 1;
	return frame->vector == 0x41 || note(frame);
}

/* INT in the shadow of STI goes first, whatever it costs to deliver it. */
static void soft_interrupts(void)
{
	trap_hook = note_both;
	for (unsigned i = 0; i < 20; i++) {
		interrupted_by = softly = 0;
		take_what(i);
		ask();
		__asm__ volatile("sti\n int $0x41");
		while (!interrupted_by)
			;
		__asm__ volatile("cli");
		EXPECT(softly == 1, "INT behind STI, %u: %u", (uint64_t)i, (uint64_t)softly);
	}
	trap_hook = NULL;
}

static volatile unsigned nmis, nested;
static uint64_t nmi_rip[2], nmi_flags[2];
static unsigned taken;

static void ask_nmi(void)
{
	*(volatile uint32_t *)(APIC + 0x310) = 0;
	*(volatile uint32_t *)(APIC + 0x300) = 0x400 | 1u << 18;
}

static bool note_nmi(struct frame *frame)
{
	if (frame->vector != 2)
		return false;
	nested += nmis == 1;
	nmi_rip[nmis % 2] = frame->rip;
	nmi_flags[nmis % 2] = frame->rflags;
	if (nmis++)
		return true;
	nested = 0;
	ask_nmi(); /* waits for our IRET */
	(void)inb(0xe0);
	nested += nmis == 2; /* it did not wait */
	take_what(taken);
	return true;
}

/* An NMI that came within the handler of another comes right behind its IRET. */
static void nmi_behind_iret(void)
{
	trap_hook = note_nmi;
	for (taken = 0; taken < 32; taken++) {
		nmis = 0;
		ask_nmi();
		for (unsigned i = 0; i < 100 && nmis < 2; i++)
			(void)inb(0xe0);
		EXPECT(nmis == 2 && nested == 1, "%u NMIs, %u within", (uint64_t)nmis,
		       (uint64_t)nested);
		EXPECT(nmi_rip[0] == nmi_rip[1] && nmi_flags[0] == nmi_flags[1],
		       "an NMI %u bytes behind IRET, taken %x, flags %x and %x",
		       nmi_rip[1] - nmi_rip[0], (uint64_t)taken, nmi_flags[0], nmi_flags[1]);
	}
	trap_hook = NULL;
}

/* ------------------------------------------------------------------ control registers */

static void to_cr0(uint64_t value)
{
	cr0_write(value);
}

static void to_cr3(uint64_t value)
{
	cr3_write(value);
}

static void to_cr4(uint64_t value)
{
	cr4_write(value);
}

static void refused(const char *name, void (*f)(uint64_t), uint64_t value)
{
	uint64_t cr0 = cr0_read(), cr3 = cr3_read(), cr4 = cr4_read();
	struct outcome o = call(f, value);

	EXPECT(o.vector == GP && !o.error, "%s to %x: vector %u", name, value, (uint64_t)o.vector);
	EXPECT(cr0 == cr0_read() && cr3 == cr3_read() && cr4 == cr4_read(), "%s to %x changed it",
	       name, value);
}

static void int1(uint64_t argument)
{
	(void)argument;
	__asm__ volatile(".byte 0xf1");
}

/* INT1 is a #DB of its own, which TCG lacks; the TSC reads alike both ways. */
static void oddities(void)
{
	struct outcome o = call(int1, 0);
	uint64_t before, between, behind;

	EXPECT(o.vector == 1, "INT1: vector %u", (uint64_t)o.vector);
	before = rdtsc();
	between = rdmsr(0x10);
	behind = rdtsc();
	EXPECT(before < between && between < behind, "the TSC: %x, %x by RDMSR, %x", before,
	       between, behind);
}

/* What AMD64 APM vol. 2 §3.1 forbids in long mode; TCG by itself lets NW without CD pass. */
static void control_registers(void)
{
	uint64_t cr0 = cr0_read(), cr3 = cr3_read(), cr4 = cr4_read();

	refused("CR0", to_cr0, (cr0 | CR0_NW) & ~CR0_CD);
	refused("CR0", to_cr0, cr0 & ~1ull); /* PG without PE */
	refused("CR0", to_cr0, cr0 & ~(1ull << 31));
	for (unsigned bit = 32; bit < 64; bit++) {
		refused("CR0", to_cr0, cr0 | 1ull << bit);
		refused("CR4", to_cr4, cr4 | 1ull << bit);
	}
	for (unsigned bit = 40; bit < 64; bit++)
		refused("CR3", to_cr3, cr3 | 1ull << bit);
	refused("CR4", to_cr4, cr4 & ~(1ull << 5)); /* PAE */
	refused("CR4", to_cr4, cr4 | 1ull << 15);
	refused("CR4", to_cr4, cr4 ^ 1ull << 12); /* LA57 */
	EXPECT(call(to_cr0, cr0 | CR0_NW | CR0_CD).vector == RETURNED, "CR0: CD and NW");
	EXPECT(cr0_read() == (cr0 | CR0_NW | CR0_CD), "CR0 is %x", cr0_read());
	cr0_write(cr0);
}

int main(void)
{
	uint64_t root = root_new();

	code_page = page_new();
	user_stack = page_new();
	*entry(root, USER, 1) = code_page | P | W | U;
	*entry(root, USER + 0x1000, 1) = user_stack | P | W | U;
	cr3_write(root);
	every_exception();
	double_faults();
	shadows();
	soft_interrupts();
	nmi_behind_iret();
	control_registers();
	oddities();
	say("guest: exceptions hold\r\n");
	return 0;
}
