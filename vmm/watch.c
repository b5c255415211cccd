/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Watched pages. The library tells of the first access of each kind, and forgets about it then;
 * here it is noted, with the instruction that did it, and armed again a little later. So each kind
 * of access to a page is told once in REARM_HZ-th of a second at most, and a guest that works on a
 * page all the time gets on.
 */
#include "cpu.h"
#include "memory.h"
#include "record.h"
#include "vcpu.h"
#include "vm.h"
#include "watch.h"
#include "x86.h"

#define REARM_HZ 1000u

static struct watch *watch_of(struct watching *w, uint64_t gfn)
{
	for (unsigned i = 0; i < w->count; i++)
		if (w->watch[i].gfn == gfn)
			return &w->watch[i];
	return NULL;
}

static void forget(struct watching *w, struct watch *watch)
{
	if (watch)
		*watch = w->watch[--w->count];
}

int watch_set(struct vm *vm, uint64_t gfn, uint64_t kinds)
{
	struct watching *w = &vm->watching;
	struct watch *watch = watch_of(w, gfn);
	int error;

	if (kinds >> KINDS)
		return UMBRA_EINVAL;
	if (!watch && (!kinds || w->count == WATCHES))
		return kinds ? UMBRA_ENOMEM : UMBRA_ENOENT;
	error = mmu_watch(vm, (umbra_gfn){gfn}, (unsigned)kinds);
	if (!kinds) /* its slot may be away, and the watch with it */
		forget(w, watch);
	if (!kinds || error)
		return kinds ? error : 0;
	if (!watch) {
		watch = &w->watch[w->count++];
		*watch = (struct watch){.gfn = gfn};
	}
	watch->kinds = (uint32_t)kinds;
	watch->tired = false;
	return 0;
}

void watch_clear(struct vm *vm)
{
	while (vm->watching.count)
		watch_set(vm, vm->watching.watch[0].gfn, 0);
}

void watch_touched(void *ctx, const struct umbra_touch *touch)
{
	struct vm *vm = ctx;
	struct watching *w = &vm->watching;
	struct watch *watch = watch_of(w, touch->gfn.n);

	if (!watch)
		return;
	for (unsigned i = 0; i < KINDS; i++)
		watch->touches[i] += touch->kind >> i & 1;
	w->touch[w->touches++ % TOUCHES] = (struct touch){
	    .tsc = rdtsc(),
	    .gfn = touch->gfn.n,
	    .kind = touch->kind,
	    .rip = vm->vcpu->vmcb->rip,
	    .gva = touch->gva,
	};
	if (!w->tired)
		w->due = rdtsc() + vm->cpu->tsc_hz / REARM_HZ;
	w->tired = watch->tired = true;
}

void watch_poll(struct vm *vm, uint64_t now)
{
	struct watching *w = &vm->watching;

	if (!w->tired || now < w->due)
		return;
	w->tired = false;
	for (unsigned i = 0; i < w->count; i++) {
		if (!w->watch[i].tired)
			continue;
		w->watch[i].tired = false;
		mmu_watch(vm, (umbra_gfn){w->watch[i].gfn}, w->watch[i].kinds);
	}
}

void watch_renew(struct vm *vm)
{
	for (unsigned i = 0; i < vm->watching.count; i++)
		vm->watching.watch[i].tired = vm->watching.tired = true;
	watch_poll(vm, UINT64_MAX);
}
