/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's disk: a virtio block device (OASIS virtio 1.2 §5.2) in front of the host's file
 * (hostio.c). A request is copied to or from its slot's data; where no slot is free, it stays in
 * the ring until one is.
 */
#include "virtio_blk.h"
#include "hostio.h"
#include "machine.h"
#include "string.h"
#include "virtio.h"
#include "vm.h"

#define SECTOR     512u
#define SEGMENT    4096u /* bytes of one, at most */
#define SEGMENTS   (UMBRA_REQUEST_BYTES / SEGMENT)
#define QUEUE      0
#define F_SIZE_MAX (1ull << 1)
#define F_SEG_MAX  (1ull << 2)
#define F_RO       (1ull << 5)
#define F_BLK_SIZE (1ull << 6)
#define F_FLUSH    (1ull << 9)

enum request_type {
	TYPE_IN = 0,
	TYPE_OUT = 1,
	TYPE_FLUSH = 4,
	TYPE_ID = 8,
};

enum result {
	RESULT_OK,
	RESULT_ERROR,
	RESULT_UNSUPPORTED,
};

struct __attribute__((packed)) header {
	uint32_t type, reserved;
	uint64_t sector;
};

struct blk {
	struct virtio *virtio;
	struct virtio_chain chains[UMBRA_REQUEST_SWAP]; /* by the slot that carries them out */
	bool stale[UMBRA_REQUEST_SWAP];                 /* the device was reset meanwhile */
	bool is_read[UMBRA_REQUEST_SWAP];
};

static void finish(struct blk *blk, const struct virtio_chain *chain, uint8_t result,
		   uint32_t written)
{
	if (virtio_write(blk->virtio, chain, chain->in_bytes - 1, &result, 1))
		virtio_return(blk->virtio, QUEUE, chain, written + 1);
}

static void notified(struct virtio *v, unsigned queue);

static void done(struct vm *vm, unsigned slot, bool failed)
{
	struct blk *blk = vm->blk;
	const struct virtio_chain *chain = &blk->chains[slot];
	uint32_t size = !failed && blk->is_read[slot] ? chain->in_bytes - 1 : 0;

	if (blk->stale[slot])
		return;
	if (virtio_write(blk->virtio, chain, 0, hostio_data(vm, slot), size))
		finish(blk, chain, failed ? RESULT_ERROR : RESULT_OK, size);
}

/* Can @size bytes at @sector be read or written? */
static bool is_on_disk(const struct vm *vm, uint64_t sector, uint32_t size)
{
	uint64_t sectors = size / SECTOR;

	return size <= UMBRA_REQUEST_BYTES && size % SECTOR == 0 && sectors <= vm->options.disk &&
	       sector <= vm->options.disk - sectors;
}

/* Carry @chain out, in @slot if it needs the file. */
static void request(struct blk *blk, const struct virtio_chain *chain, unsigned slot)
{
	static const char id[20] = "umbra";
	struct vm *vm = blk->virtio->vm;
	uint32_t in = chain->in_bytes - 1, out = chain->out_bytes - sizeof(struct header);
	struct header header;

	if (!virtio_read(blk->virtio, chain, 0, &header, sizeof(header)))
		return;
	blk->chains[slot] = *chain;
	blk->stale[slot] = false;
	blk->is_read[slot] = header.type == TYPE_IN;
	switch (header.type) {
	case TYPE_IN:
		vm->machine->disk_reads++;
		if (!is_on_disk(vm, header.sector, in))
			break;
		hostio_ask(vm, slot, UMBRA_REQUEST_READ, header.sector * SECTOR, in, done);
		return;
	case TYPE_OUT:
		vm->machine->disk_writes++;
		if (!is_on_disk(vm, header.sector, out) || vm->options.disk_ro)
			break;
		if (virtio_read(blk->virtio, chain, sizeof(header), hostio_data(vm, slot), out))
			hostio_ask(vm, slot, UMBRA_REQUEST_WRITE, header.sector * SECTOR, out,
				   done);
		return;
	case TYPE_FLUSH:
		hostio_ask(vm, slot, UMBRA_REQUEST_FLUSH, 0, 0, done);
		return;
	case TYPE_ID:
		if (in > sizeof(id))
			in = sizeof(id);
		if (virtio_write(blk->virtio, chain, 0, id, in))
			finish(blk, chain, RESULT_OK, in);
		return;
	default:
		finish(blk, chain, RESULT_UNSUPPORTED, 0);
		return;
	}
	finish(blk, chain, RESULT_ERROR, 0);
}

static void notified(struct virtio *v, unsigned queue)
{
	struct blk *blk = v->device;
	struct virtio_chain chain;
	int slot;

	while ((slot = hostio_slot(v->vm)) >= 0 && virtio_take(v, queue, &chain))
		if (chain.out_bytes >= sizeof(struct header) && chain.in_bytes)
			request(blk, &chain, (unsigned)slot);
		else
			virtio_return(v, queue, &chain, 0);
}

static void reset(struct virtio *v)
{
	struct blk *blk = v->device;

	memset(blk->stale, true, sizeof(blk->stale));
}

static const struct virtio_kind kind = {
    .type = 2, .class = 0x010000, .queues = 1, .notified = notified, .reset = reset};

void virtio_blk_poll(struct vm *vm)
{
	if (!vm->blk)
		return;
	hostio_poll(vm);
	notified(vm->blk->virtio, QUEUE); /* what had to wait for a slot */
}

int virtio_blk_init(struct vm *vm)
{
	struct blk *blk;
	uint32_t geometry[] = {SEGMENT, SEGMENTS, 0, SECTOR}; /* §5.2.4, from byte 8 on */

	if (!vm->options.disk)
		return 0;
	blk = vm->blk = pool_alloc(vm->frames, sizeof(*blk));
	if (!blk || hostio_init(vm))
		return UMBRA_ENOMEM;
	blk->virtio = virtio_create(vm, &kind, blk);
	if (!blk->virtio)
		return UMBRA_ENOMEM;
	blk->virtio->features |= F_SIZE_MAX | F_SEG_MAX | F_BLK_SIZE | F_FLUSH;
	if (vm->options.disk_ro)
		blk->virtio->features |= F_RO;
	memcpy(blk->virtio->config, &vm->options.disk, sizeof(uint64_t));
	memcpy(blk->virtio->config + 8, geometry, sizeof(geometry));
	return 0;
}
