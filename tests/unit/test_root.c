/* SPDX-License-Identifier: BSD-2-Clause */
/* Tests of core/root.c: vcpus, paging modes, which root is whose. */
#include "fixture.h"

#define USER_WRITE (UMBRA_PF_U | UMBRA_PF_W)
#define CR0_PG     (1ull << 31)
#define CR0_WP     (1ull << 16)
#define CR4_PAE    (1ull << 5)
#define CR4_PGE    (1ull << 7)
#define CR4_LA57   (1ull << 12)
#define CR4_PCIDE  (1ull << 17)
#define CR4_SMEP   (1ull << 20)
#define CR4_SMAP   (1ull << 21)
#define EFER_SCE   (1ull << 0)
#define EFER_LME   (1ull << 8)
#define EFER_LMA   (1ull << 10)
#define EFER_NXE   (1ull << 11)

static struct umbra_root root_of(struct umbra_vcpu *vcpu)
{
	struct umbra_root root;

	assert_int_equal(umbra_vcpu_root(vcpu, &root), 0);
	assert_int_equal(root.hpa & 0xfff, 0);
	assert_sound();
	return root;
}

/* The root with bits of the present paging state turned round. */
static uint64_t root_with(uint64_t cr0, uint64_t cr3, uint64_t cr4, uint64_t efer)
{
	struct umbra_paging paging = fix.vcpu->paging;

	paging.cr0 ^= cr0;
	paging.cr3 ^= cr3;
	paging.cr4 ^= cr4;
	paging.efer ^= efer;
	assert_int_equal(umbra_vcpu_set_paging(fix.vcpu, &paging), 0);
	return root_of(fix.vcpu).hpa;
}

static void test_vcpu_arguments(void **state)
{
	struct umbra_vcpu *vcpu = NULL, *last;

	(void)state;
	assert_int_equal(umbra_vcpu_create(fix.mmu, UMBRA_VCPUS_MAX, &vcpu), UMBRA_EINVAL);
	assert_int_equal(umbra_vcpu_create(fix.mmu, UINT32_MAX, &vcpu), UMBRA_EINVAL);
	assert_int_equal(umbra_vcpu_create(fix.mmu, 0, &vcpu), UMBRA_EEXIST);
	assert_null(vcpu);
	for (unsigned at = 1; at <= 2; at++) {
		failing_rule_set(&fix.failing.alloc, at, 0, UMBRA_ENOMEM);
		assert_int_equal(umbra_vcpu_create(fix.mmu, 63, &vcpu), UMBRA_ENOMEM);
		assert_null(vcpu);
	}
	assert_int_equal(umbra_vcpu_create(fix.mmu, UMBRA_VCPUS_MAX - 1, &last), 0);
	umbra_vcpu_destroy(last);
	assert_int_equal(umbra_vcpu_create(fix.mmu, UMBRA_VCPUS_MAX - 1, &last), 0);
	assert_sound();
}

/* A new vcpu has paging off. */
static void test_new(void **state)
{
	struct umbra_vcpu *vcpu;

	(void)state;
	assert_int_equal(umbra_vcpu_create(fix.mmu, 1, &vcpu), 0);
	assert_int_equal(root_of(vcpu).levels, 3);
	assert_int_equal(umbra_translate(vcpu, 0x1234, 0).gpa, 0x1234);
}

static void test_modes(void **state)
{
	static const struct {
		uint64_t cr0, cr4, efer;
		unsigned levels; /* of the hardware's tables; 0: UMBRA_EINVAL */
	} cases[] = {
	    {0, 0, 0, 3},
	    {0, CR4_PAE | CR4_LA57, EFER_LME, 3},
	    {CR0_PG, CR4_PAE, EFER_LME | EFER_LMA, 4},
	    {CR0_PG, CR4_PAE | CR4_PGE, EFER_LME | EFER_LMA | EFER_SCE, 4},
	    {CR0_PG, 0, 0, 3},
	    {CR0_PG, CR4_PSE, 0, 3},
	    {CR0_PG, CR4_PAE, 0, 3},
	    {CR0_PG, CR4_PAE | CR4_LA57, 0, 3}, /* which says nothing outside of long mode */
	    {CR0_PG, 0, EFER_LME | EFER_LMA, 0},
	    {CR0_PG, CR4_PAE, EFER_LMA, 0},
	    {CR0_PG, CR4_PAE, EFER_LME, 0},
	    {CR0_PG, CR4_PAE | CR4_PCIDE, 0, 0},
	    {CR0_PG, CR4_PCIDE, 0, 0},
	    {CR0_PG, CR4_PAE | CR4_LA57, EFER_LME | EFER_LMA, 5},
	    {CR0_PG, CR4_PAE | CR4_PCIDE, EFER_LME | EFER_LMA, 4},
	};

	(void)state;
	*guest_entry(1, 0) = PTE_P | 0x2000; /* a sound PDPTE */
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct umbra_paging paging = {cases[i].cr0, 0x1000, cases[i].cr4,
						    cases[i].efer};
		uint64_t before = root_of(fix.vcpu).hpa;
		unsigned flushes = fix.flushes;
		int error = umbra_vcpu_set_paging(fix.vcpu, &paging);

		assert_int_equal(error, cases[i].levels ? 0 : UMBRA_EINVAL);
		if (error) { /* nothing has changed */
			assert_int_equal(root_of(fix.vcpu).hpa, before);
			assert_int_equal(fix.flushes, flushes);
		} else {
			assert_int_equal(root_of(fix.vcpu).levels, cases[i].levels);
		}
		assert_sound();
	}
}

/* What changes the meaning of tables changes the root, and coming back finds the old one. */
static void test_keys(void **state)
{
	uint64_t first = root_of(fix.vcpu).hpa, other;

	(void)state;
	*guest_entry(6, 0) = 0x2000 | RIGHTS;
	assert_int_equal(root_with(0, 0, CR4_PGE | CR4_SMEP | CR4_SMAP, EFER_SCE), first);
	assert_int_equal(root_with(0, 0xfff, 0, 0), first); /* PWT, PCD and ignored bits */
	assert_int_equal(root_with(0, 1ull << 63, 0, 0), first);
	assert_int_not_equal(root_with(0, 0x7000, 0, 0), first);
	assert_int_equal(root_with(0, 0x7000, 0, 0), first);
	assert_int_not_equal(root_with(0, 0, 0, EFER_NXE), first);
	assert_int_equal(root_with(0, 0, 0, EFER_NXE), first);
	other = root_with(CR0_WP, 0, 0, 0); /* without WP, SMEP and SMAP matter */
	assert_int_not_equal(other, first);
	assert_int_not_equal(root_with(0, 0, CR4_SMEP, 0), other);
	assert_int_not_equal(root_with(0, 0, CR4_SMAP | CR4_SMEP, 0), other);
	assert_int_equal(root_with(0, 0, CR4_SMAP, 0), other);
	assert_int_equal(root_with(CR0_WP, 0, 0, 0), first);
}

/* vcpus of one address space share its root, and each counts. */
static void test_shared(void **state)
{
	struct umbra_vcpu *vcpu;
	struct shadow *root;

	(void)state;
	assert_int_equal(umbra_vcpu_create(fix.mmu, 1, &vcpu), 0);
	assert_int_equal(umbra_vcpu_set_paging(vcpu, &long_mode_on), 0);
	assert_int_equal(root_of(vcpu).hpa, root_of(fix.vcpu).hpa);
	root = shadow_at_level(DATA, 4);
	assert_int_equal(root->roots, 2);
	assert_int_equal(umbra_vcpu_set_paging(vcpu, &paging_off), 0);
	assert_int_equal(root->roots, 1);
	assert_int_equal(umbra_vcpu_set_paging(vcpu, &long_mode_on), 0);
	assert_int_equal(root->roots, 2);
	umbra_vcpu_destroy(vcpu);
	assert_int_equal(root->roots, 1);
	assert_sound();
}

/* A root that was zapped is another next time, for every vcpu that had it. */
static void test_zapped(void **state)
{
	struct umbra_vcpu *vcpu;
	struct umbra_stats stats;

	(void)state;
	assert_int_equal(umbra_vcpu_create(fix.mmu, 1, &vcpu), 0);
	assert_int_equal(umbra_vcpu_set_paging(vcpu, &long_mode_on), 0);
	root_of(vcpu);
	root_of(fix.vcpu);
	assert_int_equal(fault(DATA, USER_WRITE), UMBRA_RESUME);
	umbra_zap_all(fix.mmu);
	assert_int_equal(fix.flushed.vcpus, 3);
	assert_int_equal(root_of(vcpu).hpa, root_of(fix.vcpu).hpa);
	umbra_stats_get(fix.mmu, &stats);
	assert_int_equal(stats.shadow_pages, 1);
	assert_int_equal(spte_at(DATA), 0);
}

/* Asking again changes nothing; a CR3 load flushes that vcpu, the same value too. */
static void test_quiet(void **state)
{
	uint64_t hpa = root_of(fix.vcpu).hpa;
	unsigned flushes = fix.flushes;

	(void)state;
	assert_int_equal(root_of(fix.vcpu).hpa, hpa);
	assert_int_equal(fix.flushes, flushes);
	assert_int_equal(umbra_vcpu_set_paging(fix.vcpu, &long_mode_on), 0);
	assert_int_equal(fix.flushes, flushes + 1);
	assert_int_equal(fix.flushed.vcpus, 1);
	assert_int_equal(fix.flushed.pages, 0);
	assert_int_equal(root_of(fix.vcpu).hpa, hpa);
}

/* The arena's few pages, seen again and again. */
static int (*frame_get_near)(void *ctx, umbra_gfn gfn, enum umbra_want want,
			     struct umbra_frame *frame);

static int frame_get_far(void *ctx, umbra_gfn gfn, enum umbra_want want, struct umbra_frame *frame)
{
	gfn.n %= GFNS;
	return frame_get_near(ctx, gfn, want, frame);
}

/* All four GiB, by four entries. */
static void test_paging_off_everywhere(void **state)
{
	const struct umbra_slot slot = {.id = 1, .first = {GFNS}, .pages = (1 << 20) - GFNS};
	uint64_t *pae;

	(void)state;
	frame_get_near = fix.mmu->host.frame_get;
	fix.mmu->host.frame_get = frame_get_far;
	assert_int_equal(umbra_slot_add(fix.mmu, &slot), 0);
	assert_int_equal(umbra_vcpu_set_paging(fix.vcpu, &paging_off), 0);
	for (uint64_t i = 0; i < 4; i++) {
		assert_int_equal(fault(i << 30 | 0x3ffff000, UMBRA_PF_W), UMBRA_RESUME);
		pae = arena_word(fix.arena, root_of(fix.vcpu).hpa);
		assert_int_equal(pae[i], shadow_at_level(i << 30, 2)->hpa | PTE_P);
	}
	assert_int_equal(umbra_slot_delete(fix.mmu, 1), 0);
	fix.mmu->host.frame_get = frame_get_near;
}

/* Paging off: a PAE root below 4 GiB, whose entries hold P and an address. */
static void test_paging_off(void **state)
{
	struct umbra_root root;
	uint64_t *pae;

	(void)state;
	assert_int_equal(umbra_vcpu_set_paging(fix.vcpu, &paging_off), 0);
	assert_int_equal(fault(FIRST << 12, UMBRA_PF_W), UMBRA_RESUME);
	assert_int_equal(fault(0xc0000000, UMBRA_PF_W), UMBRA_MMIO);
	root = root_of(fix.vcpu);
	assert_int_equal(root.levels, 3);
	assert_true(root.hpa < 1ull << 32);
	pae = arena_word(fix.arena, root.hpa);
	assert_non_null(pae);
	assert_int_equal(pae[0], shadow_at_level(FIRST << 12, 2)->hpa | PTE_P);
	for (unsigned i = 1; i < 4; i++)
		assert_int_equal(pae[i], shadow_at_level((uint64_t)i << 30, 2)->hpa | PTE_P);
	assert_int_equal(spte_at(FIRST << 12) & (PTE_P | PTE_W), PTE_P | PTE_W);
	umbra_zap_all(fix.mmu);
	root_of(fix.vcpu);
	for (unsigned i = 0; i < 4; i++) /* nothing of before */
		assert_int_equal(pae[i], shadow_at_level((uint64_t)i << 30, 2)->hpa | PTE_P);
	assert_int_equal(spte_at(FIRST << 12), 0);
}

/* A root changed while it is not loaded shows when it is. */
static void test_changed_unloaded(void **state)
{
	(void)state;
	*guest_entry(6, 0) = 0x2000 | RIGHTS;
	assert_int_equal(fault(DATA, USER_WRITE), UMBRA_RESUME);
	root_with(0, 0x7000, 0, 0);
	guest_write(1, 0, 0);
	assert_sound();
	root_with(0, 0x7000, 0, 0);
	assert_int_equal(spte_at(DATA), 0);
	assert_int_equal(fault(DATA, USER_WRITE), UMBRA_INJECT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    FIXTURE_TEST(test_vcpu_arguments),
	    FIXTURE_TEST(test_new),
	    FIXTURE_TEST(test_modes),
	    FIXTURE_TEST(test_keys),
	    FIXTURE_TEST(test_shared),
	    FIXTURE_TEST(test_zapped),
	    FIXTURE_TEST(test_quiet),
	    FIXTURE_TEST(test_paging_off),
	    FIXTURE_TEST(test_paging_off_everywhere),
	    FIXTURE_TEST(test_changed_unloaded),
	};

	return cmocka_run_group_tests_name("root", tests, NULL, NULL);
}
