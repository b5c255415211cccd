/* SPDX-License-Identifier: BSD-2-Clause */
/* What all virtio devices have in common (OASIS virtio 1.2), on PCI. See virtio.c. */
#ifndef VMM_VIRTIO_H
#define VMM_VIRTIO_H

#include <stdbool.h>
#include <stdint.h>

#include "pci.h"

struct vm;
struct virtio;

#define VIRTIO_QUEUES   2u
#define VIRTIO_ENTRIES  128u /* of a queue, at most */
#define VIRTIO_SEGMENTS 36u  /* of a chain, at most */
#define VIRTIO_CONFIG   64u  /* bytes of a device's own configuration, at most */

#define VIRTIO_F_VERSION_1 (1ull << 32)

/* Guest memory that a driver hands over: not looked at before it is copied. */
struct virtio_segment {
	uint64_t gpa;
	uint32_t size; /* bytes */
};

/* A chain of descriptors: first @out segments to be read, then @in to be written. */
struct virtio_chain {
	uint16_t head;
	uint16_t out, in;
	uint32_t out_bytes, in_bytes;
	struct virtio_segment segments[VIRTIO_SEGMENTS];
};

struct virtio_kind {
	uint16_t type;  /* virtio 1.2 §5 */
	uint32_t class; /* PCI's */
	uint16_t queues;
	void (*notified)(struct virtio *v, unsigned queue); /* there may be new chains */
	void (*reset)(struct virtio *v);
};

struct virtio_queue {
	uint16_t size, seen, used;
	bool enabled;
	uint64_t descriptors, available, returned; /* gpa */
};

struct virtio {
	struct pci_function pci;
	const struct virtio_kind *kind;
	struct vm *vm;
	void *device;
	unsigned irq;
	uint64_t features, accepted;
	uint32_t feature_choice, accepted_choice;
	uint16_t queue_choice;
	uint8_t status, isr;
	uint8_t config[VIRTIO_CONFIG];
	struct virtio_queue queues[VIRTIO_QUEUES];
};

/* Make a device and put it on the bus; .config and .features are the caller's. NULL: no memory. */
struct virtio *virtio_create(struct vm *vm, const struct virtio_kind *kind, void *device);

/*
 * Take the next chain of @queue. False: there is none; or the ring is malformed, and the device
 * now waits for the driver to reset it (virtio 1.2 §2.1.1 DEVICE_NEEDS_RESET).
 */
bool virtio_take(struct virtio *v, unsigned queue, struct virtio_chain *chain);

/*
 * Copy @size bytes from the readable part of @chain, from byte @at on; or to the writable part.
 * False: the chain is shorter, or leads out of the guest's memory (the device then waits for a
 * reset).
 */
bool virtio_read(struct virtio *v, const struct virtio_chain *chain, uint32_t at, void *to,
		 uint32_t size);
bool virtio_write(struct virtio *v, const struct virtio_chain *chain, uint32_t at, const void *from,
		  uint32_t size);

/* A chain that no driver would send: the device waits for a reset. */
void virtio_refuse(struct virtio *v);

/* Hand @chain back, with @written bytes in its writable part; the driver is interrupted. */
void virtio_return(struct virtio *v, unsigned queue, const struct virtio_chain *chain,
		   uint32_t written);

#endif
