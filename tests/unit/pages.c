/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guests without paging that share a machine of 64 MiB, with a swap file or without: vmm/memory.c
 * and what it stands on, on the real library, in user space. Owns the guests, and a processor that
 * finds sptes as hardware does.
 */
#include <stdlib.h>
#include <sys/mman.h>

#include "books.h"
#include "cpu.h"
#include "exits.h"
#include "fake_hostio.h"
#include "machine.h"
#include "memory.h"
#include "pages.h"
#include "seal.h"
#include "string.h"
#include "vcpu.h"

#define ARENA       0x40000000ull
#define ARENA_BYTES (64ull << 20)

#define PTE_P       1ull
#define PTE_W       2ull
#define PTE_PS      0x80ull
#define PTE_ADDRESS 0xffffffffff000ull

struct host *host;
struct vm vm[GUESTS];
struct umbra_machine machine[GUESTS];
uint64_t now;
jmp_buf *ends;
enum umbra_end end_seen;
static struct vcpu vcpu[GUESTS];
static struct cpu cpu;
static uint64_t seed;

/* ------------------------------------------------------------------ what vmm/ asks for */

uint64_t rdtsc(void)
{
	return now += 1000;
}

void page_zero(void *page)
{
	memset(page, 0, UMBRA_PAGE_SIZE);
}

void page_copy(void *restrict to, const void *restrict from)
{
	memcpy(to, from, UMBRA_PAGE_SIZE);
}

uint32_t cpuid_umbra(void)
{
	return 0;
}

void seal_page(uint64_t pfn)
{
	(void)pfn;
}

void watch_renew(struct vm *of)
{
	(void)of;
}

void watch_touched(void *ctx, const struct umbra_touch *touch)
{
	(void)ctx;
	(void)touch;
}

void machine_end(struct vm *of, enum umbra_end end, const char *fmt, ...)
{
	(void)of;
	(void)fmt;
	end_seen = end;
	if (!ends)
		fail_msg("the machine ends: %u", end);
	longjmp(*ends, 1);
}

/* ------------------------------------------------------------------ guests */

uint64_t below(uint64_t bound)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (seed >> 33) % bound;
}

static void guest_create(unsigned i)
{
	vm[i] = (struct vm){.host = host,
			    .number = i,
			    .machine = &machine[i],
			    .frames = &host->frames,
			    .cpu = &cpu,
			    .vcpu = &vcpu[i],
			    .options = {.memory = MEMORY, .quota = 1024, .prefetch = 8}};
	vcpu[i] = (struct vcpu){.vm = &vm[i]};
	host->guest[host->guests++] = &vm[i];
	assert_int_equal(memory_init(&vm[i]), 0);
	assert_int_equal(mmu_vcpu_create(&vcpu[i]), 0);
}

void pages_begin(unsigned guests, uint64_t frames, uint64_t slots)
{
	struct range all = {ARENA, ARENA + ARENA_BYTES};
	void *at = mmap((void *)ARENA, ARENA_BYTES, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	assert_ptr_equal(at, (void *)ARENA);
	host = calloc(1, sizeof(*host));
	host->swap.on = slots;
	memset(vm, 0, sizeof(vm));
	memset(machine, 0, sizeof(machine));
	memset(&fake_file, 0, sizeof(fake_file));
	cpu.tsc_hz = HZ;
	now = 1;
	seed = 7;
	ends = NULL;
	end_seen = UMBRA_END_NONE;
	assert_true(frames_init(&host->frames, &all, 1, NULL, 0, frames, 0));
	for (unsigned i = 0; i < guests; i++)
		guest_create(i);
	assert_true(!slots || swap_init(host, slots));
}

int pages_setup(void **state)
{
	(void)state;
	pages_begin(GUESTS, GUESTS * MEMORY / UMBRA_PAGE_SIZE, 0);
	return 0;
}

int pages_teardown(void **state)
{
	(void)state;
	for (unsigned i = 0; i < GUESTS; i++)
		if (vm[i].mmu)
			memory_destroy(&vm[i]);
	assert_int_equal(host->frames.shared, 0);
	free(host);
	return munmap((void *)ARENA, ARENA_BYTES);
}

void assert_sound(void)
{
	struct umbra_audit report;
	const char *what = "";
	uint64_t where = 0;

	if (books_audit(host, &what, &where))
		fail_msg("books: %lx: %s", where, what);
	for (unsigned i = 0; i < GUESTS; i++)
		if (vm[i].mmu && umbra_audit(vm[i].mmu, &report))
			fail_msg("invariant %u: %s", report.invariant, report.what);
}

uint64_t spte_of(unsigned i, uint64_t gfn, bool write)
{
	struct umbra_view view;
	uint64_t spte;

	assert_int_equal(umbra_view(vcpu[i].umbra, gfn << UMBRA_PAGE_SHIFT, &view), 0);
	spte = view.shadow_end && view.shadow_end < 3 ? view.shadow[view.shadow_end].value : 0;
	if (!(spte & PTE_P) || (view.shadow_end == 2 && !(spte & PTE_PS)))
		return 0;
	if (view.shadow_end == 2)
		spte += gfn % 512 << UMBRA_PAGE_SHIFT;
	if (spte & PTE_W) /* whatever the access is */
		assert_int_equal(host->frames.frame[(spte & PTE_ADDRESS) >> 12].use, FRAME_OWNED);
	return write && !(spte & PTE_W) ? 0 : spte;
}

bool is_large(unsigned i, uint64_t gfn)
{
	struct umbra_view view;

	assert_int_equal(umbra_view(vcpu[i].umbra, gfn << UMBRA_PAGE_SHIFT, &view), 0);
	return view.shadow_end == 2 && view.shadow[2].value & PTE_PS;
}

uint64_t *access(unsigned i, uint64_t gfn, bool write)
{
	struct umbra_root root;
	uint64_t spte;

	assert_int_equal(mmu_root(&vcpu[i], &root), 0);
	for (unsigned tries = 0; !(spte = spte_of(i, gfn, write)); tries++) {
		struct umbra_answer answer =
		    mmu_fault(&vcpu[i], gfn << UMBRA_PAGE_SHIFT, write ? UMBRA_PF_W : 0);

		assert_true(tries < 4);
		if (answer.verdict == UMBRA_RETRY)
			assert_true(memory_settle(&vm[i]));
		else
			assert_int_equal(answer.verdict, UMBRA_RESUME);
	}
	return (uint64_t *)(spte & PTE_ADDRESS);
}

void fill(unsigned i, uint64_t gfn, uint64_t value)
{
	uint64_t *page = access(i, gfn, true);

	for (unsigned k = 0; k < 512; k++)
		page[k] = value ? value + k : 0;
}

void assert_has(unsigned i, uint64_t gfn, uint64_t value)
{
	const uint64_t *page = access(i, gfn, false);

	for (unsigned k = 0; k < 512; k++)
		assert_int_equal(page[k], value ? value + k : 0);
}

uint32_t entry_of(unsigned i, uint64_t gfn)
{
	return vm[i].entries[vm[i].slots[0].index + gfn - FIRST];
}

void fill_each(unsigned i, uint64_t gfn, unsigned pages, const uint64_t *values)
{
	for (unsigned k = 0; k < pages; k++)
		fill(i, gfn + k, values[k]);
}

void assert_each(unsigned i, uint64_t gfn, unsigned pages, const uint64_t *values)
{
	for (unsigned k = 0; k < pages; k++)
		assert_has(i, gfn + k, values[k]);
	assert_sound();
}

void merge_on(unsigned pieces)
{
	while (pieces--)
		merge_poll(host, HZ, now += HZ);
}
