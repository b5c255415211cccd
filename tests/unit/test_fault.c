/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tests of core/fault.c: moments that random operations rarely meet. A guest of 32 pages, tables
 * 1 -> 2 -> 3 -> 4; table 4 maps gfn 8 at DATA, and PD 5 leads to table 4 as well.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "arena.h"
#include "mmu.h"

#define RIGHTS (PTE_P | PTE_W | PTE_U)
#define DATA   0x400000ull   /* PD 3, entry 2 */
#define OTHER  0x40000000ull /* PD 5, entry 0: the same table 4 */
#define GFNS   32

static struct arena *arena;
static struct umbra_mmu *mmu;
static struct umbra_vcpu *vcpu;
static struct umbra_host host;
static const struct umbra_paging wp_on = {0x80010001, 0x1000, 0x20, 0xd00};
static bool clear_pde, shared;

static uint64_t *entry(uint64_t gfn, unsigned index)
{
	return (uint64_t *)arena_page(arena, (umbra_gfn){gfn}) + index;
}

/* Another processor's last write through a TLB entry that the flush is about to take. */
static void flush(void *ctx, const struct umbra_flush *named)
{
	(void)ctx;
	if (clear_pde && !named->pages) {
		clear_pde = false;
		*entry(3, 2) = 0;
	}
}

/* Frames are shared until somebody asks for them as writable. */
static int frame_get(void *ctx, umbra_gfn gfn, enum umbra_want want, struct umbra_frame *frame)
{
	int error = arena_host.frame_get(ctx, gfn, want, frame);

	frame->writable = !shared || want == UMBRA_WANT_WRITE;
	return error;
}

static int setup(void **state)
{
	const struct arena_options options = {.gfns = GFNS,
					      .frames = 2 * GFNS,
					      .high = 8 << 20,
					      .low = 1 << 20,
					      .seed = 1,
					      .flush = flush};
	const struct umbra_config config = {.shadow_quota = 64, .maxphyaddr = 40};
	const struct umbra_slot slot = {.pages = GFNS};

	(void)state;
	host = arena_host;
	host.frame_get = frame_get;
	clear_pde = shared = false;
	assert_int_equal(arena_create(&options, &arena), 0);
	*entry(1, 0) = 0x2000 | RIGHTS;
	*entry(2, 0) = 0x3000 | RIGHTS;
	*entry(2, 1) = 0x5000 | RIGHTS;
	*entry(3, 2) = 0x4000 | RIGHTS;
	*entry(5, 0) = 0x4000 | RIGHTS;
	*entry(4, 0) = 0x8000 | RIGHTS;
	*entry(4, 3) = 0x3000 | RIGHTS | PTE_A | PTE_D;
	assert_int_equal(umbra_mmu_create(&host, arena, &config, &mmu), 0);
	assert_int_equal(umbra_slot_add(mmu, &slot), 0);
	assert_int_equal(umbra_vcpu_create(mmu, 0, &vcpu), 0);
	assert_int_equal(umbra_vcpu_set_paging(vcpu, &wp_on), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	umbra_mmu_destroy(mmu);
	arena_destroy(arena);
	return 0;
}

static enum umbra_verdict fault(uint64_t gva, uint32_t code)
{
	return umbra_fault(vcpu, gva, code).verdict;
}

static void assert_sound(void)
{
	struct umbra_audit report;

	assert_int_equal(umbra_audit(mmu, &report), 0);
}

/* A table that changes until its write protection is flushed leaves no link behind. */
static void test_changed_before_protection(void **state)
{
	(void)state;
	assert_int_equal(fault(OTHER, UMBRA_PF_U | UMBRA_PF_W), UMBRA_RESUME);
	assert_int_equal(fault(OTHER | 0x3000, UMBRA_PF_U), UMBRA_RESUME); /* PD 3, writable */
	clear_pde = true;
	assert_int_equal(fault(DATA, UMBRA_PF_U), UMBRA_INJECT);
	assert_false(clear_pde);
	assert_sound();
}

/* A guest table in a frame that is only shared for now keeps its A and D bits. */
static void test_shared_table(void **state)
{
	(void)state;
	shared = true;
	assert_int_equal(fault(DATA, UMBRA_PF_U | UMBRA_PF_W), UMBRA_RESUME);
	assert_int_equal(*entry(4, 0) & (PTE_A | PTE_D), PTE_A | PTE_D);
}

/* CR0.WP = 0: the kernel may run a read-only user page and write to it, in one instruction. */
static void test_kernel_code_writes_itself(void **state)
{
	struct umbra_paging wp_off = wp_on;
	struct umbra_root root;
	struct shadow *shadow;
	uint64_t spte;

	(void)state;
	wp_off.cr0 &= ~(1ull << 16);
	*entry(4, 0) = 0x8000 | PTE_P | PTE_U;
	assert_int_equal(umbra_vcpu_set_paging(vcpu, &wp_off), 0);
	assert_int_equal(fault(DATA, UMBRA_PF_I), UMBRA_RESUME);
	assert_int_equal(fault(DATA, UMBRA_PF_W), UMBRA_RESUME);
	assert_int_equal(umbra_vcpu_root(vcpu, &root), 0);
	shadow = shadow_of(mmu, vcpu->root);
	for (unsigned level = LEVEL_ROOT; level > 1; level--)
		shadow = shadow_child(mmu, shadow, gva_index(DATA, level));
	spte = shadow->table[0];
	assert_int_equal(spte & (PTE_P | PTE_W | PTE_U | PTE_NX), PTE_P | PTE_W);
	assert_sound();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_changed_before_protection, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_shared_table, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_kernel_code_writes_itself, setup, teardown),
	};

	return cmocka_run_group_tests_name("fault", tests, NULL, NULL);
}
