/* SPDX-License-Identifier: BSD-2-Clause */
/* What an instruction's bytes say, before anything is looked up. See decode.c. */
#ifndef EMU_INSN_H
#define EMU_INSN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INSN_MAX 15

/* The kind of code: what EFER.LMA, CS.L and CS.D together select. */
enum insn_mode {
	INSN_16, /* real mode too */
	INSN_32,
	INSN_64,
};

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
	uint8_t mode; /* enum insn_mode */
	uint8_t rex;  /* 0: no REX prefix */
	bool lock, rep, repne, operand_prefix;
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
	uint64_t immediate2;  /* ENTER's level, a far pointer's selector, EXTRQ's second */
};

/*
 * Decode the instruction in @bytes (@count of them). False: it is none that the decoder knows
 * (VEX, EVEX and XOP are not), not complete, or longer than INSN_MAX.
 */
bool insn_decode(const uint8_t *bytes, size_t count, enum insn_mode mode, struct insn *insn);

#endif
