/* SPDX-License-Identifier: BSD-2-Clause */
/* The few memory and string functions of C17 §7.24 that the hypervisor uses (string.c). */
#ifndef VMM_STRING_H
#define VMM_STRING_H

#include <stddef.h>
#include <stdint.h>

void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int byte, size_t size);
int memcmp(const void *a, const void *b, size_t size);
size_t strlen(const char *s);

/* Whole pages, fast; both pointers 4096-aligned. */
void page_zero(void *page);
void page_copy(void *restrict to, const void *restrict from);

#endif
