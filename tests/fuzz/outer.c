/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What vmm/ asks of the rest of itself, of libumbra and of the hardware, for the targets devices
 * and loader. Frames are below 4 GiB as memory.c wants them, every second page of an arena; the
 * pages between them, and those not taken, are poisoned where a sanitizer is there to see it.
 */
#include <sanitizer/asan_interface.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "check.h"
#include "control.h"
#include "debug.h"
#include "emulate.h"
#include "exits.h"
#include "machine.h"
#include "memory.h"
#include "outer.h"
#include "print.h"
#include "string.h"
#include "uart.h"

#define STRIDE     (2 * UMBRA_PAGE_SIZE)
#define BLOCKS     64u
#define TSC_HZ     2500000000ull
#define ZEROED_MAX (1u << 16)

static struct umbra_machine machine;
struct outer outer;

static uint8_t *arena;
static unsigned taken;

/* Blocks outlive the input, for others of the same size. */
static struct {
	void *at;
	size_t size;
	bool used;
} blocks[BLOCKS];

void merge_broken(struct vm *vm, uint32_t index)
{
	(void)vm;
	(void)index;
}

bool compact_is_large(const struct vm *vm, uint32_t index)
{
	(void)vm;
	(void)index;
	return false;
}

void compact_done(struct vm *vm, uint32_t index)
{
	(void)vm;
	(void)index;
}

void compact_broken(struct vm *vm, uint32_t index)
{
	(void)vm;
	(void)index;
}

void compact_forget(struct vm *vm)
{
	(void)vm;
}

void merge_forget(struct vm *vm)
{
	(void)vm;
}

void outer_reset(uint64_t memory, unsigned frames)
{
	if (!arena) {
		arena = mmap(NULL, OUTER_FRAMES * STRIDE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
		check(arena != MAP_FAILED, "no memory below 4 GiB");
		ASAN_POISON_MEMORY_REGION(arena, OUTER_FRAMES * STRIDE);
	}
	ASAN_POISON_MEMORY_REGION(arena, taken * STRIDE);
	taken = 0;
	for (unsigned i = 0; i < BLOCKS; i++)
		blocks[i].used = false;
	memset(&outer, 0, sizeof(outer));
	memset(&machine, 0, sizeof(machine));
	outer.frames_left = frames < OUTER_FRAMES ? frames : OUTER_FRAMES;
	outer.tsc = 1ull << 40;
	outer.cpu.tsc_hz = TSC_HZ;
	outer.host.guest[0] = &outer.vm;
	outer.host.guests = 1;
	outer.vm.host = &outer.host;
	outer.vm.machine = &machine;
	outer.vm.frames = &outer.frames;
	outer.vm.cpu = &outer.cpu;
	outer.vm.vcpu = &outer.vcpu;
	outer.vm.options.memory = memory;
	outer.vcpu.vm = &outer.vm;
	outer.vcpu.vmcb = &outer.vmcb;
	outer.vcpu.displaced = outer.vcpu.offered = -1;
}

/* ------------------------------------------------------------------ frames.c */

bool frame_take(struct frames *frames, uint64_t *pfn)
{
	uint8_t *frame = arena + taken * STRIDE;

	(void)frames;
	if (taken >= outer.frames_left)
		return false;
	taken++;
	ASAN_UNPOISON_MEMORY_REGION(frame, UMBRA_PAGE_SIZE);
	*pfn = (uintptr_t)frame >> UMBRA_PAGE_SHIFT;
	return true;
}

void frame_give(struct frames *frames, uint64_t pfn)
{
	(void)frames;
	(void)pfn;
}

void frame_own(struct frames *frames, uint64_t pfn, unsigned guest, uint32_t page)
{
	(void)frames, (void)pfn, (void)guest, (void)page;
}

void frame_share(struct frames *frames, uint64_t pfn)
{
	(void)frames, (void)pfn;
}

void frame_unshare(struct frames *frames, uint64_t pfn)
{
	(void)frames, (void)pfn;
}

/* ------------------------------------------------------------------ swap.c, swapmap.c */

bool swap_guest_init(struct vm *vm)
{
	(void)vm;
	return true;
}

void swap_guest_forget(struct vm *vm)
{
	(void)vm;
}

void swap_in(struct vm *vm, uint64_t index)
{
	(void)vm, (void)index;
	abort(); /* nothing is ever out */
}

bool swap_make_room(struct host *host)
{
	(void)host;
	return false;
}

const char *swap_excuse(const struct host *host)
{
	(void)host;
	return "";
}

void swapmap_forget(struct swapmap *map, uint64_t slot)
{
	(void)map, (void)slot;
}

void *outer_block(size_t size)
{
	unsigned i = 0;

	while (i < BLOCKS && blocks[i].at && (blocks[i].used || blocks[i].size != size))
		i++;
	if (i == BLOCKS)
		abort(); /* more than the devices have */
	if (!blocks[i].at) {
		blocks[i].at = malloc(size + !size);
		check(blocks[i].at, "no memory");
		blocks[i].size = size;
	}
	blocks[i].used = true;
	/* Larger ones are the requests' data, which is written before it is read. */
	if (size <= ZEROED_MAX)
		memset(blocks[i].at, 0, size);
	return blocks[i].at;
}

void *pool_alloc(struct frames *frames, size_t size)
{
	(void)frames;
	return outer_block(size);
}

void pool_free(struct frames *frames, void *block, size_t size)
{
	(void)frames;
	(void)block;
	(void)size;
}

uint64_t frames_random(struct frames *frames, uint64_t bound)
{
	(void)frames;
	return bound / 2;
}

void page_zero(void *page)
{
	memset(page, 0, UMBRA_PAGE_SIZE);
}

void page_copy(void *restrict to, const void *restrict from)
{
	memcpy(to, from, UMBRA_PAGE_SIZE);
}

/* ------------------------------------------------------------------ libumbra */

int umbra_mmu_create(const struct umbra_host *host, void *ctx, const struct umbra_config *config,
		     struct umbra_mmu **mmu)
{
	(void)host;
	(void)ctx;
	(void)config;
	*mmu = NULL;
	return 0;
}

void umbra_mmu_destroy(struct umbra_mmu *mmu)
{
	(void)mmu;
}

/* ------------------------------------------------------------------ what is recorded */

int record_begin(struct vm *vm)
{
	(void)vm;
	return 0;
}

void record_frame(struct vm *vm, uint64_t index, umbra_gfn gfn, enum umbra_want want, int error,
		  const struct umbra_frame *frame)
{
	(void)vm, (void)index, (void)gfn, (void)want, (void)error, (void)frame;
}

void record_frame_moved(struct vm *vm, uint64_t index, const struct umbra_frame *to)
{
	(void)vm, (void)index, (void)to;
}

uint64_t record_input(void *ctx, enum umbra_input kind, uint64_t key, uint64_t value)
{
	(void)ctx, (void)kind, (void)key;
	return value;
}

int mmu_slot_add(struct vm *vm, const struct umbra_slot *slot)
{
	(void)vm, (void)slot;
	return 0;
}

int mmu_slot_delete(struct vm *vm, uint32_t id)
{
	(void)vm, (void)id;
	return 0;
}

int mmu_slot_flags_set(struct vm *vm, uint32_t id, uint32_t flags)
{
	(void)vm, (void)id, (void)flags;
	return 0;
}

void watch_renew(struct vm *vm)
{
	(void)vm;
}

void watch_touched(void *ctx, const struct umbra_touch *touch)
{
	(void)ctx, (void)touch;
}

void mmu_guest_write(struct vm *vm, uint64_t gpa, size_t size)
{
	check(gpa % UMBRA_PAGE_SIZE + size <= UMBRA_PAGE_SIZE, "a write beyond its page");
	check(memory_page(vm, gpa >> UMBRA_PAGE_SHIFT), "a write where no memory is");
}

int mmu_drop(struct vm *vm, umbra_gfn first, uint64_t pages, struct umbra_dropped *dropped)
{
	(void)vm, (void)first, (void)pages, (void)dropped;
	return 0;
}

int mmu_remap(struct vm *vm, umbra_gfn gfn, const struct umbra_frame *to,
	      struct umbra_dropped *dropped)
{
	(void)vm, (void)gfn, (void)to, (void)dropped;
	return UMBRA_ENOENT;
}

/* ------------------------------------------------------------------ the other parts of vmm/ */

void machine_end(struct vm *vm, enum umbra_end end, const char *fmt, ...)
{
	char text[256];
	va_list args;

	(void)vm;
	va_start(args, fmt);
	check(format_list(text, sizeof(text), fmt, args) < sizeof(text),
	      "a message without an end");
	va_end(args);
	check(end > UMBRA_END_NONE && end <= UMBRA_END_GUEST, "an end that is none");
	longjmp(outer.end, 1);
}

enum emu_result emulate(struct vcpu *vcpu)
{
	(void)vcpu;
	return EMU_FAULT;
}

const char *vcpu_bytes(struct vcpu *vcpu, char *buffer, size_t size)
{
	(void)vcpu;
	format(buffer, size, "none");
	return buffer;
}

void debug_port(struct vcpu *vcpu, uint16_t port, unsigned size)
{
	(void)vcpu;
	(void)port;
	(void)size;
}

void vcpu_skip(struct vcpu *vcpu, unsigned length)
{
	vcpu->vmcb->rip += length;
}

void svm_port_open(struct svm *svm, uint16_t port)
{
	(void)svm;
	(void)port;
}

uint32_t control_port_read(struct vm *vm, uint16_t port)
{
	(void)vm;
	return port;
}

void control_port_write(struct vm *vm, uint16_t port, uint32_t value)
{
	(void)vm;
	(void)port;
	(void)value;
}

uint32_t cpuid_umbra(void)
{
	return 0;
}

/* ------------------------------------------------------------------ hardware */

/* A UART that has sent all, a clock that stands; what is nowhere reads as ones. */
uint8_t inb(uint16_t port)
{
	outer.port_io++;
	switch (port) {
	case UART_BASE + UART_LSR:
		return UART_LSR_EMPTY | (outer.keys ? 1 : 0);
	case UART_BASE + UART_DATA:
		return outer.keys ? (uint8_t)outer.keys-- : 0;
	case UART_BELL + UART_LSR:
		return UART_LSR_EMPTY;
	case 0x71:
		return 0x12;
	default:
		return 0xff;
	}
}

void outb(uint16_t port, uint8_t v)
{
	(void)port;
	(void)v;
	outer.port_io++;
}

void outl(uint16_t port, uint32_t v)
{
	(void)port;
	(void)v;
	outer.port_io++;
}

uint64_t rdtsc(void)
{
	return outer.tsc += 100;
}
