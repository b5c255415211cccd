/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest's disk. See virtio_blk.c. */
#ifndef VMM_VIRTIO_BLK_H
#define VMM_VIRTIO_BLK_H

struct vm;

/* A disk of vm->options.disk sectors, where there are any. 0 or UMBRA_ENOMEM. */
int virtio_blk_init(struct vm *vm);

/* The host answered; go on with what waited. */
void virtio_blk_poll(struct vm *vm);

#endif
