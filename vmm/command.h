/* SPDX-License-Identifier: BSD-2-Clause */
/* Commands from outside. See command.c. */
#ifndef VMM_COMMAND_H
#define VMM_COMMAND_H

#include <stdint.h>

struct vm;

/* Carry @command (enum umbra_command) out, and say so in the machine page. */
void command_obey(struct vm *vm, uint32_t command);

#endif
