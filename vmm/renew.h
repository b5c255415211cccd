/* SPDX-License-Identifier: BSD-2-Clause */
/* The MMU, begun anew. See renew.c. */
#ifndef VMM_RENEW_H
#define VMM_RENEW_H

struct vm;

/*
 * Between two guest entries: another MMU in place of the one there is, to be recorded from its
 * first call on. Nothing is mapped in it. 0, or the machine goes on as it was: UMBRA_ENOMEM;
 * UMBRA_EAGAIN: the host is amid something that the other one would not know of (a log of writes is
 * on, a range is being changed); or what the MMU said of the guest's registers.
 */
int mmu_renew(struct vm *vm);

#endif
