/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The MMU's functions as the hypervisor calls them: each with its event, while a recording is on.
 * Owns nothing; what is recorded of their inputs, record.c knows.
 */
#include "record.h"
#include "vcpu.h"
#include "vm.h"

static inline void event(struct vm *vm, enum umbra_trace_kind kind, uint64_t a, uint64_t b,
			 uint64_t c)
{
	if (__builtin_expect(vm->recording.on, 0))
		record_event(vm, kind, a, b, c);
}

int mmu_slot_add(struct vm *vm, const struct umbra_slot *slot)
{
	int error = umbra_slot_add(vm->mmu, slot);

	if (!error)
		event(vm, UMBRA_TRACE_SLOT_ADD, slot->first.n, slot->pages,
		      slot->id | (uint64_t)slot->flags << 32);
	return error;
}

int mmu_slot_delete(struct vm *vm, uint32_t id)
{
	int error = umbra_slot_delete(vm->mmu, id);

	if (!error) {
		vm->recording.logs &= ~(1u << id);
		event(vm, UMBRA_TRACE_SLOT_DELETE, id, 0, 0);
	}
	return error;
}

/* @id: of vm->slots, whose pages keep their place in vm->entries. */
int mmu_slot_move(struct vm *vm, uint32_t id, umbra_gfn first)
{
	int error = umbra_slot_move(vm->mmu, id, first);

	if (error)
		return error;
	record_frames_forget(vm, vm->slots[id].index, vm->slots[id].pages);
	event(vm, UMBRA_TRACE_SLOT_MOVE, id, first.n, 0);
	return 0;
}

int mmu_slot_flags_set(struct vm *vm, uint32_t id, uint32_t flags)
{
	int error = umbra_slot_flags_set(vm->mmu, id, flags);

	if (!error)
		event(vm, UMBRA_TRACE_SLOT_FLAGS, id, flags, 0);
	return error;
}

int mmu_vcpu_create(struct vcpu *vcpu)
{
	int error = umbra_vcpu_create(vcpu->vm->mmu, vcpu->number, &vcpu->umbra);

	if (!error)
		event(vcpu->vm, UMBRA_TRACE_VCPU, 0, 0, 0);
	return error;
}

int mmu_set_paging(struct vcpu *vcpu, const struct umbra_paging *paging)
{
	int error = umbra_vcpu_set_paging(vcpu->umbra, paging);

	event(vcpu->vm, UMBRA_TRACE_PAGING, (uint32_t)paging->cr0 | paging->cr4 << 32, paging->cr3,
	      (uint32_t)paging->efer | (uint64_t)(uint32_t)error << 32);
	return error;
}

void mmu_set_keys(struct vcpu *vcpu, uint32_t pkru, uint32_t pkrs)
{
	umbra_vcpu_set_keys(vcpu->umbra, pkru, pkrs);
	event(vcpu->vm, UMBRA_TRACE_KEYS, pkru | (uint64_t)pkrs << 32, 0, 0);
}

/* Without an event since the last time it changes nothing. */
int mmu_root(struct vcpu *vcpu, struct umbra_root *root)
{
	int error = umbra_vcpu_root(vcpu->umbra, root);

	if (vcpu->vm->recording.since_root && !error)
		event(vcpu->vm, UMBRA_TRACE_ROOT, root->levels, 0, 0);
	return error;
}

static void answered(struct vcpu *vcpu, enum umbra_trace_kind kind, uint64_t gva,
		     uint32_t error_code, const struct umbra_answer *answer)
{
	uint64_t injected = answer->verdict == UMBRA_INJECT ? answer->error_code : 0;

	event(vcpu->vm, kind, gva, vcpu->vmcb->rip,
	      error_code | (uint64_t)answer->verdict << 32 | injected << 40);
}

struct umbra_answer mmu_fault(struct vcpu *vcpu, uint64_t gva, uint32_t error_code)
{
	struct umbra_answer answer = umbra_fault(vcpu->umbra, gva, error_code);

	if (vcpu->vm->recording.on)
		answered(vcpu, UMBRA_TRACE_FAULT, gva, error_code, &answer);
	return answer;
}

struct umbra_answer mmu_translate(struct vcpu *vcpu, uint64_t gva, uint32_t error_code)
{
	struct umbra_answer answer = umbra_translate(vcpu->umbra, gva, error_code);

	if (vcpu->vm->recording.on)
		answered(vcpu, UMBRA_TRACE_TRANSLATE, gva, error_code, &answer);
	return answer;
}

void mmu_guest_write(struct vm *vm, uint64_t gpa, size_t size)
{
	umbra_guest_write(vm->mmu, gpa, size);
	if (vm->recording.on)
		event(vm, UMBRA_TRACE_WRITE, gpa, size, 0);
}

void mmu_unprotect(struct vm *vm, umbra_gfn gfn)
{
	size_t zapped = umbra_unprotect(vm->mmu, gfn);

	event(vm, UMBRA_TRACE_UNPROTECT, gfn.n, zapped, 0);
}

void mmu_invlpg(struct vcpu *vcpu, uint64_t gva)
{
	umbra_invlpg(vcpu->umbra, gva);
	event(vcpu->vm, UMBRA_TRACE_INVLPG, gva, 0, 0);
}

int mmu_invpcid(struct vcpu *vcpu, enum umbra_invpcid type, uint16_t pcid, uint64_t gva)
{
	int error = umbra_invpcid(vcpu->umbra, type, pcid, gva);

	if (!error)
		event(vcpu->vm, UMBRA_TRACE_INVPCID, gva, type | (uint64_t)pcid << 16, 0);
	return error;
}

int mmu_drop(struct vm *vm, umbra_gfn first, uint64_t pages, struct umbra_dropped *dropped)
{
	struct umbra_dropped what = {0};
	int error = umbra_drop(vm->mmu, first, pages, &what);

	if (!error)
		event(vm, UMBRA_TRACE_DROP, first.n, pages, what.sptes);
	if (!error && dropped)
		*dropped = what;
	return error;
}

int mmu_write_protect(struct vm *vm, umbra_gfn first, uint64_t pages, uint64_t *sptes)
{
	uint64_t changed = 0;
	int error = umbra_write_protect(vm->mmu, first, pages, &changed);

	if (!error)
		event(vm, UMBRA_TRACE_PROTECT, first.n, pages, changed);
	if (!error && sptes)
		*sptes = changed;
	return error;
}

int mmu_remap(struct vm *vm, umbra_gfn gfn, const struct umbra_frame *to,
	      struct umbra_dropped *dropped)
{
	struct umbra_dropped what = {0};
	int error = umbra_remap(vm->mmu, gfn, to, &what);

	if (!error)
		event(vm, UMBRA_TRACE_REMAP, gfn.n, to->pfn.n,
		      what.sptes | (uint64_t)to->level << 56 |
			  (to->writable ? 0 : UMBRA_TRACE_READONLY));
	if (!error && dropped)
		*dropped = what;
	return error;
}

int mmu_split(struct vm *vm, umbra_gfn first, uint64_t pages, uint64_t *sptes)
{
	uint64_t went = 0;
	int error = umbra_split(vm->mmu, first, pages, &went);

	if (!error)
		event(vm, UMBRA_TRACE_SPLIT, first.n, pages, went);
	if (!error && sptes)
		*sptes = went;
	return error;
}

static void begun(struct vm *vm, enum umbra_trace_kind kind, umbra_gfn first, uint64_t pages,
		  struct mmu_invalidation *invalidation, uint64_t sptes)
{
	invalidation->first = first;
	invalidation->pages = pages;
	vm->recording.open++;
	event(vm, kind, first.n, pages, sptes);
}

int mmu_invalidate_begin(struct vm *vm, umbra_gfn first, uint64_t pages,
			 struct mmu_invalidation *invalidation, struct umbra_dropped *dropped)
{
	struct umbra_dropped what = {0};
	int error = umbra_invalidate_begin(vm->mmu, first, pages, &invalidation->umbra, &what);

	if (!error)
		begun(vm, UMBRA_TRACE_INVALIDATE_BEGIN, first, pages, invalidation, what.sptes);
	if (!error && dropped)
		*dropped = what;
	return error;
}

int mmu_invalidate_gather(struct vm *vm, umbra_gfn first, uint64_t pages,
			  struct mmu_invalidation *invalidation, struct umbra_dropped *dropped)
{
	struct umbra_dropped what = {0};
	int error = umbra_invalidate_gather(vm->mmu, first, pages, &invalidation->umbra, &what);

	if (!error)
		begun(vm, UMBRA_TRACE_INVALIDATE_GATHER, first, pages, invalidation, what.sptes);
	if (!error && dropped)
		*dropped = what;
	return error;
}

void mmu_flush(struct vm *vm)
{
	umbra_flush(vm->mmu);
	event(vm, UMBRA_TRACE_FLUSH, 0, 0, 0);
}

void mmu_invalidate_end(struct vm *vm, struct mmu_invalidation *invalidation)
{
	umbra_invalidate_end(vm->mmu, &invalidation->umbra);
	vm->recording.open--;
	event(vm, UMBRA_TRACE_INVALIDATE_END, invalidation->first.n, invalidation->pages, 0);
}

uint64_t mmu_bits_count(const uint64_t *bits, uint64_t count)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < (count + 63) / 64; i++)
		for (uint64_t left = bits[i]; left; left &= left - 1)
			sum++;
	return sum;
}

/*
 * What it finds is the hardware's doing, and changes nothing that a replayer could see: bits are
 * clear behind it whatever they were.
 */
int mmu_age(struct vm *vm, umbra_gfn first, uint64_t pages, unsigned flags, uint64_t *young)
{
	int error = umbra_age(vm->mmu, first, pages, flags, young);

	if (!error && vm->recording.on)
		event(vm, UMBRA_TRACE_AGE_RANGE, first.n, pages,
		      mmu_bits_count(young, pages) | (uint64_t)flags << 32);
	return error;
}

int mmu_watch(struct vm *vm, umbra_gfn gfn, unsigned kinds)
{
	int error = umbra_watch(vm->mmu, gfn, kinds);

	if (!error)
		event(vm, UMBRA_TRACE_WATCH, gfn.n, kinds, 0);
	return error;
}

int mmu_log_start(struct vm *vm, uint32_t id, unsigned flags)
{
	int error = umbra_log_start(vm->mmu, id, flags);

	if (!error) {
		vm->recording.logs |= 1u << id;
		event(vm, UMBRA_TRACE_LOG_START, id, flags, 0);
	}
	return error;
}

int mmu_log_collect(struct vm *vm, umbra_gfn first, uint64_t pages, uint64_t *dirty)
{
	int error = umbra_log_collect(vm->mmu, first, pages, dirty);

	if (!error && vm->recording.on)
		event(vm, UMBRA_TRACE_LOG_COLLECT, first.n, pages, mmu_bits_count(dirty, pages));
	return error;
}

int mmu_log_collect_word(struct vm *vm, umbra_gfn first, uint64_t mask, uint64_t *dirty)
{
	int error = umbra_log_collect_word(vm->mmu, first, mask, dirty);

	if (!error)
		event(vm, UMBRA_TRACE_LOG_WORD, first.n, mask, *dirty);
	return error;
}

int mmu_log_stop(struct vm *vm, uint32_t id)
{
	int error = umbra_log_stop(vm->mmu, id);

	if (!error) {
		vm->recording.logs &= ~(1u << id);
		event(vm, UMBRA_TRACE_LOG_STOP, id, 0, 0);
	}
	return error;
}

void mmu_zap_all(struct vm *vm)
{
	umbra_zap_all(vm->mmu);
	event(vm, UMBRA_TRACE_ZAP_ALL, 0, 0, 0);
}

int mmu_quota_set(struct vm *vm, uint32_t pages)
{
	int error = umbra_quota_set(vm->mmu, pages);

	if (!error)
		event(vm, UMBRA_TRACE_QUOTA, pages, 0, 0);
	return error;
}

uint64_t mmu_audit(struct vm *vm, struct umbra_audit *report)
{
	uint64_t violations;

	vm->recording.quiet = true;
	violations = umbra_audit(vm->mmu, report);
	vm->recording.quiet = false;
	return violations;
}
