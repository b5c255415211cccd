/* SPDX-License-Identifier: BSD-2-Clause */
/* Guest-physical memory. See memory.c; memory_copy.c. */
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

/* The guest has ended: give the MMU's memory and the guest's frames back. */
void memory_destroy(struct vm *vm);

/*
 * An entry of vm->entries: what is behind a page. 0: nothing yet, it will read as zeros. Else the
 * number of its frame, or with MEMORY_SWAPPED of its place in the swap file. MEMORY_SHARED: other
 * pages have the same frame, so it is only read.
 */
#define MEMORY_SWAPPED 0x80000000u
#define MEMORY_SHARED  0x40000000u
#define MEMORY_NUMBER  0x3fffffffu

static inline bool memory_has_frame(uint32_t entry)
{
	return entry && !(entry & MEMORY_SWAPPED);
}

/*
 * The page behind @gfn, to be written: allocated, read in or made private if need be, and told so
 * by mmu_guest_write(). It stays there until VM_HANDED others were asked for, or the guest runs
 * again. NULL: in no slot, or no frame left. _read: the same, to be read at once.
 */
void *memory_page(struct vm *vm, uint64_t gfn);
const void *memory_page_read(struct vm *vm, uint64_t gfn);

/*
 * The MMU said UMBRA_RETRY or UMBRA_EAGAIN: do what host.frame_get could not under the MMU's lock,
 * if that is why. Where it cannot be done the machine ends with a message. False: there was
 * nothing to do.
 */
bool memory_settle(struct vm *vm);

/* Was page @index handed out a moment ago? Then it must keep its frame. */
bool memory_is_handed(const struct vm *vm, uint32_t index);

/* Is @gfn in a slot that the guest may only read now? */
bool memory_is_read_only(struct vm *vm, uint64_t gfn);

/* The gfn of page @index. */
uint64_t memory_gfn(const struct vm *vm, uint32_t index);

/*
 * Copy @size bytes to guest-physical @gpa, before the guest runs (no table is tracked yet).
 * False: leaves the slots, or no frame left.
 */
bool memory_write(struct vm *vm, uint64_t gpa, const void *from, uint64_t size);

/*
 * The same while it runs, and the other way. False: some of it is no memory, or may only be read;
 * what lies before that may have been copied.
 */
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

/*
 * Slot @id of the guest goes: there is no memory for it any more. Or comes back: with what was in
 * it. Or is only read from now on, or not; what is mapped stays. 0, UMBRA_ENOENT, UMBRA_EEXIST,
 * _ENOMEM.
 */
int memory_slot_delete(struct vm *vm, uint64_t id);
int memory_slot_add(struct vm *vm, uint64_t id);
int memory_slot_flags(struct vm *vm, uint64_t id, uint32_t flags);

/* Delete the slot that holds @gfn and add it again; frames and contents stay. 0 or UMBRA_E*. */
int memory_slot_renew(struct vm *vm, uint64_t gfn);

#endif
