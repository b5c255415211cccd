/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Debug registers and single-step (AMD64 APM vol. 2 §13.1): breakpoints on execution, on data of
 * each length, on ports; general detect; the trap behind every instruction, also behind those that
 * a hypervisor carries out.
 */
#include "bare.h"

#define DR7(i, kind, length) \
	(1ull << (2 * (i)) | (uint64_t)((kind) | ((length)-1) << 2) << (16 + 4 * (i)))
#define ON_EXECUTE 0u
#define ON_WRITE   1u
#define ON_PORT    2u
#define ON_ACCESS  3u
#define DR6_BD     (1ull << 13)
#define DR6_BS     (1ull << 14)
#define CR4_DE     (1ull << 3)
#define EFLAGS_RF  (1ull << 16)

static unsigned hits;
static uint64_t hit_rip[64], hit_dr6[64];
static bool stepping;
static volatile uint64_t target[4];

static bool note(struct frame *frame)
{
	if (frame->vector != 1)
		return false;
	if (hits < 64) {
		hit_rip[hits] = frame->rip;
		hit_dr6[hits] = dr6_read();
	}
	hits++;
	if (!(dr6_read() & (DR6_BS | DR6_BD)))
		frame->rflags |= EFLAGS_RF;
	if (!stepping)
		frame->rflags &= ~EFLAGS_TF;
	dr6_write(0xffff0ff0);
	return true;
}

static void on(unsigned i, uint64_t address, unsigned kind, unsigned length)
{
	switch (i) {
	case 0:
		dr0_write(address);
		break;
	case 1:
		dr1_write(address);
		break;
	case 2:
		__asm__ volatile("mov %0, %%dr2" : : "r"(address));
		break;
	default:
		__asm__ volatile("mov %0, %%dr3" : : "r"(address));
	}
	hits = 0;
	dr6_write(0xffff0ff0);
	dr7_write(0x400 | DR7(i, kind, length));
}

static void off(void)
{
	dr7_write(0x400);
}

__attribute__((noinline)) static void nothing(void)
{
	__asm__ volatile("nop");
}

static void execution(void)
{
	for (unsigned i = 0; i < 4; i++) {
		on(i, (uintptr_t)nothing, ON_EXECUTE, 1);
		nothing();
		nothing();
		off();
		nothing();
		EXPECT(hits == 2 && hit_rip[0] == (uintptr_t)nothing && hit_dr6[0] & 1u << i,
		       "execution, DR%u: %u hits, dr6 %x", (uint64_t)i, (uint64_t)hits, hit_dr6[0]);
	}
}

static void data(void)
{
	static const unsigned lengths[] = {1, 2, 4};

	for (unsigned i = 0; i < 4; i++)
		for (unsigned k = 0; k < 3; k++) {
			volatile uint8_t *at = (volatile uint8_t *)&target[1];

			on(i, (uintptr_t)at, ON_WRITE, lengths[k]);
			at[lengths[k] - 1] = 1;
			(void)at[0];
			at[lengths[k]] = 1;
			off();
			EXPECT(hits == 1 && hit_dr6[0] & 1u << i, "write, DR%u, %u bytes: %u hits",
			       (uint64_t)i, (uint64_t)lengths[k], (uint64_t)hits);
			on(i, (uintptr_t)at, ON_ACCESS, lengths[k]);
			at[0] = 1;
			(void)at[lengths[k] - 1];
			off();
			EXPECT(hits == 2, "access, DR%u, %u bytes: %u hits", (uint64_t)i,
			       (uint64_t)lengths[k], (uint64_t)hits);
		}
}

/* The page behind a breakpoint is a page table: a hypervisor may carry the store out itself. */
static void on_a_table(void)
{
	uint64_t root = root_new(), page = page_new(), where = 0x6000000000ull;
	volatile uint64_t *pte = entry(root, where, 1);

	*pte = page | P | W;
	cr3_write(root);
	for (unsigned i = 0; i < 40; i++) {
		(void)WORD(where);
		on(1, (uintptr_t)pte, ON_WRITE, 4);
		*pte = page | P | (i & 1 ? W : 0);
		off();
		EXPECT(hits == 1, "a table's entry, round %u: %u hits", (uint64_t)i,
		       (uint64_t)hits);
		invlpg(where);
	}
}

static void ports(void)
{
	cr4_write(cr4_read() | CR4_DE);
	on(2, 0xe0, ON_PORT, 1);
	outb(0xe0, 1);
	(void)inb(0xe0);
	(void)inb(0x61);
	off();
	EXPECT(hits == 2 && hit_dr6[0] & 4, "ports: %u hits, dr6 %x", (uint64_t)hits, hit_dr6[0]);
	cr4_write(cr4_read() & ~CR4_DE);
}

static void general_detect(void)
{
	hits = 0;
	dr7_write(0x400 | 1u << 13);
	(void)dr0_read(); /* #DB before; the handler runs with the bit clear, and again */
	EXPECT(hits == 1 && hit_dr6[0] & DR6_BD, "general detect: %u hits, dr6 %x", (uint64_t)hits,
	       hit_dr6[0]);
	EXPECT(!(dr7_read() & 1u << 13), "general detect stays on");
}

static void single_step(void)
{
	uint64_t cr3 = cr3_read();

	hits = 0;
	stepping = true;
	__asm__ volatile("pushfq\n orq $0x100, (%%rsp)\n popfq\n"
			 "nop\n"
			 "xor %%eax, %%eax\n"
			 "mov %%cr4, %%rcx\n"
			 "mov %%rcx, %%cr4\n"
			 "mov %0, %%cr3\n"
			 "invlpg (%1)\n"
			 "outb %%al, $0xe0\n"
			 "inb $0xe0, %%al\n"
			 "mov $0xc0000080, %%ecx\n"
			 "rdmsr\n"
			 "wrmsr\n"
			 "movl $0, (%2)\n"
			 "pushfq\n andq $~0x100, (%%rsp)\n popfq\n"
			 :
			 : "r"(cr3), "r"(&target), "r"(0xff000000ull)
			 : "rax", "rcx", "rdx", "memory", "cc");
	stepping = false;
	EXPECT(hits == 15, "single-step: %u traps", (uint64_t)hits);
	for (unsigned i = 0; i < 15; i++)
		EXPECT(hit_dr6[i] & DR6_BS && (!i || hit_rip[i] > hit_rip[i - 1]),
		       "single-step: trap %u at %x, dr6 %x", (uint64_t)i, hit_rip[i], hit_dr6[i]);
}

int main(void)
{
	trap_hook = note;
	execution();
	data();
	on_a_table();
	ports();
	general_detect();
	single_step();
	say("guest: breakpoints and steps hold\r\n");
	return 0;
}
