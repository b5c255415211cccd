/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The instruction emulator: the stores and read-modify-writes that operating systems use on page
 * tables, and the loads that probe for devices. Everything else is "unknown" and left to the
 * caller; it never guesses. All operands are resolved (umbra_translate, so the guest's own
 * faults come first and with the right error code) before anything is changed. The guest has one
 * vcpu, so that a locked operation needs no lock here.
 */
#include <umbra/machine.h>

#include "decode.h"
#include "emulate.h"
#include "machine.h"
#include "memory.h"
#include "string.h"
#include "vcpu.h"
#include "x86.h"

/* Where an operand lies; one that crosses a page has two pieces. */
struct place {
	struct {
		uint64_t gpa;
		uint8_t *va; /* NULL: no memory */
		bool device; /* the local APIC */
		unsigned size;
	} piece[2];
	unsigned pieces;
};

struct work {
	struct vcpu *vcpu;
	const struct insn *insn;
	uint64_t fault_gva;
	uint64_t gva; /* of the memory operand */
	unsigned size;
	bool unfinished; /* a repeated instruction goes on: RIP stays */
	struct place place;
};

static void write_to_nowhere(struct vcpu *vcpu, uint64_t gpa)
{
	char bytes[48];

	machine_end(vcpu->vm, UMBRA_END_UNMAPPED,
		    "write to guest-physical %lx, where nothing is, at rip %lx (%s)", gpa,
		    vcpu->vmcb->rip, vcpu_bytes(vcpu, bytes, sizeof(bytes)));
}

static enum emulated resolve(struct vcpu *vcpu, uint64_t gva, unsigned size, bool write,
			     struct place *place)
{
	const struct vmcb *vmcb = vcpu->vmcb;
	uint32_t access = write ? UMBRA_PF_W : 0;

	if (vmcb->cpl == 3)
		access |= UMBRA_PF_U;
	else if (vmcb->rflags & RFLAGS_AC)
		access |= UMBRA_PF_AC;
	place->pieces = 0;
	while (size) {
		unsigned room = (unsigned)(UMBRA_PAGE_SIZE - (gva & (UMBRA_PAGE_SIZE - 1)));
		unsigned n = size < room ? size : room, i = place->pieces++;
		struct umbra_answer answer = umbra_translate(vcpu->umbra, gva, access);

		if (answer.verdict == UMBRA_INJECT)
			vcpu_raise_pf(vcpu, gva, answer.error_code);
		if (answer.verdict == UMBRA_NOMEM)
			machine_end(vcpu->vm, UMBRA_END_NOMEM, "no frame for a guest page");
		if (answer.verdict != UMBRA_RESUME && answer.verdict != UMBRA_MMIO)
			return EMULATED_FAULT;
		place->piece[i].device =
		    answer.verdict == UMBRA_MMIO && lapic_is_at(&vcpu->lapic, answer.gpa);
		if (place->piece[i].device && (i || size != 4 || answer.gpa & 3))
			return EMULATED_UNKNOWN;
		if (answer.verdict == UMBRA_MMIO && write && !place->piece[i].device)
			write_to_nowhere(vcpu, answer.gpa);
		place->piece[i].gpa = answer.gpa;
		place->piece[i].size = n;
		place->piece[i].va = NULL;
		if (answer.verdict == UMBRA_RESUME) {
			uint8_t *page = memory_page(vcpu->vm, answer.gpa >> UMBRA_PAGE_SHIFT);
			if (!page)
				machine_end(vcpu->vm, UMBRA_END_NOMEM, "no frame for a guest page");
			place->piece[i].va = page + (answer.gpa & (UMBRA_PAGE_SIZE - 1));
		}
		gva += n;
		size -= n;
	}
	return EMULATED_DONE;
}

static uint64_t load(struct vcpu *vcpu, const struct place *place)
{
	uint64_t value = 0;
	unsigned at = 0;

	if (place->piece[0].device)
		return lapic_mmio_read(vcpu, place->piece[0].gpa & 0xfff);

	for (unsigned i = 0; i < place->pieces; i++) {
		uint64_t part = ~0ull;

		if (place->piece[i].size < 8)
			part = (1ull << 8 * place->piece[i].size) - 1;
		if (place->piece[i].va) {
			part = 0;
			memcpy(&part, place->piece[i].va, place->piece[i].size);
		}
		value |= part << 8 * at;
		at += place->piece[i].size;
	}
	return value;
}

static void store(struct vcpu *vcpu, const struct place *place, uint64_t value)
{
	if (place->piece[0].device) {
		lapic_mmio_write(vcpu, place->piece[0].gpa & 0xfff, (uint32_t)value);
		return;
	}
	for (unsigned i = 0; i < place->pieces; i++) {
		memcpy(place->piece[i].va, &value, place->piece[i].size);
		umbra_guest_write(vcpu->vm->mmu, place->piece[i].gpa, place->piece[i].size);
		if (place->piece[i].size < 8)
			value >>= 8 * place->piece[i].size;
	}
}

static enum emulated operand(struct work *w, bool write)
{
	/* The operand must be what faulted; else we have misread the instruction. */
	if (w->fault_gva - w->gva >= w->size)
		return EMULATED_UNKNOWN;
	return resolve(w->vcpu, w->gva, w->size, write, &w->place);
}

static uint64_t reg_read(const struct work *w)
{
	return insn_register_read(w->vcpu, w->insn, w->insn->reg, w->size);
}

static void reg_write(const struct work *w, unsigned size, uint64_t value)
{
	insn_register_write(w->vcpu, w->insn, w->insn->reg, size, value);
}

/* MOV to memory, value from wherever. */
static enum emulated store_value(struct work *w, uint64_t value)
{
	enum emulated e = w->insn->lock ? EMULATED_UNKNOWN : operand(w, true);

	if (e == EMULATED_DONE)
		store(w->vcpu, &w->place, value);
	return e;
}

static enum emulated load_to(struct work *w, unsigned size, bool sign)
{
	enum emulated e = w->insn->lock ? EMULATED_UNKNOWN : operand(w, false);
	uint64_t value;

	if (e != EMULATED_DONE)
		return e;
	value = load(w->vcpu, &w->place);
	if (sign && w->size < 8)
		value = (uint64_t)((int64_t)(value << (64 - 8 * w->size)) >> (64 - 8 * w->size));
	reg_write(w, size, value);
	return e;
}

/* memory = memory op value; CMP (7) only sets flags. */
static enum emulated alu_memory(struct work *w, unsigned operation, uint64_t value)
{
	bool write = operation != 7;
	enum emulated e = !write && w->insn->lock ? EMULATED_UNKNOWN : operand(w, write);
	uint64_t result;

	if (e != EMULATED_DONE)
		return e;
	result = alu(operation, w->size, load(w->vcpu, &w->place), value, &w->vcpu->vmcb->rflags);
	if (write)
		store(w->vcpu, &w->place, result);
	return e;
}

/* register = register op memory */
static enum emulated alu_register(struct work *w, unsigned operation)
{
	enum emulated e = w->insn->lock ? EMULATED_UNKNOWN : operand(w, false);
	uint64_t result;

	if (e != EMULATED_DONE)
		return e;
	result =
	    alu(operation, w->size, reg_read(w), load(w->vcpu, &w->place), &w->vcpu->vmcb->rflags);
	if (operation != 7)
		reg_write(w, w->size, result);
	return e;
}

static enum emulated test(struct work *w, uint64_t value)
{
	enum emulated e = w->insn->lock ? EMULATED_UNKNOWN : operand(w, false);

	if (e == EMULATED_DONE)
		alu(4, w->size, load(w->vcpu, &w->place), value, &w->vcpu->vmcb->rflags);
	return e;
}

/* INC, DEC (CF stays), NOT (no flags), NEG. */
static enum emulated unary(struct work *w, char which)
{
	uint64_t *flags = &w->vcpu->vmcb->rflags, carry = *flags & RFLAGS_CF, value;
	enum emulated e = operand(w, true);

	if (e != EMULATED_DONE)
		return e;
	value = load(w->vcpu, &w->place);
	if (which == '~') {
		value = ~value;
	} else if (which == '-') {
		value = alu(5, w->size, 0, value, flags);
	} else {
		value = alu(which == '+' ? 0 : 5, w->size, value, 1, flags);
		*flags = (*flags & ~RFLAGS_CF) | carry;
	}
	store(w->vcpu, &w->place, value);
	return e;
}

static enum emulated exchange(struct work *w, bool add)
{
	enum emulated e = operand(w, true);
	uint64_t old, new;

	if (e != EMULATED_DONE)
		return e;
	old = load(w->vcpu, &w->place);
	new = reg_read(w);
	if (add)
		new = alu(0, w->size, old, new, &w->vcpu->vmcb->rflags);
	store(w->vcpu, &w->place, new);
	reg_write(w, w->size, old);
	return e;
}

static enum emulated compare_exchange(struct work *w)
{
	enum emulated e = operand(w, true);
	uint64_t old, expected;

	if (e != EMULATED_DONE)
		return e;
	old = load(w->vcpu, &w->place);
	/* AL, not AH: register 0 needs no REX to mean that. */
	expected = insn_register_read(w->vcpu, w->insn, GPR_RAX, w->size);
	alu(7, w->size, expected, old, &w->vcpu->vmcb->rflags);
	if (old == expected) {
		store(w->vcpu, &w->place, reg_read(w));
	} else {
		store(w->vcpu, &w->place, old); /* the processor writes in either case */
		insn_register_write(w->vcpu, w->insn, GPR_RAX, w->size, old);
	}
	return e;
}

/* BT, BTS, BTR, BTC (@operation 0..3). A bit number from a register reaches beyond the operand. */
static enum emulated bit(struct work *w, unsigned operation, bool from_register)
{
	uint64_t *flags = &w->vcpu->vmcb->rflags, value, mask;
	unsigned shift = 64 - 8 * w->size;
	uint64_t number = w->insn->immediate;
	enum emulated e;

	if (w->insn->lock && operation == 0)
		return EMULATED_UNKNOWN;
	if (from_register) {
		int64_t offset = (int64_t)(reg_read(w) << shift) >> shift;
		int64_t units = offset >> (w->size == 8 ? 6 : w->size == 4 ? 5 : 4);

		number = (uint64_t)offset;
		if (!vcpu_is_64(w->vcpu) || w->insn->address_size != 8)
			return EMULATED_UNKNOWN;
		w->gva += (uint64_t)(units * (int64_t)w->size);
	}
	e = operand(w, operation != 0);
	if (e != EMULATED_DONE)
		return e;
	mask = 1ull << (number & (8 * w->size - 1));
	value = load(w->vcpu, &w->place);
	*flags = (*flags & ~RFLAGS_CF) | (value & mask ? RFLAGS_CF : 0);
	if (operation == 1)
		value |= mask;
	else if (operation == 2)
		value &= ~mask;
	else if (operation == 3)
		value ^= mask;
	if (operation)
		store(w->vcpu, &w->place, value);
	return e;
}

/* @count elements further, in the direction that DF says. */
static void advance(struct vcpu *vcpu, const struct insn *insn, unsigned reg, uint64_t bytes)
{
	uint64_t step = vcpu->vmcb->rflags & RFLAGS_DF ? 0 - bytes : bytes;

	insn_register_write(vcpu, insn, reg, insn->address_size, vcpu->gpr[reg] + step);
}

/* How many of @count elements of @size bytes lie in @gva's page; at least one. */
static uint64_t elements_in_page(uint64_t gva, unsigned size, uint64_t count)
{
	uint64_t room = (UMBRA_PAGE_SIZE - (gva & (UMBRA_PAGE_SIZE - 1))) / size;

	return room < 1 ? 1 : room < count ? room : count;
}

/* The elements between the two resolved places, in order, as the processor would go. */
static void string_run(struct work *w, const struct place *source, uint64_t value, uint64_t count)
{
	const uint8_t *from = source ? source->piece[0].va : NULL;
	uint8_t *to = w->place.piece[0].va;
	uint64_t size = count * w->size;

	if (!source && value == 0) { /* a freed table that is cleared for another use */
		memset(to, 0, size);
	} else if (source && (uintptr_t)to - (uintptr_t)from >= size) {
		memcpy(to, from, size); /* forwards, as here: only an overlap from below differs */
	} else {
		for (uint64_t i = 0; i < count; i++, to += w->size) {
			if (source)
				memcpy(&value, from + i * w->size, w->size);
			memcpy(to, &value, w->size);
		}
	}
	umbra_guest_write(w->vcpu->vm->mmu, w->place.piece[0].gpa, size);
}

/*
 * STOS and MOVS. With REP, as many elements at once as lie in one page of each operand; RIP
 * stays until the count is used up, and the instruction faults on the next page anew.
 */
static enum emulated string(struct work *w, bool move)
{
	struct vcpu *vcpu = w->vcpu;
	const struct insn *insn = w->insn;
	bool repeat = insn->rep || insn->repne;
	uint64_t left = insn_register_read(vcpu, insn, GPR_RCX, insn->address_size), count = 1;
	uint64_t from = insn_linear(vcpu, insn->segment, vcpu->gpr[GPR_RSI], insn->address_size);
	uint64_t value = insn_register_read(vcpu, insn, GPR_RAX, w->size);
	struct place source;
	enum emulated e;

	w->gva = insn_linear(vcpu, SEGMENT_ES, vcpu->gpr[GPR_RDI], insn->address_size);
	if (insn->lock || (repeat && !left))
		return EMULATED_UNKNOWN;
	if (w->fault_gva - w->gva >= w->size && (!move || w->fault_gva - from >= w->size))
		return EMULATED_UNKNOWN;
	if (repeat && !(vcpu->vmcb->rflags & RFLAGS_DF)) {
		count = elements_in_page(w->gva, w->size, left);
		if (move)
			count = elements_in_page(from, w->size, count);
	}
	if (move) {
		e = resolve(vcpu, from, (unsigned)count * w->size, false, &source);
		if (e != EMULATED_DONE)
			return e;
		if (!source.piece[0].va)
			count = 1;
	}
	e = resolve(vcpu, w->gva, (unsigned)count * w->size, true, &w->place);
	if (e != EMULATED_DONE)
		return e;
	if (count > 1) {
		string_run(w, move ? &source : NULL, value, count);
	} else {
		if (move) {
			/* Of a longer run only the first element is wanted here. */
			for (unsigned i = 0; i < source.pieces; i++)
				if (source.piece[i].size > w->size)
					source.piece[i].size = w->size;
			value = load(vcpu, &source);
		}
		store(vcpu, &w->place, value);
	}
	advance(vcpu, insn, GPR_RDI, count * w->size);
	if (move)
		advance(vcpu, insn, GPR_RSI, count * w->size);
	if (repeat)
		insn_register_write(vcpu, insn, GPR_RCX, insn->address_size, left - count);
	w->unfinished = repeat && left != count;
	return e;
}

static enum emulated one_byte(struct work *w)
{
	const struct insn *insn = w->insn;
	unsigned group = insn->reg & 7;

	if (insn->opcode < 0x40 && (insn->opcode & 7) < 4)
		return insn->opcode & 2 ? alu_register(w, insn->opcode >> 3)
					: alu_memory(w, insn->opcode >> 3, reg_read(w));
	switch (insn->opcode) {
	case 0x63: /* MOVSXD */
		if (!vcpu_is_64(w->vcpu))
			return EMULATED_UNKNOWN;
		w->size = insn->size == 2 ? 2 : 4;
		return load_to(w, insn->size, true);
	case 0x80:
	case 0x81:
	case 0x83:
		return alu_memory(w, group, insn->immediate);
	case 0x84:
	case 0x85:
		return test(w, reg_read(w));
	case 0x86:
	case 0x87:
		return exchange(w, false);
	case 0x88:
	case 0x89:
		return store_value(w, reg_read(w));
	case 0x8a:
	case 0x8b:
		return load_to(w, w->size, false);
	case 0xa0:
	case 0xa1:
		return load_to(w, w->size, false); /* reg is 0: the accumulator */
	case 0xa2:
	case 0xa3:
		return store_value(w, reg_read(w));
	case 0xa4:
	case 0xa5:
		return string(w, true);
	case 0xaa:
	case 0xab:
		return string(w, false);
	case 0xc6:
	case 0xc7:
		return group ? EMULATED_UNKNOWN : store_value(w, insn->immediate);
	case 0xf6:
	case 0xf7:
		return group < 2    ? test(w, insn->immediate)
		       : group == 2 ? unary(w, '~')
		       : group == 3 ? unary(w, '-')
				    : EMULATED_UNKNOWN;
	case 0xfe:
	case 0xff:
		return group == 0 ? unary(w, '+') : group == 1 ? unary(w, 'd') : EMULATED_UNKNOWN;
	default:
		return EMULATED_UNKNOWN;
	}
}

static enum emulated two_byte(struct work *w)
{
	const struct insn *insn = w->insn;

	switch (insn->opcode) {
	case 0xa3: /* these four, in the order of their operations */
	case 0xab:
	case 0xb3:
	case 0xbb:
		w->size = insn->size;
		return bit(w, insn->opcode >> 3 & 3, true);
	case 0xba:
		w->size = insn->size;
		return insn->reg & 4 ? bit(w, insn->reg & 3, false) : EMULATED_UNKNOWN;
	case 0xb0:
	case 0xb1:
		return compare_exchange(w);
	case 0xc0:
	case 0xc1:
		return exchange(w, true);
	case 0xc3: /* MOVNTI */
		return insn->size >= 4 ? store_value(w, reg_read(w)) : EMULATED_UNKNOWN;
	case 0xb6:
	case 0xb7:
		w->size = insn->opcode & 1 ? 2 : 1;
		return load_to(w, insn->size, false);
	case 0xbe:
	case 0xbf:
		w->size = insn->opcode & 1 ? 2 : 1;
		return load_to(w, insn->size, true);
	default:
		return EMULATED_UNKNOWN;
	}
}

enum emulated emulate(struct vcpu *vcpu, uint64_t gva)
{
	uint8_t bytes[INSN_MAX];
	struct insn insn;
	size_t count = fetch(vcpu, bytes);
	struct work w = {.vcpu = vcpu, .insn = &insn, .fault_gva = gva};
	enum emulated e;

	if (!count)
		return EMULATED_FAULT;
	/* Single-stepped: the trap after the instruction is the processor's to raise. */
	if (vcpu->vmcb->rflags & RFLAGS_TF ||
	    !decode(bytes, count, vcpu_is_64(vcpu), vcpu->vmcb->cs.attributes & SVM_SEGMENT_D,
		    &insn) ||
	    insn.map > 1)
		return EMULATED_UNKNOWN;
	w.size = insn.opcode & 1 ? insn.size : 1;
	if (insn.memory)
		w.gva = insn_address(vcpu, &insn);
	else if (insn.map || insn.opcode < 0xa4 || insn.opcode > 0xab)
		return EMULATED_UNKNOWN;
	/* XACQUIRE and XRELEASE are hints, but let us not guess. */
	if (insn.memory && (insn.rep || insn.repne))
		return EMULATED_UNKNOWN;
	e = insn.map ? two_byte(&w) : one_byte(&w);
	if (e == EMULATED_DONE && !w.unfinished)
		vcpu_skip(vcpu, insn.length);
	return e;
}
