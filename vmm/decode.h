/* SPDX-License-Identifier: BSD-2-Clause */
/* Instruction decoder: lengths and operands. See decode.c. */
#ifndef VMM_DECODE_H
#define VMM_DECODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vcpu;

#define INSN_MAX 15

/* Segment registers in the processor's numbering. */
enum segment {
	SEGMENT_ES,
	SEGMENT_CS,
	SEGMENT_SS,
	SEGMENT_DS,
	SEGMENT_FS,
	SEGMENT_GS
};

struct insn {
	uint8_t length;
	uint8_t map; /* 0: one-byte opcodes; 1: 0F; 2: 0F 38; 3: 0F 3A */
	uint8_t opcode;
	uint8_t rex; /* 0: no REX prefix */
	bool lock, rep, repne;
	uint8_t size;         /* operand size in bytes, 2, 4 or 8 (of a byte opcode too) */
	uint8_t address_size; /* 2, 4 or 8 */
	uint8_t segment;      /* of the memory operand */
	bool has_modrm;
	uint8_t mod, reg, rm; /* with REX.R and REX.B */
	bool memory;          /* the operand named by ModRM is in memory */
	int8_t base, index;   /* registers; -1: none */
	uint8_t scale;        /* shift */
	bool rip_relative;
	int64_t displacement; /* of moffs forms: the address */
	uint64_t immediate;   /* sign-extended where the instruction does */
};

/*
 * Decode the instruction in @bytes (@count of them) for 64-bit mode, or for 32-bit (@wide: CS.D)
 * or 16-bit protected mode. False: unknown to the decoder, or not complete.
 */
bool decode(const uint8_t *bytes, size_t count, bool is_64, bool wide, struct insn *insn);

/*
 * Read up to INSN_MAX instruction bytes at RIP. Returns how many could be read; 0: none, a page
 * fault has been raised or the guest is to be entered again.
 */
size_t fetch(struct vcpu *vcpu, uint8_t *bytes);

/* Both. False when there is nothing to read; an unknown instruction ends the machine. */
bool decode_at_rip(struct vcpu *vcpu, struct insn *insn);

/* Linear address of the memory operand (AMD64 APM vol. 1 §2.2.2). */
uint64_t insn_address(const struct vcpu *vcpu, const struct insn *insn);

/* Linear address of @offset in @segment, cut to @address_size bytes before. */
uint64_t insn_linear(const struct vcpu *vcpu, unsigned segment, uint64_t offset,
		     unsigned address_size);

/* Register operands of @size bytes, the high-byte registers and zero extension included. */
uint64_t insn_register_read(const struct vcpu *vcpu, const struct insn *insn, unsigned reg,
			    unsigned size);
void insn_register_write(struct vcpu *vcpu, const struct insn *insn, unsigned reg, unsigned size,
			 uint64_t value);

#endif
