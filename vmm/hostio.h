/* SPDX-License-Identifier: BSD-2-Clause */
/* Requests to the `umbra` command, which has the disk's and the swap file. See hostio.c. */
#ifndef VMM_HOSTIO_H
#define VMM_HOSTIO_H

#include <stdbool.h>
#include <stdint.h>
#include <umbra/machine.h>

struct host;
struct vm;

/* What @slot asked for is done, or has failed; the slot is free again on return. */
typedef void hostio_done(struct vm *vm, unsigned slot, bool failed);

struct hostio {
	uint8_t *data;                     /* UMBRA_REQUESTS pieces; NULL: not in use */
	hostio_done *done[UMBRA_REQUESTS]; /* NULL: the slot is free */
	unsigned waiting;
};

/* 0 or UMBRA_ENOMEM. Once is enough. */
int hostio_init(struct vm *vm);

/* A free slot's number, or -1. It stays free until hostio_ask(). */
int hostio_slot(const struct vm *vm);

/* The slot's UMBRA_REQUEST_BYTES. */
void *hostio_data(const struct vm *vm, unsigned slot);

/* Ask for the disk; @done is called from hostio_poll(). */
void hostio_ask(struct vm *vm, unsigned slot, enum umbra_request_kind kind, uint64_t offset,
		uint32_t size, hostio_done *done);

/*
 * Ask for the swap file, and sleep until that is done: interrupts are served meanwhile, guests
 * wait. The data: hostio_data(host->guest[0], UMBRA_REQUEST_SWAP). False: it has failed.
 */
bool hostio_swap(struct host *host, enum umbra_request_kind kind, uint64_t offset, uint32_t size);

/* Take the answers that are there. */
void hostio_poll(struct vm *vm);

#endif
