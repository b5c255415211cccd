/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Instruction decoder (AMD64 APM vol. 3 §1, appendix A): prefixes, opcode, ModRM, SIB,
 * displacement and immediate of the one-byte, 0F, 0F 38 and 0F 3A maps. Lengths come from tables
 * of what follows the opcode. VEX, EVEX, XOP and far pointers are refused. Stateless but for
 * reading registers and instruction bytes of the vcpu.
 */
#include <umbra/machine.h>

#include "decode.h"
#include "machine.h"
#include "memory.h"
#include "string.h"
#include "vcpu.h"
#include "x86.h"

/* What follows the opcode. */
#define M     0x01 /* ModRM */
#define B     0x02 /* 8-bit immediate, sign-extended */
#define Z     0x04 /* 16 or 32 bits by operand size, sign-extended */
#define W     0x08 /* 16 bits */
#define V     0x10 /* 16, 32 or 64 bits by operand size */
#define O     0x20 /* an address: MOV to or from AL..RAX */
#define T     0x40 /* TEST in group 3: immediate only for /0 and /1 */
#define X     0x80 /* refused */
#define MB    (M | B)
#define MZ    (M | Z)
#define R8(v) v, v, v, v, v, v, v, v

/* clang-format off */
static const uint8_t one_byte[256] = {
	M, M, M, M, B, Z, 0, 0, M, M, M, M, B, Z, 0, X, /* 00 */
	M, M, M, M, B, Z, 0, 0, M, M, M, M, B, Z, 0, 0, /* 10 */
	M, M, M, M, B, Z, X, 0, M, M, M, M, B, Z, X, 0, /* 20 */
	M, M, M, M, B, Z, X, 0, M, M, M, M, B, Z, X, 0, /* 30 */
	R8(0), R8(0),                                   /* 40 */
	R8(0), R8(0),                                   /* 50 */
	0, 0, X, M, X, X, X, X, Z, MZ, B, MB, 0, 0, 0, 0, /* 60 */
	R8(B), R8(B),                                     /* 70 */
	MB, MZ, MB, MB, M, M, M, M, R8(M),                /* 80 */
	R8(0), 0, 0, X, 0, 0, 0, 0, 0,                    /* 90 */
	O, O, O, O, 0, 0, 0, 0, B, Z, 0, 0, 0, 0, 0, 0,   /* A0 */
	R8(B), R8(V),                                     /* B0 */
	MB, MB, W, 0, X, X, MB, MZ, W | B, 0, W, 0, 0, B, 0, 0, /* C0 */
	M, M, M, M, B, B, 0, 0, R8(M),                          /* D0 */
	R8(B), Z, Z, X, B, 0, 0, 0, 0,                          /* E0 */
	X, 0, X, X, 0, 0, M | T, M | T, 0, 0, 0, 0, 0, 0, M, M, /* F0 */
};

static const uint8_t two_byte[256] = {
	M, M, M, M, X, 0, 0, 0, 0, 0, X, 0, X, M, 0, MB, /* 00 */
	R8(M), R8(M),                                    /* 10 */
	M, M, M, M, X, X, X, X, R8(M),                   /* 20 */
	R8(0), X, X, X, X, X, X, X, X,                   /* 30 */
	R8(M), R8(M),                                    /* 40 */
	R8(M), R8(M),                                    /* 50 */
	R8(M), R8(M),                                    /* 60 */
	MB, MB, MB, MB, M, M, M, 0, M, M, X, X, M, M, M, M, /* 70 */
	R8(Z), R8(Z),                                       /* 80 */
	R8(M), R8(M),                                       /* 90 */
	0, 0, 0, M, MB, M, X, X, 0, 0, 0, M, MB, M, M, M,   /* A0 */
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
#undef X
#define HAS_MODRM 0x01
#define HAS_IMM8  0x02
#define HAS_IMMZ  0x04
#define HAS_IMM16 0x08
#define HAS_IMMV  0x10
#define HAS_MOFFS 0x20
#define IS_GROUP3 0x40
#define REFUSED   0x80

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
	for (unsigned i = 0; i < size; i++)
		value |= (uint64_t)*c->at++ << 8 * i;
	return value;
}

static int64_t take_signed(struct cursor *c, unsigned size)
{
	unsigned shift = 64 - 8 * size;

	return (int64_t)(take(c, size) << shift) >> shift;
}

/* Prefixes, up to the first opcode byte, which is returned. */
static uint8_t prefixes(struct cursor *c, bool is_64, bool wide, struct insn *insn)
{
	bool operand = false, address = false;
	uint8_t byte;

	insn->segment = 0xff;
	for (;;) {
		byte = (uint8_t)take(c, 1);
		if (c->overrun)
			return 0;
		if (is_64 && (byte & 0xf0) == 0x40) { /* counts only right before the opcode */
			insn->rex = byte;
			continue;
		}
		if (byte == 0x66)
			operand = true;
		else if (byte == 0x67)
			address = true;
		else if (byte == 0xf0)
			insn->lock = true;
		else if (byte == 0xf2)
			insn->repne = true;
		else if (byte == 0xf3)
			insn->rep = true;
		else if ((byte & 0xe7) == 0x26)
			insn->segment = byte >> 3 & 3;
		else if (byte == 0x64 || byte == 0x65)
			insn->segment = byte & 7;
		else
			break;
		insn->rex = 0;
	}
	if (is_64)
		wide = true;
	insn->size = insn->rex & 8 ? 8 : wide != operand ? 4 : 2;
	insn->address_size = is_64 ? (address ? 4 : 8) : wide != address ? 4 : 2;
	return byte;
}

/* ModRM with SIB and displacement; 32- and 64-bit addressing. */
static bool modrm(struct cursor *c, bool is_64, struct insn *insn)
{
	uint8_t byte = (uint8_t)take(c, 1);
	uint8_t rm = byte & 7;

	insn->has_modrm = true;
	insn->mod = byte >> 6;
	insn->reg = (byte >> 3 & 7) | (insn->rex & 4) << 1;
	insn->rm = rm | (insn->rex & 1) << 3;
	insn->base = insn->index = -1;
	if (insn->mod == 3 || (insn->map == 1 && (insn->opcode & 0xfc) == 0x20)) {
		insn->mod = 3; /* control and debug register moves ignore mod */
		return true;
	}
	insn->memory = true;
	if (insn->address_size == 2)
		return false;
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
		insn->rip_relative = is_64;
		insn->displacement = take_signed(c, 4);
	} else {
		insn->base = (int8_t)insn->rm;
	}
	if (insn->mod == 1)
		insn->displacement = take_signed(c, 1);
	else if (insn->mod == 2)
		insn->displacement = take_signed(c, 4);
	if (insn->segment == 0xff)
		insn->segment =
		    insn->base == GPR_RSP || insn->base == GPR_RBP ? SEGMENT_SS : SEGMENT_DS;
	return true;
}

static void immediate(struct cursor *c, uint8_t flags, struct insn *insn)
{
	if (flags & IS_GROUP3 && (insn->reg & 7) < 2)
		flags |= insn->opcode & 1 ? HAS_IMMZ : HAS_IMM8;
	if (flags & HAS_IMM16)
		insn->immediate = take(c, 2);
	if (flags & HAS_IMM8)
		insn->immediate = (uint64_t)take_signed(c, 1);
	if (flags & HAS_IMMZ)
		insn->immediate = (uint64_t)take_signed(c, insn->size == 2 ? 2 : 4);
	if (flags & HAS_IMMV)
		insn->immediate = take(c, insn->size);
	if (flags & HAS_MOFFS) {
		insn->displacement = (int64_t)take(c, insn->address_size);
		insn->base = insn->index = -1;
		insn->memory = true;
	}
}

bool decode(const uint8_t *bytes, size_t count, bool is_64, bool wide, struct insn *insn)
{
	struct cursor c = {bytes, bytes + (count < INSN_MAX ? count : INSN_MAX), false};
	uint8_t flags;

	memset(insn, 0, sizeof(*insn));
	insn->opcode = prefixes(&c, is_64, wide, insn);
	flags = one_byte[insn->opcode];
	if (insn->opcode == 0x0f) {
		insn->map = 1;
		insn->opcode = (uint8_t)take(&c, 1);
		flags = two_byte[insn->opcode];
		if (insn->opcode == 0x38 || insn->opcode == 0x3a) {
			insn->map = insn->opcode == 0x38 ? 2 : 3;
			insn->opcode = (uint8_t)take(&c, 1);
			flags = insn->map == 2 ? HAS_MODRM : HAS_MODRM | HAS_IMM8;
		}
	}
	if (c.overrun || flags & REFUSED)
		return false;
	/* 8F with a register field other than 0 is XOP. */
	if (flags & HAS_MODRM && !modrm(&c, is_64, insn))
		return false;
	if (insn->map == 0 && insn->opcode == 0x8f && insn->reg & 7)
		return false;
	immediate(&c, flags, insn);
	if (insn->segment == 0xff)
		insn->segment = SEGMENT_DS;
	insn->length = (uint8_t)(c.at - bytes);
	return !c.overrun;
}

static uint64_t linear_rip(const struct vcpu *vcpu)
{
	const struct vmcb *vmcb = vcpu->vmcb;

	return vcpu_is_64(vcpu) ? vmcb->rip : (uint32_t)(vmcb->rip + vmcb->cs.base);
}

#define ENTRY_PRESENT 1u
#define ENTRY_ADDRESS 0xffffffffff000ull

/*
 * The page that the processor executed at linear address @at: it found it in the tables that it ran
 * on, and so can we, in a few loads where a walk of the guest's own tables takes hundreds of
 * instructions. NULL: it is mapped no more, or tables were zapped since the exit (for which the
 * MMU asks for a flush), so that the root may be one no more.
 */
static const uint8_t *executed_page(const struct vcpu *vcpu, uint64_t at)
{
	unsigned level = vcpu->root.levels;
	uint64_t table = vcpu->root.hpa;

	if (vcpu->flush || (level == 3 && at >> 32))
		return NULL;
	for (;; level--) {
		uint64_t entry = ((const uint64_t *)table)[at >> (3 + 9 * level) & 511];

		if (!(entry & ENTRY_PRESENT))
			return NULL;
		table = entry & ENTRY_ADDRESS;
		if (level == 1)
			return (const uint8_t *)table;
		if (level < 4 && entry & 1u << 7) /* PS */
			return (
			    const uint8_t *)((table & ~((1ull << (3 + 9 * level)) - 1)) |
					     (at & ((1ull << (3 + 9 * level)) - 1) & ~0xfffull));
	}
}

size_t fetch(struct vcpu *vcpu, uint8_t *bytes)
{
	const struct vmcb *vmcb = vcpu->vmcb;
	uint64_t rip = linear_rip(vcpu);
	uint32_t access = UMBRA_PF_I | (vmcb->cpl == 3 ? UMBRA_PF_U : 0);
	const uint8_t *executed = executed_page(vcpu, rip);
	size_t count = 0;

	if (executed && (rip & (UMBRA_PAGE_SIZE - 1)) <= UMBRA_PAGE_SIZE - INSN_MAX) {
		__builtin_memcpy(bytes, executed + (rip & (UMBRA_PAGE_SIZE - 1)), INSN_MAX);
		return INSN_MAX;
	}
	while (count < INSN_MAX) {
		uint64_t at = rip + count, offset;
		struct umbra_answer answer = umbra_translate(vcpu->umbra, at, access);
		size_t piece;
		const uint8_t *page;

		if (answer.verdict == UMBRA_INJECT && count == 0)
			vcpu_raise_pf(vcpu, at, answer.error_code);
		if (answer.verdict != UMBRA_RESUME)
			break;
		page = memory_page(vcpu->vm, answer.gpa >> UMBRA_PAGE_SHIFT);
		offset = answer.gpa & (UMBRA_PAGE_SIZE - 1);
		piece = UMBRA_PAGE_SIZE - offset;
		if (piece > INSN_MAX - count)
			piece = INSN_MAX - count;
		if (!page)
			break;
		memcpy(bytes + count, page + offset, piece);
		count += piece;
	}
	return count;
}

bool decode_at_rip(struct vcpu *vcpu, struct insn *insn)
{
	uint8_t bytes[INSN_MAX];
	size_t count = fetch(vcpu, bytes);
	char text[48];

	if (!count) {
		/* A stale spte may run code whose page table entry leads nowhere by now. */
		struct umbra_answer at = umbra_translate(vcpu->umbra, linear_rip(vcpu), UMBRA_PF_I);

		if (at.verdict == UMBRA_MMIO)
			machine_end(vcpu->vm, UMBRA_END_EMULATE,
				    "instruction fetch from guest-physical %lx, where nothing is",
				    at.gpa);
		return false;
	}
	if (!decode(bytes, count, vcpu_is_64(vcpu), vcpu->vmcb->cs.attributes & SVM_SEGMENT_D,
		    insn))
		machine_end(vcpu->vm, UMBRA_END_EMULATE,
			    "cannot decode the instruction at %lx (%s)", vcpu->vmcb->rip,
			    vcpu_bytes(vcpu, text, sizeof(text)));
	return true;
}

uint64_t insn_linear(const struct vcpu *vcpu, unsigned segment, uint64_t offset,
		     unsigned address_size)
{
	const struct svm_segment *s = &vcpu->vmcb->es + segment;

	if (address_size == 4)
		offset = (uint32_t)offset;
	if (vcpu_is_64(vcpu))
		return segment >= SEGMENT_FS ? s->base + offset : offset;
	return (uint32_t)(s->base + offset);
}

uint64_t insn_address(const struct vcpu *vcpu, const struct insn *insn)
{
	uint64_t offset = (uint64_t)insn->displacement;

	if (insn->rip_relative)
		offset += vcpu->vmcb->rip + insn->length;
	if (insn->base >= 0)
		offset += vcpu->gpr[insn->base];
	if (insn->index >= 0)
		offset += vcpu->gpr[insn->index] << insn->scale;
	return insn_linear(vcpu, insn->segment, offset, insn->address_size);
}

static uint64_t size_mask(unsigned size)
{
	return size == 8 ? ~0ull : (1ull << 8 * size) - 1;
}

uint64_t insn_register_read(const struct vcpu *vcpu, const struct insn *insn, unsigned reg,
			    unsigned size)
{
	if (size == 1 && !insn->rex && reg >= 4)
		return vcpu->gpr[reg - 4] >> 8 & 0xff;
	return vcpu->gpr[reg] & size_mask(size);
}

void insn_register_write(struct vcpu *vcpu, const struct insn *insn, unsigned reg, unsigned size,
			 uint64_t value)
{
	uint64_t mask = size_mask(size);

	if (size == 1 && !insn->rex && reg >= 4)
		vcpu->gpr[reg - 4] = (vcpu->gpr[reg - 4] & ~0xff00ull) | (value & 0xff) << 8;
	else if (size == 4)
		vcpu->gpr[reg] = (uint32_t)value;
	else
		vcpu->gpr[reg] = (vcpu->gpr[reg] & ~mask) | (value & mask);
}
