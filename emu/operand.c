/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Operands: registers; addresses (AMD64 APM vol. 1 §2.2), checked against segments (vol. 2 §4.12)
 * and for canonical form; the places in memory that they lead to, a piece a page; loads and stores.
 */
#include "work.h"

#define CR0_PE   (1ull << 0)
#define CR0_AM   (1ull << 18)
#define CR4_LA57 (1ull << 12)
#define EFER_LMA (1ull << 10)
#define PAGE     4096u

/* Types of data and code segments, and their S bit. */
#define TYPE_WRITE (1u << 1) /* of code: readable */
#define TYPE_DOWN  (1u << 2)
#define TYPE_CODE  (1u << 3)
#define SEGMENT_B  EMU_SEGMENT_D

enum insn_mode emu_mode(const struct emu *emu)
{
	unsigned attributes = emu->segment[SEGMENT_CS].attributes;

	if (emu->efer & EFER_LMA && attributes & EMU_SEGMENT_L)
		return INSN_64;
	return attributes & EMU_SEGMENT_D ? INSN_32 : INSN_16;
}

uint64_t emu_linear_rip(const struct emu *emu)
{
	if (emu_mode(emu) == INSN_64)
		return *emu->rip;
	return (uint32_t)(*emu->rip + emu->segment[SEGMENT_CS].base);
}

enum emu_result emu_raise(struct emu *emu, unsigned vector, int64_t error)
{
	emu->host->raise(emu->ctx, vector, error);
	return EMU_FAULT;
}

/* ------------------------------------------------------------------ registers */

static bool is_high_byte(const struct insn *insn, unsigned reg, unsigned size)
{
	return size == 1 && !insn->rex && reg >= 4 && reg < 8;
}

uint64_t emu_register(const struct emu *emu, const struct insn *insn, unsigned reg, unsigned size)
{
	if (is_high_byte(insn, reg, size))
		return emu->gpr[reg - 4] >> 8 & 0xff;
	return emu->gpr[reg] & size_mask(size);
}

void emu_register_set(struct emu *emu, const struct insn *insn, unsigned reg, unsigned size,
		      uint64_t value)
{
	uint64_t mask = size_mask(size);

	if (is_high_byte(insn, reg, size))
		emu->gpr[reg - 4] = (emu->gpr[reg - 4] & ~0xff00ull) | (value & 0xff) << 8;
	else if (size >= 4) /* 32-bit results are zero-extended */
		emu->gpr[reg] = value & mask;
	else
		emu->gpr[reg] = (emu->gpr[reg] & ~mask) | (value & mask);
}

/* ------------------------------------------------------------------ addresses */

uint64_t operand_offset(const struct emu *emu, const struct insn *insn)
{
	uint64_t offset = (uint64_t)insn->displacement;

	if (insn->rip_relative)
		offset += *emu->rip + insn->length;
	if (insn->base >= 0)
		offset += emu->gpr[insn->base];
	if (insn->index >= 0)
		offset += emu->gpr[insn->index] << insn->scale;
	return offset & size_mask(insn->address_size);
}

static uint64_t linear_of(const struct emu *emu, unsigned segment, uint64_t offset)
{
	const struct emu_segment *s = &emu->segment[segment];

	if (emu_mode(emu) == INSN_64)
		return segment >= SEGMENT_FS ? s->base + offset : offset;
	return (uint32_t)(s->base + offset);
}

uint64_t emu_address(const struct emu *emu, const struct insn *insn)
{
	return linear_of(emu, insn->segment, operand_offset(emu, insn));
}

static bool is_canonical(const struct emu *emu, uint64_t linear)
{
	unsigned shift = emu->cr4 & CR4_LA57 ? 7 : 16;

	return (uint64_t)((int64_t)(linear << shift) >> shift) == linear;
}

/* APM vol. 2 §4.12: what limit and type of @s allow. Real mode has limits, no types. */
static bool is_within(const struct emu *emu, const struct emu_segment *s, uint64_t offset,
		      unsigned size, unsigned kind)
{
	bool protected = emu->cr0 & CR0_PE && !(*emu->rflags & FLAG_VM);
	bool code = s->attributes & TYPE_CODE, write = s->attributes & TYPE_WRITE;
	uint64_t last = offset + size - 1;

	if (protected &&
	    (!(s->attributes & EMU_SEGMENT_P) || (kind & EMU_WRITE && (code || !write)) ||
	     (!(kind & EMU_WRITE) && code && !write)))
		return false;
	if (protected && !code && s->attributes & TYPE_DOWN)
		return offset > s->limit &&
		       last <= (s->attributes & SEGMENT_B ? 0xffffffff : 0xffff);
	return last <= s->limit;
}

enum emu_result linear_checked(struct emu *emu, unsigned segment, uint64_t offset, unsigned size,
			       unsigned kind, uint64_t *linear)
{
	unsigned vector = segment == SEGMENT_SS ? VECTOR_SS : VECTOR_GP;

	*linear = linear_of(emu, segment, offset);
	if (emu_mode(emu) == INSN_64) {
		if (!is_canonical(emu, *linear) || !is_canonical(emu, *linear + size - 1))
			return emu_raise(emu, vector, 0);
	} else if (!is_within(emu, &emu->segment[segment], offset, size, kind)) {
		return emu_raise(emu, vector, 0);
	}
	return EMU_DONE;
}

/* ------------------------------------------------------------------ places */

static bool is_alignment_checked(const struct emu *emu)
{
	return emu->cpl == 3 && emu->cr0 & CR0_AM && *emu->rflags & FLAG_AC;
}

/* Translate @size bytes at @linear, which may lie in two pages. */
static enum emu_result pieces(struct emu *emu, uint64_t linear, unsigned size, unsigned kind,
			      struct operand *operand)
{
	bool wide = emu_mode(emu) == INSN_64 || kind & EMU_SYSTEM;

	operand->pieces = 0;
	operand->size = size;
	while (size) {
		unsigned room = (unsigned)(PAGE - (linear & (PAGE - 1)));
		unsigned i = operand->pieces++;

		operand->piece[i].size = size < room ? size : room;
		TRY(emu->host->translate(emu->ctx, linear, kind, &operand->piece[i].place));
		if (emu->host->accessed)
			emu->host->accessed(emu->ctx, linear, operand->piece[i].size,
					    kind & EMU_WRITE);
		size -= operand->piece[i].size;
		linear += operand->piece[i].size;
		if (!wide)
			linear = (uint32_t)linear;
	}
	return EMU_DONE;
}

enum emu_result operand_at(struct emu *emu, unsigned segment, uint64_t offset, unsigned size,
			   unsigned kind, struct operand *operand)
{
	uint64_t linear;

	TRY(linear_checked(emu, segment, offset, size, kind, &linear));
	if (is_alignment_checked(emu) && !(size & (size - 1)) &&
	    linear & ((size < 8 ? size : 8) - 1))
		return emu_raise(emu, VECTOR_AC, 0);
	return pieces(emu, linear, size, kind, operand);
}

enum emu_result operand_find(struct work *work, unsigned kind)
{
	return operand_at(work->emu, work->insn->segment, operand_offset(work->emu, work->insn),
			  work->size, kind, &work->operand);
}

/* The largest aligned access that fits. */
static unsigned device_step(uint64_t gpa, unsigned size)
{
	unsigned step = 8;

	while (step > size || gpa & (step - 1))
		step /= 2;
	return step;
}

static void device_load(struct emu *emu, uint64_t gpa, uint8_t *to, unsigned size)
{
	while (size) {
		unsigned step = device_step(gpa, size);
		uint64_t value = emu->host->device_read(emu->ctx, gpa, step);

		__builtin_memcpy(to, &value, step);
		gpa += step, to += step, size -= step;
	}
}

static void device_store(struct emu *emu, uint64_t gpa, const uint8_t *from, unsigned size)
{
	while (size) {
		unsigned step = device_step(gpa, size);
		uint64_t value = 0;

		__builtin_memcpy(&value, from, step);
		emu->host->device_write(emu->ctx, gpa, step, value);
		gpa += step, from += step, size -= step;
	}
}

/* Copies of the sizes that operands have, without a call. */
static inline void copy(void *to, const void *from, unsigned size)
{
	switch (size) {
	case 1:
		__builtin_memcpy(to, from, 1);
		break;
	case 2:
		__builtin_memcpy(to, from, 2);
		break;
	case 4:
		__builtin_memcpy(to, from, 4);
		break;
	case 8:
		__builtin_memcpy(to, from, 8);
		break;
	default:
		__builtin_memcpy(to, from, size);
		break;
	}
}

void operand_load_bytes(struct emu *emu, const struct operand *operand, void *to)
{
	uint8_t *at = to;

	for (unsigned i = 0; i < operand->pieces; i++) {
		const struct emu_place *place = &operand->piece[i].place;

		if (place->va)
			copy(at, place->va, operand->piece[i].size);
		else
			device_load(emu, place->gpa, at, operand->piece[i].size);
		at += operand->piece[i].size;
	}
}

void operand_store_bytes(struct emu *emu, const struct operand *operand, const void *from)
{
	const uint8_t *at = from;

	for (unsigned i = 0; i < operand->pieces; i++) {
		const struct emu_place *place = &operand->piece[i].place;

		if (place->va) {
			copy(place->va, at, operand->piece[i].size);
			emu->host->written(emu->ctx, place->gpa, operand->piece[i].size);
		} else {
			device_store(emu, place->gpa, at, operand->piece[i].size);
		}
		at += operand->piece[i].size;
	}
}

uint64_t operand_load(struct emu *emu, const struct operand *operand)
{
	uint64_t value = 0;

	operand_load_bytes(emu, operand, &value);
	return value;
}

void operand_store(struct emu *emu, const struct operand *operand, uint64_t value)
{
	operand_store_bytes(emu, operand, &value);
}

static enum emu_result access(struct emu *emu, const struct insn *insn, unsigned size,
			      unsigned kind, struct operand *operand)
{
	return operand_at(emu, insn->segment, operand_offset(emu, insn), size, kind, operand);
}

enum emu_result emu_system(struct emu *emu, uint64_t linear, void *bytes, unsigned size,
			   unsigned kind)
{
	struct operand operand;

	TRY(pieces(emu, linear, size, kind | EMU_SYSTEM, &operand));
	if (kind & EMU_WRITE)
		operand_store_bytes(emu, &operand, bytes);
	else
		operand_load_bytes(emu, &operand, bytes);
	return EMU_DONE;
}

enum emu_result emu_read(struct emu *emu, const struct insn *insn, void *to, unsigned size)
{
	struct operand operand;

	TRY(access(emu, insn, size, EMU_READ, &operand));
	operand_load_bytes(emu, &operand, to);
	return EMU_DONE;
}

enum emu_result emu_write(struct emu *emu, const struct insn *insn, const void *from, unsigned size)
{
	struct operand operand;

	TRY(access(emu, insn, size, EMU_WRITE, &operand));
	operand_store_bytes(emu, &operand, from);
	return EMU_DONE;
}
