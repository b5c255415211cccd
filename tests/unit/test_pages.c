/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tests of what the hypervisor does to guests' frames: vmm/memory.c, frames.c, merge.c, books.c on
 * the real library, in user space. Two guests without paging share a machine of 64 MiB.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "books.h"
#include "cpu.h"
#include "exits.h"
#include "host.h"
#include "machine.h"
#include "memory.h"
#include "seal.h"
#include "string.h"
#include "vcpu.h"
#include "vm.h"

#define ARENA       0x40000000ull
#define ARENA_BYTES (64ull << 20)
#define GUESTS      2u
#define MEMORY      (16ull << 20)
#define FIRST       0x100u /* gfn, of the slot that is looked up first */
#define HZ          1000000000ull

#define PTE_P       1ull
#define PTE_W       2ull
#define PTE_PS      0x80ull
#define PTE_ADDRESS 0xffffffffff000ull

static struct host *host;
static struct vm vm[GUESTS];
static struct vcpu vcpu[GUESTS];
static struct umbra_machine machine[GUESTS];
static struct cpu cpu;
static uint64_t now, seed;

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

void watch_touched(void *ctx, const struct umbra_touch *touch)
{
	(void)ctx;
	(void)touch;
}

void machine_end(struct vm *of, enum umbra_end end, const char *fmt, ...)
{
	(void)of;
	(void)fmt;
	fail_msg("the machine ends: %u", end);
	abort();
}

/* ------------------------------------------------------------------ guests */

static uint64_t below(uint64_t bound)
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

static int setup(void **state)
{
	struct range all = {ARENA, ARENA + ARENA_BYTES};
	void *at = mmap((void *)ARENA, ARENA_BYTES, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	(void)state;
	assert_ptr_equal(at, (void *)ARENA);
	host = calloc(1, sizeof(*host));
	memset(machine, 0, sizeof(machine));
	cpu.tsc_hz = HZ;
	now = 1;
	seed = 7;
	assert_true(
	    frames_init(&host->frames, &all, 1, NULL, 0, GUESTS * MEMORY / UMBRA_PAGE_SIZE, 0));
	for (unsigned i = 0; i < GUESTS; i++)
		guest_create(i);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	for (unsigned i = 0; i < GUESTS; i++)
		if (vm[i].mmu)
			memory_destroy(&vm[i]);
	assert_int_equal(host->frames.shared, 0);
	free(host);
	return munmap((void *)ARENA, ARENA_BYTES);
}

/* Nothing is wrong, as far as the audits see. */
static void assert_sound(void)
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

/* The spte for @gfn of guest @i, as the processor finds it; 0: none that lets the access pass. */
static uint64_t spte_of(unsigned i, uint64_t gfn, bool write)
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

/* Where guest @i's access to @gfn goes. */
static uint64_t *access(unsigned i, uint64_t gfn, bool write)
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

static void fill(unsigned i, uint64_t gfn, uint64_t value)
{
	uint64_t *page = access(i, gfn, true);

	for (unsigned k = 0; k < 512; k++)
		page[k] = value + k;
}

static void assert_has(unsigned i, uint64_t gfn, uint64_t value)
{
	const uint64_t *page = access(i, gfn, false);

	for (unsigned k = 0; k < 512; k++)
		assert_int_equal(page[k], value + k);
}

static uint32_t entry_of(unsigned i, uint64_t gfn)
{
	return vm[i].entries[vm[i].slots[0].index + gfn - FIRST];
}

/* Look at every page so many times. */
static void merge(unsigned times)
{
	assert_int_equal(merge_set(host, UMBRA_MERGE_RATE_MAX, now), 0);
	while (times) {
		uint64_t at = (uint64_t)host->merge.guest << 32 | host->merge.page;

		merge_poll(host, HZ, now += HZ);
		times -= ((uint64_t)host->merge.guest << 32 | host->merge.page) < at;
	}
	assert_sound();
}

/* ------------------------------------------------------------------ merging */

/* Pages of both guests, of three contents, come to share three frames; and go their ways again. */
static void test_merge(void **state)
{
	const unsigned pages = 60;

	(void)state;
	for (unsigned k = 0; k < pages; k++)
		fill(k % GUESTS, FIRST + k, k / GUESTS % 3 * 1000);
	merge(4);
	assert_int_equal(host->frames.shared, 3);
	assert_int_equal(host->frames.sharers, pages);
	assert_int_equal(machine[0].merges + machine[1].merges, pages);
	for (unsigned k = 0; k < pages; k++)
		assert_has(k % GUESTS, FIRST + k, k / GUESTS % 3 * 1000);
	for (unsigned k = 0; k < pages; k++)
		fill(k % GUESTS, FIRST + k, 9000 + k);
	assert_sound();
	assert_int_equal(host->frames.shared, 0);
	assert_int_equal(host->frames.sharers, 0);
	assert_int_equal(machine[0].merge_breaks + machine[1].merge_breaks, pages);
	for (unsigned k = 0; k < pages; k++)
		assert_has(k % GUESTS, FIRST + k, 9000 + k);
}

/* What changes between two looks is left alone; so is, for a while, what was shared and written. */
static void test_merge_rests(void **state)
{
	(void)state;
	for (unsigned times = 0; times < 4; times++) {
		fill(0, FIRST, times);
		fill(1, FIRST, times);
		merge(1);
	}
	assert_int_equal(host->frames.sharers, 0);
	merge(2);
	assert_int_equal(host->frames.sharers, 2);
	fill(0, FIRST, 3); /* what it was */
	merge(4);
	assert_int_equal(host->frames.sharers, 1);
	merge(5);
	assert_int_equal(host->frames.sharers, 2);
}

/* The last sharer keeps the frame. */
static void test_merge_last(void **state)
{
	uint32_t pfn;

	(void)state;
	fill(0, FIRST, 1);
	fill(1, FIRST, 1);
	merge(4);
	pfn = entry_of(1, FIRST) & MEMORY_NUMBER;
	assert_int_equal(entry_of(0, FIRST), pfn | MEMORY_SHARED);
	fill(0, FIRST, 2);
	assert_int_equal(entry_of(1, FIRST), pfn | MEMORY_SHARED);
	fill(1, FIRST, 3);
	assert_int_equal(entry_of(1, FIRST), pfn);
	assert_has(0, FIRST, 2);
	assert_has(1, FIRST, 3);
	assert_sound();
}

/* What devices and emulated instructions write is not written to a shared frame. */
static void test_merge_memory_page(void **state)
{
	uint64_t value = 77;

	(void)state;
	fill(0, FIRST, 1);
	fill(1, FIRST, 1);
	fill(1, FIRST + 1, 1);
	merge(4);
	assert_int_equal(host->frames.sharers, 3);
	assert_non_null(memory_page_read(&vm[0], FIRST));
	assert_int_equal(host->frames.sharers, 3);
	assert_true(memory_guest_write(&vm[0], FIRST << UMBRA_PAGE_SHIFT, &value, sizeof(value)));
	assert_int_equal(host->frames.sharers, 2);
	assert_int_equal(access(0, FIRST, false)[0], 77);
	assert_has(1, FIRST, 1);
	assert_has(1, FIRST + 1, 1);
	assert_sound();
}

/* No frame is left for who writes: it is told, nothing else happens. */
static void test_merge_no_frame(void **state)
{
	uint64_t pfn;

	(void)state;
	fill(0, FIRST, 1);
	fill(1, FIRST, 1);
	merge(4);
	while (frame_take(&host->frames, &pfn))
		;
	assert_null(memory_page(&vm[0], FIRST));
	assert_has(0, FIRST, 1);
	frame_give(&host->frames, pfn);
	fill(0, FIRST, 2);
	fill(1, FIRST, 3); /* needs none */
	assert_has(0, FIRST, 2);
	assert_int_equal(host->frames.count, 0);
}

/* A guest that ends leaves what it shared to the others. */
static void test_merge_ends(void **state)
{
	(void)state;
	for (unsigned k = 0; k < 40; k++)
		fill(k % GUESTS, FIRST + k, 5);
	fill(0, FIRST + 100, 6);
	fill(0, FIRST + 102, 6);
	merge(4);
	assert_int_equal(host->frames.sharers, 42);
	assert_int_equal(machine[0].saved_peak, 40);
	memory_destroy(&vm[0]);
	assert_int_equal(host->frames.shared, 1);
	assert_int_equal(host->frames.sharers, 20);
	assert_int_equal(machine[0].sharers, 20);
	for (unsigned k = 1; k < 40; k += 2)
		assert_has(1, FIRST + k, 5);
	fill(1, FIRST + 50, 5);
	merge(4);
	assert_int_equal(host->frames.sharers, 21);
}

static void test_merge_range(void **state)
{
	uint64_t merged = 7;

	(void)state;
	for (unsigned k = 0; k < 10; k++)
		fill(0, FIRST + k, k % 2);
	fill(0, FIRST + 3, 100);
	assert_int_equal(merge_range(&vm[0], FIRST + 1, 9, &merged), 0);
	assert_int_equal(merged, 8);
	assert_int_equal(host->frames.shared, 2);
	assert_int_equal(merge_range(&vm[0], FIRST, 10, &merged), 0);
	assert_int_equal(merged, 1);
	for (unsigned k = 0; k < 10; k++)
		assert_has(0, FIRST + k, k == 3 ? 100 : k % 2);
	assert_sound();
}

static void test_merge_set(void **state)
{
	(void)state;
	assert_int_equal(merge_set(host, UMBRA_MERGE_RATE_MAX + 1, now), UMBRA_EINVAL);
	while (pool_alloc(&host->frames, UMBRA_PAGE_SIZE))
		;
	assert_int_equal(merge_set(host, 1, now), UMBRA_ENOMEM);
	assert_int_equal(merge_set(host, 0, now), 0);
	merge_poll(host, HZ, now + HZ);
}

/* ------------------------------------------------------------------ books */

/* Each of the audit's sentences, by spoiling what it is about. */
static void test_books(void **state)
{
	struct frames *f = &host->frames;
	const char *what = NULL;
	uint64_t where = 0;
	uint32_t pfn, free;

	(void)state;
	fill(0, FIRST, 1);
	fill(1, FIRST, 1);
	fill(1, FIRST + 1, 2);
	merge(4);
	pfn = entry_of(0, FIRST) & MEMORY_NUMBER;
	free = f->free[5];
#define SPOILS(field, sentence)                                \
	do {                                                   \
		(field)++;                                     \
		assert_true(books_audit(host, &what, &where)); \
		assert_string_equal(what, sentence);           \
		(field)--;                                     \
		assert_sound();                                \
	} while (0)
	SPOILS(f->frame[free].at, "the list of free frames names one that does not say so");
	SPOILS(f->block_free[free / FRAMES_BLOCK], "the free frames of 2 MiB are miscounted");
	SPOILS(f->frame[entry_of(1, FIRST + 1)].at, "a frame's owner does not have it");
	SPOILS(f->frame[entry_of(1, FIRST + 1)].guest, "a frame's owner does not have it");
	SPOILS(f->shared, "shared frames are miscounted");
	SPOILS(f->sharers, "sharers are miscounted");
	SPOILS(f->frame[pfn].at, "sharers are miscounted");
#undef SPOILS
	f->frame[pfn].at++;
	f->sharers++;
	assert_true(books_audit(host, &what, &where));
	assert_string_equal(what, "a shared frame's sharers are miscounted");
	assert_int_equal(where, pfn);
	f->frame[pfn].at--;
	f->sharers--;
}

/* ------------------------------------------------------------------ all together */

#define PAGES 96u
#define STEPS 6000u

/* Random writes and whatever a host does; each page has what was written to it last. */
static void test_random(void **state)
{
	static uint64_t value[GUESTS][PAGES];
	uint64_t sptes, ticks;

	(void)state;
	for (unsigned i = 0; i < GUESTS; i++)
		for (unsigned k = 0; k < PAGES; k++)
			fill(i, FIRST + k, value[i][k] = 0);
	assert_int_equal(merge_set(host, UMBRA_MERGE_RATE_MAX, now), 0);
	for (unsigned step = 0; step < STEPS; step++) {
		unsigned i = (unsigned)below(GUESTS), k = (unsigned)below(PAGES);

		switch (below(8)) {
		case 0:
		case 1:
			fill(i, FIRST + k, value[i][k] = below(4) * 1000);
			break;
		case 2:
			assert_int_equal(memory_migrate(&vm[i], FIRST + k, &sptes, &ticks), 0);
			break;
		case 3:
			assert_int_equal(mmu_drop(&vm[i], (umbra_gfn){FIRST}, below(PAGES), NULL),
					 0);
			break;
		case 4:
			assert_has(i, FIRST + k, value[i][k]);
			break;
		default:
			for (unsigned pieces = 0; pieces < 30; pieces++)
				merge_poll(host, HZ, now += HZ);
		}
		if (step % 100 == 0)
			assert_sound();
	}
	assert_true(machine[0].merges > 100 && machine[0].merge_breaks > 50);
	for (unsigned i = 0; i < GUESTS; i++)
		for (unsigned k = 0; k < PAGES; k++)
			assert_has(i, FIRST + k, value[i][k]);
	assert_sound();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_merge, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_merge_rests, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_merge_last, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_merge_memory_page, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_merge_no_frame, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_merge_ends, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_merge_range, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_merge_set, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_books, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_random, setup, teardown),
	};

	return cmocka_run_group_tests_name("pages", tests, NULL, NULL);
}
