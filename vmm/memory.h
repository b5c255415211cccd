/* SPDX-License-Identifier: BSD-2-Clause */
/* Guest-physical memory. See memory.c. */
#ifndef VMM_MEMORY_H
#define VMM_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vm.h"

/* Guest RAM above this lies at 4 GiB and up, as on a PC. */
#define MEMORY_LOW_MAX 0xc0000000ull

/* Where the option spare= puts its memory. */
#define MEMORY_SPARE (512ull << 30)

/*
 * Lay vm->options.memory bytes out as slots, make the MMU. 0, or UMBRA_ENOMEM / UMBRA_EINVAL.
 */
int memory_init(struct vm *vm);

/* vm->mmu, as vm->machine->config says, with the guest's slots. 0 or UMBRA_E*. */
int memory_mmu_make(struct vm *vm);

/* The page behind @gfn, allocated if need be. NULL: in no slot, or no frame left. */
void *memory_page(struct vm *vm, uint64_t gfn);

/*
 * Copy @size bytes to guest-physical @gpa, before the guest runs (no table is tracked yet).
 * False: leaves the slots, or no frame left.
 */
bool memory_write(struct vm *vm, uint64_t gpa, const void *from, uint64_t size);

/* The same while it runs, and the other way. False: some of it is no memory; nothing was copied. */
bool memory_guest_read(struct vm *vm, uint64_t gpa, void *to, uint64_t size);
bool memory_guest_write(struct vm *vm, uint64_t gpa, const void *from, uint64_t size);

/* A random gfn that has a frame. False: not found in a reasonable number of tries. */
bool memory_random(struct vm *vm, uint64_t *gfn);

/*
 * Move @gfn to another, random frame. Returns 0 and the number of sptes dropped and the ticks
 * that took (the copy not counted); UMBRA_ENOENT: no such page; UMBRA_ENOMEM: no frame free.
 */
int memory_migrate(struct vm *vm, uint64_t gfn, uint64_t *sptes, uint64_t *ticks);

/* The same, as memory that is only read, or not. */
int memory_slot_protect(struct vm *vm, uint64_t gfn, bool read_only);

/* Delete the slot that holds @gfn and add it again; frames and contents stay. 0 or UMBRA_E*. */
int memory_slot_renew(struct vm *vm, uint64_t gfn);

#endif
