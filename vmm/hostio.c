/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The way to the host's files: requests in the machine page (umbra/machine.h), a bell in each
 * direction on the outer COM2. Owns the requests' data. A slot belongs to whoever asked until the
 * answer; the guest reaches neither, for all is copied.
 */
#include "hostio.h"
#include "cpu.h"
#include "host.h"
#include "machine.h"
#include "uart.h"
#include "vm.h"
#include "x86.h"

int hostio_init(struct vm *vm)
{
	struct hostio *h = &vm->hostio;

	if (h->data)
		return 0;
	h->data = pool_alloc(vm->frames, UMBRA_REQUESTS * UMBRA_REQUEST_BYTES);
	if (!h->data)
		return UMBRA_ENOMEM;
	vm->machine->data = (uintptr_t)h->data;
	uart_bell_init();
	return 0;
}

int hostio_slot(const struct vm *vm)
{
	for (unsigned i = 0; vm->hostio.data && i < UMBRA_REQUEST_SWAP; i++)
		if (!vm->hostio.done[i])
			return (int)i;
	return -1;
}

void *hostio_data(const struct vm *vm, unsigned slot)
{
	return vm->hostio.data + slot * UMBRA_REQUEST_BYTES;
}

static void ask(struct umbra_request *request, enum umbra_file file, enum umbra_request_kind kind,
		uint64_t offset, uint32_t size)
{
	request->file = file;
	request->kind = kind;
	request->offset = offset;
	request->size = size;
	request->failed = 1;
	__atomic_store_n(&request->state, UMBRA_REQUEST_ASKED, __ATOMIC_RELEASE);
	uart_bell_ring();
}

static bool is_done(const struct umbra_request *request)
{
	return __atomic_load_n(&request->state, __ATOMIC_ACQUIRE) == UMBRA_REQUEST_DONE;
}

void hostio_ask(struct vm *vm, unsigned slot, enum umbra_request_kind kind, uint64_t offset,
		uint32_t size, hostio_done *done)
{
	vm->hostio.done[slot] = done;
	vm->hostio.waiting++;
	ask(&vm->machine->requests[slot], UMBRA_FILE_DISK, kind, offset, size);
}

/*
 * An answer is often there sooner than a sleeper wakes up. The bell rings behind each, so that no
 * sleep is for ever; it may have rung for a disk, whose turn comes with the guests' devices.
 */
bool hostio_swap(struct host *host, enum umbra_request_kind kind, uint64_t offset, uint32_t size)
{
	struct umbra_request *request = &host->guest[0]->machine->requests[UMBRA_REQUEST_SWAP];

	uint64_t begun = rdtsc(), patience = cpu_this()->tsc_hz / 10000;

	ask(request, UMBRA_FILE_SWAP, kind, offset, size);
	while (!is_done(request) && rdtsc() - begun < patience)
		__builtin_ia32_pause();
	while (!is_done(request))
		interrupt_wait();
	request->state = UMBRA_REQUEST_FREE;
	return !request->failed;
}

void hostio_poll(struct vm *vm)
{
	struct hostio *h = &vm->hostio;

	for (unsigned i = 0; h->waiting && i < UMBRA_REQUEST_SWAP; i++) {
		struct umbra_request *request = &vm->machine->requests[i];
		hostio_done *done = h->done[i];

		if (!done || !is_done(request))
			continue;
		h->waiting--;
		done(vm, i, request->failed != 0);
		request->state = UMBRA_REQUEST_FREE;
		h->done[i] = NULL;
	}
}
