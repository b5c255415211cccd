/* SPDX-License-Identifier: BSD-2-Clause */
/* Modules of the guest's kernel. See modules.c. */
#ifndef GUEST_MODULES_H
#define GUEST_MODULES_H

/* Load what lies in /lib/modules, in the order of its names. */
void modules_load(void);

#endif
