/* SPDX-License-Identifier: BSD-2-Clause */
/* What the emulator's files say to one another. */
#ifndef EMU_WORK_H
#define EMU_WORK_H

#include "emu.h"

#define GPR_RAX 0
#define GPR_RCX 1
#define GPR_RDX 2
#define GPR_RBX 3
#define GPR_RSP 4
#define GPR_RBP 5
#define GPR_RSI 6
#define GPR_RDI 7

#define FLAG_CF         (1ull << 0)
#define FLAG_PF         (1ull << 2)
#define FLAG_ZF         (1ull << 6)
#define FLAG_SF         (1ull << 7)
#define FLAG_IF         (1ull << 9)
#define FLAG_DF         (1ull << 10)
#define FLAG_OF         (1ull << 11)
#define FLAG_VM         (1ull << 17)
#define FLAG_RF         (1ull << 16)
#define FLAG_AC         (1ull << 18)
#define FLAG_ARITHMETIC 0x8d5ull /* OF SF ZF AF PF CF */

#define VECTOR_DE 0
#define VECTOR_UD 6
#define VECTOR_SS 12
#define VECTOR_GP 13
#define VECTOR_AC 17

#define OPERAND_MAX 16

/* An operand in memory, found: one that crosses a page has two pieces. */
struct operand {
	struct {
		struct emu_place place;
		unsigned size;
	} piece[2];
	unsigned pieces, size;
};

/* One instruction under way. */
struct work {
	struct emu *emu;
	const struct insn *insn;
	unsigned size;          /* of the operation, in bytes */
	uint64_t next;          /* RIP behind the instruction; its handlers may jump elsewhere */
	struct operand operand; /* that of ModRM, once found */
};

/* Pass on any result but EMU_DONE. */
#define TRY(expression)                            \
	do {                                       \
		enum emu_result try_ = expression; \
		if (try_ != EMU_DONE)              \
			return try_;               \
	} while (0)

/* ---- operand.c ---- */

enum emu_result emu_raise(struct emu *emu, unsigned vector, int64_t error);

/* Offset in segment -> linear address, checked for @size bytes: #GP, #SS. */
enum emu_result linear_checked(struct emu *emu, unsigned segment, uint64_t offset, unsigned size,
			       unsigned kind, uint64_t *linear);

/* Find @size bytes at @offset of @segment; alignment as RFLAGS.AC asks (@aligned: always, #GP). */
enum emu_result operand_at(struct emu *emu, unsigned segment, uint64_t offset, unsigned size,
			   unsigned kind, struct operand *operand);

/* Find ModRM's operand, work->size bytes. */
enum emu_result operand_find(struct work *work, unsigned kind);

/* The offset that ModRM names, cut to the address size. */
uint64_t operand_offset(const struct emu *emu, const struct insn *insn);

/* Of up to 8 bytes as a number; of any size. */
uint64_t operand_load(struct emu *emu, const struct operand *operand);
void operand_store(struct emu *emu, const struct operand *operand, uint64_t value);
void operand_load_bytes(struct emu *emu, const struct operand *operand, void *to);
void operand_store_bytes(struct emu *emu, const struct operand *operand, const void *from);

/* ---- alu.c ---- */

enum alu {
	ALU_ADD,
	ALU_OR,
	ALU_ADC,
	ALU_SBB,
	ALU_AND,
	ALU_SUB,
	ALU_XOR,
	ALU_CMP,
	ALU_COUNT
};

/* The eight of opcodes 00..3F. Result; @flags follow. */
uint64_t alu(unsigned operation, unsigned size, uint64_t a, uint64_t b, uint64_t *flags);

/* INC, DEC (@by 1, -1), NEG. */
uint64_t alu_step(int by, unsigned size, uint64_t a, uint64_t *flags);
uint64_t alu_negate(unsigned size, uint64_t a, uint64_t *flags);

/* Group 2: ROL ROR RCL RCR SHL SHR SHL SAR. */
uint64_t alu_shift(unsigned operation, unsigned size, uint64_t a, unsigned count, uint64_t *flags);

/* SHLD, SHRD (@right). */
uint64_t alu_shift_double(bool right, unsigned size, uint64_t a, uint64_t b, unsigned count,
			  uint64_t *flags);

/* MUL, IMUL of one operand: AX or DX:AX are @low, @high. */
void alu_multiply(bool with_sign, unsigned size, uint64_t *low, uint64_t *high, uint64_t b,
		  uint64_t *flags);
uint64_t alu_multiply_2(unsigned size, uint64_t a, uint64_t b, uint64_t *flags);

/* DIV, IDIV. False: #DE. */
bool alu_divide(bool with_sign, unsigned size, uint64_t *low, uint64_t *high, uint64_t b,
		uint64_t *flags);

/* BSF BSR POPCNT TZCNT LZCNT; @old: what BSF and BSR of 0 leave. */
enum alu_scan {
	ALU_BSF,
	ALU_BSR,
	ALU_POPCNT,
	ALU_TZCNT,
	ALU_LZCNT
};
uint64_t alu_scan(enum alu_scan which, unsigned size, uint64_t old, uint64_t a, uint64_t *flags);

/* Does condition @code (0..15, as in Jcc) hold? */
bool alu_condition(unsigned code, uint64_t flags);

/* ---- string.c (REP), stack.c, vector.c ---- */

enum emu_result string_execute(struct work *work);
enum emu_result stack_execute(struct work *work);
enum emu_result vector_execute(struct work *work);

/* Whether an instruction whose opcode may be of stack.c is. */
bool stack_knows(const struct insn *insn);

static inline uint64_t size_mask(unsigned size)
{
	return size >= 8 ? ~0ull : (1ull << 8 * size) - 1;
}

static inline int64_t sign_extend(uint64_t value, unsigned size)
{
	return (int64_t)(value << (64 - 8 * size)) >> (64 - 8 * size);
}

static inline bool is_64(const struct work *work)
{
	return work->insn->mode == INSN_64;
}

#endif
