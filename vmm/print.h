/* SPDX-License-Identifier: BSD-2-Clause */
/* Text for people: formatting into buffers, and the hypervisor's own words on COM1. */
#ifndef VMM_PRINT_H
#define VMM_PRINT_H

#include <stdarg.h>
#include <stddef.h>

/*
 * Format into @buffer (@size >= 1 bytes, always NUL-terminated, cut if too long). Knows %s, %c,
 * %d, %u, %x with an optional 0 flag, width, and l or ll; and %%. Returns the length written.
 */
size_t format(char *buffer, size_t size, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
size_t format_list(char *buffer, size_t size, const char *fmt, va_list args);

/* Write to COM1 by polling, whatever state the guest left the UART in. '\n' becomes CR LF. */
void print(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
