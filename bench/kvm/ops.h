/* SPDX-License-Identifier: BSD-2-Clause */
/* The operations that guest_bench.c times. See ops.c. */
#ifndef BENCH_KVM_OPS_H
#define BENCH_KVM_OPS_H

#include <stdbool.h>
#include <stdint.h>

/* One round: @count operations took @ticks of the time stamp counter. */
struct sample {
	uint64_t ticks;
	uint64_t count;
};

struct op {
	const char *name;
	void (*prepare)(void); /* before the first round; may be NULL */
	struct sample (*round)(void);
	void (*finish)(void); /* may be NULL */
	bool once;            /* too long for more than one round */
};

/* Ends with an entry whose name is NULL. */
extern const struct op ops[];

/* How many children share how many MiB. */
void ops_configure(unsigned long children, unsigned long mib);

static inline uint64_t ticks_now(void)
{
	uint32_t low, high;

	__asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
}

#endif
