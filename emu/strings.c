/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * String instructions: MOVS CMPS STOS LODS SCAS INS OUTS, alone and repeated (AMD64 APM vol. 3
 * §1.2.6). A repetition is one element after another, each carried out whole or not at all, so that
 * a fault leaves registers as the processor would. Elements that lie in one page of memory are
 * moved together.
 */
#include "work.h"

#define FLAG_TF (1ull << 8)

/* Elements carried out before the guest may see an interrupt again. */
#define ELEMENTS_MAX 512u

struct string {
	struct work *work;
	unsigned size, address_size;
	uint64_t step; /* what the index registers advance by */
	bool repeat;
};

/* What an element has, by opcode / 2. */
enum {
	SOURCE = 1, /* at rSI */
	TARGET = 2, /* at rDI */
	WRITES = 4, /* to it */
	TESTS = 8   /* REPE and REPNE look at ZF */
};

static const uint8_t parts[128] = {
    [0x6c / 2] = TARGET | WRITES,          /* INS */
    [0x6e / 2] = SOURCE,                   /* OUTS */
    [0xa4 / 2] = SOURCE | TARGET | WRITES, /* MOVS */
    [0xa6 / 2] = SOURCE | TARGET | TESTS,  /* CMPS */
    [0xaa / 2] = TARGET | WRITES,          /* STOS */
    [0xac / 2] = SOURCE,                   /* LODS */
    [0xae / 2] = TARGET | TESTS,           /* SCAS */
};

#define MOVS 0xa4
#define STOS 0xaa

static uint64_t index_of(const struct string *s, unsigned reg)
{
	return s->work->emu->gpr[reg] & size_mask(s->address_size);
}

static void advance(struct string *s, unsigned reg, uint64_t elements)
{
	emu_register_set(s->work->emu, s->work->insn, reg, s->address_size,
			 s->work->emu->gpr[reg] + elements * s->step);
}

static enum emu_result source(struct string *s, unsigned size, struct operand *operand)
{
	return operand_at(s->work->emu, s->work->insn->segment, index_of(s, GPR_RSI), size,
			  EMU_READ, operand);
}

static enum emu_result destination(struct string *s, unsigned kind, struct operand *operand)
{
	return operand_at(s->work->emu, SEGMENT_ES, index_of(s, GPR_RDI), s->size, kind, operand);
}

static void store_register(struct string *s, unsigned reg, uint64_t value)
{
	/* No ModRM byte: register 0 is AL. */
	emu_register_set(s->work->emu, s->work->insn, reg, s->size, value);
}

/* One element; CMPS and SCAS set flags. */
static enum emu_result element(struct string *s)
{
	struct emu *emu = s->work->emu;
	unsigned op = s->work->insn->opcode & ~1u, has = parts[op / 2];
	uint64_t value = emu->gpr[GPR_RAX] & size_mask(s->size);
	struct operand from, to = {.pieces = 0};
	uint16_t port = (uint16_t)emu->gpr[GPR_RDX];

	if (has & SOURCE)
		TRY(source(s, s->size, &from));
	if (has & TARGET)
		TRY(destination(s, has & WRITES ? EMU_WRITE : EMU_READ, &to));
	if (has & SOURCE)
		value = operand_load(emu, &from);
	else if (op == 0x6c)
		value = emu->host->port_read(emu->ctx, port, s->size);
	if (has & WRITES)
		operand_store(emu, &to, value);
	else if (has & TESTS)
		alu(ALU_CMP, s->size, value, operand_load(emu, &to), emu->rflags);
	else if (op == 0x6e)
		emu->host->port_write(emu->ctx, port, s->size, (uint32_t)value);
	else
		store_register(s, GPR_RAX, value);
	if (has & SOURCE)
		advance(s, GPR_RSI, 1);
	if (has & TARGET)
		advance(s, GPR_RDI, 1);
	return EMU_DONE;
}

/* How many of @most elements lie in the page that @operand, one element, begins in. */
static uint64_t in_page(const struct operand *operand, unsigned size, uint64_t most)
{
	uint64_t room = (4096 - (operand->piece[0].place.gpa & 4095)) / size;

	if (operand->pieces != 1 || !operand->piece[0].place.va)
		return 1;
	return room < most ? room : most;
}

/* No index may wrap around, nor leave its segment, within @count elements. */
static uint64_t in_segment(const struct string *s, unsigned reg, uint64_t count)
{
	uint64_t left = size_mask(s->address_size == 2 ? 2 : 4) - index_of(s, reg);

	if (s->work->insn->mode == INSN_64 && s->address_size == 8)
		return count;
	return left / s->size < count ? left / s->size : count;
}

static void copy(uint8_t *to, const uint8_t *from, unsigned size, uint64_t count)
{
	uint64_t bytes = size * count;

	if ((uintptr_t)to - (uintptr_t)from >= bytes) { /* no byte is read after it was written */
		for (; bytes >= 8; bytes -= 8, to += 8, from += 8)
			__builtin_memcpy(to, from, 8);
		for (; bytes; bytes--)
			*to++ = *from++;
		return;
	}
	for (; count; count--, to += size, from += size) {
		uint64_t value = 0;

		__builtin_memcpy(&value, from, size);
		__builtin_memcpy(to, &value, size);
	}
}

/* A freed table that is cleared for another use is 512 elements: words at a time. */
static void fill(uint8_t *to, uint64_t value, unsigned size, uint64_t count)
{
	uint64_t bytes = size * count;

	for (unsigned have = size; have < 8; have *= 2) {
		value &= size_mask(have);
		value |= value << 8 * have;
	}
	for (; bytes >= 32; bytes -= 32, to += 32)
		for (unsigned i = 0; i < 4; i++)
			__builtin_memcpy(to + 8 * i, &value, 8);
	for (; bytes; bytes--, value = value >> 8 | value << 56)
		*to++ = (uint8_t)value;
}

/*
 * MOVS and STOS upwards in memory: as many of @most elements as lie in one page each, at most.
 * *@done: how many; 0: element() has to do it.
 */
static enum emu_result bulk(struct string *s, uint64_t most, uint64_t *done)
{
	struct emu *emu = s->work->emu;
	bool moves = (s->work->insn->opcode & ~1u) == MOVS;
	struct operand from, to;
	uint64_t count, last;

	*done = 0;
	if (moves)
		TRY(source(s, s->size, &from));
	TRY(destination(s, EMU_WRITE, &to));
	count = in_segment(s, GPR_RDI, in_page(&to, s->size, most));
	if (moves)
		count = in_segment(s, GPR_RSI, in_page(&from, s->size, count));
	if (count < 2)
		return EMU_DONE;
	/* The last byte must lie within the segments' limits too; else go one by one. */
	if (s->work->insn->mode != INSN_64) {
		const struct emu_segment *es = &emu->segment[SEGMENT_ES];
		const struct emu_segment *seg = &emu->segment[s->work->insn->segment];

		last = (count - 1) * s->size + s->size - 1;
		if (index_of(s, GPR_RDI) + last > es->limit ||
		    (moves && index_of(s, GPR_RSI) + last > seg->limit))
			return EMU_DONE;
	}
	if (moves)
		copy(to.piece[0].place.va, from.piece[0].place.va, s->size, count);
	else
		fill(to.piece[0].place.va, emu->gpr[GPR_RAX], s->size, count);
	emu->host->written(emu->ctx, to.piece[0].place.gpa, count * s->size);
	if (moves)
		advance(s, GPR_RSI, count);
	advance(s, GPR_RDI, count);
	*done = count;
	return EMU_DONE;
}

/* Whether REPE or REPNE has found what it looks for. */
static bool has_found(const struct string *s)
{
	const struct insn *insn = s->work->insn;
	bool zero = *s->work->emu->rflags & FLAG_ZF;

	if (!(parts[insn->opcode / 2] & TESTS))
		return false;
	return insn->rep ? !zero : zero;
}

static enum emu_result repeat(struct string *s)
{
	struct emu *emu = s->work->emu;
	const struct insn *insn = s->work->insn;
	unsigned most = *emu->rflags & FLAG_TF ? 1 : ELEMENTS_MAX;
	bool moves = (insn->opcode & ~1u) == MOVS || (insn->opcode & ~1u) == STOS;
	bool in_bulk = moves && most > 1 && !(*emu->rflags & FLAG_DF);

	for (unsigned i = 0; i < most; i++) {
		uint64_t left = index_of(s, GPR_RCX), done = 0;

		if (!left)
			return EMU_DONE;
		if (in_bulk)
			TRY(bulk(s, left, &done));
		if (!done) {
			TRY(element(s));
			done = 1;
		}
		emu_register_set(emu, insn, GPR_RCX, s->address_size, left - done);
		if (left == done || has_found(s))
			return EMU_DONE;
		if (done > 1)
			break;
	}
	s->work->next = *emu->rip;
	return EMU_DONE;
}

enum emu_result string_execute(struct work *work)
{
	const struct insn *insn = work->insn;
	struct string s = {
	    .work = work,
	    .size = work->size,
	    .address_size = insn->address_size,
	    .repeat = insn->rep || insn->repne,
	};

	if (insn->opcode < 0x70 && s.size == 8)
		s.size = 4; /* ports have no 64 bits */
	s.step = *work->emu->rflags & FLAG_DF ? 0ull - s.size : s.size;
	return s.repeat ? repeat(&s) : element(&s);
}
