/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The emulator against the processor: random instructions with random operands and flags, run by
 * both on the same memory. Registers, flags, SSE registers, memory, where it went on, or the
 * exception that was raised, must be the same. Operands lie anywhere around a page's border.
 *
 * test_execute [--count N] [--seed N] [--bits 64|32]
 *
 * Exit status 77: a processor without code of 32 bits was to run some.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emu.h"
#include "native.h"

#define WINDOW_SIZE 1024u
#define WINDOW      (NATIVE_DATA + 4096 - WINDOW_SIZE / 2) /* a page's border in the middle */
#define FLAGS       0xcd5ull                               /* OF DF SF ZF AF PF CF */
#define SKIPPED     77                                     /* meson's */
#define MOODS_MAX   20u                                    /* of a processor, in one run */

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
static unsigned bits = 64;

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

struct attempt {
	const struct template *template;
	struct registers registers;
	uint8_t bytes[32];
	unsigned length;
	uint64_t target; /* of the memory operand */
	uint8_t window[WINDOW_SIZE];
};

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

static void make(struct attempt *a)
{
	const struct template *t = &templates[below(sizeof(templates) / sizeof(templates[0]))];
	unsigned steps = (unsigned)(t->last - t->first) / t->step + 1, rex_at, size, reg;
	uint8_t opcode = (uint8_t)(t->first + t->step * below(steps));
	bool prefix_66 = !(t->flags & (NO_66 | P66 | F3 | F2)) && one_in(3);
	bool byte = !(t->flags & WIDE_ONLY) && !(opcode & 1), narrow;

	memset(a, 0, sizeof(*a));
	if (t->flags & ONLY_64 && bits == 32)
		return;
	a->template = t;
	fill(a);
	narrow = t->flags & MODRM && one_in(5) && t->kind != JUMPS && bits == 64;
	if (t->flags & LOCKS && one_in(4) && !(opcode < 0x40 && opcode >= 0x38))
		add(a, 0xf0);
	if (t->flags & REP && !one_in(3))
		add(a, one_in(2) ? 0xf3 : 0xf2);
	if (t->flags & (P66 | F3 | F2) || prefix_66)
		add(a, t->flags & F3 ? 0xf3 : t->flags & F2 ? 0xf2 : 0x66);
	if (t->flags & F3 && !(t->kind == VECTOR) && one_in(3))
		add(a, 0x66), prefix_66 = true;
	if (narrow)
		add(a, 0x67);
	rex_at = a->length;
	if (bits == 64)
		add(a, (uint8_t)(0x40 | (one_in(2) ? 8 : 0)));
	size = byte ? 1 : bits == 64 && a->bytes[rex_at] & 8 ? 8 : prefix_66 ? 2 : 4;
	if (t->map)
		add(a, 0x0f);
	if (t->map == 2)
		add(a, 0x38);
	add(a, opcode);
	reg = t->group_first >= 0
		  ? (unsigned)t->group_first +
			(unsigned)below((uint64_t)(t->group_last - t->group_first + 1))
		  : (unsigned)below(t->kind == VECTOR ? 8 : names());
	if (t->flags & LOCKS && reg == 7 && (opcode & 0xfc) == 0x80 && a->bytes[0] == 0xf0)
		reg = 6; /* CMP takes no LOCK */
	if (t->flags & BIT_STRING)
		a->registers.gpr[reg] =
		    (uint64_t)((int64_t)below(1000) - 500) & ~0ull >> (64 - bits);
	imply(a);
	settle(a, size); /* before base and index get their values */
	if (t->flags & MODRM) {
		uint64_t kept = a->registers.gpr[4];
		bool on_stack = t->kind == STACK || t->kind == JUMPS;

		add_operand(a, reg, rex_at, narrow);
		if (on_stack && a->registers.gpr[4] != kept) { /* RSP was made its base */
			a->length = 0;
			return;
		}
		if (t->flags & BIT_STRING &&
		    ((a->registers.gpr[reg] + 500) & ~0ull >> (64 - bits)) > 1000) {
			a->length = 0;
			return;
		}
	}
	if (t->kind == JUMPS)
		poke(a, a->target, stub());
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

/* ------------------------------------------------------------------ the emulator's side */

struct host {
	struct registers *registers;
	int vector;
};

static enum emu_result host_translate(void *ctx, uint64_t linear, unsigned kind,
				      struct emu_place *place)
{
	struct host *host = ctx;

	(void)kind;
	if (linear < NATIVE_DATA || linear >= NATIVE_DATA + 8192) {
		host->vector = 14;
		return EMU_FAULT;
	}
	place->gpa = linear;
	place->va = (uint8_t *)linear;
	return EMU_DONE;
}

static uint64_t host_device_read(void *ctx, uint64_t gpa, unsigned size)
{
	(void)ctx, (void)gpa, (void)size;
	abort();
}

static void host_device_write(void *ctx, uint64_t gpa, unsigned size, uint64_t value)
{
	(void)ctx, (void)gpa, (void)size, (void)value;
	abort();
}

static void host_written(void *ctx, uint64_t gpa, size_t size)
{
	(void)ctx, (void)gpa, (void)size;
}

static void host_raise(void *ctx, unsigned vector, int64_t error)
{
	struct host *host = ctx;

	(void)error;
	host->vector = (int)vector;
}

static void host_xmm_read(void *ctx, unsigned reg, void *value)
{
	memcpy(value, ((struct host *)ctx)->registers->xmm[reg], 16);
}

static void host_xmm_write(void *ctx, unsigned reg, const void *value)
{
	memcpy(((struct host *)ctx)->registers->xmm[reg], value, reg < EMU_MM ? 16 : 8);
}

static uint32_t host_port_read(void *ctx, uint16_t port, unsigned size)
{
	(void)ctx, (void)port, (void)size;
	abort();
}

static void host_port_write(void *ctx, uint16_t port, unsigned size, uint32_t value)
{
	(void)ctx, (void)port, (void)size, (void)value;
	abort();
}

static const struct emu_host emu_host = {
    .translate = host_translate,
    .device_read = host_device_read,
    .device_write = host_device_write,
    .written = host_written,
    .raise = host_raise,
    .xmm_read = host_xmm_read,
    .xmm_write = host_xmm_write,
    .port_read = host_port_read,
    .port_write = host_port_write,
};

static const struct emu_segment flat[6] = {
    {0x2b, 0xcf3, ~0u, 0}, {0x33, 0xafb, ~0u, 0}, {0x2b, 0xcf3, ~0u, 0},
    {0x2b, 0xcf3, ~0u, 0}, {0, 0xcf3, ~0u, 0},    {0, 0xcf3, ~0u, 0},
};

static const struct emu_segment flat32[6] = {
    {0x2b, 0xcf3, ~0u, 0}, {0x23, 0xcfb, ~0u, 0}, {0x2b, 0xcf3, ~0u, 0},
    {0x2b, 0xcf3, ~0u, 0}, {0, 0xcf3, ~0u, 0},    {0, 0xcf3, ~0u, 0},
};

/* -1, or a vector, or -2: not known. A REP runs to its end. */
static int emulate(const struct attempt *a, struct registers *registers)
{
	struct host host = {registers, -1};
	struct emu emu = {
	    .host = &emu_host,
	    .ctx = &host,
	    .gpr = registers->gpr,
	    .rip = &registers->rip,
	    .rflags = &registers->rflags,
	    .segment = bits == 64 ? flat : flat32,
	    .cr0 = 0x80000001,
	    .cr4 = 0x20,
	    .efer = 0xd00,
	    .cpl = 3,
	};
	uint64_t begin = registers->rip;
	struct insn insn;

	if (!insn_decode(a->bytes, a->length, bits == 64 ? INSN_64 : INSN_32, &insn) ||
	    insn.length != a->length)
		return -2;
	do {
		enum emu_result result = emu_execute(&emu, &insn);

		if (result == EMU_UNKNOWN)
			return -2;
		if (result == EMU_FAULT)
			return host.vector;
	} while (registers->rip == begin);
	return -1;
}

/* ------------------------------------------------------------------ the judge */

static void print_attempt(const struct attempt *a)
{
	for (unsigned i = 0; i < a->length; i++)
		printf(" %02x", a->bytes[i]);
	printf(" at %#" PRIx64 ", operand at %#" PRIx64 ", flags %#" PRIx64 "\n", a->registers.rip,
	       a->target, a->registers.rflags);
}

/* SIGSEGV says neither #GP nor #PF nor #SS. */
static int class_of(int vector)
{
	return vector >= 12 && vector <= 14 ? 13 : vector;
}

static const char *differs(const struct attempt *a, int vector, int native,
			   const struct registers *x, const struct registers *y,
			   const uint8_t *memory)
{
	bool defined = native != 0; /* #DE leaves flags undefined, and ours are the old ones */

	if (vector == -2)
		return "unknown to the emulator";
	if (class_of(vector) != class_of(native))
		return "exception";
	for (unsigned i = 0; bits == 32 && i < names(); i++)
		if ((uint32_t)x->gpr[i] != (uint32_t)y->gpr[i])
			return "registers";
	if (bits == 64 && memcmp(x->gpr, y->gpr, sizeof(x->gpr)))
		return "registers";
	if (defined && (x->rflags ^ y->rflags) & FLAGS)
		return "flags";
	if (memcmp(x->xmm, y->xmm, 8 * 16) || memcmp(x->xmm + 16, y->xmm + 16, 8 * 16))
		return "SSE registers";
	if (memcmp(memory, (void *)WINDOW, WINDOW_SIZE))
		return "memory";
	if (vector == -1 && (a->template->kind == RETURNS || a->template->kind == CALLS ||
				     a->template->kind == JUMPS
				 ? x->rip != stub()
				 : x->rip != a->registers.rip + a->length))
		return "RIP";
	return NULL;
}

/* What both made of it. */
struct outcome {
	struct registers ours, theirs;
	int vector, native;
};

/* => returns what differs, or NULL */
static const char *compare(const struct attempt *a, struct outcome *o)
{
	uint8_t memory[WINDOW_SIZE];

	o->ours = o->theirs = a->registers;
	memcpy((void *)WINDOW, a->window, WINDOW_SIZE);
	memcpy((void *)a->registers.rip, a->bytes, a->length);
	o->native = native_run(&o->theirs, a->length, bits);
	memcpy(memory, (void *)WINDOW, WINDOW_SIZE);
	memcpy((void *)WINDOW, a->window, WINDOW_SIZE);
	o->vector = emulate(a, &o->ours);
	return differs(a, o->vector, o->native, &o->ours, &o->theirs, memory);
}

static void report(const struct attempt *a, const struct outcome *o, const char *what)
{
	printf("%s (exception %d, the processor's %d):", what, o->vector, o->native);
	print_attempt(a);
	for (int i = 0; i < 16; i++)
		if (o->ours.gpr[i] != o->theirs.gpr[i])
			printf("  r%d was %#" PRIx64 ": %#" PRIx64 ", the processor's %#" PRIx64
			       "\n",
			       i, a->registers.gpr[i], o->ours.gpr[i], o->theirs.gpr[i]);
	printf("  flags %#" PRIx64 ", the processor's %#" PRIx64 "\n", o->ours.rflags,
	       o->theirs.rflags);
}

/*
 * Where the host of a virtual processor has to step in, once in millions, the instruction may be
 * refused or done wrong, and not the next time. The emulator starts from the same each time and
 * keeps nothing: what it does wrong is wrong again. So a difference counts if it is there in one of
 * two more attempts.
 */
static bool try_one(const struct attempt *a, uint64_t *faults, uint64_t *moods)
{
	struct outcome o;
	const char *what = compare(a, &o);

	*faults += o.native >= 0;
	if (!what)
		return true;
	report(a, &o, what);
	if (compare(a, &o) || compare(a, &o))
		return false;
	puts("  but not in two more attempts");
	++*moods;
	return true;
}

int main(int argc, char **argv)
{
	uint64_t count = 200000, seed = 1, wrong = 0, done = 0, faults = 0, moods = 0;
	struct attempt attempt;

	for (int i = 1; i + 1 < argc; i += 2)
		if (!strcmp(argv[i], "--count"))
			count = strtoull(argv[i + 1], NULL, 0);
		else if (!strcmp(argv[i], "--seed"))
			seed = strtoull(argv[i + 1], NULL, 0);
		else if (!strcmp(argv[i], "--bits"))
			bits = strcmp(argv[i + 1], "32") ? 64 : 32;
	state = seed * 0x9e3779b97f4a7c15ull + 1;
	if (bits == 32 && !native_has_32()) {
		puts("test_execute: skipped: this processor runs no code of 32 bits for programs");
		return SKIPPED;
	}
	native_init();
	while (done < count && wrong < 10) {
		make(&attempt);
		if (!attempt.length)
			continue;
		done++;
		wrong += !try_one(&attempt, &faults, &moods);
	}
	printf("test_execute: %" PRIu64 " instructions of %u bits, %" PRIu64
	       " of them faulted, seed %" PRIu64 ": %" PRIu64 " differ (%" PRIu64
	       " others did, but once)\n",
	       done, bits, faults, seed, wrong, moods);
	if (moods > MOODS_MAX)
		puts("test_execute: a processor that changes its mind so often proves nothing");
	return wrong != 0 || moods > MOODS_MAX;
}
