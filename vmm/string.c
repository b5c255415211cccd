/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory functions for a world without a C library. Pages are zeroed and copied by plain
 * loops of eight words: an emulated REP MOVS takes a trip through the translator's main loop
 * for every element, and real processors do not care at this size.
 */
#include "string.h"

/* A word anywhere in memory, whatever its type there. */
typedef uint64_t __attribute__((may_alias, aligned(1))) word;

void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
	uint8_t *d = to;
	const uint8_t *s = from;

	for (; size >= 8; size -= 8, d += 8, s += 8)
		*(word *)d = *(const word *)s;
	for (; size; size--)
		*d++ = *s++;
	return to;
}

void *memmove(void *to, const void *from, size_t size)
{
	uint8_t *d = to;
	const uint8_t *s = from;

	if ((uintptr_t)d - (uintptr_t)s >= size)
		return memcpy(to, from, size);
	while (size--)
		d[size] = s[size];
	return to;
}

void *memset(void *to, int byte, size_t size)
{
	uint8_t *d = to;
	uint64_t pattern = 0x0101010101010101ull * (uint8_t)byte;

	for (; size >= 64; size -= 64, d += 64)
		for (int i = 0; i < 8; i++)
			((word *)d)[i] = pattern;
	for (; size >= 8; size -= 8, d += 8)
		*(word *)d = pattern;
	for (; size; size--)
		*d++ = (uint8_t)byte;
	return to;
}

int memcmp(const void *a, const void *b, size_t size)
{
	const uint8_t *x = a, *y = b;

	for (; size; size--, x++, y++)
		if (*x != *y)
			return *x < *y ? -1 : 1;
	return 0;
}

size_t strlen(const char *s)
{
	size_t n = 0;

	while (s[n])
		n++;
	return n;
}

void page_zero(void *page)
{
	word *p = page;

	for (int i = 0; i < 512; i += 8) {
		p[i] = 0, p[i + 1] = 0, p[i + 2] = 0, p[i + 3] = 0;
		p[i + 4] = 0, p[i + 5] = 0, p[i + 6] = 0, p[i + 7] = 0;
	}
}

void page_copy(void *restrict to, const void *restrict from)
{
	word *d = to;
	const word *s = from;

	for (int i = 0; i < 512; i += 8) {
		d[i] = s[i], d[i + 1] = s[i + 1], d[i + 2] = s[i + 2], d[i + 3] = s[i + 3];
		d[i + 4] = s[i + 4], d[i + 5] = s[i + 5], d[i + 6] = s[i + 6], d[i + 7] = s[i + 7];
	}
}
