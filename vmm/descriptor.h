/* SPDX-License-Identifier: BSD-2-Clause */
/* Descriptors in the guest's tables, read where the processor would read them. */
#ifndef VMM_DESCRIPTOR_H
#define VMM_DESCRIPTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "emulate.h"

struct vcpu;

#define DESCRIPTOR_TYPE(d) ((unsigned)((d) >> 40) & 0x1f)
#define DESCRIPTOR_DPL(d)  ((unsigned)((d) >> 45) & 3)
#define DESCRIPTOR_P       (1ull << 47)

/*
 * The descriptor of @selector in the GDT, or also in the LDT if @ldt. False: the fault that the
 * processor raises for a null selector, or one behind the table's end, is raised.
 */
bool descriptor_read(struct vcpu *vcpu, uint16_t selector, bool ldt, uint64_t *descriptor);

/* Write it back, with a bit set. False: a fault was raised. */
bool descriptor_write(struct vcpu *vcpu, uint16_t selector, uint64_t descriptor);

/* What a segment register holds with it. */
struct emu_segment descriptor_segment(uint16_t selector, uint64_t descriptor);

/* Far JMP, and MOV to a segment register, from memory. EMU_UNKNOWN: not all of them. */
bool descriptor_knows(const struct insn *insn);
enum emu_result descriptor_execute(struct vcpu *vcpu, const struct insn *insn);

#endif
