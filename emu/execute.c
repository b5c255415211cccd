/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One instruction, carried out: which one it is, and those that are a step on a memory operand
 * and a register or constant (AMD64 APM vol. 3). String instructions (string.c), those on the stack
 * (stack.c) and SSE moves (vector.c) have files of their own.
 *
 * Instructions without an operand in memory are none of the emulator's business, save a few of
 * string.c and stack.c.
 */
#include "work.h"

static uint64_t reg_read(const struct work *w)
{
	return emu_register(w->emu, w->insn, w->insn->reg, w->size);
}

static void reg_write(const struct work *w, unsigned size, uint64_t value)
{
	emu_register_set(w->emu, w->insn, w->insn->reg, size, value);
}

/* Not the ModRM byte's register: AL, never AH, whatever the REX prefix. */
static uint64_t accumulator(const struct work *w)
{
	return w->emu->gpr[GPR_RAX] & size_mask(w->size);
}

static enum emu_result load(struct work *w, uint64_t *value)
{
	TRY(operand_find(w, EMU_READ));
	*value = operand_load(w->emu, &w->operand);
	return EMU_DONE;
}

static enum emu_result load_to(struct work *w, unsigned size, bool with_sign)
{
	uint64_t value;

	TRY(load(w, &value));
	reg_write(w, size, with_sign ? (uint64_t)sign_extend(value, w->size) : value);
	return EMU_DONE;
}

static enum emu_result store(struct work *w, uint64_t value)
{
	TRY(operand_find(w, EMU_WRITE));
	operand_store(w->emu, &w->operand, value);
	return EMU_DONE;
}

/* The start of a read-modify-write. */
static enum emu_result load_for_store(struct work *w, uint64_t *value)
{
	TRY(operand_find(w, EMU_WRITE));
	*value = operand_load(w->emu, &w->operand);
	return EMU_DONE;
}

static enum emu_result finish(struct work *w, uint64_t value)
{
	operand_store(w->emu, &w->operand, value);
	return EMU_DONE;
}

/* memory = memory op value; CMP only sets flags. */
static enum emu_result alu_memory(struct work *w, unsigned operation, uint64_t value)
{
	uint64_t old;

	if (operation == ALU_CMP) {
		TRY(load(w, &old));
		alu(ALU_CMP, w->size, old, value, w->emu->rflags);
		return EMU_DONE;
	}
	TRY(load_for_store(w, &old));
	return finish(w, alu(operation, w->size, old, value, w->emu->rflags));
}

/* register = register op memory */
static enum emu_result alu_register(struct work *w, unsigned operation)
{
	uint64_t value, result;

	TRY(load(w, &value));
	result = alu(operation, w->size, reg_read(w), value, w->emu->rflags);
	if (operation != ALU_CMP)
		reg_write(w, w->size, result);
	return EMU_DONE;
}

static enum emu_result test(struct work *w, uint64_t value)
{
	uint64_t old;

	TRY(load(w, &old));
	alu(ALU_AND, w->size, old, value, w->emu->rflags);
	return EMU_DONE;
}

static enum emu_result step(struct work *w, int by)
{
	uint64_t old;

	TRY(load_for_store(w, &old));
	return finish(w, alu_step(by, w->size, old, w->emu->rflags));
}

static enum emu_result exchange(struct work *w)
{
	uint64_t old;

	TRY(load_for_store(w, &old));
	finish(w, reg_read(w));
	reg_write(w, w->size, old);
	return EMU_DONE;
}

/* Where the register is the address too, or memory: the sum is stored, the old value returned. */
static enum emu_result exchange_add(struct work *w)
{
	uint64_t old, sum;

	TRY(load_for_store(w, &old));
	sum = alu(ALU_ADD, w->size, old, reg_read(w), w->emu->rflags);
	finish(w, sum);
	reg_write(w, w->size, old);
	return EMU_DONE;
}

static enum emu_result compare_exchange(struct work *w)
{
	uint64_t old;

	TRY(load_for_store(w, &old));
	alu(ALU_CMP, w->size, accumulator(w), old, w->emu->rflags);
	if (old == accumulator(w))
		return finish(w, reg_read(w));
	finish(w, old); /* the processor writes in either case */
	w->emu->gpr[GPR_RAX] =
	    w->size >= 4 ? old : (w->emu->gpr[GPR_RAX] & ~size_mask(w->size)) | old;
	return EMU_DONE;
}

/* CMPXCHG8B, CMPXCHG16B: halves of @half bytes. */
static enum emu_result compare_exchange_pair(struct work *w, unsigned half)
{
	uint64_t *gpr = w->emu->gpr, old[2] = {0}, new[2];
	uint64_t mask = size_mask(half);
	struct operand *operand = &w->operand;
	uint8_t bytes[16];

	w->size = 2 * half;
	if (half == 8 && emu_address(w->emu, w->insn) & 15)
		return emu_raise(w->emu, VECTOR_GP, 0);
	TRY(operand_find(w, EMU_WRITE));
	operand_load_bytes(w->emu, operand, bytes);
	__builtin_memcpy(&old[0], bytes, half);
	__builtin_memcpy(&old[1], bytes + half, half);
	new[0] = gpr[GPR_RBX];
	new[1] = gpr[GPR_RCX];
	*w->emu->rflags &= ~FLAG_ZF;
	if (old[0] == (gpr[GPR_RAX] & mask) && old[1] == (gpr[GPR_RDX] & mask)) {
		*w->emu->rflags |= FLAG_ZF;
		__builtin_memcpy(bytes, &new[0], half);
		__builtin_memcpy(bytes + half, &new[1], half);
	} else {
		gpr[GPR_RAX] = old[0];
		gpr[GPR_RDX] = old[1];
	}
	operand_store_bytes(w->emu, operand, bytes);
	return EMU_DONE;
}

/* BT, BTS, BTR, BTC (@operation 0..3). A bit number from a register reaches beyond the operand. */
static enum emu_result bit(struct work *w, unsigned operation, bool from_register)
{
	struct emu *emu = w->emu;
	uint64_t offset = operand_offset(emu, w->insn), number = w->insn->immediate, value, mask;

	if (from_register) {
		int64_t bits = sign_extend(reg_read(w), w->size);

		number = (uint64_t)bits;
		/* Down to the unit that holds the bit: an arithmetic shift, then bytes. */
		offset += (uint64_t)((bits >> (w->size == 8   ? 6
					       : w->size == 4 ? 5
							      : 4)) *
				     (int64_t)w->size);
		offset &= size_mask(w->insn->address_size);
	}
	TRY(operand_at(emu, w->insn->segment, offset, w->size, operation ? EMU_WRITE : EMU_READ,
		       &w->operand));
	mask = 1ull << (number & (8 * w->size - 1));
	value = operand_load(emu, &w->operand);
	*emu->rflags = (*emu->rflags & ~FLAG_CF) | (value & mask ? FLAG_CF : 0);
	if (!operation)
		return EMU_DONE;
	return finish(w, operation == 1   ? value | mask
			 : operation == 2 ? value & ~mask
					  : value ^ mask);
}

static enum emu_result shift(struct work *w, unsigned operation, unsigned count)
{
	uint64_t old;

	TRY(load_for_store(w, &old));
	return finish(w, alu_shift(operation, w->size, old, count, w->emu->rflags));
}

static enum emu_result shift_double(struct work *w, bool right, unsigned count)
{
	uint64_t old;

	TRY(load_for_store(w, &old));
	return finish(w, alu_shift_double(right, w->size, old, reg_read(w), count, w->emu->rflags));
}

/* MUL, IMUL, DIV, IDIV: on AL and AH, or on the accumulator and (E/R)DX. */
static enum emu_result multiply_divide(struct work *w, unsigned group)
{
	struct emu *emu = w->emu;
	uint64_t value, low = emu->gpr[GPR_RAX], high = emu->gpr[GPR_RDX];

	TRY(load(w, &value));
	if (group < 6)
		alu_multiply(group == 5, w->size, &low, &high, value, emu->rflags);
	else if (!alu_divide(group == 7, w->size, &low, &high, value, emu->rflags))
		return emu_raise(emu, VECTOR_DE, -1);
	if (w->size == 1) {
		emu->gpr[GPR_RAX] = (emu->gpr[GPR_RAX] & ~0xffffull) | (low & 0xffff);
		return EMU_DONE;
	}
	emu_register_set(emu, w->insn, GPR_RAX, w->size, low);
	emu_register_set(emu, w->insn, GPR_RDX, w->size, high);
	return EMU_DONE;
}

static enum emu_result group_3(struct work *w)
{
	unsigned group = w->insn->reg & 7;
	uint64_t old;

	if (group < 2)
		return test(w, w->insn->immediate);
	if (group > 3)
		return multiply_divide(w, group);
	TRY(load_for_store(w, &old));
	return finish(w, group == 2 ? ~old : alu_negate(w->size, old, w->emu->rflags));
}

static enum emu_result multiply_2(struct work *w, bool three, uint64_t by)
{
	uint64_t value;

	TRY(load(w, &value));
	reg_write(w, w->size,
		  alu_multiply_2(w->size, three ? by : reg_read(w), value, w->emu->rflags));
	return EMU_DONE;
}

static enum emu_result scan(struct work *w, enum alu_scan which)
{
	uint64_t value, old = reg_read(w), result;

	TRY(load(w, &value));
	result = alu_scan(which, w->size, old, value, w->emu->rflags);
	/* A source of 0 leaves the whole register, upper half too. */
	if (value || which > ALU_BSR)
		reg_write(w, w->size, result);
	return EMU_DONE;
}

static enum emu_result move_swapped(struct work *w, bool to_memory)
{
	uint64_t value;

	if (to_memory)
		return store(w, __builtin_bswap64(reg_read(w)) >> (64 - 8 * w->size));
	TRY(load(w, &value));
	reg_write(w, w->size, __builtin_bswap64(value) >> (64 - 8 * w->size));
	return EMU_DONE;
}

/* The low byte of (E)BX + AL. */
static enum emu_result translate_byte(struct work *w)
{
	struct emu *emu = w->emu;
	uint64_t offset =
	    (emu->gpr[GPR_RBX] + (emu->gpr[GPR_RAX] & 0xff)) & size_mask(w->insn->address_size);

	TRY(operand_at(emu, w->insn->segment, offset, 1, EMU_READ, &w->operand));
	emu->gpr[GPR_RAX] = (emu->gpr[GPR_RAX] & ~0xffull) | operand_load(emu, &w->operand);
	return EMU_DONE;
}

/* A selector is 16 bits in memory, whatever the operand size. */
static enum emu_result store_selector(struct work *w)
{
	if ((w->insn->reg & 7) > SEGMENT_GS)
		return EMU_UNKNOWN;
	w->size = 2;
	return store(w, w->emu->segment[w->insn->reg & 7].selector);
}

static enum emu_result one_byte(struct work *w)
{
	const struct insn *insn = w->insn;
	unsigned group = insn->reg & 7;

	if (insn->opcode < 0x40 && (insn->opcode & 7) < 4)
		return insn->opcode & 2 ? alu_register(w, insn->opcode >> 3)
					: alu_memory(w, insn->opcode >> 3, reg_read(w));
	switch (insn->opcode) {
	case 0x63: /* MOVSXD; ARPL outside of 64-bit code */
		w->size = insn->size == 2 ? 2 : 4;
		return is_64(w) ? load_to(w, insn->size, true) : EMU_UNKNOWN;
	case 0x69:
	case 0x6b:
		w->size = insn->size;
		return multiply_2(w, true, insn->immediate);
	case 0x80:
	case 0x81:
	case 0x82:
	case 0x83:
		return alu_memory(w, group, insn->immediate);
	case 0x84:
	case 0x85:
		return test(w, reg_read(w));
	case 0x86:
	case 0x87:
		return exchange(w);
	case 0x88:
	case 0x89:
		return store(w, reg_read(w));
	case 0x8a:
	case 0x8b:
		return load_to(w, w->size, false);
	case 0x8c:
		return store_selector(w);
	case 0xa0:
	case 0xa1:
		return load_to(w, w->size, false); /* reg is 0: the accumulator */
	case 0xa2:
	case 0xa3:
		return store(w, reg_read(w));
	case 0xc0:
	case 0xc1:
		return shift(w, group, insn->immediate & 0xff);
	case 0xc6:
	case 0xc7:
		return group ? EMU_UNKNOWN : store(w, insn->immediate);
	case 0xd0:
	case 0xd1:
		return shift(w, group, 1);
	case 0xd2:
	case 0xd3:
		return shift(w, group, w->emu->gpr[GPR_RCX] & 0xff);
	case 0xf6:
	case 0xf7:
		return group_3(w);
	case 0xfe:
	case 0xff:
		return group < 2 ? step(w, group ? -1 : 1) : EMU_UNKNOWN;
	default:
		return EMU_UNKNOWN;
	}
}

static enum emu_result move_if(struct work *w)
{
	uint64_t value;

	w->size = w->insn->size;
	TRY(load(w, &value)); /* read, and its faults taken, in either case */
	if (!alu_condition(w->insn->opcode & 15, *w->emu->rflags))
		value = reg_read(w);
	reg_write(w, w->size, value); /* 32 bits: the upper half goes in either case */
	return EMU_DONE;
}

/* F3 makes BSF and BSR count: TZCNT, LZCNT. */
static enum emu_result scan_opcode(struct work *w)
{
	bool backwards = w->insn->opcode & 1;

	w->size = w->insn->size;
	if (w->insn->opcode == 0xb8)
		return w->insn->rep ? scan(w, ALU_POPCNT) : EMU_UNKNOWN;
	if (w->insn->rep)
		return scan(w, backwards ? ALU_LZCNT : ALU_TZCNT);
	return scan(w, backwards ? ALU_BSR : ALU_BSF);
}

static enum emu_result two_byte(struct work *w)
{
	const struct insn *insn = w->insn;

	if ((insn->opcode & 0xf0) == 0x40)
		return move_if(w);
	if ((insn->opcode & 0xf0) == 0x90) {
		w->size = 1;
		return store(w, alu_condition(insn->opcode & 15, *w->emu->rflags));
	}
	switch (insn->opcode) {
	case 0xa3: /* these four, in the order of their operations */
	case 0xab:
	case 0xb3:
	case 0xbb:
		w->size = insn->size;
		return bit(w, insn->opcode >> 3 & 3, true);
	case 0xba:
		w->size = insn->size;
		return insn->reg & 4 ? bit(w, insn->reg & 3, false) : EMU_UNKNOWN;
	case 0xa4:
	case 0xa5:
	case 0xac:
	case 0xad:
		w->size = insn->size;
		return shift_double(w, insn->opcode & 8,
				    insn->opcode & 1 ? w->emu->gpr[GPR_RCX] & 0xff
						     : insn->immediate & 0xff);
	case 0xaf:
		w->size = insn->size;
		return multiply_2(w, false, 0);
	case 0xb0:
	case 0xb1:
		return compare_exchange(w);
	case 0xb6:
	case 0xb7:
	case 0xbe:
	case 0xbf:
		w->size = insn->opcode & 1 ? 2 : 1;
		return load_to(w, insn->size, insn->opcode & 8);
	case 0xb8:
	case 0xbc:
	case 0xbd:
		return scan_opcode(w);
	case 0xc0:
	case 0xc1:
		return exchange_add(w);
	case 0xc3: /* MOVNTI */
		w->size = insn->size;
		return insn->size >= 4 ? store(w, reg_read(w)) : EMU_UNKNOWN;
	case 0xc7:
		if ((insn->reg & 7) != 1)
			return EMU_UNKNOWN;
		return compare_exchange_pair(w, insn->size == 8 ? 8 : 4);
	default:
		return EMU_UNKNOWN;
	}
}

static enum emu_result three_byte(struct work *w)
{
	const struct insn *insn = w->insn;

	if (insn->map != 2 || (insn->opcode | 1) != 0xf1 || insn->repne)
		return EMU_UNKNOWN;
	w->size = insn->size;
	return move_swapped(w, insn->opcode & 1); /* MOVBE */
}

/* Which instructions take LOCK (APM vol. 3 §1.2.5), for what reaches memory at all. */
static bool is_lockable(const struct insn *insn)
{
	unsigned op = insn->opcode, group = insn->reg & 7;

	if (insn->map == 0)
		return (op < 0x38 && (op & 7) < 2) || ((op & 0xfc) == 0x80 && group != 7) ||
		       (op | 1) == 0x87 || ((op | 1) == 0xf7 && (group | 1) == 3) ||
		       ((op | 1) == 0xff && group < 2);
	return insn->map == 1 &&
	       (op == 0xab || op == 0xb3 || op == 0xbb || (op == 0xba && group > 4) ||
		(op & 0xfe) == 0xb0 || (op & 0xfe) == 0xc0 || (op == 0xc7 && group == 1));
}

/* Where an instruction is carried out, by map and opcode; PLAIN: in this file. */
enum room {
	PLAIN,
	STRING,
	STACK,
	VECTOR
};

#define R8(v)  v, v, v, v, v, v, v, v
#define R16(v) R8(v), R8(v)

/* clang-format off */
static const uint8_t rooms[2][256] = {{
	[0x06] = STACK, [0x0e] = STACK, [0x16] = STACK, [0x1e] = STACK,
	[0x50] = R16(STACK), [0x68] = STACK, [0x6a] = STACK, [0x8f] = STACK, [0x9c] = STACK,
	[0xc2] = STACK, [0xc3] = STACK, [0xc8] = STACK, [0xc9] = STACK, [0xe8] = STACK, [0xff] = STACK,
	[0x6c] = STRING, STRING, STRING, STRING, [0xa4] = STRING, STRING, STRING, STRING,
	[0xaa] = STRING, STRING, STRING, STRING, STRING, STRING,
}, {
	[0xa0] = STACK, [0xa8] = STACK,
	[0x10] = VECTOR, VECTOR, VECTOR, VECTOR, [0x16] = VECTOR, VECTOR, [0x28] = VECTOR, VECTOR,
	[0x2b] = VECTOR, [0x6e] = VECTOR, VECTOR, [0x7e] = VECTOR, VECTOR, [0xd6] = VECTOR,
	[0xe7] = VECTOR, [0xf0] = VECTOR,
}};
/* clang-format on */

static enum emu_result dispatch(struct work *w)
{
	const struct insn *insn = w->insn;
	unsigned room = insn->map < 2 ? rooms[insn->map][insn->opcode] : PLAIN;

	if (room == STRING)
		return string_execute(w);
	if (room == STACK && stack_knows(insn))
		return stack_execute(w);
	if (room == VECTOR)
		return vector_execute(w);
	if (insn->map == 0 && insn->opcode == 0xd7)
		return translate_byte(w);
	if (!insn->memory)
		return EMU_UNKNOWN;
	return insn->map == 0 ? one_byte(w) : insn->map == 1 ? two_byte(w) : three_byte(w);
}

enum emu_result emu_execute(struct emu *emu, const struct insn *insn)
{
	struct work w = {.emu = emu, .insn = insn, .size = insn->opcode & 1 ? insn->size : 1};
	uint64_t begin = *emu->rip;
	enum emu_result result;

	if (insn->lock && !is_lockable(insn))
		return EMU_UNKNOWN;
	w.next = begin + insn->length;
	result = dispatch(&w);
	if (result != EMU_DONE)
		return result;
	*emu->rip = insn->mode == INSN_64 ? w.next : (uint32_t)w.next;
	return EMU_DONE;
}
