/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a host does to guest memory, on the guest's own request and timed: the umbra side of
 * make bench-kvm's host rows. Owns the range. A guest that is not alone is refused: the time that
 * it takes is the others', too.
 */
#include "host.h"
#include "memory.h"
#include "merge.h"
#include "range.h"
#include "swap.h"
#include "vcpu.h"
#include "vm.h"
#include "x86.h"

static uint64_t count(struct vm *vm)
{
	uint64_t sum = 0, sptes;

	for (uint64_t i = 0; i < vm->range.pages; i++)
		if (!umbra_rmap_count(vm->mmu, (umbra_gfn){vm->range.first + i}, &sptes))
			sum += sptes;
	return sum;
}

static int drop_each(struct vm *vm)
{
	int error = 0;

	for (uint64_t i = 0; i < vm->range.pages && !error; i++)
		error = mmu_drop(vm, (umbra_gfn){vm->range.first + i}, 1, NULL);
	return error;
}

/* Returns the ticks, the copies' not among them. */
static int remap_each(struct vm *vm, uint64_t *ticks)
{
	int error = 0;

	for (uint64_t i = 0; i < vm->range.pages && !error; i++) {
		uint64_t sptes, took = 0;

		error = memory_migrate(vm, vm->range.first + i, &sptes, &took);
		*ticks += took;
	}
	return error;
}

/* The slot that holds the range's first page; its number is the MMU's name for it. */
static const struct vm_slot *slot_of(const struct vm *vm, uint32_t *id)
{
	for (*id = 0; *id < vm->slot_count; ++*id)
		if (vm->range.first - vm->slots[*id].first < vm->slots[*id].pages)
			return &vm->slots[*id];
	return NULL;
}

static int invalidate(struct vm *vm)
{
	struct mmu_invalidation held;
	int error =
	    mmu_invalidate_begin(vm, (umbra_gfn){vm->range.first}, vm->range.pages, &held, NULL);

	if (!error)
		mmu_invalidate_end(vm, &held);
	return error;
}

/* ------------------------------------------------------------------ what looks at pages */

#define PIECE 4096u /* pages of which bits are kept at a time */

/* Which of @pages pages from @first on were used, or with @log written? */
static int look(struct vm *vm, uint64_t first, uint64_t pages, bool log)
{
	uint64_t bits[PIECE / 64];
	int error = 0;

	for (uint64_t end = first + pages, count; first < end && !error; first += count) {
		count = end - first < PIECE ? end - first : PIECE;
		error = log ? mmu_log_collect(vm, (umbra_gfn){first}, count, bits)
			    : mmu_age(vm, (umbra_gfn){first}, count, 0, bits);
		if (!error)
			vm->range.found += mmu_bits_count(bits, count);
	}
	return error;
}

static int log_words(struct vm *vm, const struct vm_slot *slot)
{
	int error = 0;

	for (uint64_t i = 0; i < slot->pages && !error; i += 64) {
		uint64_t dirty = 0;

		error = mmu_log_collect_word(vm, (umbra_gfn){slot->first + i}, UINT64_MAX, &dirty);
		vm->range.found += mmu_bits_count(&dirty, 64);
	}
	return error;
}

static int log_operate(struct vm *vm, uint32_t operation)
{
	uint32_t id;
	const struct vm_slot *slot = slot_of(vm, &id);

	if (!slot)
		return UMBRA_ENOENT;
	switch (operation) {
	case UMBRA_CTL_RANGE_LOG_START:
		return mmu_log_start(vm, id, 0);
	case UMBRA_CTL_RANGE_LOG_STOP:
		return mmu_log_stop(vm, id);
	case UMBRA_CTL_RANGE_LOG_WORDS:
		return log_words(vm, slot);
	default:
		return look(vm, slot->first, slot->pages, true);
	}
}

/* The range as it is when nobody has used it for a while goes; only that is timed. */
static int swap_range(struct vm *vm, uint64_t *ticks)
{
	struct range_job *range = &vm->range;
	uint32_t id;
	const struct vm_slot *slot = slot_of(vm, &id);
	uint64_t at = slot ? range->first - slot->first : 0, begun;

	if (!slot || !vm->recent || look(vm, range->first, range->pages, false))
		return UMBRA_ENOENT;
	at += slot->index;
	for (uint64_t i = at; i < at + range->pages; i++)
		vm->recent[i / 64] &= ~(1ull << i % 64);
	vm->host->swap.guest = vm->number;
	vm->host->swap.page = at;
	begun = rdtsc();
	range->found = swap_reclaim(vm->host, range->pages);
	*ticks = rdtsc() - begun;
	return range->found ? 0 : UMBRA_ENOMEM;
}

/* ------------------------------------------------------------------ all of them */

/* *@ticks stays 0 where all of the time counts. */
static int operate(struct vm *vm, uint32_t operation, uint64_t *ticks)
{
	struct range_job *range = &vm->range;
	umbra_gfn first = {range->first};

	switch (operation) {
	case UMBRA_CTL_RANGE_DROP:
		return mmu_drop(vm, first, range->pages, NULL);
	case UMBRA_CTL_RANGE_DROP_EACH:
		return drop_each(vm);
	case UMBRA_CTL_RANGE_PROTECT:
		return mmu_write_protect(vm, first, range->pages, NULL);
	case UMBRA_CTL_RANGE_REMAP:
		return remap_each(vm, ticks);
	case UMBRA_CTL_RANGE_RENEW:
		return memory_slot_renew(vm, range->first);
	case UMBRA_CTL_RANGE_INVALIDATE:
		return invalidate(vm);
	case UMBRA_CTL_RANGE_AGE:
		return look(vm, range->first, range->pages, false);
	case UMBRA_CTL_RANGE_COLLAPSE:
		return compact_range(vm, range->first, range->pages, &range->found);
	case UMBRA_CTL_RANGE_SWAP_OUT:
		return swap_range(vm, ticks);
	case UMBRA_CTL_RANGE_MERGE:
		return merge_range(vm, range->first, range->pages, &range->found);
	default:
		return log_operate(vm, operation);
	}
}

/* Whether the whole range lies in a slot that is there. */
static bool is_memory(const struct vm *vm)
{
	uint32_t id;
	const struct vm_slot *slot = slot_of(vm, &id);

	return slot && !slot->absent &&
	       vm->range.pages <= slot->pages - (vm->range.first - slot->first);
}

static uint32_t timed(struct vm *vm, uint32_t operation)
{
	uint64_t begun, ticks = 0;
	int error;

	if (vm->host->guests > 1 || !is_memory(vm) || control_is_asked(vm))
		return UINT32_MAX;
	vm->range.sptes = count(vm);
	vm->range.found = 0;
	begun = rdtsc();
	error = operate(vm, operation, &ticks);
	if (!ticks)
		ticks = rdtsc() - begun;
	if (error)
		return UINT32_MAX;
	return ticks < UINT32_MAX ? (uint32_t)ticks : UINT32_MAX - 1;
}

uint32_t range_operate(struct vm *vm, uint32_t operation, uint32_t argument)
{
	struct range_job *range = &vm->range;

	switch (operation) {
	case UMBRA_CTL_RANGE_FIRST:
		range->first = argument;
		return 0;
	case UMBRA_CTL_RANGE_PAGES:
		range->pages = argument;
		return 0;
	case UMBRA_CTL_RANGE_SPTES:
		return range->sptes < UINT32_MAX ? (uint32_t)range->sptes : UINT32_MAX;
	case UMBRA_CTL_RANGE_DROP:
	case UMBRA_CTL_RANGE_DROP_EACH:
	case UMBRA_CTL_RANGE_PROTECT:
	case UMBRA_CTL_RANGE_REMAP:
	case UMBRA_CTL_RANGE_RENEW:
	case UMBRA_CTL_RANGE_INVALIDATE:
	case UMBRA_CTL_RANGE_AGE:
	case UMBRA_CTL_RANGE_LOG_START:
	case UMBRA_CTL_RANGE_LOG_COLLECT:
	case UMBRA_CTL_RANGE_LOG_WORDS:
	case UMBRA_CTL_RANGE_LOG_STOP:
	case UMBRA_CTL_RANGE_COLLAPSE:
	case UMBRA_CTL_RANGE_MERGE:
	case UMBRA_CTL_RANGE_SWAP_OUT:
		return timed(vm, operation);
	case UMBRA_CTL_RANGE_FOUND:
		return (uint32_t)range->found;
	default:
		return UINT32_MAX;
	}
}
