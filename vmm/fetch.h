/* SPDX-License-Identifier: BSD-2-Clause */
/* Guest-virtual memory as the vcpu's guest sees it: translations, instruction bytes. See fetch.c.
 */
#ifndef VMM_FETCH_H
#define VMM_FETCH_H

#include <insn.h>
#include <umbra/umbra.h>

struct vcpu;

/* umbra_translate() with the registers of now: @access as umbra_fault takes it. */
struct umbra_answer translate(struct vcpu *vcpu, uint64_t gva, uint32_t access);

/*
 * Read up to INSN_MAX instruction bytes at RIP. Returns how many could be read; 0: none, a page
 * fault has been raised or the guest is to be entered again.
 */
size_t fetch(struct vcpu *vcpu, uint8_t *bytes);

/* Both. False when there is nothing to read; an unknown instruction ends the machine. */
bool decode_at_rip(struct vcpu *vcpu, struct insn *insn);

#endif
