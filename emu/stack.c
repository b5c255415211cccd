/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Instructions that push and pop: the stack, or the operand, may lie where the emulator is needed.
 * PUSH and POP of memory, registers, constants and flags, near CALL and RET, ENTER, LEAVE, PUSHA
 * (AMD64 APM vol. 3). What changes privilege or segments is not known here.
 */
#include "work.h"

#define FLAG_RESERVED 2ull
#define FLAGS_PUSHED  0xfcffffull /* neither RF nor VM */

/* The stack pointer's width: SS.B, or 8 in 64-bit code. */
static unsigned stack_width(const struct work *w)
{
	if (is_64(w))
		return 8;
	return w->emu->segment[SEGMENT_SS].attributes & EMU_SEGMENT_D ? 4 : 2;
}

static uint64_t stack_pointer(const struct work *w, uint64_t by)
{
	return (w->emu->gpr[GPR_RSP] + by) & size_mask(stack_width(w));
}

static void stack_move(struct work *w, uint64_t by)
{
	unsigned width = stack_width(w);
	uint64_t mask = width == 2 ? 0xffff : ~0ull, *rsp = &w->emu->gpr[GPR_RSP];

	*rsp = (*rsp & ~mask) | (stack_pointer(w, by) & mask);
}

static enum emu_result stack_find(struct work *w, uint64_t by, unsigned kind, struct operand *o)
{
	return operand_at(w->emu, SEGMENT_SS, stack_pointer(w, by), w->size, kind, o);
}

static enum emu_result push(struct work *w, uint64_t value)
{
	struct operand stack;

	TRY(stack_find(w, 0ull - w->size, EMU_WRITE, &stack));
	operand_store(w->emu, &stack, value);
	stack_move(w, 0ull - w->size);
	return EMU_DONE;
}

static enum emu_result push_memory(struct work *w)
{
	TRY(operand_find(w, EMU_READ));
	struct operand stack;

	TRY(stack_find(w, 0ull - w->size, EMU_WRITE, &stack));
	operand_store(w->emu, &stack, operand_load(w->emu, &w->operand));
	stack_move(w, 0ull - w->size);
	return EMU_DONE;
}

static enum emu_result pop(struct work *w, uint64_t *value)
{
	struct operand stack;

	TRY(stack_find(w, 0, EMU_READ, &stack));
	*value = operand_load(w->emu, &stack);
	return EMU_DONE;
}

/* The operand's address is worked out with the stack pointer already raised. */
static enum emu_result pop_memory(struct work *w)
{
	uint64_t value, offset = operand_offset(w->emu, w->insn);

	TRY(pop(w, &value));
	if (w->insn->base == GPR_RSP)
		offset = (offset + w->size) & size_mask(w->insn->address_size);
	TRY(operand_at(w->emu, w->insn->segment, offset, w->size, EMU_WRITE, &w->operand));
	operand_store(w->emu, &w->operand, value);
	stack_move(w, w->size);
	return EMU_DONE;
}

static enum emu_result pop_register(struct work *w, unsigned reg)
{
	uint64_t value;

	TRY(pop(w, &value));
	stack_move(w, w->size);
	emu_register_set(w->emu, w->insn, reg, w->size, value);
	return EMU_DONE;
}

/* Where a near transfer to @target goes: #GP if it cannot. */
static enum emu_result target_check(struct work *w, uint64_t *target)
{
	uint64_t linear;

	*target &= size_mask(w->size);
	if (is_64(w)) {
		unsigned shift = w->emu->cr4 & 1u << 12 ? 7 : 16;

		if ((uint64_t)((int64_t)(*target << shift) >> shift) != *target)
			return emu_raise(w->emu, VECTOR_GP, 0);
		return EMU_DONE;
	}
	linear = *target;
	return linear > w->emu->segment[SEGMENT_CS].limit ? emu_raise(w->emu, VECTOR_GP, 0)
							  : EMU_DONE;
}

static enum emu_result call(struct work *w, uint64_t target)
{
	uint64_t behind = w->next;

	TRY(target_check(w, &target));
	TRY(push(w, behind));
	w->next = target;
	return EMU_DONE;
}

static enum emu_result call_memory(struct work *w, bool calls)
{
	uint64_t target;

	TRY(operand_find(w, EMU_READ));
	target = operand_load(w->emu, &w->operand);
	if (calls)
		return call(w, target);
	TRY(target_check(w, &target));
	w->next = target;
	return EMU_DONE;
}

static enum emu_result ret(struct work *w, uint64_t more)
{
	uint64_t target;

	TRY(pop(w, &target));
	TRY(target_check(w, &target));
	stack_move(w, w->size + more);
	w->next = target;
	return EMU_DONE;
}

/*
 * The frame of a procedure nested @levels deep (AMD64 APM vol. 3, ENTER). A fault on the way leaves
 * the registers; what was pushed until then lies below the stack pointer, as with the processor.
 */
static enum emu_result enter(struct work *w, uint64_t room, unsigned levels)
{
	uint64_t *gpr = w->emu->gpr, mask = size_mask(stack_width(w)), depth = w->size, frame;
	uint64_t value = gpr[GPR_RBP];
	struct operand stack, outer;

	TRY(stack_find(w, 0ull - depth, EMU_WRITE, &stack));
	operand_store(w->emu, &stack, value);
	frame = stack_pointer(w, 0ull - depth);
	for (unsigned level = 1; level <= levels; level++) {
		if (level < levels) {
			TRY(operand_at(w->emu, SEGMENT_SS, (gpr[GPR_RBP] - level * w->size) & mask,
				       w->size, EMU_READ, &outer));
			value = operand_load(w->emu, &outer);
		} else {
			value = frame;
		}
		depth += w->size;
		TRY(stack_find(w, 0ull - depth, EMU_WRITE, &stack));
		operand_store(w->emu, &stack, value);
	}
	TRY(stack_find(w, 0ull - depth - room, EMU_WRITE, &stack)); /* it must be usable */
	stack_move(w, 0ull - depth - room);
	emu_register_set(w->emu, w->insn, GPR_RBP, w->size, frame);
	return EMU_DONE;
}

/* RSP = RBP, then POP RBP. */
static enum emu_result leave(struct work *w)
{
	uint64_t *gpr = w->emu->gpr, rsp = gpr[GPR_RSP], value;
	unsigned width = stack_width(w);
	struct operand stack;

	TRY(operand_at(w->emu, SEGMENT_SS, gpr[GPR_RBP] & size_mask(width), w->size, EMU_READ,
		       &stack));
	value = operand_load(w->emu, &stack);
	gpr[GPR_RSP] = width == 2 ? (rsp & ~0xffffull) | (gpr[GPR_RBP] & 0xffff)
				  : gpr[GPR_RBP] & size_mask(width);
	stack_move(w, w->size);
	emu_register_set(w->emu, w->insn, GPR_RBP, w->size, value);
	return EMU_DONE;
}

static enum emu_result push_flags(struct work *w)
{
	if (*w->emu->rflags & FLAG_VM)
		return EMU_UNKNOWN;
	return push(w, (*w->emu->rflags & FLAGS_PUSHED) | FLAG_RESERVED);
}

bool stack_knows(const struct insn *insn)
{
	unsigned group = insn->reg & 7;

	if (insn->map == 0 && insn->opcode == 0x8f)
		return insn->memory;
	if (insn->map == 0 && insn->opcode == 0xff)
		return group == 2 || (insn->memory && (group == 4 || group == 6));
	return true;
}

/* CALL, JMP and PUSH of group 5. */
static enum emu_result group_5(struct work *w)
{
	const struct insn *insn = w->insn;
	unsigned group = insn->reg & 7;

	if (group == 6)
		return push_memory(w);
	if (insn->memory)
		return call_memory(w, group == 2);
	return call(w, emu_register(w->emu, insn, insn->rm, w->size));
}

/* A selector fills the operand size; what of it is written differs, so only where it all is. */
static enum emu_result push_selector(struct work *w, unsigned segment)
{
	return push(w, w->emu->segment[segment].selector);
}

enum emu_result stack_execute(struct work *w)
{
	const struct insn *insn = w->insn;
	unsigned reg = (insn->opcode & 7) | (insn->rex & 1) << 3;

	w->size = insn->size;
	if (insn->map == 1)
		return push_selector(w, insn->opcode == 0xa0 ? SEGMENT_FS : SEGMENT_GS);
	switch (insn->opcode) {
	case 0x06:
	case 0x0e:
	case 0x16:
	case 0x1e:
		return push_selector(w, insn->opcode >> 3);
	case 0x68:
	case 0x6a:
		return push(w, insn->immediate);
	case 0x8f:
		return pop_memory(w);
	case 0x9c:
		return push_flags(w);
	case 0xc2:
	case 0xc3:
		return ret(w, insn->opcode == 0xc2 ? insn->immediate : 0);
	case 0xc8:
		return enter(w, insn->immediate, insn->immediate2 & 31);
	case 0xc9:
		return leave(w);
	case 0xe8:
		return call(w, w->next + insn->immediate);
	case 0xff:
		return group_5(w);
	default:
		return insn->opcode < 0x58 ? push(w, emu_register(w->emu, insn, reg, w->size))
					   : pop_register(w, reg);
	}
}
