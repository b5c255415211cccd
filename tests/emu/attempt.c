/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Random instructions: a table of what there is, and registers, memory and operands for one of
 * them.
 */
#include <string.h>

#include "attempt.h"
#include "emu.h"

enum kind {
	PLAIN,
	STRING,
	STACK,
	JUMPS,    /* the operand holds where to */
	CALLS,    /* the constant leads there */
	RETURNS,  /* the stack does */
	REGISTER, /* the last three bits of the opcode are one */
	SPARSE,   /* the operand is often zero */
	DIVIDES,
	COMPARES, /* the accumulator often is what memory holds */
	VECTOR
};

enum {
	LOCKS = 1,
	REP = 2,
	MODRM = 4,
	WIDE_ONLY = 8, /* no byte form: bit 0 of the opcode means something else */
	P66 = 16,
	F3 = 32,
	F2 = 64,
	NO_66 = 128,
	BIT_STRING = 256,
	ONLY_64 = 512
};

static const struct template
{
	uint8_t map, first, last, step; /* opcodes */
	int8_t group_first, group_last; /* -1: any register */
	uint8_t kind, immediate;        /* bytes; 9: by operand size, at most 4 */
	uint16_t flags;
}
templates[] = {
    {0, 0x00, 0x38, 8, -1, -1, PLAIN, 0, MODRM | LOCKS},
    {0, 0x01, 0x39, 8, -1, -1, PLAIN, 0, MODRM | LOCKS},
    {0, 0x02, 0x3a, 8, -1, -1, PLAIN, 0, MODRM},
    {0, 0x03, 0x3b, 8, -1, -1, PLAIN, 0, MODRM},
    {0, 0x50, 0x57, 1, -1, -1, REGISTER, 0, WIDE_ONLY},
    {0, 0x58, 0x5f, 1, -1, -1, REGISTER, 0, WIDE_ONLY},
    {0, 0x63, 0x63, 1, -1, -1, PLAIN, 0, MODRM | WIDE_ONLY | ONLY_64},
    {0, 0x68, 0x68, 1, -1, -1, STACK, 9, WIDE_ONLY},
    {0, 0x69, 0x69, 1, -1, -1, PLAIN, 9, MODRM},
    {0, 0x6a, 0x6a, 1, -1, -1, STACK, 1, WIDE_ONLY},
    {0, 0x6b, 0x6b, 1, -1, -1, PLAIN, 1, MODRM},
    {0, 0x80, 0x80, 1, 0, 7, PLAIN, 1, MODRM | LOCKS},
    {0, 0x81, 0x81, 1, 0, 7, PLAIN, 9, MODRM | LOCKS},
    {0, 0x83, 0x83, 1, 0, 7, PLAIN, 1, MODRM | LOCKS},
    {0, 0x84, 0x85, 1, -1, -1, PLAIN, 0, MODRM},
    {0, 0x86, 0x87, 1, -1, -1, PLAIN, 0, MODRM | LOCKS},
    {0, 0x88, 0x8b, 1, -1, -1, PLAIN, 0, MODRM},
    {0, 0x8f, 0x8f, 1, 0, 0, STACK, 0, MODRM | WIDE_ONLY},
    {0, 0x9c, 0x9c, 1, -1, -1, STACK, 0, WIDE_ONLY},
    {0, 0xa4, 0xa7, 1, -1, -1, STRING, 0, REP},
    {0, 0xaa, 0xaf, 1, -1, -1, STRING, 0, REP},
    {0, 0xc0, 0xc1, 1, 0, 7, PLAIN, 1, MODRM},
    {0, 0xc2, 0xc2, 1, -1, -1, RETURNS, 2, WIDE_ONLY | NO_66},
    {0, 0xc3, 0xc3, 1, -1, -1, RETURNS, 0, WIDE_ONLY | NO_66},
    {0, 0xc6, 0xc6, 1, 0, 0, PLAIN, 1, MODRM},
    {0, 0xc7, 0xc7, 1, 0, 0, PLAIN, 9, MODRM},
    {0, 0xc8, 0xc8, 1, -1, -1, STACK, 3, WIDE_ONLY},
    {0, 0xc9, 0xc9, 1, -1, -1, STACK, 0, WIDE_ONLY},
    {0, 0xd0, 0xd3, 1, 0, 7, PLAIN, 0, MODRM},
    {0, 0xd7, 0xd7, 1, -1, -1, PLAIN, 0, WIDE_ONLY},
    {0, 0xe8, 0xe8, 1, -1, -1, CALLS, 4, WIDE_ONLY | NO_66},
    {0, 0xf6, 0xf6, 1, 0, 1, PLAIN, 1, MODRM},
    {0, 0xf7, 0xf7, 1, 0, 1, PLAIN, 9, MODRM},
    {0, 0xf6, 0xf7, 1, 2, 3, PLAIN, 0, MODRM | LOCKS},
    {0, 0xf6, 0xf7, 1, 4, 5, PLAIN, 0, MODRM},
    {0, 0xf6, 0xf7, 1, 6, 7, DIVIDES, 0, MODRM},
    {0, 0xfe, 0xff, 1, 0, 1, PLAIN, 0, MODRM | LOCKS},
    {0, 0xff, 0xff, 1, 2, 2, JUMPS, 0, MODRM | NO_66},
    {0, 0xff, 0xff, 1, 4, 4, JUMPS, 0, MODRM | NO_66},
    {0, 0xff, 0xff, 1, 6, 6, STACK, 0, MODRM | WIDE_ONLY},
    {1, 0x40, 0x4f, 1, -1, -1, PLAIN, 0, MODRM | WIDE_ONLY},
    {1, 0x90, 0x9f, 1, -1, -1, PLAIN, 0, MODRM | WIDE_ONLY},
    {1, 0xa3, 0xbb, 8, -1, -1, PLAIN, 0, MODRM | WIDE_ONLY | BIT_STRING},
    {1, 0xba, 0xba, 1, 4, 7, PLAIN, 1, MODRM | WIDE_ONLY},
    {1, 0xa4, 0xac, 8, -1, -1, PLAIN, 1, MODRM | WIDE_ONLY},
    {1, 0xa5, 0xad, 8, -1, -1, PLAIN, 0, MODRM | WIDE_ONLY},
    {1, 0xaf, 0xaf, 1, -1, -1, PLAIN, 0, MODRM},
    {1, 0xb0, 0xb1, 1, -1, -1, COMPARES, 0, MODRM | LOCKS},
    {1, 0xb6, 0xb7, 1, -1, -1, PLAIN, 0, MODRM | WIDE_ONLY},
    {1, 0xbe, 0xbf, 1, -1, -1, PLAIN, 0, MODRM | WIDE_ONLY},
    {1, 0xb8, 0xb8, 1, -1, -1, SPARSE, 0, MODRM | WIDE_ONLY | F3},
    {1, 0xbc, 0xbd, 1, -1, -1, SPARSE, 0, MODRM | WIDE_ONLY},
    {1, 0xbc, 0xbd, 1, -1, -1, SPARSE, 0, MODRM | WIDE_ONLY | F3},
    {1, 0xc0, 0xc1, 1, -1, -1, PLAIN, 0, MODRM | LOCKS},
    {1, 0xc3, 0xc3, 1, -1, -1, PLAIN, 0, MODRM | NO_66},
    {1, 0xc7, 0xc7, 1, 1, 1, COMPARES, 0, MODRM | LOCKS | WIDE_ONLY},
    {2, 0xf0, 0xf1, 1, -1, -1, PLAIN, 0, MODRM | WIDE_ONLY},
    {1, 0x10, 0x13, 1, -1, -1, VECTOR, 0, MODRM | WIDE_ONLY | NO_66},
    {1, 0x10, 0x13, 1, -1, -1, VECTOR, 0, MODRM | WIDE_ONLY | P66},
    {1, 0x10, 0x11, 1, -1, -1, VECTOR, 0, MODRM | WIDE_ONLY | F3},
    {1, 0x10, 0x11, 1, -1, -1, VECTOR, 0, MODRM | WIDE_ONLY | F2},
    {1, 0x16, 0x17, 1, -1, -1, VECTOR, 0, MODRM | WIDE_ONLY | NO_66},
    {1, 0x16, 0x17, 1, -1, -1, VECTOR, 0, MODRM | WIDE_ONLY | P66},
    {1, 0x28, 0x29, 1, -1, -1, VECTOR, 0, MODRM | WIDE_ONLY | NO_66},
    {1, 0x28, 0x29, 1, -1, -1, VECTOR, 0, MODRM | WIDE_ONLY | P66},
    {1, 0x2b, 0x2b, 1, -1, -1, VECTOR, 0, MODRM | WIDE_ONLY | NO_66},
    {1, 0x2b, 0x2b, 1, -1, -1, VECTOR, 0, MODRM | WIDE_ONLY | P66},
    {1, 0x6e, 0x7e, 16, -1, -1, VECTOR, 0, MODRM | WIDE_ONLY | P66},
    {1, 0x6e, 0x7e, 16, -1, -1, VECTOR, 0, MODRM | WIDE_ONLY | NO_66},
    {1, 0x6f, 0x7f, 16, -1, -1, VECTOR, 0, MODRM | WIDE_ONLY | NO_66},
    {1, 0xe7, 0xe7, 1, -1, -1, VECTOR, 0, MODRM | WIDE_ONLY | NO_66},
    {1, 0x6f, 0x7f, 16, -1, -1, VECTOR, 0, MODRM | WIDE_ONLY | P66},
    {1, 0x6f, 0x7f, 16, -1, -1, VECTOR, 0, MODRM | WIDE_ONLY | F3},
    {1, 0x7e, 0x7e, 1, -1, -1, VECTOR, 0, MODRM | WIDE_ONLY | F3},
    {1, 0xd6, 0xd6, 1, -1, -1, VECTOR, 0, MODRM | WIDE_ONLY | P66},
    {1, 0xe7, 0xe7, 1, -1, -1, VECTOR, 0, MODRM | WIDE_ONLY | P66},
    {1, 0xf0, 0xf0, 1, -1, -1, VECTOR, 0, MODRM | WIDE_ONLY | F2},
};

static uint64_t state;
static unsigned bits;

void attempt_init(uint64_t seed, unsigned bits_wanted)
{
	state = seed * 0x9e3779b97f4a7c15ull + 1;
	bits = bits_wanted;
}

/* Where jumps, calls and returns lead. */
static uint64_t stub(void)
{
	return bits == 64 ? native_stub : native_stub32;
}

/* Registers that an instruction can name. */
static unsigned names(void)
{
	return bits == 64 ? 16 : 8;
}

static uint64_t random_word(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state * 0x2545f4914f6cdd1dull;
}

static uint64_t below(uint64_t n)
{
	return (random_word() >> 11) % n;
}

static bool one_in(unsigned n)
{
	return below(n) == 0;
}

/* Numbers that find borders. */
static uint64_t operand_value(void)
{
	static const uint64_t special[] = {0,          1,          ~0ull,     0x80,
					   0x7f,       0x8000,     0x7fff,    0x80000000,
					   0x7fffffff, 1ull << 63, ~0ull >> 1};

	if (one_in(2))
		return random_word();
	return special[below(sizeof(special) / sizeof(special[0]))];
}

/* ------------------------------------------------------------------ making one */

static uint64_t somewhere(void)
{
	/* Often across the border or next to it. */
	return one_in(2) ? NATIVE_DATA + 4096 - below(20)
			 : WINDOW + WINDOW_SIZE / 2 - 128 + below(256);
}

static void add(struct attempt *a, uint8_t byte)
{
	a->bytes[a->length++] = byte;
}

static void add_value(struct attempt *a, uint64_t value, unsigned size)
{
	memcpy(a->bytes + a->length, &value, size);
	a->length += size;
}

/* ModRM, SIB, displacement for a->target; base and index registers get what leads there. */
static void add_operand(struct attempt *a, unsigned reg, unsigned rex_at, bool narrow)
{
	uint64_t *gpr = a->registers.gpr;
	uint64_t mask = narrow || bits == 32 ? 0xffffffff : ~0ull;
	unsigned base = (unsigned)below(names()), index = (unsigned)below(names()),
		 scale = (unsigned)below(4);
	unsigned mod = (unsigned)below(3), high = base >> 3;
	bool sib = one_in(2) || (base & 7) == 4, baseless = false;
	int64_t displacement = mod == 1   ? (int8_t)random_word()
			       : mod == 2 ? (int32_t)random_word() >> 4
					  : 0;

	if (mod == 0 && (base & 7) == 5) { /* no base */
		if (!sib)
			sib = true;
		baseless = true;
	}
	if (sib) {
		if (index == base)
			index = 4;
		high |= index >> 3 << 1;
	}
	if (bits == 64)
		a->bytes[rex_at] = (uint8_t)(0x40 | (a->bytes[rex_at] & 8) | (reg >> 3) << 2 |
					     (high & 2) | (high & 1));
	add(a, (uint8_t)(mod << 6 | (reg & 7) << 3 | (sib ? 4 : base & 7)));
	if (sib)
		add(a, (uint8_t)(scale << 6 | (index & 7) << 3 | (base & 7)));
	if (baseless) {
		if (index != 4) {
			gpr[index] = random_word() >> 40;
			displacement = (int64_t)(a->target - (gpr[index] << scale));
		} else {
			displacement = (int64_t)a->target;
		}
		add_value(a, (uint64_t)displacement, 4);
		return;
	}
	if (sib && index != 4)
		gpr[index] = random_word() >> 24 & mask;
	gpr[base] =
	    (a->target - (uint64_t)displacement - (sib && index != 4 ? gpr[index] << scale : 0)) &
	    mask;
	if (narrow && one_in(2))
		gpr[base] |= random_word() << 32;
	if (mod == 1)
		add_value(a, (uint64_t)displacement, 1);
	else if (mod == 2)
		add_value(a, (uint64_t)displacement, 4);
}

static void poke(struct attempt *a, uint64_t at, uint64_t value)
{
	if (at >= WINDOW && at + 8 <= WINDOW + WINDOW_SIZE)
		memcpy(a->window + (at - WINDOW), &value, 8);
}

static uint64_t peek(const struct attempt *a, uint64_t at)
{
	uint64_t value;

	memcpy(&value, a->window + (at - WINDOW), 8);
	return value;
}

static void fill(struct attempt *a)
{
	for (unsigned i = 0; i < names(); i++)
		a->registers.gpr[i] = bits == 64 ? operand_value() : (uint32_t)operand_value();
	for (int i = 0; i < 8; i++) {
		for (int j = 0; j < 16; j++)
			a->registers.xmm[i][j] = (uint8_t)random_word();
		for (int j = 0; j < 8; j++)
			a->registers.xmm[EMU_MM + i][j] = (uint8_t)random_word();
	}
	for (unsigned i = 0; i < WINDOW_SIZE; i += 8) {
		uint64_t value = random_word();
		memcpy(a->window + i, &value, 8);
	}
	a->registers.rflags = (random_word() & FLAGS) | 0x202;
	a->registers.rip = NATIVE_CODE + 64 + below(64);
	a->target = somewhere();
	if (one_in(2))
		poke(a, a->target, operand_value());
}

/* What a kind of instruction needs in registers and memory, once its operand is in place. */
static void settle(struct attempt *a, unsigned size)
{
	uint64_t *gpr = a->registers.gpr;

	switch (a->template->kind) {
	case STRING:
		gpr[6] = somewhere();
		gpr[7] = somewhere();
		gpr[1] = below(12);
		if (one_in(4)) /* so that REPE and REPNE run on */
			memset(a->window, (int)random_word(), WINDOW_SIZE);
		break;
	case SPARSE:
		if (one_in(2))
			poke(a, a->target, 0);
		break;
	case DIVIDES:
		if (one_in(2)) { /* quotients that fit */
			gpr[2] = one_in(2) ? 0 : ~0ull >> (64 - bits);
			if (size == 1)
				gpr[0] &= ~0xff00ull;
		}
		break;
	case COMPARES:
		if (one_in(2))
			gpr[0] = peek(a, a->target) & ~0ull >> (64 - bits);
		if (one_in(2))
			gpr[2] = size == 8 ? peek(a, a->target + 8) : peek(a, a->target) >> 32;
		break;
	default:
		break;
	}
}

/* Without a memory operand of its own: where the implied one lies. */
static void imply(struct attempt *a)
{
	uint64_t *gpr = a->registers.gpr;

	switch (a->template->kind) {
	case STACK:
	case REGISTER:
	case RETURNS:
	case CALLS:
	case JUMPS:
		gpr[4] = somewhere();
		break;
	default:
		break;
	}
	if (a->template->kind == RETURNS)
		poke(a, gpr[4], bits == 64 ? stub() : stub() | random_word() << 32);
	if (a->template->first == 0xc9 || a->template->first == 0xc8)
		gpr[5] = somewhere();
	if (a->template->first == 0xd7) {
		gpr[3] = (a->target - (gpr[0] & 0xff)) & ~0ull >> (64 - bits);
	}
}

/* What stands before the opcode, as far as it does not depend on bits 32 or 64. */
static void add_prefixes(struct attempt *a, uint8_t opcode, bool narrow, bool *prefix_66)
{
	const struct template *t = a->template;

	if (t->flags & LOCKS && one_in(4) && !(opcode < 0x40 && opcode >= 0x38))
		add(a, 0xf0);
	if (t->flags & REP && !one_in(3))
		add(a, one_in(2) ? 0xf3 : 0xf2);
	if (t->flags & (P66 | F3 | F2) || *prefix_66)
		add(a, t->flags & F3 ? 0xf3 : t->flags & F2 ? 0xf2 : 0x66);
	if (t->flags & F3 && !(t->kind == VECTOR) && one_in(3))
		add(a, 0x66), *prefix_66 = true;
	if (narrow)
		add(a, 0x67);
}

/* The register operand, or the part of the opcode that stands in its place. */
static unsigned choose_reg(const struct attempt *a, uint8_t opcode)
{
	const struct template *t = a->template;
	uint64_t group = (uint64_t)(t->group_last - t->group_first + 1);
	unsigned reg = t->group_first >= 0 ? (unsigned)t->group_first + (unsigned)below(group)
					   : (unsigned)below(t->kind == VECTOR ? 8 : names());

	if (t->flags & LOCKS && reg == 7 && (opcode & 0xfc) == 0x80 && a->bytes[0] == 0xf0)
		reg = 6; /* CMP takes no LOCK */
	return reg;
}

/* => false: its base or index is a register that was to keep its value */
static bool add_memory_operand(struct attempt *a, unsigned reg, unsigned rex_at, bool narrow)
{
	const struct template *t = a->template;
	uint64_t kept = a->registers.gpr[4];

	add_operand(a, reg, rex_at, narrow);
	if ((t->kind == STACK || t->kind == JUMPS) && a->registers.gpr[4] != kept)
		return false;
	return !(t->flags & BIT_STRING) ||
	       ((a->registers.gpr[reg] + 500) & ~0ull >> (64 - bits)) <= 1000;
}

static void add_constant(struct attempt *a, uint8_t opcode, unsigned size)
{
	const struct template *t = a->template;

	if (t->kind == CALLS)
		add_value(a, stub() - (a->registers.rip + a->length + 4), 4);
	else if (t->immediate == 9)
		add_value(a, operand_value(), size == 2 ? 2 : 4);
	else if (opcode == 0xc8 && !t->map) /* the room may end where nothing is */
		add_value(
		    a, below(1 << 8) << 16 | (one_in(8) ? 0x8000 + below(1 << 15) : below(200)), 3);
	else
		add_value(a, random_word(), t->immediate);
}

bool attempt_make(struct attempt *a)
{
	const struct template *t = &templates[below(sizeof(templates) / sizeof(templates[0]))];
	unsigned steps = (unsigned)(t->last - t->first) / t->step + 1, rex_at, size, reg;
	uint8_t opcode = (uint8_t)(t->first + t->step * below(steps));
	bool prefix_66 = !(t->flags & (NO_66 | P66 | F3 | F2)) && one_in(3);
	bool byte = !(t->flags & WIDE_ONLY) && !(opcode & 1), narrow;

	memset(a, 0, sizeof(*a));
	if (t->flags & ONLY_64 && bits == 32)
		return false;
	a->template = t;
	fill(a);
	narrow = t->flags & MODRM && one_in(5) && t->kind != JUMPS && bits == 64;
	add_prefixes(a, opcode, narrow, &prefix_66);
	rex_at = a->length;
	if (bits == 64)
		add(a, (uint8_t)(0x40 | (one_in(2) ? 8 : 0)));
	size = byte ? 1 : bits == 64 && a->bytes[rex_at] & 8 ? 8 : prefix_66 ? 2 : 4;
	if (t->map)
		add(a, 0x0f);
	if (t->map == 2)
		add(a, 0x38);
	add(a, opcode);
	reg = choose_reg(a, opcode);
	if (t->flags & BIT_STRING)
		a->registers.gpr[reg] =
		    (uint64_t)((int64_t)below(1000) - 500) & ~0ull >> (64 - bits);
	imply(a);
	settle(a, size); /* before base and index get their values */
	if (t->flags & MODRM && !add_memory_operand(a, reg, rex_at, narrow))
		return false;
	if (t->kind == JUMPS)
		poke(a, a->target, stub());
	add_constant(a, opcode, size);
	return true;
}

uint64_t attempt_end(const struct attempt *a)
{
	switch (a->template->kind) {
	case RETURNS:
	case CALLS:
	case JUMPS:
		return stub();
	default:
		return a->registers.rip + a->length;
	}
}
