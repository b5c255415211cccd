/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Instruction decoder (AMD64 APM vol. 3 §1, appendix A): prefixes, opcode, ModRM, SIB,
 * displacement and immediates of the one-byte, 0F, 0F 38 and 0F 3A maps, for 16-, 32- and 64-bit
 * code. Lengths come from tables of what follows the opcode. Stateless.
 */
#include "insn.h"

/* What follows the opcode. */
#define M     0x001 /* ModRM */
#define B     0x002 /* 8-bit immediate, sign-extended */
#define Z     0x004 /* 16 or 32 bits by operand size, sign-extended */
#define W     0x008 /* 16 bits */
#define V     0x010 /* 16, 32 or 64 bits by operand size */
#define O     0x020 /* an address: MOV to or from AL..RAX */
#define T     0x040 /* group 3: immediate only for /0 and /1 (TEST) */
#define P     0x080 /* far pointer: offset, selector */
#define L     0x100 /* refused in 64-bit code */
#define X     0x200 /* refused */
#define D     0x400 /* 64-bit code: 64-bit operands without REX.W, none of 32 bits */
#define MB    (M | B)
#define MZ    (M | Z)
#define R8(v) v, v, v, v, v, v, v, v

/* clang-format off */
static const uint16_t one_byte[256] = {
	M, M, M, M, B, Z, L, L, M, M, M, M, B, Z, L, X,   /* 00 */
	M, M, M, M, B, Z, L, L, M, M, M, M, B, Z, L, L,   /* 10 */
	M, M, M, M, B, Z, X, L, M, M, M, M, B, Z, X, L,   /* 20 */
	M, M, M, M, B, Z, X, L, M, M, M, M, B, Z, X, L,   /* 30 */
	R8(0), R8(0),                                     /* 40 */
	R8(D), R8(D),                                     /* 50 */
	L, L, M | L, M, X, X, X, X, Z | D, MZ, B | D, MB, 0, 0, 0, 0, /* 60 */
	R8(B | D),                                        /* 70 */
	R8(B | D),
	MB, MZ, MB | L, MB, M, M, M, M, M, M, M, M, M, M, M, M | D, /* 80 */
	R8(0), 0, 0, P | L, 0, D, D, 0, 0,                /* 90 */
	O, O, O, O, 0, 0, 0, 0, B, Z, 0, 0, 0, 0, 0, 0,   /* A0 */
	R8(B), R8(V),                                     /* B0 */
	MB, MB, W | D, D, M | L, M | L, MB, MZ, W | B | D, D, W, 0, 0, B, L, 0, /* C0 */
	M, M, M, M, B | L, B | L, L, 0, R8(M),            /* D0 */
	B | D, B | D, B | D, B | D, B, B, B, B,           /* E0 */
	Z | D, Z | D, P | L, B | D, 0, 0, 0, 0,
	X, 0, X, X, 0, 0, M | T, M | T, 0, 0, 0, 0, 0, 0, M, M, /* F0 */
};

static const uint16_t two_byte[256] = {
	M, M, M, M, X, 0, 0, 0, 0, 0, X, 0, X, M, 0, MB, /* 00 */
	R8(M), R8(M),                                    /* 10 */
	M, M, M, M, X, X, X, X, R8(M),                   /* 20 */
	R8(0), X, X, X, X, X, X, X, X,                   /* 30 */
	R8(M), R8(M),                                    /* 40 */
	R8(M), R8(M),                                    /* 50 */
	R8(M), R8(M),                                    /* 60 */
	MB, MB, MB, MB, M, M, M, 0, M, M, X, X, M, M, M, M, /* 70 */
	R8(Z | D), R8(Z | D),                               /* 80 */
	R8(M), R8(M),                                       /* 90 */
	D, D, 0, M, MB, M, X, X, D, D, 0, M, MB, M, M, M,   /* A0 */
	M, M, M, M, M, M, M, M, M, M, MB, M, M, M, M, M,    /* B0 */
	M, M, MB, M, MB, MB, MB, M, R8(0),                  /* C0 */
	R8(M), R8(M),                                       /* D0 */
	R8(M), R8(M),                                       /* E0 */
	R8(M), R8(M),                                       /* F0 */
};
/* clang-format on */
#undef M
#undef B
#undef Z
#undef W
#undef V
#undef O
#undef T
#undef P
#undef L
#undef X
#undef D
#define HAS_MODRM  0x001
#define HAS_IMM8   0x002
#define HAS_IMMZ   0x004
#define HAS_IMM16  0x008
#define HAS_IMMV   0x010
#define HAS_MOFFS  0x020
#define IS_GROUP3  0x040
#define HAS_FAR    0x080
#define NOT_64     0x100
#define REFUSED    0x200
#define DEFAULT_64 0x400

struct cursor {
	const uint8_t *at, *end;
	bool overrun;
};

static uint64_t take(struct cursor *c, unsigned size)
{
	uint64_t value = 0;

	if ((size_t)(c->end - c->at) < size) {
		c->overrun = true;
		return 0;
	}
	if ((size_t)(c->end - c->at) >= 8) {
		__builtin_memcpy(&value, c->at, 8);
		c->at += size;
		return size < 8 ? value & ((1ull << 8 * size) - 1) : value;
	}
	for (unsigned i = 0; i < size; i++)
		value |= (uint64_t)*c->at++ << 8 * i;
	return value;
}

static int64_t take_signed(struct cursor *c, unsigned size)
{
	unsigned shift = 64 - 8 * size;

	return (int64_t)(take(c, size) << shift) >> shift;
}

/* A bit a byte: those that can be prefixes. */
static const uint32_t prefix_map[8] = {
    0, 0x40404040, 0xffff, 0xf0, 0, 0, 0, 0xd0000,
};

/* Prefixes, up to the first opcode byte, which is returned. */
static uint8_t prefixes(struct cursor *c, struct insn *insn)
{
	bool is_64 = insn->mode == INSN_64, address = false;
	uint8_t byte;

	insn->segment = 0xff;
	for (;;) {
		if (c->at == c->end) {
			c->overrun = true;
			return 0;
		}
		byte = *c->at++;
		if (!(prefix_map[byte / 32] >> byte % 32 & 1))
			break;
		if (is_64 && (byte & 0xf0) == 0x40) { /* counts only right before the opcode */
			insn->rex = byte;
			continue;
		}
		if (byte == 0x66)
			insn->operand_prefix = true;
		else if (byte == 0x67)
			address = true;
		else if (byte == 0xf0)
			insn->lock = true;
		else if (byte == 0xf2)
			insn->repne = true, insn->rep = false; /* the last one counts */
		else if (byte == 0xf3)
			insn->rep = true, insn->repne = false;
		else if ((byte & 0xe7) == 0x26)
			insn->segment = is_64 ? insn->segment : byte >> 3 & 3;
		else if (byte == 0x64 || byte == 0x65)
			insn->segment = byte & 7;
		else
			break; /* 40..4F outside of 64-bit code */
		insn->rex = 0;
	}
	insn->size = insn->rex & 8 ? 8 : (insn->mode != INSN_16) != insn->operand_prefix ? 4 : 2;
	insn->address_size = is_64 ? (address ? 4 : 8) : (insn->mode == INSN_32) != address ? 4 : 2;
	return byte;
}

/* APM vol. 3 §1.4.1, table 1-12: 16-bit addressing. */
static void modrm_16(struct cursor *c, struct insn *insn)
{
	static const struct {
		int8_t base, index;
	} forms[] = {{3, 6}, {3, 7}, {5, 6}, {5, 7}, {6, -1}, {7, -1}, {5, -1}, {3, -1}};

	insn->base = forms[insn->rm & 7].base;
	insn->index = forms[insn->rm & 7].index;
	if (insn->mod == 0 && insn->rm == 6) {
		insn->base = -1;
		insn->displacement = take_signed(c, 2);
	} else if (insn->mod) {
		insn->displacement = take_signed(c, insn->mod);
	}
}

/* 32- and 64-bit addressing: SIB and displacement. */
static void modrm_wide(struct cursor *c, struct insn *insn)
{
	uint8_t rm = insn->rm & 7;

	if (rm == 4) {
		uint8_t sib = (uint8_t)take(c, 1);

		insn->scale = sib >> 6;
		insn->index = (int8_t)((sib >> 3 & 7) | (insn->rex & 2) << 2);
		if (insn->index == 4)
			insn->index = -1;
		insn->base = (int8_t)((sib & 7) | (insn->rex & 1) << 3);
		if ((sib & 7) == 5 && insn->mod == 0) {
			insn->base = -1;
			insn->displacement = take_signed(c, 4);
		}
	} else if (rm == 5 && insn->mod == 0) {
		insn->rip_relative = insn->mode == INSN_64;
		insn->displacement = take_signed(c, 4);
	} else {
		insn->base = (int8_t)insn->rm;
	}
	if (insn->mod == 1)
		insn->displacement = take_signed(c, 1);
	else if (insn->mod == 2)
		insn->displacement = take_signed(c, 4);
}

static void modrm(struct cursor *c, struct insn *insn)
{
	uint8_t byte = (uint8_t)take(c, 1);

	insn->has_modrm = true;
	insn->mod = byte >> 6;
	insn->reg = (byte >> 3 & 7) | (insn->rex & 4) << 1;
	insn->rm = (byte & 7) | (insn->rex & 1) << 3;
	if (insn->map == 1 && (insn->opcode & 0xfc) == 0x20)
		insn->mod = 3; /* control and debug register moves ignore it */
	if (insn->mod == 3)
		return;
	insn->memory = true;
	if (insn->address_size == 2)
		modrm_16(c, insn);
	else
		modrm_wide(c, insn);
	/* RSP and RBP as bases; with 16-bit addresses the base is BP where there is one. */
	if (insn->segment == 0xff)
		insn->segment = insn->base == 4 || insn->base == 5 ? SEGMENT_SS : SEGMENT_DS;
}

/* Whether anything of immediates() follows. */
static bool has_more(unsigned flags, const struct insn *insn)
{
	return flags & ~(HAS_MODRM | NOT_64 | DEFAULT_64) ||
	       (insn->map == 1 && insn->opcode == 0x78);
}

static void immediates(struct cursor *c, unsigned flags, struct insn *insn)
{
	unsigned z = insn->size == 2 ? 2 : 4;

	if (flags & IS_GROUP3 && (insn->reg & 7) < 2)
		flags |= insn->opcode & 1 ? HAS_IMMZ : HAS_IMM8;
	if (flags & HAS_IMM16)
		insn->immediate = take(c, 2);
	if (flags & HAS_IMM8 && flags & HAS_IMM16)
		insn->immediate2 = take(c, 1);
	else if (flags & HAS_IMM8)
		insn->immediate = (uint64_t)take_signed(c, 1);
	if (flags & HAS_IMMZ)
		insn->immediate = (uint64_t)take_signed(c, z);
	if (flags & HAS_IMMV)
		insn->immediate = take(c, insn->size);
	if (flags & HAS_FAR) {
		insn->immediate = take(c, z);
		insn->immediate2 = take(c, 2);
	}
	if (flags & HAS_MOFFS) {
		insn->displacement = (int64_t)take(c, insn->address_size);
		insn->memory = true;
	}
	/* SSE4A: EXTRQ and INSERTQ with immediates. */
	if (insn->map == 1 && insn->opcode == 0x78 && (insn->operand_prefix || insn->repne)) {
		insn->immediate = take(c, 1);
		insn->immediate2 = take(c, 1);
	}
}

/* FF: calls, jumps and PUSH of 64-bit code have 64-bit operands; the far ones and INC, DEC not. */
static bool is_default_64(const struct insn *insn)
{
	unsigned group = insn->reg & 7;

	return insn->map == 0 && insn->opcode == 0xff && (group == 2 || group == 4 || group == 6);
}

/* The opcode's map and last byte; what follows it. */
static unsigned opcode(struct cursor *c, struct insn *insn)
{
	insn->opcode = prefixes(c, insn);
	if (insn->opcode != 0x0f)
		return one_byte[insn->opcode];
	insn->map = 1;
	insn->opcode = (uint8_t)take(c, 1);
	if (insn->opcode != 0x38 && insn->opcode != 0x3a)
		return two_byte[insn->opcode];
	insn->map = insn->opcode == 0x38 ? 2 : 3;
	insn->opcode = (uint8_t)take(c, 1);
	return insn->map == 2 ? HAS_MODRM : HAS_MODRM | HAS_IMM8;
}

bool insn_decode(const uint8_t *bytes, size_t count, enum insn_mode mode, struct insn *insn)
{
	struct cursor c = {bytes, bytes + (count < INSN_MAX ? count : INSN_MAX), false};
	unsigned flags;

	*insn = (struct insn){.mode = (uint8_t)mode, .base = -1, .index = -1};
	flags = opcode(&c, insn);
	if (c.overrun || flags & REFUSED || (flags & NOT_64 && mode == INSN_64))
		return false;
	if (flags & HAS_MODRM)
		modrm(&c, insn);
	/* C4 and C5 without memory are VEX, 62 is EVEX, 8F with a register field XOP. */
	if (insn->map == 0 && !insn->memory &&
	    (insn->opcode == 0xc4 || insn->opcode == 0xc5 || insn->opcode == 0x62))
		return false;
	if (insn->map == 0 && insn->opcode == 0x8f && insn->reg & 7)
		return false;
	if (mode == INSN_64 && (flags & DEFAULT_64 || is_default_64(insn)) && insn->size == 4)
		insn->size = 8;
	if (has_more(flags, insn))
		immediates(&c, flags, insn);
	if (insn->segment == 0xff)
		insn->segment = SEGMENT_DS;
	insn->length = (uint8_t)(c.at - bytes);
	return !c.overrun;
}
