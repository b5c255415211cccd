/* SPDX-License-Identifier: BSD-2-Clause */
/* Events on their way into the guest; vcpu_raise() (vcpu.h) makes one. See event.c. */
#ifndef VMM_EVENT_H
#define VMM_EVENT_H

#include <stdbool.h>

#include "vcpu.h"
#include "vm.h"

/* Is there nothing to inject, to wait for, or to undo? Asked at each entry, where it mostly holds.
 */
static inline bool event_is_idle(const struct vcpu *vcpu)
{
	const uint64_t *irr = vcpu->lapic.irr;
	const struct pic_chip *pic = &vcpu->vm->pic.chip[0];

	return !(vcpu->event | vcpu->vmcb->inject | irr[0] | irr[1] | irr[2] | irr[3] |
		 vcpu->iret_rip | (pic->irr & ~pic->imr)) &&
	       vcpu->displaced < 0 && !vcpu->nmi_pending && !vcpu->delivery && !vcpu->window;
}

/* Behind an exit: note the event whose delivery it interrupted, if it must be delivered again. */
void event_take(struct vcpu *vcpu);

/* Behind a run of vcpu->offered: before event_take(). */
void event_withdraw(struct vcpu *vcpu);

/* Is there an interrupt for the guest, if only it lets it in? */
bool event_waits(const struct vcpu *vcpu);

/* Put the next event into the VMCB; ask for a window where an interrupt has to wait. */
void event_inject(struct vcpu *vcpu);

/* An interrupt of the host's ended the guest's run. */
void event_interrupted(struct vcpu *vcpu);

/* The guest leaves its NMI handler. */
void event_iret_exit(struct vcpu *vcpu);

/* Behind the run of vcpu->stepping. True: the exit was its #DB, and nobody else's. */
bool event_stepped(struct vcpu *vcpu);

#endif
