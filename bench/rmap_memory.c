/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The memory of the reverse-map benchmark: one reservation in which sptes, places, descriptors,
 * heads and lists of all implementations lie, on huge pages for all or for none, as a kernel has
 * them in its direct map. Taken from the bottom up, given back all at once. And the clock.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "bench_rmap.h"

#define HUGE (2ul << 20)

static struct {
	char *base;
	size_t size, used;
} memory;

_Noreturn void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("bench-rmap: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

double clock_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
	return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

void memory_open(size_t size)
{
	char *at = mmap(NULL, size + HUGE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		die("cannot reserve %zu bytes of addresses", size);
	memory.base = (char *)(((uintptr_t)at + HUGE - 1) & ~(HUGE - 1));
	memory.size = size;
	madvise(memory.base, size, MADV_HUGEPAGE);
}

void memory_reset(void)
{
	madvise(memory.base, memory.used, MADV_DONTNEED);
	memory.used = 0;
}

/* Zeroed, aligned to 4096. */
void *memory_take(size_t size)
{
	char *at = memory.base + memory.used;

	size = (size + 4095) & ~4095ul;
	if (size > memory.size - memory.used)
		die("the set does not fit in %zu bytes", memory.size);
	memory.used += size;
	return at;
}

uint64_t memory_offset(const void *at)
{
	return (uint64_t)((const char *)at - memory.base);
}

void *memory_base(void)
{
	return memory.base;
}

const char *memory_pages(void)
{
	static char line[64];
	FILE *file = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "r");

	if (!file || !fgets(line, sizeof(line), file))
		strcpy(line, "none");
	if (file)
		fclose(file);
	line[strcspn(line, "\n")] = '\0';
	return line;
}
