/* SPDX-License-Identifier: BSD-2-Clause */
/* A root file system on the guest's disk. See disk.c. */
#ifndef GUEST_DISK_H
#define GUEST_DISK_H

/* Become its init. Returns, after saying why, where that cannot be done. */
void disk_boot(void);

#endif
