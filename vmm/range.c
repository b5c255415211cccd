/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a host does to guest memory, on the guest's own request and timed: the umbra side of
 * make bench-kvm's host rows. Owns the range.
 */
#include "memory.h"
#include "range.h"
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

static uint32_t timed(struct vm *vm, uint32_t operation)
{
	struct range_job *range = &vm->range;
	umbra_gfn first = {range->first};
	uint64_t begun, ticks = 0;
	int error = 0;

	range->sptes = count(vm);
	begun = rdtsc();
	switch (operation) {
	case UMBRA_CTL_RANGE_DROP:
		error = mmu_drop(vm, first, range->pages, NULL);
		break;
	case UMBRA_CTL_RANGE_DROP_EACH:
		error = drop_each(vm);
		break;
	case UMBRA_CTL_RANGE_PROTECT:
		error = mmu_write_protect(vm, first, range->pages, NULL);
		break;
	case UMBRA_CTL_RANGE_REMAP:
		error = remap_each(vm, &ticks);
		break;
	default:
		error = memory_slot_renew(vm, range->first);
	}
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
		return timed(vm, operation);
	default:
		return UINT32_MAX;
	}
}
