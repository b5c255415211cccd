/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's 8259 pair (Intel 8259A data sheet), slave on input 2, with edge/level control
 * registers. Buffered mode and special fully nested mode are accepted and mean nothing here.
 */
#include "pic.h"
#include "string.h"

#define CASCADE 2

void pic_init(struct pic *pic)
{
	memset(pic, 0, sizeof(*pic));
	pic->chip[0].lowest = 7;
	pic->chip[1].lowest = 7;
	pic->chip[0].imr = 0xff;
	pic->chip[1].imr = 0xff;
}

/* The best request that is not masked and beats what is in service; -1: none. */
static int best(const struct pic_chip *c)
{
	if (!(c->irr & ~c->imr))
		return -1;
	for (unsigned i = 1; i <= 8; i++) {
		unsigned input = (c->lowest + i) & 7;
		uint8_t bit = (uint8_t)(1u << input);

		if (c->isr & bit && !(c->special_mask && c->imr & bit))
			return -1;
		if (c->irr & ~c->imr & ~c->isr & bit)
			return (int)input;
	}
	return -1;
}

/* The slave's output is the master's input 2. */
static void cascade(struct pic *pic)
{
	if (best(&pic->chip[1]) >= 0)
		pic->chip[0].irr |= 1u << CASCADE;
	else
		pic->chip[0].irr &= (uint8_t) ~(1u << CASCADE);
}

void pic_set(struct pic *pic, unsigned irq, bool level)
{
	struct pic_chip *c = &pic->chip[irq >> 3];
	uint8_t bit = (uint8_t)(1u << (irq & 7));

	if (level) {
		if (!(c->lines & bit) || c->elcr & bit)
			c->irr |= bit;
		c->lines |= bit;
	} else {
		c->lines &= (uint8_t)~bit;
		if (c->elcr & bit)
			c->irr &= (uint8_t)~bit;
	}
	cascade(pic);
}

bool pic_pending(const struct pic *pic)
{
	return best(&pic->chip[0]) >= 0;
}

static uint8_t chip_acknowledge(struct pic_chip *c)
{
	int input = best(c);

	if (input < 0)
		return 7;
	if (!(c->elcr & 1u << input))
		c->irr &= (uint8_t) ~(1u << input);
	if (!c->auto_eoi)
		c->isr |= (uint8_t)(1u << input);
	else if (c->rotate_aeoi)
		c->lowest = (uint8_t)input;
	return (uint8_t)input;
}

uint8_t pic_acknowledge(struct pic *pic)
{
	uint8_t input = chip_acknowledge(&pic->chip[0]);
	uint8_t vector = (uint8_t)(pic->chip[0].vector + input);

	if (input == CASCADE) {
		input = chip_acknowledge(&pic->chip[1]);
		vector = (uint8_t)(pic->chip[1].vector + input);
	}
	cascade(pic);
	return vector;
}

static void end_of_interrupt(struct pic_chip *c, uint8_t command)
{
	unsigned input = command & 7;

	if (!(command & 0x40)) { /* not specific: the highest one in service */
		unsigned i = 1;

		while (i <= 8 && !(c->isr & 1u << ((c->lowest + i) & 7)))
			i++;
		if (i > 8)
			return;
		input = (c->lowest + i) & 7;
	}
	c->isr &= (uint8_t) ~(1u << input);
	if (command & 0x80)
		c->lowest = (uint8_t)input;
}

static void command_write(struct pic_chip *c, uint8_t value)
{
	if (value & 0x10) { /* ICW1 */
		c->irr = c->isr = c->imr = 0;
		c->lowest = 7;
		c->auto_eoi = c->rotate_aeoi = c->read_isr = c->special_mask = c->poll = false;
		c->wants_icw4 = value & 1;
		c->init = 2;
	} else if (value & 0x08) { /* OCW3 */
		if (value & 0x04)
			c->poll = true;
		if (value & 0x02)
			c->read_isr = value & 1;
		if (value & 0x40)
			c->special_mask = value & 0x20;
	} else { /* OCW2: R, SL, EOI in bits 7..5 */
		if (value & 0x20)
			end_of_interrupt(c, value);
		else if ((value & 0xc0) == 0xc0)
			c->lowest = value & 7;
		else if (!(value & 0x40))
			c->rotate_aeoi = value & 0x80;
	}
}

static void data_write(struct pic_chip *c, uint8_t value)
{
	switch (c->init) {
	case 0:
		c->imr = value;
		break;
	case 2:
		c->vector = value & 0xf8;
		c->init = 3;
		break;
	case 3: /* wiring: as it is on every PC */
		c->init = c->wants_icw4 ? 4 : 0;
		break;
	default:
		c->auto_eoi = value & 2;
		c->init = 0;
	}
}

uint8_t pic_read(struct pic *pic, uint16_t port)
{
	struct pic_chip *c = &pic->chip[port == 0x4d0 || port == 0x4d1 ? port & 1 : port >> 7 & 1];

	if (port >= 0x4d0)
		return c->elcr;
	if (port & 1)
		return c->imr;
	if (c->poll) { /* a read acknowledges */
		int input = best(c);
		uint8_t value = 0;

		c->poll = false;
		if (input >= 0)
			value = 0x80 | chip_acknowledge(c);
		cascade(pic);
		return value;
	}
	return c->read_isr ? c->isr : c->irr;
}

void pic_write(struct pic *pic, uint16_t port, uint8_t value)
{
	if (port == 0x4d0)
		pic->chip[0].elcr = value & 0xf8;
	else if (port == 0x4d1)
		pic->chip[1].elcr = value & 0xde;
	else if (port & 1)
		data_write(&pic->chip[port >> 7 & 1], value);
	else
		command_write(&pic->chip[port >> 7 & 1], value);
	cascade(pic);
}
