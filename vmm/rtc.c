/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's CMOS clock: reads show the outer clock's registers (time, date, century and the
 * status registers), writes change nothing; it raises no interrupts. Other CMOS bytes read 0.
 */
#include "rtc.h"
#include "x86.h"

uint8_t rtc_read(struct rtc *rtc, uint16_t port)
{
	uint8_t index = rtc->index & 0x7f;

	if (port == 0x70)
		return 0xff;
	if (index > 0x0d && index != 0x32)
		return 0;
	if (index == 0x0c) /* interrupt flags: reading the outer ones would clear them */
		return 0;
	outb(0x70, index | 0x80);
	return inb(0x71);
}

void rtc_write(struct rtc *rtc, uint16_t port, uint8_t value)
{
	if (port == 0x70)
		rtc->index = value;
}
