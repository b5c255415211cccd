/* SPDX-License-Identifier: BSD-2-Clause */
/* The #PF exit, and with nested paging its like. See pagefault.c. */
#ifndef VMM_PAGEFAULT_H
#define VMM_PAGEFAULT_H

struct vcpu;

void pagefault_exit(struct vcpu *vcpu);
void pagefault_nested_exit(struct vcpu *vcpu);

#endif
