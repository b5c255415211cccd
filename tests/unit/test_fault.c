/* SPDX-License-Identifier: BSD-2-Clause */
/* Tests of core/fault.c: moments that random operations rarely meet, rights, verdicts, prefetch. */
#include "fixture.h"

static void clear_pde(void)
{
	*guest_entry(3, 2) = 0; /* another processor's last write through a TLB entry */
	fix.on_flush = NULL;
}

/* A table that changes until its write protection is flushed leaves no link behind. */
static void test_changed_before_protection(void **state)
{
	(void)state;
	*guest_entry(4, 3) = 0x3000 | RIGHTS | PTE_A | PTE_D; /* PD 3 is mapped, writable */
	assert_int_equal(fault(OTHER, UMBRA_PF_U | UMBRA_PF_W), UMBRA_RESUME);
	assert_int_equal(fault(OTHER | 0x3000, UMBRA_PF_U), UMBRA_RESUME);
	fix.on_flush = clear_pde;
	assert_int_equal(fault(DATA, UMBRA_PF_U), UMBRA_INJECT);
	assert_null(fix.on_flush);
	assert_sound();
}

/* A guest table in a frame that is only shared for now keeps its A and D bits. */
static void test_shared_table(void **state)
{
	(void)state;
	fix.shared = true;
	assert_int_equal(fault(DATA, UMBRA_PF_U | UMBRA_PF_W), UMBRA_RESUME);
	assert_int_equal(*guest_entry(4, 0) & (PTE_A | PTE_D), PTE_A | PTE_D);
}

/* CR0.WP = 0: the kernel may run a read-only user page and write to it, in one instruction. */
static void test_kernel_code_writes_itself(void **state)
{
	struct umbra_paging wp_off = long_mode_on;

	(void)state;
	wp_off.cr0 &= ~(1ull << 16);
	*guest_entry(4, 0) = FIRST << 12 | PTE_P | PTE_U;
	assert_int_equal(umbra_vcpu_set_paging(fix.vcpu, &wp_off), 0);
	assert_int_equal(fault(DATA, UMBRA_PF_I), UMBRA_RESUME);
	assert_int_equal(fault(DATA, UMBRA_PF_W), UMBRA_RESUME);
	assert_int_equal(spte_at(DATA) & (PTE_P | PTE_W | PTE_U | PTE_NX), PTE_P | PTE_W);
	assert_sound();
}

/* W comes with D: a read maps a clean page read-only, the first write grants it. */
static void test_write_waits_for_dirty(void **state)
{
	(void)state;
	assert_int_equal(fault(DATA, UMBRA_PF_U), UMBRA_RESUME);
	assert_int_equal(spte_at(DATA) & (PTE_W | PTE_D), 0);
	assert_int_equal(*guest_entry(4, 0) & (PTE_A | PTE_D), PTE_A);
	assert_int_equal(fault(DATA, UMBRA_PF_U | UMBRA_PF_W), UMBRA_RESUME);
	assert_int_equal(spte_at(DATA) & (PTE_W | PTE_D), PTE_W | PTE_D);
}

/* A shared frame is mapped read-only; the write asks for a private one. */
static void test_shared_frame(void **state)
{
	(void)state;
	*guest_entry(4, 0) |= PTE_A | PTE_D;
	fix.shared = true;
	assert_int_equal(fault(DATA, UMBRA_PF_U), UMBRA_RESUME);
	assert_int_equal(spte_at(DATA) & PTE_W, 0);
	assert_int_equal(fault(DATA, UMBRA_PF_U | UMBRA_PF_W), UMBRA_RESUME);
	assert_int_equal(spte_at(DATA) & PTE_W, PTE_W);
}

/* Every verdict a host can cause. */
static void test_host_errors(void **state)
{
	(void)state;
	failing_rule_set(&fix.failing.frame_get, 1, 0, UMBRA_EAGAIN);
	assert_int_equal(fault(DATA, UMBRA_PF_U), UMBRA_RETRY);
	failing_rule_set(&fix.failing.frame_get, 1, 0, UMBRA_ENOMEM);
	assert_int_equal(fault(DATA, UMBRA_PF_U), UMBRA_NOMEM);
	guest_write(4, 1, 0x123000 | RIGHTS); /* beyond the slot */
	assert_int_equal(fault(DATA + 0x1000, UMBRA_PF_U), UMBRA_MMIO);
	assert_int_equal(fault(DATA, UMBRA_PF_U), UMBRA_RESUME);
	assert_sound();
}

/* A write to an upper table that the guest maps is not let through. */
static void test_upper_table_is_tracked(void **state)
{
	(void)state;
	guest_write(4, 1, 0x3000 | RIGHTS);
	assert_int_equal(fault(DATA + 0x1000, UMBRA_PF_U | UMBRA_PF_W), UMBRA_EMULATE);
	assert_int_equal(spte_at(DATA + 0x1000) & PTE_W, 0);
}

/* Where unprotecting a table helps, the write goes through then; where not, the answer says so. */
static void test_own_table(void **state)
{
	static const struct {
		uint64_t gva;
		unsigned gfn;
		bool own;
	} writes[] = {
	    {DATA + 0x1000, 3, true},      /* a PD on the way to that gva, */
	    {DATA + 0x2000, 1, true},      /* the root, */
	    {DATA + 0x3000, 5, false},     /* a PD of another gva */
	    {0xfffffffffffff000, 1, true}, /* the root maps itself, on every level */
	};

	(void)state;
	*guest_entry(1, 511) = 0x1000 | RIGHTS;
	for (unsigned i = 0; i < 3; i++)
		*guest_entry(4, i + 1) = writes[i].gfn << 12 | RIGHTS;
	for (unsigned i = 0; i < sizeof(writes) / sizeof(writes[0]); i++) {
		struct umbra_answer answer;

		assert_int_equal(fault(OTHER, 0), UMBRA_RESUME);
		answer = umbra_fault(fix.vcpu, writes[i].gva, UMBRA_PF_W);
		assert_int_equal(answer.verdict, UMBRA_EMULATE);
		assert_int_equal(answer.gpa >> 12, writes[i].gfn);
		assert_int_equal(answer.own_table, writes[i].own);
		assert_true(umbra_unprotect(fix.mmu, (umbra_gfn){writes[i].gfn}) > 0);
		assert_int_equal(fault(writes[i].gva, UMBRA_PF_W),
				 writes[i].own ? UMBRA_EMULATE : UMBRA_RESUME);
		assert_sound();
	}
}

/* The guest took the right to write away; its processor comes again before it flushes. */
static void test_narrowed(void **state)
{
	(void)state;
	assert_int_equal(fault(DATA, UMBRA_PF_U | UMBRA_PF_W), UMBRA_RESUME);
	assert_true(spte_at(DATA) & PTE_W);
	*guest_entry(4, 0) &= ~(uint64_t)PTE_W;
	fix.flushes = 0;
	assert_int_equal(fault(DATA, UMBRA_PF_U), UMBRA_RESUME);
	assert_false(spte_at(DATA) & PTE_W);
	assert_int_equal(fix.flushes, 1);
	assert_true(fix.flushed.gva == DATA && fix.flushed.pages == 1);
}

static void test_prefetch(void **state)
{
	(void)state;
	fix.mmu->config.prefetch = 7;
	for (unsigned i = 0; i < 4; i++)
		*guest_entry(4, i) |= PTE_A;
	for (unsigned i = 0; i < 16; i++)
		arena_page(fix.arena, (umbra_gfn){FIRST + i});
	assert_int_equal(fault(DATA, UMBRA_PF_U), UMBRA_RESUME);
	for (unsigned i = 0; i < 8; i++) /* accessed ones only: no A bit is set on suspicion */
		assert_int_equal(!!spte_at(DATA + i * 0x1000), i < 4);
	assert_sound();
}

/* A host that protects a range hears of the next write to it, and of no read. */
static void test_write_protect(void **state)
{
	uint64_t sptes = 0, flushes;

	(void)state;
	assert_int_equal(fault(DATA, UMBRA_PF_U | UMBRA_PF_W), UMBRA_RESUME);
	assert_int_equal(fault(DATA + 0x1000, UMBRA_PF_U), UMBRA_RESUME);
	assert_int_equal(umbra_write_protect(fix.mmu, (umbra_gfn){2}, UINT64_MAX, NULL),
			 UMBRA_EINVAL);
	flushes = fix.flushes;
	assert_int_equal(umbra_write_protect(fix.mmu, (umbra_gfn){FIRST}, 1 << 20, &sptes), 0);
	assert_int_equal(sptes, 1);
	assert_int_equal(fix.flushes, flushes + 1);
	assert_int_equal(fix.flushed.pages, 0);
	assert_int_equal(spte_at(DATA) & (PTE_P | PTE_W), PTE_P);
	assert_int_equal(umbra_write_protect(fix.mmu, (umbra_gfn){FIRST}, 1, &sptes), 0);
	assert_int_equal(sptes, 0);
	assert_int_equal(fix.flushes, flushes + 1);
	assert_int_equal(fault(DATA, UMBRA_PF_U | UMBRA_PF_W), UMBRA_RESUME);
	assert_int_equal(spte_at(DATA) & PTE_W, PTE_W);
	assert_sound();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    FIXTURE_TEST(test_changed_before_protection),
	    FIXTURE_TEST(test_narrowed),
	    FIXTURE_TEST(test_shared_table),
	    FIXTURE_TEST(test_kernel_code_writes_itself),
	    FIXTURE_TEST(test_write_waits_for_dirty),
	    FIXTURE_TEST(test_shared_frame),
	    FIXTURE_TEST(test_write_protect),
	    FIXTURE_TEST(test_host_errors),
	    FIXTURE_TEST(test_upper_table_is_tracked),
	    FIXTURE_TEST(test_own_table),
	    FIXTURE_TEST(test_prefetch),
	};

	return cmocka_run_group_tests_name("fault", tests, NULL, NULL);
}
