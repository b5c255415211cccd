/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's memory by its own addresses: translations, and the bytes of the instruction at RIP,
 * which no exit of this processor tells (there are no decode assists).
 */
#include <umbra/machine.h>

#include "fetch.h"
#include "machine.h"
#include "memory.h"
#include "string.h"
#include "vcpu.h"
#include "vm.h"
#include "x86.h"

static uint64_t linear_rip(const struct vcpu *vcpu)
{
	const struct vmcb *vmcb = vcpu->vmcb;

	return vcpu_is_64(vcpu) ? vmcb->rip : (uint32_t)(vmcb->rip + vmcb->cs.base);
}

static enum insn_mode mode_of(const struct vcpu *vcpu)
{
	if (vcpu_is_64(vcpu))
		return INSN_64;
	return vcpu->vmcb->cs.attributes & EMU_SEGMENT_D ? INSN_32 : INSN_16;
}

struct umbra_answer translate(struct vcpu *vcpu, uint64_t gva, uint32_t access)
{
	if (vcpu->vm->options.nested)
		vcpu_paging_tell(vcpu);
	vcpu_keys_tell(vcpu);
	for (;;) {
		struct umbra_answer answer = mmu_translate(vcpu, gva, access);

		if (answer.verdict != UMBRA_RETRY || !memory_settle(vcpu->vm))
			return answer;
	}
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

	if (vcpu->flush || vcpu->vm->options.nested || (level == 3 && at >> 32))
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
		struct umbra_answer answer = translate(vcpu, at, access);
		size_t piece;
		const uint8_t *page;

		if (answer.verdict == UMBRA_INJECT && count == 0)
			vcpu_raise_pf(vcpu, at, answer.error_code);
		if (answer.verdict != UMBRA_RESUME)
			break;
		page = memory_page_read(vcpu->vm, answer.gpa >> UMBRA_PAGE_SHIFT);
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
		struct umbra_answer at = translate(vcpu, linear_rip(vcpu), UMBRA_PF_I);

		if (at.verdict == UMBRA_MMIO)
			machine_end(vcpu->vm, UMBRA_END_EMULATE,
				    "instruction fetch from guest-physical %lx, where nothing is",
				    at.gpa);
		return false;
	}
	if (!insn_decode(bytes, count, mode_of(vcpu), insn))
		machine_end(vcpu->vm, UMBRA_END_EMULATE,
			    "cannot decode the instruction at %lx (%s)", vcpu->vmcb->rip,
			    vcpu_bytes(vcpu, text, sizeof(text)));
	return true;
}
