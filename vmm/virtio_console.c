/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's console as a virtio device (OASIS virtio 1.2 §5.3), one port, no control queue.
 * Behind it is the outer COM1, which the guest then does not have. Keys that the driver has no room
 * for stay in the UART.
 */
#include "virtio_console.h"
#include "uart.h"
#include "virtio.h"
#include "vm.h"

#define KEYS   0 /* queues */
#define OUTPUT 1
#define PIECE  256u

/* Of one chain's output: nothing else happens while it goes out, and segments may overlap. */
#define OUTPUT_MAX (64u << 10)

void virtio_console_input(struct vm *vm)
{
	struct virtio *v = vm->console;
	struct virtio_chain chain;

	while (uart_has_key(vm) && virtio_take(v, KEYS, &chain)) {
		uint8_t keys[PIECE];
		uint32_t count = 0;

		while (count < chain.in_bytes && count < PIECE && uart_has_key(vm))
			keys[count++] = uart_get();
		if (virtio_write(v, &chain, 0, keys, count))
			virtio_return(v, KEYS, &chain, count);
	}
}

static void output(struct virtio *v, const struct virtio_chain *chain)
{
	uint8_t piece[PIECE];

	if (chain->out_bytes > OUTPUT_MAX) {
		virtio_refuse(v);
		return;
	}
	for (uint32_t at = 0; at < chain->out_bytes; at += PIECE) {
		uint32_t size = chain->out_bytes - at < PIECE ? chain->out_bytes - at : PIECE;

		if (!virtio_read(v, chain, at, piece, size))
			return;
		for (uint32_t i = 0; i < size; i++)
			uart_say(v->vm, piece[i]);
	}
	virtio_return(v, OUTPUT, chain, 0);
}

static void notified(struct virtio *v, unsigned queue)
{
	struct virtio_chain chain;

	if (queue == KEYS)
		virtio_console_input(v->vm);
	while (queue == OUTPUT && virtio_take(v, queue, &chain))
		output(v, &chain);
}

static const struct virtio_kind kind = {
    .type = 3, .class = 0x078000, .queues = 2, .notified = notified};

int virtio_console_init(struct vm *vm)
{
	if (!vm->options.console)
		return 0;
	vm->console = virtio_create(vm, &kind, NULL);
	if (!vm->console)
		return UMBRA_ENOMEM;
	uart_listen();
	return 0;
}
