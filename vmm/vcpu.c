/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A virtual processor: the loop of entering the guest and having its exits handled. Exits
 * (exits.c), events on their way into the guest (event.c), devices and instructions have files of
 * their own.
 */
#include <umbra/machine.h>

#include "control.h"
#include "cpu.h"
#include "debug.h"
#include "event.h"
#include "fetch.h"
#include "exits.h"
#include "machine.h"
#include "memory.h"
#include "pic.h"
#include "pit.h"
#include "print.h"
#include "registers.h"
#include "schedule.h"
#include "serial.h"
#include "string.h"
#include "uart.h"
#include "vcpu.h"
#include "virtio_blk.h"
#include "vm.h"
#include "x86.h"

int vcpu_create(struct vm *vm, struct frames *frames)
{
	struct vcpu *vcpu = pool_alloc(frames, sizeof(*vcpu));

	if (!vcpu)
		return UMBRA_ENOMEM;
	vcpu->vm = vm;
	vcpu->displaced = vcpu->offered = -1;
	vcpu->vmcb = vmcb_new(&vm->cpu->svm, frames);
	if (!vcpu->vmcb)
		return UMBRA_ENOMEM;
	if (vm->options.nested)
		vmcb_nested(vcpu->vmcb, vm->cpu->is_tcg);
	lapic_init(vcpu);
	task_init(vcpu);
	msr_init(vcpu);
	ports_init(vcpu);
	registers_take(vcpu); /* as the processor came out of its reset */
	vm->vcpu = vcpu;
	vm->cpu->vcpu = vcpu;
	return mmu_vcpu_create(vcpu);
}

/* ------------------------------------------------------------------ services for handlers */

void vcpu_skip(struct vcpu *vcpu, unsigned length)
{
	uint64_t rip = vcpu->vmcb->rip + length;

	vcpu->vmcb->rip = vcpu_is_64(vcpu) ? rip : (uint32_t)rip;
	vcpu_done(vcpu);
}

void vcpu_done(struct vcpu *vcpu)
{
	struct vmcb *vmcb = vcpu->vmcb;

	vmcb->interrupt_shadow = 0;
	vmcb->rflags &= ~RFLAGS_RF;
	vcpu->stuck = 0;
	if (vcpu->debug_hits || vmcb->rflags & RFLAGS_TF)
		debug_done(vcpu);
}

void vcpu_paging_tell(struct vcpu *vcpu)
{
	struct umbra_paging paging = {vcpu->cr0, vcpu->cr3, vcpu->cr4, vcpu->efer};

	while (mmu_set_paging(vcpu, &paging) == UMBRA_EAGAIN && memory_settle(vcpu->vm))
		;
}

void vcpu_keys_tell(struct vcpu *vcpu)
{
	uint64_t on = vcpu->cr4 & (CR4_PKE | CR4_PKS);

	if (on)
		mmu_set_keys(vcpu, on & CR4_PKE ? rdpkru() : 0, vcpu->pkrs);
}

unsigned exit_length(struct vcpu *vcpu)
{
	struct insn insn;

	if (vcpu->vm->cpu->svm.has_next_rip)
		return (unsigned)(vcpu->vmcb->next_rip - vcpu->vmcb->rip);
	return decode_at_rip(vcpu, &insn) ? insn.length : 0;
}

bool vcpu_repage(struct vcpu *vcpu)
{
	struct umbra_paging paging = {vcpu->cr0, vcpu->cr3, vcpu->cr4, vcpu->efer};
	int error;

	do
		error = mmu_set_paging(vcpu, &paging);
	while (error == UMBRA_EAGAIN && memory_settle(vcpu->vm));
	vcpu->repaging = true;
	if (error && error != UMBRA_EPDPTE)
		machine_end(vcpu->vm, UMBRA_END_EMULATE,
			    "the MMU refuses cr0 %lx, cr4 %lx, efer %lx, rip %lx", vcpu->cr0,
			    vcpu->cr4, vcpu->efer, vcpu->vmcb->rip);
	return !error;
}

const char *vcpu_bytes(struct vcpu *vcpu, char *buffer, size_t size)
{
	uint8_t bytes[INSN_MAX];
	uint64_t event = vcpu->event;
	size_t count = fetch(vcpu, bytes), at = 0;

	vcpu->event = event; /* fetch may have raised a fault; this is only for show */
	format(buffer, size, "bytes unreadable");
	for (size_t i = 0; i < count && at + 3 < size; i++)
		at += format(buffer + at, size - at, i ? " %02x" : "%02x", bytes[i]);
	return buffer;
}

/* ------------------------------------------------------------------ devices */

/* When a device or a job of the guest's wants to be looked at next. */
static uint64_t next_event(const struct vcpu *vcpu, uint64_t now)
{
	const struct vm *vm = vcpu->vm;
	uint64_t next = control_next(vm, now);

	if (vcpu->lapic.deadline < next)
		next = vcpu->lapic.deadline;
	if (vm->pit.next < next)
		next = vm->pit.next;
	if (vm->rtc.next < next)
		next = vm->rtc.next;
	if (vm->serial.due < next)
		next = vm->serial.due;
	return next;
}

/*
 * Bring devices up to date, do a piece of the jobs, have the outer timer wake us for the next. Most
 * exits change nothing of that (is_quiet): then there is nothing to do until the timer fires.
 * False: the guest's turn is over.
 */
static bool poll_devices(struct vcpu *vcpu)
{
	struct vm *vm = vcpu->vm;
	uint64_t now = rdtsc(), end;
	bool wakes;

	if (now < vcpu->poll_due && !vm->cpu->uart_edge && !vm->cpu->bell_edge)
		return true;
	wakes = schedule_edges(vm);
	lapic_poll(vcpu, now);
	pit_poll(vm, now);
	rtc_poll(vm, now);
	uart_poll(vm);
	serial_poll(vm, now);
	if (vm->bell_edge) {
		vm->bell_edge = false;
		virtio_blk_poll(vm);
	}
	control_poll(vm, now);
	vcpu->next = next_event(vcpu, now);
	end = vm->cpu->turn_end < vcpu->next ? vm->cpu->turn_end : vcpu->next;
	cpu_timer_arm(vm->cpu, end);
	vcpu->poll_due = control_busy(&vm->control) || vm->options.audit ? 0 : end;
	return !wakes && now < vm->cpu->turn_end;
}

/* ------------------------------------------------------------------ entries */

static void prepare_nested(struct vcpu *vcpu, const struct umbra_root *root)
{
	struct vmcb *vmcb = vcpu->vmcb;

	if (vcpu->repaging) { /* by the loader, or CR0, CR4 or EFER was written */
		vcpu->flush = true;
		vmcb->cr0 = vcpu->cr0;
		vmcb->cr3 = vcpu->cr3;
		vmcb->cr4 = vcpu->cr4;
		vmcb->efer = vcpu->efer | EFER_SVME;
		vcpu->repaging = false;
	}
	if (vmcb->nested_cr3 != root->hpa)
		vcpu->flush = true;
	vmcb->nested_cr3 = root->hpa;
}

/* What the guest changed by itself. */
static void paging_take(struct vcpu *vcpu)
{
	const struct vmcb *vmcb = vcpu->vmcb;

	vcpu->cr0 = vmcb->cr0;
	vcpu->cr3 = vmcb->cr3;
	vcpu->cr4 = vmcb->cr4;
	vcpu->efer = vmcb->efer & ~EFER_SVME;
}

/* Ask for the root, bring the VMCB in line with the guest's paging state. */
static void prepare(struct vcpu *vcpu)
{
	struct umbra_root root;

	if (mmu_root(vcpu, &root))
		machine_end(vcpu->vm, UMBRA_END_NOMEM,
			    "no memory for a root page table" MACHINE_MORE);
	if (vcpu->vm->options.nested) {
		prepare_nested(vcpu, &root);
	} else if (vcpu->repaging || root.hpa != vcpu->root.hpa ||
		   root.levels != vcpu->root.levels) {
		vcpu->repaging = false;
		vcpu->root = root;
		vcpu->flush = true;
		vmcb_paging(vcpu->vmcb, vcpu->cr0, vcpu->cr4, vcpu->efer, &root);
	}
	if (vcpu->root.levels == 3 || vcpu->guard != GUARD_OFF)
		task_guard(vcpu);
	vcpu->vmcb->tlb_control = 0;
	if (vcpu->flush)
		vmcb_flush(&vcpu->vm->cpu->svm, vcpu->vmcb);
	vcpu->flush = false;
}

static void enter(struct vcpu *vcpu)
{
	struct vmcb *vmcb = vcpu->vmcb;
	struct exit_record *record = &vcpu->exits[vcpu->exit_count++ % VCPU_EXITS];

	vmcb->rax = vcpu->gpr[GPR_RAX];
	vmcb->rsp = vcpu->gpr[GPR_RSP];
	if (vcpu->armed || vcpu->debug_changed)
		debug_enter(vcpu);
	svm_enter(vcpu->gpr, (uintptr_t)vmcb, (uintptr_t)vcpu->vm->cpu->svm.host);
	if (vcpu->armed)
		debug_leave(vcpu);
	vcpu->gpr[GPR_RAX] = vmcb->rax;
	vcpu->gpr[GPR_RSP] = vmcb->rsp;
	if (vcpu->guard != GUARD_OFF)
		task_check(vcpu);
	if (vcpu->vm->options.nested)
		paging_take(vcpu);
	vcpu->vm->machine->exits++;
	if (vcpu->lapic.tpr >> 4 != (vmcb->interrupt & 0xf)) /* MOV CR8 clears what is below */
		vcpu->lapic.tpr = (uint32_t)(vmcb->interrupt & 0xf) << 4;
	*record = (struct exit_record){rdtsc(), vmcb->exit_code, vmcb->exit_info1, vmcb->exit_info2,
				       vmcb->rip};
}

void vcpu_start(struct vcpu *vcpu)
{
	struct umbra_machine *page = vcpu->vm->machine;

	vcpu_repage(vcpu);
	page->tsc_entry = rdtsc();
	page->phase = UMBRA_PHASE_BOOT;
}

/* Once into the guest, and what it came out for. */
static void pass(struct vcpu *vcpu)
{
	if (!event_is_idle(vcpu))
		event_inject(vcpu);
	prepare(vcpu);
	vcpu->vmcb->interrupt = (vcpu->vmcb->interrupt & ~0xffull) | (vcpu->lapic.tpr >> 4 & 0xf);
	enter(vcpu);
	vcpu->event = 0;
	if (vcpu->offered >= 0)
		event_withdraw(vcpu);
	if (vcpu->vmcb->exit_interrupted & SVM_EVENT_VALID)
		event_take(vcpu);
	if (!vcpu->stepping || !event_stepped(vcpu))
		exit_handle(vcpu);
}

/* It has halted: is there something to wake it? Else its turn is over, but for a job under way. */
static bool wakes(struct vcpu *vcpu)
{
	if (!event_waits(vcpu))
		return false;
	vcpu->halted = false;
	return true;
}

void vcpu_run(struct vcpu *vcpu)
{
	vcpu->poll_due = 0; /* the outer timer was somebody else's */
	while (poll_devices(vcpu)) {
		if (!vcpu->halted || wakes(vcpu)) {
			pass(vcpu);
		} else if (control_busy(&vcpu->vm->control)) {
			vcpu->poll_due = 0;
			interrupt_window();
		} else {
			return;
		}
	}
}

void vcpu_dump(const struct vcpu *vcpu)
{
	const struct vmcb *v = vcpu->vmcb;
	const uint64_t *g = vcpu->gpr;
	const struct emu_segment *s = &v->es;
	static const char names[][5] = {"es", "cs",   "ss",   "ds",   "fs",
					"gs", "gdtr", "ldtr", "idtr", "tr"};
	uint64_t first = vcpu->exit_count > VCPU_EXITS ? vcpu->exit_count - VCPU_EXITS : 0;

	print("guest %u rip %016lx rsp %016lx rflags %lx cpl %u\n", vcpu->vm->number, v->rip, g[4],
	      v->rflags, v->cpl);
	for (int i = 0; i < 16; i += 4)
		print("  r%02d %016lx %016lx %016lx %016lx\n", i, g[i], g[i + 1], g[i + 2],
		      g[i + 3]);
	print("  its  cr0 %lx cr3 %lx cr4 %lx efer %lx\n", vcpu->cr0, vcpu->cr3, vcpu->cr4,
	      vcpu->efer);
	print("  vmcb cr0 %lx cr2 %lx cr3 %lx cr4 %lx efer %lx\n", v->cr0, v->cr2, v->cr3, v->cr4,
	      v->efer);
	print("  exit %lx info %lx %lx interrupted %lx inject %lx shadow %lx virq %lx\n",
	      v->exit_code, v->exit_info1, v->exit_info2, v->exit_interrupted, v->inject,
	      v->interrupt_shadow, v->interrupt);
	for (unsigned i = 0; i < 10; i++)
		print("  %4s %04x attributes %04x limit %08x base %lx\n", names[i], s[i].selector,
		      s[i].attributes, s[i].limit, s[i].base);
	for (uint64_t i = first; i < vcpu->exit_count; i++) {
		const struct exit_record *r = &vcpu->exits[i % VCPU_EXITS];
		print("  #%lu tsc %lu exit %lx info %lx %lx rip %lx\n", i, r->tsc, r->code,
		      r->info1, r->info2, r->rip);
	}
}
