/* SPDX-License-Identifier: BSD-2-Clause */
/* What the host's kernel tells and takes by files. See kvm_kernel.c. */
#ifndef BENCH_KVM_KERNEL_H
#define BENCH_KVM_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline uint64_t ticks_now(void)
{
	uint32_t low, high;

	__asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
}

/* False: no such file, or it refuses. */
bool kernel_write(const char *path, const char *text);

/* The number in a file of one; 0: no such file. */
uint64_t kernel_number(const char *path);

/* Nanoseconds that the kernel's thread of that name has run; 0: there is none. */
uint64_t kernel_thread_ns(const char *name);

/* How many of the @pages pages at @at are swapped out. */
uint64_t kernel_swapped(const void *at, uint64_t pages);

/* Ticks of the TSC in so many nanoseconds, by what both did since the first call. */
uint64_t kernel_ticks(uint64_t ns);

/* From now on, the kernel's function @name is timed. False: it cannot be. */
bool kernel_trace_begin(const char *name);

/* How long all its calls took, nanoseconds; *@calls: how many. */
uint64_t kernel_trace_end(uint64_t *calls);

#endif
