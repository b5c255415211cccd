/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest's console on virtio. See virtio_console.c. */
#ifndef VMM_VIRTIO_CONSOLE_H
#define VMM_VIRTIO_CONSOLE_H

struct vm;

/* In place of COM1, where vm->options.console says so. 0 or UMBRA_ENOMEM. */
int virtio_console_init(struct vm *vm);

/* Keys have come. */
void virtio_console_input(struct vm *vm);

#endif
