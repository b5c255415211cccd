/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The emulator's host: what its instructions read and write is the guest's memory (and the MMU is
 * told of the writes), the bus, the ports, and the SSE registers, which stay in the processor while
 * the hypervisor runs.
 */
#include <umbra/machine.h>

#include "bus.h"
#include "debug.h"
#include "descriptor.h"
#include "emulate.h"
#include "exits.h"
#include "fetch.h"
#include "machine.h"
#include "memory.h"
#include "string.h"
#include "vcpu.h"
#include "vm.h"
#include "x86.h"

static enum emu_result host_translate(void *ctx, uint64_t linear, unsigned kind,
				      struct emu_place *place)
{
	struct vcpu *vcpu = ctx;
	uint32_t access = kind & EMU_WRITE ? UMBRA_PF_W : 0;
	struct umbra_answer answer;
	uint8_t *page;

	if (vcpu->vmcb->cpl == 3 && !(kind & EMU_SYSTEM))
		access |= UMBRA_PF_U;
	else if (vcpu->vmcb->rflags & RFLAGS_AC && !(kind & EMU_SYSTEM))
		access |= UMBRA_PF_AC;
	answer = translate(vcpu, linear, access);
	place->gpa = answer.gpa;
	place->va = NULL;
	switch (answer.verdict) {
	case UMBRA_RESUME:
		page = memory_page(vcpu->vm, answer.gpa >> UMBRA_PAGE_SHIFT);
		if (!page)
			break;
		place->va = page + (answer.gpa & (UMBRA_PAGE_SIZE - 1));
		return EMU_DONE;
	case UMBRA_MMIO:
		return EMU_DONE;
	case UMBRA_INJECT:
		vcpu_raise_pf(vcpu, linear, answer.error_code);
		return EMU_FAULT;
	case UMBRA_NOMEM:
		break;
	default:
		return EMU_FAULT;
	}
	machine_end(vcpu->vm, UMBRA_END_NOMEM,
		    "no memory for a guest page or its shadow tables" MACHINE_MORE);
}

static uint64_t host_device_read(void *ctx, uint64_t gpa, unsigned size)
{
	struct vcpu *vcpu = ctx;
	uint8_t *page = memory_page(vcpu->vm, gpa >> UMBRA_PAGE_SHIFT);
	uint64_t value = 0;

	if (!page)
		return bus_read(vcpu, gpa, size);
	/* Read-only memory, of which an instruction reads what it then writes in vain. */
	memcpy(&value, page + (gpa & (UMBRA_PAGE_SIZE - 1)), size);
	return value;
}

static void host_device_write(void *ctx, uint64_t gpa, unsigned size, uint64_t value)
{
	bus_write(ctx, gpa, size, value);
}

static void host_written(void *ctx, uint64_t gpa, size_t size)
{
	struct vcpu *vcpu = ctx;

	mmu_guest_write(vcpu->vm, gpa, size);
}

static void host_accessed(void *ctx, uint64_t linear, size_t size, bool write)
{
	debug_access(ctx, linear, size, write);
}

static void host_raise(void *ctx, unsigned vector, int64_t error)
{
	vcpu_raise(ctx, vector, error);
}

/* An MMX instruction: the stack's top is register 0, none is empty (APM vol. 5 §2). */
static uint8_t *mmx(struct fx_area *area, unsigned reg)
{
	unsigned top = area->status >> 11 & 7;
	uint8_t st[8][16];

	memcpy(st, area->st, sizeof(st));
	for (unsigned i = 0; i < 8; i++)
		memcpy(area->st[(i + top) & 7], st[i], 16);
	area->status &= (uint16_t) ~(7u << 11);
	area->tags = 0xff;
	return area->st[reg];
}

static void host_xmm_read(void *ctx, unsigned reg, void *value)
{
	struct fx_area area;

	(void)ctx;
	fx_save(&area);
	if (reg < EMU_MM) {
		memcpy(value, area.xmm[reg], 16);
		return;
	}
	memcpy(value, mmx(&area, reg - EMU_MM), 8);
	fx_restore(&area);
}

static void host_xmm_write(void *ctx, unsigned reg, const void *value)
{
	struct fx_area area;

	(void)ctx;
	fx_save(&area);
	if (reg < EMU_MM) {
		memcpy(area.xmm[reg], value, 16);
	} else {
		uint8_t *mm = mmx(&area, reg - EMU_MM);

		memcpy(mm, value, 8);
		mm[8] = mm[9] = 0xff;
	}
	fx_restore(&area);
}

static uint32_t host_port_read(void *ctx, uint16_t port, unsigned size)
{
	debug_port(ctx, port, size);
	return port_read(ctx, port, size);
}

static void host_port_write(void *ctx, uint16_t port, unsigned size, uint32_t value)
{
	debug_port(ctx, port, size);
	port_write(ctx, port, size, value);
}

static const struct emu_host host = {
    .translate = host_translate,
    .device_read = host_device_read,
    .device_write = host_device_write,
    .written = host_written,
    .accessed = host_accessed,
    .raise = host_raise,
    .xmm_read = host_xmm_read,
    .xmm_write = host_xmm_write,
    .port_read = host_port_read,
    .port_write = host_port_write,
};

struct emu emulate_on(struct vcpu *vcpu)
{
	struct vmcb *vmcb = vcpu->vmcb;

	return (struct emu){
	    .host = &host,
	    .ctx = vcpu,
	    .gpr = vcpu->gpr,
	    .rip = &vmcb->rip,
	    .rflags = &vmcb->rflags,
	    .segment = &vmcb->es,
	    .cr0 = vcpu->cr0,
	    .cr4 = vcpu->cr4,
	    .efer = vcpu->efer,
	    .cpl = vmcb->cpl,
	};
}

enum emu_result emulate(struct vcpu *vcpu)
{
	struct emu emu = emulate_on(vcpu);
	uint8_t bytes[INSN_MAX];
	size_t count = fetch(vcpu, bytes);
	struct insn insn;
	enum emu_result result;

	vcpu->debug_hits = 0;
	if (!count)
		return EMU_FAULT;
	if (!insn_decode(bytes, count, emu_mode(&emu), &insn))
		return EMU_UNKNOWN;
	if (paging_is_msw(&insn)) {
		paging_msw(vcpu, &insn);
		return EMU_DONE;
	}
	if (task_is_ltr(&insn)) {
		task_ltr_exit(vcpu);
		return EMU_DONE;
	}
	if (descriptor_knows(&insn))
		return descriptor_execute(vcpu, &insn);
	result = emu_execute(&emu, &insn);
	if (result == EMU_DONE)
		vcpu_done(vcpu);
	vcpu->debug_hits = 0;
	return result;
}
