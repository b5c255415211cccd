/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Recording. Nothing is lost: a full ring waits for its reader. What a replayer knows already
 * (words of tables that have not changed, frames that have not moved) is left out; the cache of
 * words may forget, which costs a record, not the truth.
 *
 * One processor runs the hypervisor, so that a call's inputs are those since the event before.
 */
#include "cpu.h"
#include "frames.h"
#include "machine.h"
#include "record.h"
#include "string.h"
#include "vcpu.h"
#include "vm.h"
#include "x86.h"

#define RING_RECORDS (1u << 17) /* 4 MiB */
#define KNOWN_WORDS  (1u << 15)

/* 8 bytes of a guest's table. */
struct known_word {
	uint64_t at; /* gpa, | 1 if the lower 4 bytes are known, | 2 the upper ones; 0: none */
	uint64_t value;
};

static bool is_set_up(struct vm *vm)
{
	struct recording *r = &vm->recording;

	if (!r->ring)
		r->ring = pool_alloc(vm->frames, RING_RECORDS * sizeof(*r->ring));
	if (!r->words)
		r->words = pool_alloc(vm->frames, KNOWN_WORDS * sizeof(*r->words));
	if (!r->told)
		r->told = pool_alloc(vm->frames, vm->pages / 8 + 1);
	return r->ring && r->words && r->told;
}

int record_begin(struct vm *vm)
{
	struct recording *r = &vm->recording;
	struct umbra_ring *ring = &vm->machine->ring;

	if (!is_set_up(vm))
		return UMBRA_ENOMEM;
	memset(r->words, 0, KNOWN_WORDS * sizeof(*r->words));
	memset(r->told, 0, vm->pages / 8 + 1);
	r->begun = rdtsc();
	r->since_root = true;
	r->on = true;
	ring->capacity = RING_RECORDS;
	__atomic_store_n(&ring->address, (uintptr_t)r->ring, __ATOMIC_RELEASE);
	return 0;
}

void record_give_up(struct vm *vm)
{
	vm->recording.on = false;
}

static void put(struct vm *vm, struct umbra_record record)
{
	struct umbra_ring *ring = &vm->machine->ring;
	uint64_t written = ring->written;

	while (written - __atomic_load_n(&ring->read, __ATOMIC_ACQUIRE) == RING_RECORDS)
		__builtin_ia32_pause();
	vm->recording.ring[written % RING_RECORDS] = record;
	__atomic_store_n(&ring->written, written + 1, __ATOMIC_RELEASE);
}

static __attribute__((noinline)) void note(struct vm *vm, enum umbra_trace_kind kind, uint64_t a,
					   uint64_t b, uint64_t c)
{
	struct recording *r = &vm->recording;
	uint64_t time = muldiv(rdtsc() - r->begun, 1000000, vm->cpu->tsc_hz);

	r->since_root = kind != UMBRA_TRACE_ROOT;
	put(vm, (struct umbra_record){
		    .kind = (uint8_t)kind, .time = (uint32_t)time, .a = a, .b = b, .c = c});
}

static inline void event(struct vm *vm, enum umbra_trace_kind kind, uint64_t a, uint64_t b,
			 uint64_t c)
{
	if (__builtin_expect(vm->recording.on, 0))
		note(vm, kind, a, b, c);
}

/* ------------------------------------------------------------------ inputs */

void record_frame(struct vm *vm, uint64_t index, umbra_gfn gfn, enum umbra_want want, int error,
		  const struct umbra_frame *frame)
{
	struct recording *r = &vm->recording;
	struct umbra_record record = {.kind = UMBRA_TRACE_FRAME, .a = gfn.n, .c = want};

	if (!r->on || r->quiet || (error == UMBRA_ENOENT && want == UMBRA_WANT_PEEK))
		return;
	if (error) {
		record.c |= (uint64_t)(uint32_t)error << 32;
	} else {
		if (r->told[index / 8] & 1u << index % 8)
			return;
		r->told[index / 8] |= (uint8_t)(1u << index % 8);
		record.b = frame->pfn.n;
		record.c |= (uint64_t)frame->writable << 8 | (uint64_t)frame->level << 16;
	}
	put(vm, record);
}

/* Does a replayer's guest memory hold @value there? From now on it does. */
static bool is_known(struct recording *r, uint64_t gpa, bool wide, uint64_t value)
{
	uint64_t at = gpa & ~7ull, shift = gpa & 4 ? 32 : 0;
	struct known_word *word = &r->words[(gpa >> 3 ^ gpa >> 18) % KNOWN_WORDS];
	uint64_t part = wide ? 3 : gpa & 4 ? 2 : 1, mask = wide ? ~0ull : 0xffffffffull << shift;

	if ((word->at & ~7ull) != at || !(word->at & 3))
		*word = (struct known_word){.at = at};
	if (!wide)
		value <<= shift;
	if ((word->at & part) == part && (word->value & mask) == value)
		return true;
	word->value = (word->value & ~mask) | value;
	word->at |= part;
	return false;
}

uint64_t record_input(void *ctx, enum umbra_input kind, uint64_t key, uint64_t value)
{
	static const uint8_t kinds[] = {[UMBRA_INPUT_WORD4] = UMBRA_TRACE_WORD4,
					[UMBRA_INPUT_WORD8] = UMBRA_TRACE_WORD8,
					[UMBRA_INPUT_AGE] = UMBRA_TRACE_AGE};
	struct vm *vm = ctx;
	struct recording *r = &vm->recording;

	if (r->quiet || !r->on)
		return value;
	if (kind == UMBRA_INPUT_AGE ? value == 0
				    : is_known(r, key, kind == UMBRA_INPUT_WORD8, value))
		return value;
	put(vm, (struct umbra_record){.kind = kinds[kind], .a = key, .b = value});
	return value;
}

void record_mark(struct vm *vm, uint32_t operation, uint32_t argument)
{
	event(vm, UMBRA_TRACE_MARK, operation, argument, 0);
}

void record_end(struct vm *vm, uint32_t end)
{
	event(vm, UMBRA_TRACE_END, end, vm->machine->mmu.sptes, vm->machine->mmu.shadow_pages);
	vm->recording.on = false;
}

/* ------------------------------------------------------------------ calls */

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

	if (!error)
		event(vm, UMBRA_TRACE_SLOT_DELETE, id, 0, 0);
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
		event(vm, UMBRA_TRACE_REMAP, gfn.n, to->pfn.n, what.sptes);
	if (!error && dropped)
		*dropped = what;
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
