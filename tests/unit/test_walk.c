/* SPDX-License-Identifier: BSD-2-Clause */
/* Tests of core/walk.c: what a processor would answer, and the A and D bits it leaves behind. */
#include "fixture.h"

#define USER_WRITE (UMBRA_PF_U | UMBRA_PF_W)
#define CR0_WP     (1ull << 16)
#define CR4_SMEP   (1ull << 20)
#define CR4_SMAP   (1ull << 21)
#define EFER_NXE   (1ull << 11)

/* The guest's entry of @level on the way to DATA. */
static uint64_t *way(unsigned level)
{
	static const unsigned at[4 + 1][2] = {{0}, {4, 0}, {3, 2}, {2, 0}, {1, 0}};

	return guest_entry(at[level][0], at[level][1]);
}

static void paging_set(uint64_t cr0, uint64_t cr4, uint64_t efer)
{
	const struct umbra_paging paging = {cr0, 0x1000, cr4, efer};

	assert_int_equal(umbra_vcpu_set_paging(fix.vcpu, &paging), 0);
}

/* What is answered is told twice: a fault and a translation must agree. */
static struct umbra_answer ask(uint64_t gva, uint32_t code)
{
	struct umbra_answer told = umbra_translate(fix.vcpu, gva, code);
	struct umbra_answer got = umbra_fault(fix.vcpu, gva, code);

	assert_int_equal(told.verdict, got.verdict);
	assert_int_equal(told.error_code, got.error_code);
	assert_int_equal(told.gpa, got.gpa);
	assert_sound();
	return got;
}

static void assert_injects(uint64_t gva, uint32_t code, uint32_t error_code)
{
	struct umbra_answer got = ask(gva, code);

	assert_int_equal(got.verdict, UMBRA_INJECT);
	assert_int_equal(got.error_code, error_code);
}

/* Not present on any level: W and U are repeated, P is not. */
static void test_not_present(void **state)
{
	(void)state;
	for (unsigned level = 1; level <= 4; level++) {
		uint64_t kept = *way(level);

		*way(level) = kept & ~PTE_P;
		assert_injects(DATA, USER_WRITE, USER_WRITE);
		assert_injects(DATA, 0, 0);
		*way(level) = kept;
	}
	assert_int_equal(ask(DATA, USER_WRITE).verdict, UMBRA_RESUME);
}

static void assert_reserved(unsigned level, uint64_t bits)
{
	uint64_t kept = *way(level);

	*way(level) = bits & PTE_PS ? RIGHTS | bits : kept | bits;
	assert_injects(DATA, UMBRA_PF_U, UMBRA_PF_P | UMBRA_PF_RSVD | UMBRA_PF_U);
	*way(level) = kept;
}

/* Reserved bits, as the manual's figures of each level have them; maxphyaddr is 40. */
static void test_reserved(void **state)
{
	(void)state;
	for (unsigned level = 1; level <= 4; level++) {
		assert_reserved(level, 1ull << 40);
		assert_reserved(level, 1ull << 51);
	}
	assert_reserved(4, PTE_PS);
	assert_reserved(3, PTE_PS | 1ull << 13);
	assert_reserved(3, PTE_PS | 1ull << 29);
	assert_reserved(2, PTE_PS | 1ull << 13);
	assert_reserved(2, PTE_PS | 1ull << 20);
	paging_set(long_mode_on.cr0, long_mode_on.cr4, long_mode_on.efer & ~EFER_NXE);
	for (unsigned level = 1; level <= 4; level++)
		assert_reserved(level, PTE_NX);
}

/* Bits that look reserved and are not: PAT of a large page, the ignored ones, NX with NXE. */
static void test_not_reserved(void **state)
{
	(void)state;
	*way(4) |= 1ull << 52 | 1ull << 8;
	*way(3) |= 1ull << 62;
	*way(2) = PTE_PS | 1ull << 12 | 1ull << 11 | RIGHTS | PTE_NX;
	assert_int_equal(ask(0x400000, UMBRA_PF_U).verdict, UMBRA_RESUME);
	*way(3) = PTE_PS | 1ull << 12 | 1ull << 9 | RIGHTS;
	umbra_zap_all(fix.mmu);
	assert_int_equal(ask(0x1000, UMBRA_PF_U).verdict, UMBRA_RESUME);
}

/* Every level can refuse, and all together decide. */
static void test_rights(void **state)
{
	(void)state;
	for (unsigned level = 1; level <= 4; level++) {
		uint64_t kept = *way(level);

		*way(level) = kept & ~PTE_W;
		assert_injects(DATA, USER_WRITE, UMBRA_PF_P | USER_WRITE);
		assert_injects(DATA, UMBRA_PF_W, UMBRA_PF_P | UMBRA_PF_W);
		*way(level) = kept & ~PTE_U;
		assert_injects(DATA, UMBRA_PF_U, UMBRA_PF_P | UMBRA_PF_U);
		*way(level) = kept | PTE_NX;
		assert_injects(DATA, UMBRA_PF_I, UMBRA_PF_P | UMBRA_PF_I);
		*way(level) = kept;
	}
	assert_int_equal(ask(DATA, USER_WRITE | UMBRA_PF_I).verdict, UMBRA_RESUME);
}

/* The I bit of error codes exists only with NXE or SMEP. */
static void test_fetch_bit(void **state)
{
	(void)state;
	*way(1) = 0;
	assert_injects(DATA, UMBRA_PF_I, UMBRA_PF_I);
	paging_set(long_mode_on.cr0, long_mode_on.cr4, long_mode_on.efer & ~EFER_NXE);
	assert_injects(DATA, UMBRA_PF_I, 0);
	paging_set(long_mode_on.cr0, long_mode_on.cr4 | CR4_SMEP, long_mode_on.efer & ~EFER_NXE);
	assert_injects(DATA, UMBRA_PF_I, UMBRA_PF_I);
}

/* The kernel on user pages: SMEP forbids fetches, SMAP all else but with EFLAGS.AC. */
static void test_smep_smap(void **state)
{
	(void)state;
	paging_set(long_mode_on.cr0, long_mode_on.cr4 | CR4_SMEP, long_mode_on.efer);
	assert_injects(DATA, UMBRA_PF_I, UMBRA_PF_P | UMBRA_PF_I);
	assert_int_equal(ask(DATA, UMBRA_PF_I | UMBRA_PF_U).verdict, UMBRA_RESUME);
	assert_int_equal(ask(DATA, UMBRA_PF_W).verdict, UMBRA_RESUME);
	paging_set(long_mode_on.cr0, long_mode_on.cr4 | CR4_SMAP, long_mode_on.efer);
	assert_injects(DATA, 0, UMBRA_PF_P);
	assert_injects(DATA, UMBRA_PF_W, UMBRA_PF_P | UMBRA_PF_W);
	assert_int_equal(ask(DATA, UMBRA_PF_W | UMBRA_PF_AC).verdict, UMBRA_RESUME);
	assert_int_equal(ask(DATA, UMBRA_PF_I).verdict, UMBRA_RESUME);
	assert_int_equal(ask(DATA, UMBRA_PF_U).verdict, UMBRA_RESUME);
	*way(1) &= ~PTE_U;
	assert_int_equal(umbra_guest_write(fix.mmu, 0x4000, 8), 0);
	assert_int_equal(ask(DATA, 0).verdict, UMBRA_RESUME);
}

/* CR0.WP = 0 frees the kernel from W, and nobody else. */
static void test_write_protect_off(void **state)
{
	(void)state;
	*way(2) &= ~PTE_W;
	paging_set(long_mode_on.cr0 & ~CR0_WP, long_mode_on.cr4, long_mode_on.efer);
	assert_injects(DATA, USER_WRITE, UMBRA_PF_P | USER_WRITE);
	assert_int_equal(ask(DATA, UMBRA_PF_W).verdict, UMBRA_RESUME);
}

/* A on the whole way, D at the leaf of a write alone; nothing at all when it is refused. */
static void test_accessed_dirty(void **state)
{
	(void)state;
	*way(2) &= ~PTE_W;
	assert_injects(DATA, USER_WRITE, UMBRA_PF_P | USER_WRITE);
	*way(2) |= PTE_W;
	for (unsigned level = 1; level <= 4; level++)
		assert_int_equal(*way(level) & (PTE_A | PTE_D), 0);
	assert_int_equal(ask(DATA, UMBRA_PF_U).verdict, UMBRA_RESUME);
	for (unsigned level = 1; level <= 4; level++)
		assert_int_equal(*way(level) & (PTE_A | PTE_D), PTE_A);
	assert_int_equal(ask(DATA, USER_WRITE).verdict, UMBRA_RESUME);
	for (unsigned level = 1; level <= 4; level++)
		assert_int_equal(*way(level) & (PTE_A | PTE_D), level == 1 ? PTE_A | PTE_D : PTE_A);
	assert_int_equal(*guest_entry(4, 1) & (PTE_A | PTE_D), 0);
}

/* Where in memory an access ends: on 4K, 2M and 1G pages. */
static void test_addresses(void **state)
{
	(void)state;
	assert_int_equal(ask(DATA | 0x5abc, UMBRA_PF_U).gpa, (FIRST + 5) << 12 | 0xabc);
	*guest_entry(3, 1) = PTE_PS | RIGHTS;
	assert_int_equal(ask(0x200000 | 0x1f123, UMBRA_PF_U).gpa, 0x1f123);
	*guest_entry(3, 3) = 0x600000 | PTE_PS | RIGHTS; /* beyond memory */
	assert_int_equal(ask(0x600000 | 0x1f123, UMBRA_PF_U).gpa, 0x61f123);
	assert_int_equal(ask(0x600000 | 0x1f123, UMBRA_PF_U).verdict, UMBRA_MMIO);
	*guest_entry(2, 2) = PTE_PS | RIGHTS;
	assert_int_equal(ask(0x80000000 | 0x20456, UMBRA_PF_U).gpa, 0x20456);
	*guest_entry(1, 511) = 0x2000 | RIGHTS; /* the upper half */
	assert_int_equal(ask(0xffffff8000000000 | DATA, UMBRA_PF_U).gpa, FIRST << 12);
}

static void test_not_canonical(void **state)
{
	(void)state;
	*guest_entry(1, 256) = *guest_entry(1, 0);
	assert_injects(0x0000800000000000 | DATA, 0, 0);
	assert_injects(0xffff000000000000 | DATA, 0, 0);
	assert_int_equal(ask(0xffff800000000000 | DATA, 0).verdict, UMBRA_RESUME);
}

static void test_paging_off(void **state)
{
	(void)state;
	assert_int_equal(umbra_vcpu_set_paging(fix.vcpu, &paging_off), 0);
	assert_int_equal(ask(0x1234, UMBRA_PF_W).gpa, 0x1234);
	assert_int_equal(ask(GFNS << 12, 0).verdict, UMBRA_MMIO);
	assert_injects(1ull << 32 | 0x1000, 0, 0);
}

/* A table where no memory is reads as all ones: reserved bits, or what a device would answer. */
static void test_table_nowhere(void **state)
{
	const struct umbra_slot top = {.id = 1, .first = {(1ull << 40) - 1}, .pages = 1};

	(void)state;
	*way(2) = 200 << 12 | RIGHTS;
	assert_injects(DATA, 0, UMBRA_PF_P | UMBRA_PF_RSVD);
	fix.mmu->config.maxphyaddr = 52; /* then all ones is a fine entry of the last level */
	mode_reserved_make(&fix.mmu->reserved, 52, 0);
	assert_int_equal(umbra_slot_add(fix.mmu, &top), 0); /* there is memory, and no matter */
	assert_int_equal(ask(DATA | 0x10, UMBRA_PF_W).verdict, UMBRA_MMIO);
	assert_int_equal(ask(DATA | 0x10, UMBRA_PF_W).gpa, 0xffffffffff010);
	assert_injects(DATA, UMBRA_PF_I, UMBRA_PF_P | UMBRA_PF_I);
	assert_int_equal(spte_at(DATA), 0);
}

/* A table in read-only memory keeps its bits, and nobody waits for them. */
static void test_table_read_only(void **state)
{
	const struct umbra_slot slot[] = {
	    {.id = 1, .first = {0}, .pages = 4},
	    {.id = 2, .first = {4}, .pages = 1, .flags = UMBRA_SLOT_READONLY},
	    {.id = 3, .first = {5}, .pages = GFNS - 5},
	};

	(void)state;
	assert_int_equal(umbra_slot_delete(fix.mmu, 0), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(umbra_slot_add(fix.mmu, &slot[i]), 0);
	assert_int_equal(ask(DATA, USER_WRITE).verdict, UMBRA_RESUME);
	assert_int_equal(spte_at(DATA) & PTE_W, PTE_W);
	assert_int_equal(*way(1) & (PTE_A | PTE_D), 0);
	assert_int_equal(*way(2) & (PTE_A | PTE_D), PTE_A);
	*guest_entry(3, 1) = 0x6000 | RIGHTS; /* a write to read-only memory itself */
	*guest_entry(6, 0) = 0x4000 | RIGHTS;
	assert_int_equal(ask(0x200000, USER_WRITE).verdict, UMBRA_MMIO);
	assert_int_equal(ask(0x200000, UMBRA_PF_U).verdict, UMBRA_RESUME);
}

/* A host that cannot give a table's frame, on each level. */
static void test_table_away(void **state)
{
	(void)state;
	for (unsigned i = 1; i <= 4; i++) {
		failing_rule_set(&fix.failing.frame_get, i, 0, UMBRA_EAGAIN);
		assert_int_equal(umbra_translate(fix.vcpu, DATA, 0).verdict, UMBRA_RETRY);
		failing_rule_set(&fix.failing.frame_get, i, 0, UMBRA_ENOMEM);
		assert_int_equal(fault(DATA, 0), UMBRA_NOMEM);
		assert_sound();
	}
	assert_int_equal(ask(DATA, 0).verdict, UMBRA_RESUME);
}

/* Another processor changes an entry between the walk's look at it and its A bit. */
static struct {
	int (*frame_get)(void *ctx, umbra_gfn gfn, enum umbra_want want, struct umbra_frame *frame);
	unsigned changes; /* still to come */
	uint64_t flip;
} rival;

static int frame_get_late(void *ctx, umbra_gfn gfn, enum umbra_want want, struct umbra_frame *frame)
{
	if (gfn.n == 4 && rival.changes) {
		rival.changes--;
		*way(2) ^= rival.flip;
	}
	return rival.frame_get(ctx, gfn, want, frame);
}

static void rival_set(unsigned changes, uint64_t flip)
{
	rival.changes = changes;
	rival.flip = flip;
	if (fix.mmu->host.frame_get != frame_get_late)
		rival.frame_get = fix.mmu->host.frame_get;
	fix.mmu->host.frame_get = frame_get_late;
}

static void test_changed_meanwhile(void **state)
{
	(void)state;
	rival_set(1, PTE_W);
	assert_int_equal(umbra_translate(fix.vcpu, DATA, USER_WRITE).verdict, UMBRA_INJECT);
	assert_int_equal(*way(2) & PTE_W, 0);
	rival_set(1, PTE_P);
	*way(2) = 0x4000 | RIGHTS;
	assert_int_equal(umbra_translate(fix.vcpu, DATA, USER_WRITE).verdict, UMBRA_INJECT);
	assert_int_equal(*way(2) & (PTE_P | PTE_A), 0); /* and no A bit on what is not present */
	*way(2) = 0x4000 | RIGHTS;
	rival_set(1000, 1ull << 9);
	assert_int_equal(umbra_translate(fix.vcpu, DATA, UMBRA_PF_U).verdict, UMBRA_RETRY);
	rival_set(0, 0);
	assert_int_equal(ask(DATA, USER_WRITE).verdict, UMBRA_RESUME);
}

/* Shadow pages of a large page: one for what a clean entry grants, another once it is dirty. */
static void test_large_page_dirty(void **state)
{
	(void)state;
	*guest_entry(3, 1) = PTE_PS | RIGHTS;
	assert_int_equal(ask(0x200000 | FIRST << 12, UMBRA_PF_U).verdict, UMBRA_RESUME);
	assert_int_equal(spte_at(0x200000 | FIRST << 12) & PTE_W, 0);
	assert_false(shadow_at_level(0x200000, 1)->role.access & ACCESS_W);
	assert_int_equal(ask(0x200000 | FIRST << 12, USER_WRITE).verdict, UMBRA_RESUME);
	assert_int_equal(spte_at(0x200000 | FIRST << 12) & PTE_W, PTE_W);
	assert_true(shadow_at_level(0x200000, 1)->role.access & ACCESS_W);
	assert_true(shadow_at_level(0x200000, 1)->role.direct);
}

/* The same with CR0.WP = 0, where the kernel writes a page that nobody may write. */
static void test_large_page_clean_again(void **state)
{
	const uint64_t gva = 0x200000 | FIRST << 12;

	(void)state;
	*guest_entry(3, 1) = PTE_PS | PTE_P;
	paging_set(long_mode_on.cr0 & ~CR0_WP, long_mode_on.cr4, long_mode_on.efer);
	assert_int_equal(ask(gva, UMBRA_PF_W).verdict, UMBRA_RESUME);
	assert_int_equal(spte_at(gva) & PTE_W, PTE_W);
	guest_write(3, 1, *guest_entry(3, 1) & ~PTE_D);
	assert_int_equal(spte_at(gva) & PTE_W, 0);
	assert_int_equal(ask(gva, 0).verdict, UMBRA_RESUME);
	assert_int_equal(spte_at(gva) & (PTE_P | PTE_W), PTE_P);
	assert_int_equal(ask(gva, UMBRA_PF_W).verdict, UMBRA_RESUME);
	assert_int_equal(*guest_entry(3, 1) & PTE_D, PTE_D);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    FIXTURE_TEST(test_not_present),
	    FIXTURE_TEST(test_reserved),
	    FIXTURE_TEST(test_not_reserved),
	    FIXTURE_TEST(test_rights),
	    FIXTURE_TEST(test_fetch_bit),
	    FIXTURE_TEST(test_smep_smap),
	    FIXTURE_TEST(test_write_protect_off),
	    FIXTURE_TEST(test_accessed_dirty),
	    FIXTURE_TEST(test_addresses),
	    FIXTURE_TEST(test_not_canonical),
	    FIXTURE_TEST(test_paging_off),
	    FIXTURE_TEST(test_table_nowhere),
	    FIXTURE_TEST(test_table_read_only),
	    FIXTURE_TEST(test_table_away),
	    FIXTURE_TEST(test_changed_meanwhile),
	    FIXTURE_TEST(test_large_page_dirty),
	    FIXTURE_TEST(test_large_page_clean_again),
	};

	return cmocka_run_group_tests_name("walk", tests, NULL, NULL);
}
