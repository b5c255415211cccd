/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Another MMU under a running guest, so that a recording knows all of it from its first call on:
 * what a replayer makes of the trace is then the same MMU, with the same shadow pages in the same
 * places. To the guest it is a flush of everything.
 *
 * A PAE guest's PDPTEs are loaded anew, too; with nested paging a processor reads them at every
 * walk (AMD64 APM vol. 2 §15.25.10), so guests bear it.
 */
#include "cpu.h"
#include "machine.h"
#include "memory.h"
#include "record.h"
#include "renew.h"
#include "vcpu.h"

/* The new MMU's vcpu, in the state of the guest's. */
static int vcpu_renew(struct vcpu *vcpu)
{
	struct umbra_paging paging = {vcpu->cr0, vcpu->cr3, vcpu->cr4, vcpu->efer};
	struct vm *vm = vcpu->vm;
	int error = mmu_vcpu_create(vcpu);

	if (!error && !vm->options.nested) {
		error = mmu_set_paging(vcpu, &paging);
		vcpu_keys_tell(vcpu);
	}
	if (!error && vm->control.quota != vm->options.quota)
		error = mmu_quota_set(vm, vm->control.quota);
	return error;
}

int mmu_renew(struct vm *vm)
{
	struct umbra_mmu *old = vm->mmu;
	struct umbra_vcpu *old_vcpu = vm->vcpu->umbra;
	struct umbra_stats stats;
	int error = record_is_amid(vm) ? UMBRA_EAGAIN : record_begin(vm);

	if (error == UMBRA_EAGAIN)
		return error;

	if (!error)
		error = memory_mmu_make(vm);
	if (!error) {
		error = vcpu_renew(vm->vcpu);
		if (error)
			umbra_mmu_destroy(vm->mmu);
	}
	if (error) {
		record_give_up(vm);
		vm->mmu = old;
		vm->vcpu->umbra = old_vcpu;
		return error;
	}
	umbra_stats_get(old, &stats);
	machine_stats_keep(vm, &stats);
	umbra_mmu_destroy(old);
	watch_renew(vm);
	vm->vcpu->flush = true;
	return 0;
}
