/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The processor's instructions and register layouts, as inline functions and constants.
 * Nothing here has state.
 */
#ifndef VMM_X86_H
#define VMM_X86_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Control register and EFER bits (AMD64 APM vol. 2 §3.1). */
#define CR0_PE       (1ull << 0)
#define CR0_TS       (1ull << 3)
#define CR0_ET       (1ull << 4)
#define CR0_WP       (1ull << 16)
#define CR0_NW       (1ull << 29)
#define CR0_CD       (1ull << 30)
#define CR0_PG       (1ull << 31)
#define CR4_PAE      (1ull << 5)
#define CR4_PSE      (1ull << 4)
#define CR4_PGE      (1ull << 7)
#define CR4_UMIP     (1ull << 11)
#define CR4_FSGSBASE (1ull << 16)
#define CR4_DE       (1ull << 3)
#define CR4_OSFXSR   (1ull << 9)
#define CR4_LA57     (1ull << 12)
#define CR4_PCIDE    (1ull << 17)
#define CR4_PKE      (1ull << 22)
#define CR4_PKS      (1ull << 24)
#define CR3_KEEP     (1ull << 63) /* with PCIDE: flush nothing */
#define CR4_SMEP     (1ull << 20)
#define CR4_SMAP     (1ull << 21)
#define EFER_SCE     (1ull << 0)
#define EFER_LME     (1ull << 8)
#define EFER_LMA     (1ull << 10)
#define EFER_NXE     (1ull << 11)
#define EFER_SVME    (1ull << 12)
#define EFER_FFXSR   (1ull << 14)

/* DR6 and DR7 with the bits that always read as 1 (APM vol. 2 §13.1.1). */
#define DR6_ONES 0xffff0ff0ull
#define DR6_B3   (1ull << 3)
#define DR6_BD   (1ull << 13)
#define DR6_BS   (1ull << 14)
#define DR6_BT   (1ull << 15)
#define DR7_ONES 0x400ull

#define RFLAGS_CF         (1ull << 0)
#define RFLAGS_ARITHMETIC 0x8d5ull /* OF SF ZF AF PF CF */
#define RFLAGS_TF         (1ull << 8)
#define RFLAGS_IF         (1ull << 9)
#define RFLAGS_DF         (1ull << 10)
#define RFLAGS_RF         (1ull << 16)
#define RFLAGS_VM         (1ull << 17)
#define RFLAGS_AC         (1ull << 18)

#define MSR_APIC_BASE 0x1b
#define MSR_PKRS      0x6e1
#define MSR_EFER      0xc0000080u
#define MSR_GS_BASE   0xc0000101u
#define MSR_TSC_AUX   0xc0000103u

#define VECTOR_DE  0
#define VECTOR_DB  1
#define VECTOR_NMI 2
#define VECTOR_BP  3
#define VECTOR_OF  4
#define VECTOR_UD  6
#define VECTOR_DF  8
#define VECTOR_TS  10
#define VECTOR_NP  11
#define VECTOR_SS  12
#define VECTOR_GP  13
#define VECTOR_PF  14
#define VECTOR_AC  17
#define VECTOR_MC  18

static inline uint8_t inb(uint16_t port)
{
	uint8_t v;
	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}

static inline void outb(uint16_t port, uint8_t v)
{
	__asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port));
}

static inline void outl(uint16_t port, uint32_t v)
{
	__asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port));
}

static inline uint64_t rdmsr(uint32_t msr)
{
	uint32_t lo, hi;
	__asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
	return (uint64_t)hi << 32 | lo;
}

static inline void wrmsr(uint32_t msr, uint64_t v)
{
	__asm__ volatile("wrmsr"
			 :
			 : "c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32))
			 : "memory");
}

static inline uint64_t rdtsc(void)
{
	uint32_t lo, hi;
	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
	return (uint64_t)hi << 32 | lo;
}

struct cpuid_regs {
	uint32_t eax, ebx, ecx, edx;
};

static inline struct cpuid_regs cpuid(uint32_t leaf, uint32_t subleaf)
{
	struct cpuid_regs r;
	__asm__ volatile("cpuid"
			 : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
			 : "a"(leaf), "c"(subleaf));
	return r;
}

static inline void dr0_write(uint64_t value)
{
	__asm__ volatile("movq %0, %%dr0" : : "r"(value));
}

static inline void dr1_write(uint64_t value)
{
	__asm__ volatile("movq %0, %%dr1" : : "r"(value));
}

static inline void dr2_write(uint64_t value)
{
	__asm__ volatile("movq %0, %%dr2" : : "r"(value));
}

static inline void dr3_write(uint64_t value)
{
	__asm__ volatile("movq %0, %%dr3" : : "r"(value));
}

static inline void dr6_write(uint64_t value)
{
	__asm__ volatile("movq %0, %%dr6" : : "r"(value));
}

static inline void dr7_write(uint64_t value)
{
	__asm__ volatile("movq %0, %%dr7" : : "r"(value));
}

/* CR4.PKE must be set. */
static inline uint32_t rdpkru(void)
{
	uint32_t lo, hi;
	__asm__ volatile(".byte 0x0f, 0x01, 0xee" : "=a"(lo), "=d"(hi) : "c"(0));
	return lo;
}

static inline void wrpkru(uint32_t value)
{
	__asm__ volatile(".byte 0x0f, 0x01, 0xef" : : "a"(value), "c"(0), "d"(0));
}

/* All SSE registers, the guest's, which the hypervisor leaves alone: FXSAVE's area (APM vol. 2
 * §11.4). */
struct fx_area {
	uint16_t control, status;
	uint8_t tags; /* a bit a register: not empty */
	uint8_t pointers[27];
	uint8_t st[8][16]; /* from the top of the stack; of MMX registers the first 8 bytes */
	uint8_t xmm[16][16];
	uint8_t tail[96];
} __attribute__((aligned(16)));

static inline void fx_save(struct fx_area *area)
{
	__asm__ volatile("fxsave64 %0" : "=m"(*area));
}

static inline void fx_restore(const struct fx_area *area)
{
	__asm__ volatile("fxrstor64 %0" : : "m"(*area));
}

/* a * b / c with a 128-bit product. The quotient must fit in 64 bits. */
static inline uint64_t muldiv(uint64_t a, uint64_t b, uint64_t c)
{
	uint64_t lo, hi;
	__asm__("mulq %3" : "=a"(lo), "=d"(hi) : "0"(a), "rm"(b) : "cc");
	__asm__("divq %2" : "+a"(lo), "+d"(hi) : "r"(c) : "cc");
	return lo;
}

/* Let pending interrupts in, for one instruction. */
static inline void interrupt_window(void)
{
	__asm__ volatile("sti; nop; cli" : : : "memory");
}

/* Sleep until an interrupt has been handled. */
static inline void interrupt_wait(void)
{
	__asm__ volatile("sti; hlt; cli" : : : "memory");
}

#endif
