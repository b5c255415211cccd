/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The console of several guests. What a guest says is kept until its line is whole and goes out
 * behind the guest's number, "g1| ", so that each line of the console is one guest's. Guest 0 is
 * the one who can be typed to: a line of its that has waited for PATIENCE, as a prompt does, is
 * shown as it is, and goes on where it was if nobody has spoken since.
 *
 * Owns a 16550 for each guest (National Semiconductor PC16550D data sheet) that sends at once; what
 * guest 0's receives stays in the outer COM1 until it is read.
 */
#include "serial.h"
#include "cpu.h"
#include "host.h"
#include "irq.h"
#include "uart.h"
#include "vm.h"
#include "x86.h"

#define IER_RECEIVED 1u
#define IER_EMPTY    2u

#define IIR_NONE     1u
#define IIR_EMPTY    2u
#define IIR_RECEIVED 4u
#define IIR_FIFO     0xc0u

#define LCR_DIVISOR 0x80u
#define MCR_LOOP    0x10u
#define LSR_KEY     1u
#define LSR_IDLE    0x60u
#define MSR_READY   0xb0u /* carrier, data set ready, clear to send */

#define REGISTER_LSR     5u
#define REGISTER_MSR     6u
#define REGISTER_SCRATCH 7u

static uint64_t patience(const struct vm *vm)
{
	return vm->cpu->tsc_hz / 50;
}

void serial_init(struct vm *vm)
{
	vm->serial.on = vm->options.guests > 1 && !vm->options.console;
	vm->serial.due = UINT64_MAX;
	vm->serial.empty_told = true;
}

/* ------------------------------------------------------------------ lines */

static void say(const char *text)
{
	while (*text)
		uart_put((uint8_t)*text++);
}

static void show(struct vm *vm)
{
	struct serial *s = &vm->serial;
	struct host *host = vm->host;
	const char prefix[] = {'g', (char)('0' + vm->number), '|', ' ', 0};

	if (host->open_line != vm) {
		if (host->open_line)
			say("\r\n");
		say(prefix);
		host->open_line = vm;
	}
	for (size_t i = 0; i < s->size; i++)
		uart_put((uint8_t)s->line[i]);
	s->size = 0;
	s->due = UINT64_MAX;
}

static void end_line(struct vm *vm)
{
	show(vm);
	say("\r\n");
	vm->host->open_line = NULL;
}

void serial_put(struct vm *vm, uint8_t c)
{
	struct serial *s = &vm->serial;

	if (c == '\n') {
		if (s->size && s->line[s->size - 1] == '\r')
			s->size--;
		end_line(vm);
		return;
	}
	if (s->size == SERIAL_LINE)
		end_line(vm);
	s->line[s->size++] = (char)c;
	if (vm->number == 0)
		s->due = rdtsc() + patience(vm);
}

void serial_poll(struct vm *vm, uint64_t now)
{
	if (now >= vm->serial.due)
		show(vm);
}

void serial_finish(struct vm *vm)
{
	if (vm->serial.size || vm->host->open_line == vm)
		end_line(vm);
}

/* ------------------------------------------------------------------ the UART */

static uint8_t identify(const struct vm *vm)
{
	const struct serial *s = &vm->serial;

	if (s->ier & IER_RECEIVED && uart_has_key(vm))
		return IIR_RECEIVED;
	return s->ier & IER_EMPTY && !s->empty_told ? IIR_EMPTY : IIR_NONE;
}

void serial_update(struct vm *vm)
{
	bool raise = vm->serial.on && identify(vm) != IIR_NONE;

	if (raise != vm->serial.raised)
		irq_set(vm, UART_IRQ, raise);
	vm->serial.raised = raise;
}

/* With its outputs led back to its inputs: RTS, DTR, OUT1, OUT2. */
static uint8_t modem(const struct serial *s)
{
	if (!(s->mcr & MCR_LOOP))
		return MSR_READY;
	return (uint8_t)((s->mcr & 2) << 3 | (s->mcr & 1) << 5 | (s->mcr & 0xc) << 4);
}

static uint8_t read(struct vm *vm, unsigned number)
{
	struct serial *s = &vm->serial;
	uint8_t value;

	if (s->lcr & LCR_DIVISOR && number <= UART_IER)
		return s->divisor[number];
	switch (number) {
	case UART_DATA:
		return uart_has_key(vm) ? uart_get() : 0;
	case UART_IER:
		return s->ier;
	case UART_FCR: /* IIR */
		value = identify(vm);
		if (value == IIR_EMPTY)
			s->empty_told = true;
		return value | (s->fifo ? IIR_FIFO : 0);
	case UART_LCR:
		return s->lcr;
	case UART_MCR:
		return s->mcr;
	case REGISTER_LSR:
		return LSR_IDLE | (uart_has_key(vm) ? LSR_KEY : 0);
	case REGISTER_MSR:
		return modem(s);
	default:
		return s->scratch;
	}
}

static void write(struct vm *vm, unsigned number, uint8_t value)
{
	struct serial *s = &vm->serial;

	if (s->lcr & LCR_DIVISOR && number <= UART_IER) {
		s->divisor[number] = value;
		return;
	}
	switch (number) {
	case UART_DATA:
		if (!(s->mcr & MCR_LOOP))
			serial_put(vm, value);
		s->empty_told = false;
		break;
	case UART_IER:
		if (value & ~s->ier & IER_EMPTY)
			s->empty_told = false;
		s->ier = value & 0xf;
		break;
	case UART_FCR:
		s->fifo = value & 1;
		break;
	case UART_LCR:
		s->lcr = value;
		break;
	case UART_MCR:
		s->mcr = value & 0x1f;
		break;
	case REGISTER_SCRATCH:
		s->scratch = value;
		break;
	default:
		break;
	}
}

uint8_t serial_read(struct vm *vm, uint16_t port)
{
	uint8_t value;

	if (!vm->serial.on)
		return 0xff;
	value = read(vm, port - UART_BASE);
	serial_update(vm);
	return value;
}

void serial_write(struct vm *vm, uint16_t port, uint8_t value)
{
	if (!vm->serial.on)
		return;
	write(vm, port - UART_BASE, value);
	serial_update(vm);
}
