/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guest-physical memory: the embedder's side of libumbra. Owns what is behind each page
 * (vm->entries) and decides when a page gets its frame: on first touch, a random one, zeroed.
 */
#include "compact.h"
#include "exits.h"
#include "host.h"
#include "machine.h"
#include "memory.h"
#include "string.h"
#include "vcpu.h"
#include "x86.h"

/* The slot that holds @gfn, or NULL. */
static struct vm_slot *slot_of(struct vm *vm, uint64_t gfn)
{
	for (unsigned i = 0; i < vm->slot_count; i++)
		if (gfn - vm->slots[i].first < vm->slots[i].pages && !vm->slots[i].absent)
			return &vm->slots[i];
	return NULL;
}

static uint32_t *entry(struct vm *vm, uint64_t gfn)
{
	const struct vm_slot *s = slot_of(vm, gfn);

	return s ? &vm->entries[s->index + gfn - s->first] : NULL;
}

bool memory_is_read_only(struct vm *vm, uint64_t gfn)
{
	const struct vm_slot *s = slot_of(vm, gfn);

	return s && s->read_only;
}

uint64_t memory_gfn(const struct vm *vm, uint32_t index)
{
	const struct vm_slot *s = vm->slots;

	while (index - s->index >= s->pages)
		s++;
	return s->first + index - s->index;
}

static void *va_of(uint64_t pfn)
{
	return (void *)(pfn << UMBRA_PAGE_SHIFT);
}

static int want(struct vm *vm, int what, uint64_t gfn)
{
	vm->wanted.what = what;
	vm->wanted.gfn = gfn;
	return UMBRA_EAGAIN;
}

/* Give the page of entry @e a frame. */
static int populate(struct vm *vm, uint32_t *e, uint64_t gfn)
{
	uint64_t frame;

	if (*e & MEMORY_SWAPPED)
		return want(vm, WANTED_PAGE, gfn);
	if (!frame_take(vm->frames, &frame))
		return want(vm, WANTED_ROOM, gfn);
	if (vm->frames->count < vm->host->swap.low && vm->vcpu)
		vm->vcpu->poll_due = 0;
	page_zero(va_of(frame));
	frame_own(vm->frames, frame, vm->number, (uint32_t)(e - vm->entries));
	*e = (uint32_t)frame;
	return 0;
}

/* See to it that entry @e has a frame, for @use. UMBRA_EAGAIN: memory_settle() first. */
static int fetch(struct vm *vm, uint32_t *e, uint64_t gfn, enum umbra_want use)
{
	int error = 0;

	if (!e)
		return UMBRA_ENOENT;
	if (!memory_has_frame(*e))
		error = use == UMBRA_WANT_PEEK ? UMBRA_ENOENT : populate(vm, e, gfn);
	if (!error && use == UMBRA_WANT_WRITE && *e & MEMORY_SHARED)
		error = want(vm, WANTED_PRIVATE, gfn);
	if (use != UMBRA_WANT_PEEK)
		swap_touch(vm->recent, (uint64_t)(e - vm->entries));
	return error;
}

/* Nothing leads to what entry @e said any more. */
static void release(struct vm *vm, uint32_t e)
{
	if (e & MEMORY_SHARED)
		frame_unshare(vm->frames, e & MEMORY_NUMBER);
	else if (memory_has_frame(e))
		frame_give(vm->frames, e);
	else if (e)
		swapmap_forget(&vm->host->swap.map, e & MEMORY_NUMBER);
}

/* A free frame, if need be by swapping others' contents out. => outside of the MMU's lock */
static bool take(struct vm *vm, uint64_t *frame)
{
	return frame_take(vm->frames, frame) ||
	       (swap_make_room(vm->host) && frame_take(vm->frames, frame));
}

static int host_alloc(void *ctx, size_t size, bool low, struct umbra_memory *memory)
{
	struct vm *vm = ctx;
	void *block = pool_alloc(vm->frames, size);

	(void)low; /* the pool lies below 4 GiB */
	if (!block)
		return UMBRA_ENOMEM;
	memory->va = block;
	memory->hpa = (uintptr_t)block;
	return 0;
}

static void host_free(void *ctx, size_t size, struct umbra_memory memory)
{
	struct vm *vm = ctx;

	pool_free(vm->frames, memory.va, size);
}

static uint8_t level_of(const struct vm *vm, const uint32_t *e)
{
	return vm->large && compact_is_large(vm, (uint32_t)(e - vm->entries)) ? 2 : 0;
}

/* Of its own, and nobody wants to hear of it: so most pages are asked for. */
static inline bool is_plain(const struct vm *vm, uint32_t e)
{
	return e - 1 < MEMORY_SHARED - 1 &&
	       !((uintptr_t)vm->recent | (uintptr_t)vm->large | vm->recording.on);
}

/* Any page. */
static __attribute__((noinline)) int frame_get(struct vm *vm, uint32_t *e, umbra_gfn gfn,
					       enum umbra_want use, struct umbra_frame *frame)
{
	int error = fetch(vm, e, gfn.n, use);

	if (!error)
		*frame = (struct umbra_frame){.pfn = {*e & MEMORY_NUMBER},
					      .writable = !(*e & MEMORY_SHARED),
					      .level = level_of(vm, e)};
	if (vm->recording.on && e)
		record_frame(vm, (uint64_t)(e - vm->entries), gfn, use, error, frame);
	return error;
}

static int host_frame_get(void *ctx, umbra_gfn gfn, enum umbra_want use, struct umbra_frame *frame)
{
	struct vm *vm = ctx;
	uint32_t *e = entry(vm, gfn.n);

	if (__builtin_expect(!e || !is_plain(vm, *e), 0))
		return frame_get(vm, e, gfn, use, frame);
	*frame = (struct umbra_frame){.pfn = {*e}, .writable = true};
	return 0;
}

static void *host_frame_va(void *ctx, umbra_pfn pfn)
{
	(void)ctx;
	return va_of(pfn.n);
}

/* What is only read has the same contents already: it was merged. */
static void host_frame_move(void *ctx, umbra_gfn gfn, const struct umbra_frame *to)
{
	struct vm *vm = ctx;
	uint32_t *e = entry(vm, gfn.n), old = *e, pfn = (uint32_t)to->pfn.n;

	bool stays = memory_has_frame(old) && (old & MEMORY_NUMBER) == pfn;

	vm->move_begun = rdtsc();
	if (!to->writable) {
		if (!stays || !(old & MEMORY_SHARED))
			frame_share(vm->frames, pfn);
	} else if (!stays) {
		if (memory_has_frame(old))
			page_copy(va_of(pfn), va_of(old & MEMORY_NUMBER));
		else
			page_zero(va_of(pfn));
	}
	if (to->writable)
		frame_own(vm->frames, pfn, vm->number, (uint32_t)(e - vm->entries));
	if (!stays)
		release(vm, old);
	if (old & MEMORY_SHARED && to->writable)
		merge_broken(vm, (uint32_t)(e - vm->entries));
	if (to->level < 2)
		compact_broken(vm, (uint32_t)(e - vm->entries));
	else if ((gfn.n + 1) % FRAMES_BLOCK == 0)
		compact_done(vm, (uint32_t)(e - vm->entries));
	*e = pfn | (to->writable ? 0 : MEMORY_SHARED);
	record_frame_moved(vm, (uint64_t)(e - vm->entries), to);
}

static void host_flush(void *ctx, const struct umbra_flush *flush)
{
	struct vm *vm = ctx;

	if (vm->vcpu && flush->vcpus & 1ull << vm->vcpu->number)
		vm->vcpu->flush = true;
}

static const struct umbra_host host = {
    .alloc = host_alloc,
    .free = host_free,
    .frame_get = host_frame_get,
    .frame_va = host_frame_va,
    .frame_move = host_frame_move,
    .flush = host_flush,
    .touched = watch_touched,
};

static void slot(struct vm *vm, uint64_t start, uint64_t end, bool reserved)
{
	struct vm_slot *s = &vm->slots[vm->slot_count];

	if (start >= end)
		return;
	s->first = start >> UMBRA_PAGE_SHIFT;
	s->pages = (end - start) >> UMBRA_PAGE_SHIFT;
	s->index = vm->pages;
	s->reserved = reserved;
	vm->pages += s->pages;
	vm->slot_count++;
}

static int slot_tell(struct vm *vm, unsigned i)
{
	struct umbra_slot s = {.id = i,
			       .flags = vm->slots[i].read_only ? UMBRA_SLOT_READONLY : 0,
			       .first = {vm->slots[i].first},
			       .pages = vm->slots[i].pages};

	return mmu_slot_add(vm, &s);
}

int memory_mmu_make(struct vm *vm)
{
	struct umbra_host with = host;
	int error;

	if (vm->recording.on)
		with.input = record_input;
	error = umbra_mmu_create(&with, vm, &vm->machine->config, &vm->mmu);
	if (error)
		return error;
	for (unsigned i = 0; !error && i < vm->slot_count; i++)
		error = vm->slots[i].absent ? 0 : slot_tell(vm, i);
	if (error) {
		umbra_mmu_destroy(vm->mmu);
		vm->mmu = NULL;
	}
	return error;
}

int memory_init(struct vm *vm)
{
	uint64_t memory = vm->options.memory;
	uint64_t low = memory < MEMORY_LOW_MAX ? memory : MEMORY_LOW_MAX;

	slot(vm, 0x100000, low, false); /* first, since it is looked up most */
	slot(vm, 0, 0xa0000, false);
	slot(vm, 0xa0000, 0x100000, true); /* a display's memory that nobody shows; firmware */
	slot(vm, 1ull << 32, (1ull << 32) + memory - low, false);
	slot(vm, MEMORY_SPARE, MEMORY_SPARE + vm->options.spare, true);
	vm->entries = pool_alloc(vm->frames, vm->pages * sizeof(vm->entries[0]));
	vm->machine->config = (struct umbra_config){
	    .shadow_quota = (uint32_t)vm->options.quota,
	    .prefetch = (uint32_t)vm->options.prefetch,
	    .maxphyaddr = UMBRA_GPA_BITS,
	    .nested = vm->options.nested ? 4 : 0,
	    .cpu = cpuid_umbra(),
	};
	if (!vm->entries || !swap_guest_init(vm) ||
	    (vm->options.record && vm->options.record_guest == vm->number && record_begin(vm)))
		return UMBRA_ENOMEM;
	return memory_mmu_make(vm);
}

void memory_destroy(struct vm *vm)
{
	umbra_mmu_destroy(vm->mmu);
	vm->mmu = NULL;
	for (uint64_t i = 0; i < vm->pages; i++)
		release(vm, vm->entries[i]);
	merge_forget(vm);
	compact_forget(vm);
	swap_guest_forget(vm);
	pool_free(vm->frames, vm->entries, vm->pages * sizeof(vm->entries[0]));
	vm->entries = NULL;
	vm->pages = vm->slot_count = 0;
}

int memory_slot_delete(struct vm *vm, uint64_t id)
{
	if (id >= vm->slot_count || vm->slots[id].absent)
		return UMBRA_ENOENT;
	vm->slots[id].absent = true;
	return mmu_slot_delete(vm, (uint32_t)id);
}

int memory_slot_add(struct vm *vm, uint64_t id)
{
	int error;

	if (id >= vm->slot_count)
		return UMBRA_ENOENT;
	if (!vm->slots[id].absent)
		return UMBRA_EEXIST;
	error = slot_tell(vm, (unsigned)id);
	vm->slots[id].absent = error != 0;
	if (!error)
		watch_renew(vm); /* the slot's watches went with it */
	return error;
}

int memory_slot_flags(struct vm *vm, uint64_t id, uint32_t flags)
{
	int error;

	if (id >= vm->slot_count || vm->slots[id].absent)
		return UMBRA_ENOENT;
	error = mmu_slot_flags_set(vm, (uint32_t)id, flags);
	if (!error)
		vm->slots[id].read_only = flags & UMBRA_SLOT_READONLY;
	return error;
}

int memory_slot_renew(struct vm *vm, uint64_t gfn)
{
	struct vm_slot *s = slot_of(vm, gfn);
	uint64_t id = (uint64_t)(s - vm->slots);
	int error = s ? memory_slot_delete(vm, id) : UMBRA_ENOENT;

	return error ? error : memory_slot_add(vm, id);
}

int memory_slot_protect(struct vm *vm, uint64_t gfn, bool read_only)
{
	struct vm_slot *s = slot_of(vm, gfn);

	if (s)
		s->read_only = read_only;
	return memory_slot_renew(vm, gfn);
}

/* => outside of the MMU's lock. UMBRA_ENOENT: in no slot. UMBRA_ENOMEM: no frame left. */
static int make_private(struct vm *vm, uint64_t gfn)
{
	uint32_t e = *entry(vm, gfn);
	struct umbra_frame to = {.pfn = {e & MEMORY_NUMBER}, .writable = true};
	int error;

	if (!(e & MEMORY_SHARED))
		return 0;
	if (vm->frames->frame[to.pfn.n].at == 1) /* nobody else is left */
		return mmu_remap(vm, (umbra_gfn){gfn}, &to, NULL);
	if (!take(vm, &to.pfn.n))
		return UMBRA_ENOMEM;
	error = mmu_remap(vm, (umbra_gfn){gfn}, &to, NULL);
	if (error)
		frame_give(vm->frames, to.pfn.n);
	return error;
}

/* Do what is wanted. False: it cannot be done. */
static bool settle(struct vm *vm)
{
	struct wanted wanted = vm->wanted;

	vm->wanted.what = WANTED_NOTHING;
	switch (wanted.what) {
	case WANTED_PRIVATE:
		return make_private(vm, wanted.gfn) == 0;
	case WANTED_PAGE:
		swap_in(vm, (uint64_t)(entry(vm, wanted.gfn) - vm->entries));
		return true;
	case WANTED_ROOM:
		return swap_make_room(vm->host);
	default:
		return false;
	}
}

bool memory_settle(struct vm *vm)
{
	if (vm->wanted.what == WANTED_NOTHING)
		return false;
	if (!settle(vm))
		machine_end(vm, UMBRA_END_NOMEM, "no free frame for a page of the guest%s",
			    swap_excuse(vm->host));
	return true;
}

static void *page_of(struct vm *vm, uint64_t gfn, enum umbra_want use)
{
	uint32_t *e = entry(vm, gfn);
	int error;

	while ((error = fetch(vm, e, gfn, use)) == UMBRA_EAGAIN)
		if (!settle(vm))
			return NULL;
	if (error)
		return NULL;
	vm->handed[vm->handed_count++ % VM_HANDED] = (uint32_t)(e - vm->entries);
	return va_of(*e & MEMORY_NUMBER);
}

void *memory_page(struct vm *vm, uint64_t gfn)
{
	return page_of(vm, gfn, UMBRA_WANT_WRITE);
}

const void *memory_page_read(struct vm *vm, uint64_t gfn)
{
	return page_of(vm, gfn, UMBRA_WANT_READ);
}

bool memory_is_handed(const struct vm *vm, uint32_t index)
{
	unsigned count = vm->handed_count < VM_HANDED ? vm->handed_count : VM_HANDED;

	for (unsigned i = 0; i < count; i++)
		if (vm->handed[i] == index)
			return true;
	return false;
}

bool memory_random(struct vm *vm, uint64_t *gfn)
{
	for (int tries = 0; tries < 256; tries++) {
		uint64_t i = frames_random(vm->frames, vm->pages);

		if (!memory_has_frame(vm->entries[i]) || vm->entries[i] & MEMORY_SHARED)
			continue;
		*gfn = memory_gfn(vm, (uint32_t)i);
		return true;
	}
	return false;
}

int memory_migrate(struct vm *vm, uint64_t gfn, uint64_t *sptes, uint64_t *ticks)
{
	uint32_t *old = entry(vm, gfn);
	struct umbra_dropped dropped;
	struct umbra_frame to;
	uint64_t frame, begun;
	int error;

	if (!old || *old & MEMORY_SWAPPED)
		return UMBRA_ENOENT;
	if (!take(vm, &frame))
		return UMBRA_ENOMEM;
	if (*old & MEMORY_SWAPPED) { /* it had to make room itself */
		frame_give(vm->frames, frame);
		return UMBRA_ENOENT;
	}
	to = (struct umbra_frame){.pfn = {frame}, .writable = true};
	begun = rdtsc();
	error = mmu_remap(vm, (umbra_gfn){gfn}, &to, &dropped);
	if (error) {
		frame_give(vm->frames, frame);
		return error;
	}
	*sptes = dropped.sptes;
	*ticks = vm->move_begun - begun;
	return 0;
}
