/* SPDX-License-Identifier: BSD-2-Clause */
/* Tests of core/watch.c. (tests/machine/sim_watch.c has random ones.) */
#include "fixture.h"

#define READ  UMBRA_PF_U
#define WRITE (UMBRA_PF_U | UMBRA_PF_W)
#define FETCH (UMBRA_PF_U | UMBRA_PF_I)
#define ALL   (UMBRA_WATCH_R | UMBRA_WATCH_W | UMBRA_WATCH_X)

static struct umbra_touch told;
static unsigned touches;

static void touched(void *ctx, const struct umbra_touch *touch)
{
	assert_ptr_equal(ctx, &fix.failing);
	told = *touch;
	touches++;
}

/* The fixture's guest, with somebody who listens; its page at DATA is mapped with all rights. */
static int watch_setup(void **state)
{
	int error = fixture_setup(state);

	fix.mmu->host.touched = touched;
	touches = 0;
	assert_int_equal(fault(DATA, WRITE), UMBRA_RESUME);
	fix.flushes = 0;
	return error;
}

static void watch(uint64_t gfn, unsigned kinds, int error)
{
	assert_int_equal(umbra_watch(fix.mmu, (umbra_gfn){gfn}, kinds), error);
	assert_sound();
}

/* One access that touches @kind, or nothing if that is 0. */
static void access_tells(uint64_t gva, uint32_t code, unsigned kind)
{
	unsigned before = touches;

	assert_int_equal(fault(gva, code), UMBRA_RESUME);
	assert_sound();
	assert_int_equal(touches, before + !!kind);
	if (!kind)
		return;
	assert_int_equal(told.kind, kind);
	assert_int_equal(told.gva, gva);
	assert_int_equal(told.gpa, FIRST << 12 | (gva & 0xfff));
	assert_int_equal(told.gfn.n, FIRST);
	assert_int_equal(told.access, code);
	assert_int_equal(told.vcpu, 0);
}

/* Told once, armed anew, told again; the flush comes before it is armed. */
static void test_read(void **state)
{
	(void)state;
	watch(FIRST, UMBRA_WATCH_R, 0);
	assert_int_equal(fix.flushes, 1);
	assert_int_equal(spte_at(DATA), 0);
	access_tells(DATA + 8, READ, UMBRA_WATCH_R);
	assert_true(spte_at(DATA) & PTE_P);
	access_tells(DATA + 8, READ, 0);
	watch(FIRST, UMBRA_WATCH_R, 0);
	access_tells(OTHER, WRITE, UMBRA_WATCH_R);
	watch(FIRST, UMBRA_WATCH_R, 0);
	watch(FIRST, 0, 0);
	access_tells(DATA, READ, 0);
}

/* Reading goes on; so does what another kind withholds. */
static void test_write(void **state)
{
	(void)state;
	watch(FIRST, UMBRA_WATCH_W | UMBRA_WATCH_X, 0);
	access_tells(DATA, READ, 0);
	assert_int_equal(spte_at(DATA) & (PTE_W | PTE_NX), PTE_NX);
	access_tells(DATA, WRITE, UMBRA_WATCH_W);
	assert_int_equal(spte_at(DATA) & (PTE_W | PTE_NX), PTE_W | PTE_NX);
	access_tells(DATA, FETCH, UMBRA_WATCH_X);
	assert_int_equal(spte_at(DATA) & (PTE_W | PTE_NX), PTE_W);
	/* W alone takes no mapping away. */
	fix.flushes = 0;
	watch(FIRST, UMBRA_WATCH_W, 0);
	assert_int_equal(spte_at(DATA) & (PTE_P | PTE_W), PTE_P);
	assert_int_equal(fix.flushes, 1);
	watch(FIRST, UMBRA_WATCH_W, 0);
	assert_int_equal(fix.flushes, 1);
}

/* One access, two kinds. */
static void test_both(void **state)
{
	(void)state;
	watch(FIRST, ALL, 0);
	access_tells(DATA, WRITE, UMBRA_WATCH_R | UMBRA_WATCH_W);
	access_tells(DATA, READ, 0);
	access_tells(DATA, FETCH, UMBRA_WATCH_X);
	assert_int_equal(fix.mmu->watches, 0);
}

/* Neighbours that are mapped along do not map what is watched. */
static void test_prefetch(void **state)
{
	(void)state;
	fix.mmu->config.prefetch = 8;
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(fault(DATA + i * 4096ull, WRITE), UMBRA_RESUME);
	drop(FIRST, 16);
	watch(FIRST + 2, UMBRA_WATCH_R, 0);
	watch(FIRST + 1, UMBRA_WATCH_W, 0);
	access_tells(DATA, WRITE, 0);
	assert_int_equal(spte_at(DATA + 0x1000) & (PTE_P | PTE_W), PTE_P);
	assert_int_equal(spte_at(DATA + 0x2000), 0);
}

/* Emulated instructions count, walks and devices do not. */
static void test_translate(void **state)
{
	(void)state;
	watch(FIRST, UMBRA_WATCH_W, 0);
	watch(4, UMBRA_WATCH_R, 0);
	guest_write(FIRST, 0, 1);
	assert_int_equal(umbra_translate(fix.vcpu, DATA, READ).verdict, UMBRA_RESUME);
	assert_int_equal(touches, 0);
	assert_int_equal(umbra_translate(fix.vcpu, DATA, WRITE).verdict, UMBRA_RESUME);
	assert_int_equal(touches, 1);
	assert_int_equal(told.kind, UMBRA_WATCH_W);
	assert_int_equal(umbra_translate(fix.vcpu, DATA, WRITE).verdict, UMBRA_RESUME);
	assert_int_equal(touches, 1);
	/* What is refused, or is no memory, touches nothing. */
	watch(FIRST, ALL, 0);
	guest_write(4, 0, (uint64_t)FIRST << 12 | PTE_P | PTE_U);
	assert_int_equal(fault(DATA, WRITE), UMBRA_INJECT);
	assert_int_equal(umbra_slot_flags_set(fix.mmu, 0, UMBRA_SLOT_READONLY), 0);
	guest_write(4, 0, (uint64_t)FIRST << 12 | RIGHTS);
	assert_int_equal(fault(DATA, WRITE), UMBRA_MMIO);
	assert_int_equal(umbra_translate(fix.vcpu, DATA, WRITE).verdict, UMBRA_MMIO);
	assert_int_equal(touches, 1);
	assert_sound();
}

static void test_refused(void **state)
{
	const struct umbra_slot many = {
	    .id = 3, .first = {1 << 20}, .pages = 2 * UMBRA_WATCHES_MAX};

	(void)state;
	watch(FIRST, 8, UMBRA_EINVAL);
	watch(1 << 20, UMBRA_WATCH_R, UMBRA_ENOENT);
	assert_int_equal(umbra_slot_add(fix.mmu, &many), 0);
	watch(FIRST, UMBRA_WATCH_R, 0);
	for (unsigned i = 1; i < UMBRA_WATCHES_MAX; i++)
		assert_int_equal(umbra_watch(fix.mmu, (umbra_gfn){(1 << 20) + i * 7 % 1024}, ALL),
				 0);
	watch((1 << 20) + 1500, UMBRA_WATCH_R, UMBRA_ENOMEM);
	watch(FIRST, UMBRA_WATCH_W, 0);
	assert_int_equal(umbra_slot_delete(fix.mmu, 3), 0);
	assert_int_equal(fix.mmu->watches, 1);
	watch(FIRST + 1, UMBRA_WATCH_W, 0);
	watch(FIRST, 0, 0);
	assert_int_equal(watch_kinds(fix.mmu, (umbra_gfn){FIRST + 1}), UMBRA_WATCH_W);
	fix.mmu->host.touched = NULL;
	watch(FIRST, UMBRA_WATCH_R, UMBRA_EINVAL);
	watch(FIRST + 1, 0, 0);
	assert_int_equal(fix.mmu->watches, 0);
}

#define WATCH_TEST(test) cmocka_unit_test_setup_teardown(test, watch_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    WATCH_TEST(test_read),     WATCH_TEST(test_write),     WATCH_TEST(test_both),
	    WATCH_TEST(test_prefetch), WATCH_TEST(test_translate), WATCH_TEST(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
