/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The hypervisor's own exceptions and panics: everything that is known goes to COM1 (our
 * registers, the guest's, its VMCB, the last exits), then the machine ends. Owns the IDT. A
 * panic inside a panic ends at once, so that this never loops.
 */
#include <stdarg.h>
#include <stdbool.h>

#include "cpu.h"
#include "machine.h"
#include "print.h"
#include "string.h"
#include "trap.h"
#include "vcpu.h"

extern char trap_stubs[], stack_guard[], image_end[];

static struct {
	uint64_t low, high;
} idt[256];

void trap_init(void)
{
	struct __attribute__((packed)) {
		uint16_t limit;
		uint64_t base;
	} idtr = {sizeof(idt) - 1, (uintptr_t)idt};

	for (unsigned v = 0; v < 256; v++) {
		uint64_t stub = (uintptr_t)trap_stubs + 16 * v;
		uint64_t ist = v == 2 || v == VECTOR_DF || v == 18;

		idt[v].low = (stub & 0xffff) | 0x08ull << 16 | ist << 32 | 0x8eull << 40 |
			     (stub >> 16 & 0xffff) << 48;
		idt[v].high = stub >> 32;
	}
	__asm__ volatile("lidt %0" : : "m"(idtr));
}

static void dump_frame(const struct trap_frame *f)
{
	uint64_t cr2, cr3;

	__asm__ volatile("movq %%cr2, %0" : "=r"(cr2));
	__asm__ volatile("movq %%cr3, %0" : "=r"(cr3));
	print("host  vector %lu error %lx rip %016lx cs %lx rflags %lx\n", f->vector, f->error_code,
	      f->rip, f->cs, f->rflags);
	print("  rax %016lx rcx %016lx rdx %016lx rbx %016lx\n", f->rax, f->rcx, f->rdx, f->rbx);
	print("  rsp %016lx rbp %016lx rsi %016lx rdi %016lx\n", f->rsp, f->rbp, f->rsi, f->rdi);
	print("  r8  %016lx r9  %016lx r10 %016lx r11 %016lx\n", f->r8, f->r9, f->r10, f->r11);
	print("  r12 %016lx r13 %016lx r14 %016lx r15 %016lx\n", f->r12, f->r13, f->r14, f->r15);
	print("  cr2 %016lx cr3 %016lx\n", cr2, cr3);
	if (f->rsp >= (uintptr_t)stack_guard + 4096 && f->rsp < (uintptr_t)image_end - 96 &&
	    !(f->rsp & 7))
		for (unsigned i = 0; i < 12; i += 4) {
			const uint64_t *s = (const uint64_t *)f->rsp + i;
			print("  stack %016lx %016lx %016lx %016lx\n", s[0], s[1], s[2], s[3]);
		}
}

static _Noreturn void die(const char *message, const struct trap_frame *frame)
{
	static bool dying;

	if (!dying) {
		dying = true;
		print("\numbra: panic: %s\n", message);
		if (frame)
			dump_frame(frame);
		if (cpu_this()->vcpu)
			vcpu_dump(cpu_this()->vcpu);
	}
	machine_end(NULL, UMBRA_END_PANIC, "%s", message);
}

void panic(const char *fmt, ...)
{
	char message[200];
	va_list args;

	va_start(args, fmt);
	format_list(message, sizeof(message), fmt, args);
	va_end(args);
	die(message, NULL);
}

_Noreturn void port_assert_failed(const char *condition, const char *file, int line);

void port_assert_failed(const char *condition, const char *file, int line)
{
	panic("%s:%d: not true: %s", file, line, condition);
}

void trap_handle(struct trap_frame *frame)
{
	char message[200];

	/*
	 * A guest's breakpoint (debug.c): at an address that is ours too, or hit as its run ended,
	 * before GS is back.
	 */
	if (frame->vector == VECTOR_DB) {
		dr6_write(DR6_ONES);
		frame->rflags |= RFLAGS_RF;
		return;
	}
	if (cpu_interrupt(cpu_this(), (unsigned)frame->vector))
		return;
	format(message, sizeof(message), "exception %lu in the hypervisor at %lx, error code %lx",
	       frame->vector, frame->rip, frame->error_code);
	die(message, frame);
}
