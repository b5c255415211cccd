/* SPDX-License-Identifier: BSD-2-Clause */
/* See bare.h. */
#include "bare.h"

#include <stdarg.h>

#define HEAP 0x800000ull

struct outcome attempted;
bool (*trap_hook)(struct frame *frame);
extern uint64_t landing_rsp, boot_pml4[512];
extern char landing[];
void attempt_raw(uint64_t rip, uint64_t rsp, uint64_t cs, uint64_t flags, uint64_t rdi);
void trap(struct frame *frame);
void *memset(void *to, int byte, size_t size);
void *memcpy(void *restrict to, const void *restrict from, size_t size);

void *memset(void *to, int byte, size_t size)
{
	__asm__ volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(byte) : "memory");
	return to;
}

void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
	void *at = to;

	__asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(size) : : "memory");
	return to;
}

static void say_number(uint64_t value, unsigned base)
{
	char digits[24];
	unsigned count = 0;

	do {
		digits[count++] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	while (count)
		outb(0x3f8, (uint8_t)digits[--count]);
}

void say(const char *format, ...)
{
	va_list list;

	va_start(list, format);
	for (; *format; format++) {
		if (*format != '%') {
			outb(0x3f8, (uint8_t)*format);
			continue;
		}
		format++;
		if (*format == 's')
			for (const char *s = va_arg(list, const char *); *s; s++)
				outb(0x3f8, (uint8_t)*s);
		else
			say_number(va_arg(list, uint64_t), *format == 'x' ? 16 : 10);
	}
	va_end(list);
}

void finish(int status)
{
	for (;;)
		outl(0xf4, (uint32_t)status);
}

void trap(struct frame *frame)
{
	if (trap_hook && trap_hook(frame))
		return;
	if (!landing_rsp) {
		say("guest: exception %u, error %x, at %x, cr2 %x\r\n", frame->vector, frame->error,
		    frame->rip, cr2_read());
		finish(2);
	}
	attempted = (struct outcome){.vector = (unsigned)frame->vector,
				     .error = frame->error,
				     .cr2 = cr2_read(),
				     .rip = frame->rip,
				     .rflags = frame->rflags,
				     .rsp = frame->rsp};
	frame->rip = (uintptr_t)landing;
	frame->rsp = landing_rsp;
	frame->cs = 8;
	frame->ss = 0x10;
	frame->rflags = FLAGS;
	landing_rsp = 0;
}

struct outcome attempt(unsigned ring, uint64_t rip, uint64_t rdi, uint64_t rsp, uint64_t rflags)
{
	attempt_raw(rip, rsp, ring ? 0x23 : 8, rflags, rdi);
	barrier();
	return attempted;
}

static void (*called)(uint64_t);

static void call_and_return(uint64_t argument)
{
	called(argument);
	__asm__ volatile("int $0x30");
}

struct outcome call(void (*f)(uint64_t), uint64_t argument)
{
	called = f;
	return attempt(0, (uintptr_t)call_and_return, argument, 0, FLAGS);
}

uint64_t page_new(void)
{
	static uint64_t next = HEAP;

	memset((void *)next, 0, 4096);
	next += 4096;
	return next - 4096;
}

uint64_t root_new(void)
{
	uint64_t root = page_new();

	memcpy((void *)root, boot_pml4, 4096);
	return root;
}

uint64_t *entry(uint64_t root, uint64_t gva, unsigned level)
{
	uint64_t *table = (uint64_t *)root;

	for (unsigned at = 4; at > level; at--) {
		uint64_t *e = &table[gva >> (12 + 9 * (at - 1)) & 511];

		if (!(*e & P))
			*e = page_new() | P | W | U;
		table = (uint64_t *)(*e & PFN);
	}
	return &table[gva >> (12 + 9 * (level - 1)) & 511];
}

uint64_t random(void)
{
	static uint64_t x = 0x9e3779b97f4a7c15ull;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x;
}

bool has_leaf7_ebx(unsigned bit)
{
	uint32_t r[4];

	cpuid(7, 0, r);
	return r[1] >> bit & 1;
}
