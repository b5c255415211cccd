/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest's CMOS clock and memory. */
#ifndef VMM_RTC_H
#define VMM_RTC_H

#include <stdint.h>

struct vm;

#define RTC_MEMORY 128u

struct rtc {
	uint8_t index;
	uint8_t a, b, c;            /* status registers; C: the flags */
	uint8_t memory[RTC_MEMORY]; /* alarms, and what is kept for nobody */
	uint64_t tick, second;      /* TSC of the next periodic interrupt, and of the next second */
	uint64_t next;              /* the sooner of those that are wanted; UINT64_MAX: none is */
};

void rtc_init(struct vm *vm);

/* Raise what is due at TSC @now. */
void rtc_poll(struct vm *vm, uint64_t now);

/* @port: 0x70 or 0x71. */
uint8_t rtc_read(struct vm *vm, uint16_t port);
void rtc_write(struct vm *vm, uint16_t port, uint8_t value);

#endif
