/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest's CMOS clock. */
#ifndef VMM_RTC_H
#define VMM_RTC_H

#include <stdint.h>

struct rtc {
	uint8_t index;
};

/* @port: 0x70 or 0x71. */
uint8_t rtc_read(struct rtc *rtc, uint16_t port);
void rtc_write(struct rtc *rtc, uint16_t port, uint8_t value);

#endif
