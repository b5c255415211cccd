/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What bare-metal guests written in C stand on: the serial line, ports, exceptions that come back
 * as values, page tables. One processor, one address space to begin with: 4 GiB one to one.
 */
#ifndef BARE_H
#define BARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct frame {
	uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
	uint64_t vector, error, rip, cs, rflags, rsp, ss;
};

/* ------------------------------------------------------------------ saying */

/* %s, %x (uint64_t, hexadecimal), %u (uint64_t, decimal). */
void say(const char *format, ...);

/* End the machine: port 0xf4. Status 0 is success: `umbra run` sees 1. */
_Noreturn void finish(int status);

/* Where @condition does not hold: say so, and end with status 1. */
#define EXPECT(condition, ...)                                               \
	do {                                                                 \
		if (!(condition)) {                                          \
			say("guest: %s:%u: ", __FILE__, (uint64_t)__LINE__); \
			say(__VA_ARGS__);                                    \
			say("\r\n");                                         \
			finish(1);                                           \
		}                                                            \
	} while (0)

/* ------------------------------------------------------------------ exceptions */

/* Called for every exception and interrupt; true: dealt with, go on at frame->rip. */
extern bool (*trap_hook)(struct frame *frame);

struct outcome {
	unsigned vector; /* 0x30: it returned by itself */
	uint64_t error, cr2, rip, rflags, rsp;
};

#define RETURNED 0x30u
#define PF       14u
#define GP       13u

/*
 * Go to @rip with @rdi (and rsi the same), in ring 0 or 3, on stack @rsp (0: ours, only ring 0),
 * with these flags; what ended it. Whatever ends it is not resumed, unless trap_hook says so.
 */
struct outcome attempt(unsigned ring, uint64_t rip, uint64_t rdi, uint64_t rsp, uint64_t rflags);

/* @f(@argument) in ring 0; it returned, or what it raised. */
struct outcome call(void (*f)(uint64_t), uint64_t argument);

/* ------------------------------------------------------------------ the processor */

#define FLAGS 2ull /* and interrupts off */

static inline void outb(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline void outw(uint16_t port, uint16_t value)
{
	__asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}

static inline void outl(uint16_t port, uint32_t value)
{
	__asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint8_t inb(uint16_t port)
{
	uint8_t value;
	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline uint16_t inw(uint16_t port)
{
	uint16_t value;
	__asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline uint32_t inl(uint16_t port)
{
	uint32_t value;
	__asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline uint64_t rdmsr(uint32_t msr)
{
	uint32_t low, high;
	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
	return low | (uint64_t)high << 32;
}

static inline void wrmsr(uint32_t msr, uint64_t value)
{
	__asm__ volatile("wrmsr" : : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
}

static inline void cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4])
{
	__asm__ volatile("cpuid"
			 : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3])
			 : "a"(leaf), "c"(sub));
}

static inline uint64_t rdtsc(void)
{
	uint32_t low, high;
	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return low | (uint64_t)high << 32;
}

#define REGISTER(name)                                                              \
	static inline uint64_t name##_read(void)                                    \
	{                                                                           \
		uint64_t value;                                                     \
		__asm__ volatile("mov %%" #name ", %0" : "=r"(value) : : "memory"); \
		return value;                                                       \
	}                                                                           \
	static inline void name##_write(uint64_t value)                             \
	{                                                                           \
		__asm__ volatile("mov %0, %%" #name : : "r"(value) : "memory");     \
	}
REGISTER(cr0)
REGISTER(cr2)
REGISTER(cr3)
REGISTER(cr4)
REGISTER(dr0)
REGISTER(dr1)
REGISTER(dr6)
REGISTER(dr7)

static inline void invlpg(uint64_t gva)
{
	__asm__ volatile("invlpg (%0)" : : "r"(gva) : "memory");
}

static inline void barrier(void)
{
	__asm__ volatile("" : : : "memory");
}

#define WORD(gva) (*(volatile uint64_t *)(gva))

/* ------------------------------------------------------------------ memory and page tables */

#define P   1ull
#define W   2ull
#define U   4ull
#define A   0x20ull
#define D   0x40ull
#define PS  0x80ull
#define NX  (1ull << 63)
#define PFN 0x000ffffffffff000ull

#define CR0_WP    (1ull << 16)
#define CR4_PGE   (1ull << 7)
#define CR4_SMEP  (1ull << 20)
#define CR4_SMAP  (1ull << 21)
#define EFLAGS_TF (1ull << 8)
#define EFLAGS_IF (1ull << 9)
#define EFLAGS_AC (1ull << 18)

/* A zeroed page of its own, gva = gpa, from 8 MiB on. */
uint64_t page_new(void);

/* A root that maps what the first one maps. */
uint64_t root_new(void);

/*
 * The entry for @gva at @level (1: pages) below @root; tables on the way are made, with every
 * right. At level 5 of a four-level root there is none.
 */
uint64_t *entry(uint64_t root, uint64_t gva, unsigned level);

/* A random number, the same row of them each time. */
uint64_t random(void);

/* A word of the processor's offered features: CPUID leaf 7, EBX. */
bool has_leaf7_ebx(unsigned bit);

#endif
