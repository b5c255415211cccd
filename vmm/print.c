/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Text for people. Owns no state: the UART belongs to the guest while it runs (uart.c), so
 * each print makes sure that the divisor latch is shut, polls, and puts the line control
 * register back.
 */
#include <stdbool.h>
#include <stdint.h>

#include "print.h"
#include "uart.h"
#include "x86.h"

struct sink {
	char *at;
	char *last; /* where the NUL goes at the latest */
};

static void put(struct sink *sink, char c)
{
	if (sink->at < sink->last)
		*sink->at++ = c;
}

static void put_number(struct sink *sink, uint64_t value, unsigned base, int width, char pad)
{
	char digits[24];
	int n = 0;

	do {
		digits[n++] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	for (; width > n; width--)
		put(sink, pad);
	while (n)
		put(sink, digits[--n]);
}

static void put_string(struct sink *sink, const char *s, int width)
{
	for (; *s; s++, width--)
		put(sink, *s);
	for (; width > 0; width--)
		put(sink, ' ');
}

size_t format_list(char *buffer, size_t size, const char *fmt, va_list args)
{
	struct sink sink = {buffer, buffer + size - 1};

	for (; *fmt; fmt++) {
		char pad = ' ';
		int width = 0;
		bool wide = false;

		if (*fmt != '%') {
			put(&sink, *fmt);
			continue;
		}
		fmt++;
		if (*fmt == '0')
			pad = '0';
		for (; *fmt >= '0' && *fmt <= '9'; fmt++)
			width = width * 10 + (*fmt - '0');
		for (; *fmt == 'l'; fmt++)
			wide = true;
		switch (*fmt) {
		case 's':
			put_string(&sink, va_arg(args, const char *), width);
			break;
		case 'c':
			put(&sink, (char)va_arg(args, int));
			break;
		case 'd': {
			int64_t v = wide ? va_arg(args, int64_t) : va_arg(args, int);
			if (v < 0)
				put(&sink, '-');
			put_number(&sink, v < 0 ? 0 - (uint64_t)v : (uint64_t)v, 10, width, pad);
			break;
		}
		case 'u':
		case 'x':
			put_number(&sink, wide ? va_arg(args, uint64_t) : va_arg(args, unsigned),
				   *fmt == 'u' ? 10 : 16, width, pad);
			break;
		case '%':
			put(&sink, '%');
			break;
		default:
			*sink.at = 0;
			return (size_t)(sink.at - buffer);
		}
	}
	*sink.at = 0;
	return (size_t)(sink.at - buffer);
}

size_t format(char *buffer, size_t size, const char *fmt, ...)
{
	va_list args;
	size_t n;

	va_start(args, fmt);
	n = format_list(buffer, size, fmt, args);
	va_end(args);
	return n;
}

static void send(char c)
{
	/* A port without a UART reads all-ones, which says "empty" too; never wait for ever. */
	for (int patience = 0; patience < 1000000; patience++)
		if (inb(UART_BASE + UART_LSR) & UART_LSR_EMPTY)
			break;
	outb(UART_BASE + UART_DATA, (uint8_t)c);
}

void print(const char *fmt, ...)
{
	char line[400];
	uint8_t control = inb(UART_BASE + UART_LCR);
	va_list args;

	va_start(args, fmt);
	format_list(line, sizeof(line), fmt, args);
	va_end(args);
	outb(UART_BASE + UART_LCR, control & 0x7f);
	for (const char *s = line; *s; s++) {
		if (*s == '\n')
			send('\r');
		send(*s);
	}
	outb(UART_BASE + UART_LCR, control);
}
