/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest's pair of 8259 interrupt controllers. */
#ifndef VMM_PIC_H
#define VMM_PIC_H

#include <stdbool.h>
#include <stdint.h>

struct pic_chip {
	uint8_t irr, isr, imr, lines, elcr;
	uint8_t vector; /* of input 0 */
	uint8_t lowest; /* input with the lowest priority */
	uint8_t init;   /* next initialisation word expected, 2..4; 0: none */
	bool wants_icw4, auto_eoi, rotate_aeoi, read_isr, special_mask, poll;
};

struct pic {
	struct pic_chip chip[2]; /* master, slave */
};

void pic_init(struct pic *pic);

/* Set input line @irq (0..15). A rising edge (or a level, by ELCR) requests an interrupt. */
void pic_set(struct pic *pic, unsigned irq, bool level);

/* Does the pair assert INTR? */
bool pic_pending(const struct pic *pic);

/* The processor acknowledges: the vector. Without a request, the spurious one (input 7). */
uint8_t pic_acknowledge(struct pic *pic);

/* @port: 0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1. */
uint8_t pic_read(struct pic *pic, uint16_t port);
void pic_write(struct pic *pic, uint16_t port, uint8_t value);

#endif
