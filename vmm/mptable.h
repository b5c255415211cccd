/* SPDX-License-Identifier: BSD-2-Clause */
/* The MultiProcessor table: what little firmware the guest finds. See mptable.c. */
#ifndef VMM_MPTABLE_H
#define VMM_MPTABLE_H

#include "vm.h"

/* Write it to the top KiB of base memory (0x9fc00). False: no frame left. */
bool mptable_write(struct vm *vm);

#endif
