/* SPDX-License-Identifier: BSD-2-Clause */
/* Events on their way into the guest; vcpu_raise() (vcpu.h) makes one. See event.c. */
#ifndef VMM_EVENT_H
#define VMM_EVENT_H

#include <stdbool.h>

struct vcpu;

/* Behind an exit: note the event whose delivery it interrupted, if it must be delivered again. */
void event_take(struct vcpu *vcpu);

/* Is there an interrupt for the guest, if only it lets it in? */
bool event_waits(const struct vcpu *vcpu);

/* Put the next event into the VMCB; ask for a window where an interrupt has to wait. */
void event_inject(struct vcpu *vcpu);

/* The guest leaves its NMI handler. */
void event_iret_exit(struct vcpu *vcpu);

#endif
