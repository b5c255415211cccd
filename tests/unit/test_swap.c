/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tests of swapping: vmm/swap.c and memory.c on the real library, in user space, with a file in
 * memory (fake_hostio.c). A guest without paging has 16 MiB, the machine some frames less.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "books.h"
#include "compact.h"
#include "cpu.h"
#include "exits.h"
#include "fake_hostio.h"
#include "host.h"
#include "machine.h"
#include "memory.h"
#include "seal.h"
#include "string.h"
#include "vcpu.h"
#include "vm.h"

#define ARENA       0x40000000ull
#define ARENA_BYTES (48ull << 20)
#define MEMORY      (16ull << 20)
#define FRAMES      512u
#define FIRST       0x100u /* gfn, of the slot that is looked up first */
#define SLOTS       992u   /* of the file */

#define PTE_P       1ull
#define PTE_W       2ull
#define PTE_ADDRESS 0xffffffffff000ull

static struct host *host;
static struct vm vm;
static struct vcpu vcpu;
static struct umbra_machine machine;
static struct cpu cpu;
static uint64_t now, seed;
static jmp_buf ended; /* setjmp() first */
static enum umbra_end end_seen;

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
	end_seen = end;
	longjmp(ended, 1);
}

/* ------------------------------------------------------------------ the guest */

static int setup_with(uint64_t frames)
{
	struct range all = {ARENA, ARENA + ARENA_BYTES};
	void *at = mmap((void *)ARENA, ARENA_BYTES, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	assert_ptr_equal(at, (void *)ARENA);
	memset(&machine, 0, sizeof(machine));
	memset(&fake_file, 0, sizeof(fake_file));
	cpu.tsc_hz = 1000000000;
	now = 1;
	seed = 11;
	end_seen = UMBRA_END_NONE;
	host = calloc(1, sizeof(*host));
	host->swap.on = true;
	assert_true(frames_init(&host->frames, &all, 1, NULL, 0, frames, 0));
	vm = (struct vm){.host = host,
			 .machine = &machine,
			 .frames = &host->frames,
			 .cpu = &cpu,
			 .vcpu = &vcpu,
			 .options = {.memory = MEMORY, .quota = 1024}};
	vcpu = (struct vcpu){.vm = &vm};
	host->guest[host->guests++] = &vm;
	assert_int_equal(memory_init(&vm), 0);
	assert_int_equal(mmu_vcpu_create(&vcpu), 0);
	assert_true(swap_init(host, SLOTS));
	return 0;
}

static int setup(void **state)
{
	(void)state;
	return setup_with(FRAMES);
}

/* So many that 2 MiB can lie side by side. */
static int setup_large(void **state)
{
	(void)state;
	return setup_with(8 * FRAMES);
}

static int teardown(void **state)
{
	size_t frames = host->frames.given;

	(void)state;
	memory_destroy(&vm);
	assert_int_equal(host->frames.count, frames);
	assert_int_equal(machine.swap.used, 0);
	free(host);
	return munmap((void *)ARENA, ARENA_BYTES);
}

static uint64_t below(uint64_t bound)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (seed >> 33) % bound;
}

static uint32_t entry_of(uint64_t gfn)
{
	return vm.entries[vm.slots[0].index + gfn - FIRST];
}

static bool is_out(uint64_t gfn)
{
	return entry_of(gfn) & MEMORY_SWAPPED;
}

/* The spte for @gfn, as the processor finds it; 0: none that lets the access pass. */
static uint64_t spte_of(uint64_t gfn, bool write)
{
	struct umbra_view view;
	uint64_t spte;

	assert_int_equal(umbra_view(vcpu.umbra, gfn << UMBRA_PAGE_SHIFT, &view), 0);
	spte = view.shadow_end == 1 ? view.shadow[1].value : 0;
	return spte & PTE_P && (!write || spte & PTE_W) ? spte : 0;
}

static uint64_t *access(uint64_t gfn, bool write)
{
	struct umbra_root root;
	uint64_t spte;

	assert_int_equal(mmu_root(&vcpu, &root), 0);
	for (unsigned tries = 0; !(spte = spte_of(gfn, write)); tries++) {
		struct umbra_answer answer =
		    mmu_fault(&vcpu, gfn << UMBRA_PAGE_SHIFT, write ? UMBRA_PF_W : 0);

		assert_true(tries < 4);
		if (answer.verdict == UMBRA_RETRY)
			assert_true(memory_settle(&vm));
		else
			assert_int_equal(answer.verdict, UMBRA_RESUME);
	}
	return (uint64_t *)(spte & PTE_ADDRESS);
}

static void fill(uint64_t gfn, uint64_t value)
{
	uint64_t *page = access(gfn, true);

	for (unsigned k = 0; k < 512; k++)
		page[k] = value ? value + k : 0;
}

static void assert_has(uint64_t gfn, uint64_t value)
{
	const uint64_t *page = access(gfn, false);

	for (unsigned k = 0; k < 512; k++)
		assert_int_equal(page[k], value ? value + k : 0);
}

static void assert_sound(void)
{
	struct umbra_audit report;
	const char *what = "";
	uint64_t where = 0;

	if (books_audit(host, &what, &where))
		fail_msg("books: %lx: %s", where, what);
	if (umbra_audit(vm.mmu, &report))
		fail_msg("invariant %u: %s", report.invariant, report.what);
}

/* Everything goes that can. */
static void all_out(void)
{
	for (unsigned i = 0; i < 8; i++)
		swap_reclaim(host, MEMORY / UMBRA_PAGE_SIZE);
}

/* ------------------------------------------------------------------ tests */

static void test_out_and_in(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 100; i++)
		fill(FIRST + i, i % 4 * 1000);
	all_out();
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(is_out(FIRST + i), i % 4 != 0);
		assert_false(memory_has_frame(entry_of(FIRST + i)));
		assert_int_equal(spte_of(FIRST + i, false), 0);
	}
	assert_int_equal(machine.swap.zeros, 25);
	assert_int_equal(machine.swap.out, 75);
	assert_int_equal(machine.swap.used, 75);
	assert_true(fake_file.writes < 8);
	assert_sound();
	for (unsigned i = 0; i < 100; i++)
		assert_has(FIRST + i, i % 4 * 1000);
	assert_int_equal(machine.swap.used, 0);
	assert_int_equal(machine.swap.in, 75);
	assert_true(machine.swap.ahead > 0 && fake_file.reads < 75);
	assert_sound();
}

/* What was used lately stays; what nobody wanted goes; each once round the clock. */
static void test_cold(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 256; i++)
		fill(FIRST + i, 5 + i);
	swap_reclaim(host, 1); /* nothing is new any more, and something went */
	for (unsigned i = 128; i < 160; i++) {
		assert_has(FIRST + i, 5 + i);
		swap_touch(vm.recent, vm.slots[0].index + i); /* as if asked for */
	}
	assert_int_equal(swap_reclaim(host, 160), 160);
	for (unsigned i = 128; i < 160; i++)
		assert_false(is_out(FIRST + i));
	assert_sound();
}

static void test_handed(void **state)
{
	uint64_t *page;

	(void)state;
	fill(FIRST + 3, 33);
	fill(FIRST + 4, 44);
	page = memory_page(&vm, FIRST + 3);
	all_out();
	assert_true(is_out(FIRST + 4));
	assert_false(is_out(FIRST + 3));
	assert_int_equal(page[7], 33 + 7);
	page = memory_page(&vm, FIRST + 4); /* comes in for that */
	assert_int_equal(page[7], 44 + 7);
}

/* More is written than there are frames. */
static void test_short(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 900; i++)
		fill(FIRST + i, 1 + i);
	assert_true(machine.swap.waits > 0);
	for (unsigned i = 0; i < 900; i++)
		assert_has(FIRST + i, 1 + i);
	assert_sound();
}

static void test_full(void **state)
{
	(void)state;
	if (!setjmp(ended)) /* frames and places are gone: so is the guest */
		for (unsigned i = 0; i < 2000; i++)
			fill(FIRST + i, 1 + i);
	assert_int_equal(end_seen, UMBRA_END_NOMEM);
	assert_int_equal(machine.swap.used, SLOTS);
	assert_string_equal(swap_excuse(host),
			    ": the swap file is full; give more with --swap FILE,SIZE or --frames");
	assert_sound();
}

/* A file that takes nothing: pages stay, and what was written before is still good. */
static void test_refused(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 300; i++)
		fill(FIRST + i, 1 + i);
	swap_reclaim(host, 100);
	fake_file.no_writes = true;
	all_out();
	assert_int_equal(machine.swap.used, machine.swap.out);
	assert_true(machine.swap.out < 300 && machine.swap.failed > 0);
	fake_file.no_writes = false;
	for (unsigned i = 0; i < 300; i++)
		assert_has(FIRST + i, 1 + i);
	assert_sound();
}

static void access_ends(uint64_t gfn, enum umbra_end end)
{
	if (!setjmp(ended)) {
		access(gfn, false);
		fail_msg("the guest goes on");
	}
	assert_int_equal(end_seen, end);
}

/* One bit of the file, anywhere in the page, is enough. And a page in another one's place. */
static void test_changed(void **state)
{
	uint8_t *file = fake_file.bytes + UMBRA_SWAP_FIRST;
	uint64_t slot;

	(void)state;
	fill(FIRST, 77);
	fill(FIRST + 1, 77);
	all_out();
	slot = entry_of(FIRST) & MEMORY_NUMBER;
	for (unsigned i = 0; i < 200; i++) {
		uint64_t at = slot * UMBRA_PAGE_SIZE + below(UMBRA_PAGE_SIZE);
		uint8_t bit = (uint8_t)(1u << below(8));

		file[at] ^= bit;
		access_ends(FIRST, UMBRA_END_SWAP);
		file[at] ^= bit;
	}
	assert_true(is_out(FIRST));
	fake_file.no_reads = true;
	access_ends(FIRST, UMBRA_END_SWAP);
	fake_file.no_reads = false;
	assert_has(FIRST, 77);
	fill(FIRST + 2, 88);
	all_out();
	memcpy(file + (entry_of(FIRST + 1) & MEMORY_NUMBER) * UMBRA_PAGE_SIZE,
	       file + (entry_of(FIRST + 2) & MEMORY_NUMBER) * UMBRA_PAGE_SIZE, UMBRA_PAGE_SIZE);
	access_ends(FIRST + 1, UMBRA_END_SWAP);
}

/* What is read ahead for another page is only believed if it is right. */
static void test_changed_ahead(void **state)
{
	uint8_t *file = fake_file.bytes + UMBRA_SWAP_FIRST;

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		fill(FIRST + i, 77 + i);
	all_out();
	assert_int_equal(entry_of(FIRST + 1), entry_of(FIRST) + 1);
	file[(entry_of(FIRST + 1) & MEMORY_NUMBER) * UMBRA_PAGE_SIZE + 9] ^= 4;
	assert_has(FIRST, 77);
	assert_true(is_out(FIRST + 1) && machine.swap.ahead == 1);
	access_ends(FIRST + 1, UMBRA_END_SWAP);
	assert_has(FIRST + 2, 79);
}

/* Pages that lay side by side leave: what maps all of them must not come back. */
static void test_collapsed(void **state)
{
	const uint64_t first = 0x200;
	uint64_t moved;

	(void)state;
	assert_int_equal(compact_set(host, 1, now), 0);
	for (unsigned i = 0; i < 512; i++)
		fill(first + i, 1 + i);
	assert_int_equal(compact_range(&vm, first, 512, &moved), 0);
	assert_true(compact_is_large(&vm, (uint32_t)(vm.slots[0].index + first - FIRST)));
	assert_int_equal(mmu_drop(&vm, (umbra_gfn){first}, 512, NULL), 0);
	assert_int_equal(swap_reclaim(host, 100), 100);
	assert_false(compact_is_large(&vm, (uint32_t)(vm.slots[0].index + first - FIRST)));
	for (unsigned i = 600; i < 800; i++)
		fill(first + i, 1 + i); /* in frames that were theirs */
	for (unsigned i = 0; i < 512; i++)
		assert_has(first + i, 1 + i);
	assert_sound();
}

/* A host that merges, migrates, drops and swaps; each page has what was written to it last. */
static void test_random(void **state)
{
	static uint64_t value[600];
	uint64_t sptes, ticks;

	(void)state;
	memset(value, 0, sizeof(value));
	assert_int_equal(merge_set(host, UMBRA_MERGE_RATE_MAX, now), 0);
	for (unsigned step = 0; step < 8000; step++) {
		unsigned k = (unsigned)below(600);

		switch (below(8)) {
		case 0:
		case 1:
		case 2:
			fill(FIRST + k, value[k] = below(2) ? step * 1000 : below(3) * 7);
			break;
		case 3:
			swap_reclaim(host, below(100));
			break;
		case 4:
			memory_migrate(&vm, FIRST + k, &sptes, &ticks);
			break;
		case 5:
			merge_poll(host, cpu.tsc_hz, now += cpu.tsc_hz);
			break;
		case 6:
			swap_poll(host, now += cpu.tsc_hz);
			break;
		default:
			assert_has(FIRST + k, value[k]);
		}
		if (step % 200 == 0)
			assert_sound();
	}
	for (unsigned k = 0; k < 600; k++)
		assert_has(FIRST + k, value[k]);
	assert_true(machine.swap.out > 1000 && machine.merges > 10);
	assert_sound();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_out_and_in, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_cold, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_handed, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_short, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_full, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_changed, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_changed_ahead, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_collapsed, setup_large, teardown),
	    cmocka_unit_test_setup_teardown(test_random, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
