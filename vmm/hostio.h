/* SPDX-License-Identifier: BSD-2-Clause */
/* Requests to the `umbra` command, which serves the guest's disk from a file. See hostio.c. */
#ifndef VMM_HOSTIO_H
#define VMM_HOSTIO_H

#include <stdbool.h>
#include <stdint.h>
#include <umbra/machine.h>

struct vm;

/* What @slot asked for is done, or has failed; the slot is free again on return. */
typedef void hostio_done(struct vm *vm, unsigned slot, bool failed);

struct hostio {
	uint8_t *data;                     /* UMBRA_REQUESTS pieces; NULL: not in use */
	hostio_done *done[UMBRA_REQUESTS]; /* NULL: the slot is free */
	unsigned waiting;
};

/* 0 or UMBRA_ENOMEM. */
int hostio_init(struct vm *vm);

/* A free slot's number, or -1. It stays free until hostio_ask(). */
int hostio_slot(const struct vm *vm);

/* The slot's UMBRA_REQUEST_BYTES. */
void *hostio_data(const struct vm *vm, unsigned slot);

/* Ask; @done is called from hostio_poll(). */
void hostio_ask(struct vm *vm, unsigned slot, enum umbra_request_kind kind, uint64_t offset,
		uint32_t size, hostio_done *done);

/* Take the answers that are there. */
void hostio_poll(struct vm *vm);

#endif
