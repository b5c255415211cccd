/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guest-physical memory: the embedder's side of libumbra. Owns the map gfn -> pfn (vm->pfns) and
 * decides when a page gets its frame: on first touch, a random one, zeroed.
 */
#include "exits.h"
#include "memory.h"
#include "string.h"
#include "vcpu.h"
#include "x86.h"

#define GUEST_PHYSICAL_BITS 40

/* The slot that holds @gfn, or NULL. */
static struct vm_slot *slot_of(struct vm *vm, uint64_t gfn)
{
	for (unsigned i = 0; i < vm->slot_count; i++)
		if (gfn - vm->slots[i].first < vm->slots[i].pages)
			return &vm->slots[i];
	return NULL;
}

static uint32_t *entry(struct vm *vm, uint64_t gfn)
{
	const struct vm_slot *s = slot_of(vm, gfn);

	return s ? &vm->pfns[s->index + gfn - s->first] : NULL;
}

static void *va_of(uint64_t pfn)
{
	return (void *)(pfn << UMBRA_PAGE_SHIFT);
}

/* Make sure that @pfn, an entry of vm->pfns, has a frame. */
static bool populate(struct vm *vm, uint32_t *pfn)
{
	uint64_t frame;

	if (*pfn)
		return true;
	if (!frame_take(vm->frames, &frame))
		return false;
	page_zero(va_of(frame));
	*pfn = (uint32_t)frame;
	return true;
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

static int host_frame_get(void *ctx, umbra_gfn gfn, enum umbra_want want, struct umbra_frame *frame)
{
	struct vm *vm = ctx;
	uint32_t *pfn = entry(vm, gfn.n);
	int error = 0;

	if (!pfn || (want == UMBRA_WANT_PEEK && !*pfn))
		error = UMBRA_ENOENT;
	else if (!populate(vm, pfn))
		error = UMBRA_ENOMEM;
	if (!error)
		*frame = (struct umbra_frame){.pfn = {*pfn}, .writable = true};
	if (vm->recording.on && pfn)
		record_frame(vm, (uint64_t)(pfn - vm->pfns), gfn, want, error, frame);
	return error;
}

static void *host_frame_va(void *ctx, umbra_pfn pfn)
{
	(void)ctx;
	return va_of(pfn.n);
}

static void host_frame_move(void *ctx, umbra_gfn gfn, const struct umbra_frame *to)
{
	struct vm *vm = ctx;
	uint32_t *old = entry(vm, gfn.n);

	vm->move_begun = rdtsc();
	if (*old) {
		page_copy(va_of(to->pfn.n), va_of(*old));
		frame_give(vm->frames, *old);
	} else {
		page_zero(va_of(to->pfn.n));
	}
	*old = (uint32_t)to->pfn.n;
	record_frame_moved(vm, (uint64_t)(old - vm->pfns), to);
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
		error = slot_tell(vm, i);
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
	vm->pfns = pool_alloc(vm->frames, vm->pages * sizeof(vm->pfns[0]));
	vm->machine->config = (struct umbra_config){
	    .shadow_quota = (uint32_t)vm->options.quota,
	    .prefetch = (uint32_t)vm->options.prefetch,
	    .maxphyaddr = GUEST_PHYSICAL_BITS,
	    .nested = vm->options.nested ? 4 : 0,
	    .cpu = cpuid_umbra(),
	};
	if (!vm->pfns || (vm->options.record && record_begin(vm)))
		return UMBRA_ENOMEM;
	return memory_mmu_make(vm);
}

int memory_slot_renew(struct vm *vm, uint64_t gfn)
{
	struct vm_slot *s = slot_of(vm, gfn);
	unsigned i = (unsigned)(s - vm->slots);

	return s ? mmu_slot_delete(vm, i) || slot_tell(vm, i) : UMBRA_ENOENT;
}

int memory_slot_protect(struct vm *vm, uint64_t gfn, bool read_only)
{
	struct vm_slot *s = slot_of(vm, gfn);

	if (s)
		s->read_only = read_only;
	return memory_slot_renew(vm, gfn);
}

void *memory_page(struct vm *vm, uint64_t gfn)
{
	uint32_t *pfn = entry(vm, gfn);

	if (!pfn || !populate(vm, pfn))
		return NULL;
	return va_of(*pfn);
}

bool memory_write(struct vm *vm, uint64_t gpa, const void *from, uint64_t size)
{
	const uint8_t *at = from;

	while (size) {
		uint64_t offset = gpa & (UMBRA_PAGE_SIZE - 1);
		uint64_t piece = UMBRA_PAGE_SIZE - offset;
		uint8_t *page = memory_page(vm, gpa >> UMBRA_PAGE_SHIFT);

		if (!page)
			return false;
		if (piece > size)
			piece = size;
		memcpy(page + offset, at, piece);
		gpa += piece;
		at += piece;
		size -= piece;
	}
	return true;
}

/* Do the @size bytes from @gpa on, which a device was told of, lie in memory, with frames? */
static bool is_memory(struct vm *vm, uint64_t gpa, uint64_t size)
{
	uint64_t last = gpa + size - 1;

	if (size && last < gpa)
		return false;
	for (uint64_t gfn = gpa >> UMBRA_PAGE_SHIFT; size && gfn <= last >> UMBRA_PAGE_SHIFT; gfn++)
		if (!memory_page(vm, gfn))
			return false;
	return true;
}

bool memory_guest_write(struct vm *vm, uint64_t gpa, const void *from, uint64_t size)
{
	uint64_t first = gpa >> UMBRA_PAGE_SHIFT, last = (gpa + size - 1) >> UMBRA_PAGE_SHIFT;

	if (!is_memory(vm, gpa, size))
		return false;
	memory_write(vm, gpa, from, size);
	for (uint64_t gfn = first; size && gfn <= last; gfn++)
		mmu_guest_write(vm, gfn << UMBRA_PAGE_SHIFT, UMBRA_PAGE_SIZE);
	return true;
}

bool memory_guest_read(struct vm *vm, uint64_t gpa, void *to, uint64_t size)
{
	uint8_t *at = to;

	if (!is_memory(vm, gpa, size))
		return false;
	while (size) {
		uint64_t offset = gpa & (UMBRA_PAGE_SIZE - 1);
		uint64_t piece = UMBRA_PAGE_SIZE - offset;
		const uint8_t *page = memory_page(vm, gpa >> UMBRA_PAGE_SHIFT);

		if (piece > size)
			piece = size;
		memcpy(at, page + offset, piece);
		gpa += piece;
		at += piece;
		size -= piece;
	}
	return true;
}

bool memory_random(struct vm *vm, uint64_t *gfn)
{
	for (int tries = 0; tries < 256; tries++) {
		uint64_t i = frames_random(vm->frames, vm->pages);

		if (!vm->pfns[i])
			continue;
		for (unsigned s = 0; s < vm->slot_count; s++)
			if (i - vm->slots[s].index < vm->slots[s].pages)
				*gfn = vm->slots[s].first + i - vm->slots[s].index;
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

	if (!old)
		return UMBRA_ENOENT;
	if (!frame_take(vm->frames, &frame))
		return UMBRA_ENOMEM;
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
