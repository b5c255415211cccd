/* SPDX-License-Identifier: BSD-2-Clause */
/* Tests of core/log.c. (tests/machine/sim_log.c has random ones.) */
#include "wide.h"

#define USER_WRITE (UMBRA_PF_U | UMBRA_PF_W)
#define GVA        0x600000ull /* PDE 3 */
#define GFN        0x400ull    /* of 2 MiB page 2 */
#define SLOT       0

static uint64_t collect(uint64_t first, uint64_t pages)
{
	uint64_t dirty = UINT64_MAX;

	assert_int_equal(umbra_log_collect(wide.mmu, (umbra_gfn){first}, pages, &dirty), 0);
	wide_sound();
	return dirty;
}

static unsigned level_at(uint64_t gva)
{
	unsigned level;

	return wide_leaf(gva, &level) & PTE_P ? level : 0;
}

/* Large pages are read as such; a write takes 4 KiB out. */
static void log_large(unsigned flags)
{
	wide_map(GVA, GFN << 12 | RIGHTS | PTE_PS);
	assert_int_equal(wide_fault(GVA, USER_WRITE), UMBRA_RESUME);
	assert_int_equal(level_at(GVA), 2);
	assert_int_equal(umbra_log_start(wide.mmu, SLOT, flags), 0);
	assert_int_equal(level_at(GVA), flags ? 0 : 2);
	assert_int_equal(wide_fault(GVA + 0x1000, UMBRA_PF_U), UMBRA_RESUME);
	assert_int_equal(level_at(GVA), 2);
	assert_int_equal(collect(GFN, 64), 0);
	assert_int_equal(wide_fault(GVA + 0x3000, USER_WRITE), UMBRA_RESUME);
	assert_int_equal(level_at(GVA + 0x3000), 1);
	assert_int_equal(collect(GFN, 64), 1 << 3);
	assert_int_equal(collect(GFN, 64), 0);
	/* It is seen again, and again. */
	assert_int_equal(wide_fault(GVA + 0x3000, USER_WRITE), UMBRA_RESUME);
	assert_int_equal(collect(GFN + 2, 3), 1 << 1);
	assert_int_equal(umbra_log_stop(wide.mmu, SLOT), 0);
	assert_int_equal(wide_fault(GVA + 0x3000, USER_WRITE), UMBRA_RESUME);
	assert_int_equal(collect(GFN, 64), 0);
	assert_int_equal(umbra_log_stop(wide.mmu, SLOT), UMBRA_ENOENT);
	wide_sound();
}

static void test_lazily(void **state)
{
	(void)state;
	log_large(0);
}

static void test_eagerly(void **state)
{
	(void)state;
	log_large(UMBRA_LOG_SPLIT);
}

/* The tables that a walk sets bits in are written, too; and what the embedder tells. */
static void test_tables(void **state)
{
	uint64_t *pde = (uint64_t *)(wide.ram + 0x3000) + 3;

	(void)state;
	wide_map(GVA, GFN << 12 | RIGHTS | PTE_PS);
	assert_true(*pde);
	*pde &= ~PTE_A;
	assert_int_equal(umbra_log_start(wide.mmu, SLOT, 0), 0);
	assert_int_equal(wide_fault(GVA, UMBRA_PF_U), UMBRA_RESUME);
	assert_int_equal(collect(0, 64), 1 << 3);
	assert_int_equal(umbra_guest_write(wide.mmu, 0x21008, 8), 0);
	assert_int_equal(collect(0, 64), 1ull << 0x21);
}

static void test_words(void **state)
{
	uint64_t dirty = 7;

	(void)state;
	wide_map(GVA, GFN << 12 | RIGHTS | PTE_PS);
	assert_int_equal(umbra_log_collect_word(wide.mmu, (umbra_gfn){GFN}, ~0ull, &dirty),
			 UMBRA_ENOENT);
	assert_int_equal(umbra_log_start(wide.mmu, SLOT, 0), 0);
	assert_int_equal(wide_fault(GVA + 0x3000, USER_WRITE), UMBRA_RESUME);
	assert_int_equal(wide_fault(GVA + 0x5000, USER_WRITE), UMBRA_RESUME);
	assert_int_equal(umbra_log_collect_word(wide.mmu, (umbra_gfn){GFN + 1}, ~0ull, &dirty),
			 UMBRA_EINVAL);
	assert_int_equal(dirty, 7);
	assert_int_equal(umbra_log_collect_word(wide.mmu, (umbra_gfn){GFN}, 0xf, &dirty), 0);
	assert_int_equal(dirty, 1 << 3);
	assert_int_equal(umbra_log_collect_word(wide.mmu, (umbra_gfn){GFN}, ~0ull, &dirty), 0);
	assert_int_equal(dirty, 1 << 5);
	wide_sound();
}

static void test_refused(void **state)
{
	uint64_t dirty;

	(void)state;
	assert_int_equal(umbra_log_start(wide.mmu, 77, 0), UMBRA_ENOENT);
	assert_int_equal(umbra_log_start(wide.mmu, SLOT, 4), UMBRA_EINVAL);
	wide.mmu->config.without = UMBRA_WITHOUT_ACCESSED;
	assert_int_equal(umbra_log_start(wide.mmu, SLOT, UMBRA_LOG_DIRTY_BITS), UMBRA_EINVAL);
	wide.mmu->config.without = 0;
	assert_int_equal(umbra_log_start(wide.mmu, SLOT, 0), 0);
	assert_int_equal(umbra_log_start(wide.mmu, SLOT, 0), UMBRA_EEXIST);
	assert_int_equal(umbra_log_collect(wide.mmu, (umbra_gfn){5}, UINT64_MAX, &dirty),
			 UMBRA_EINVAL);
	assert_int_equal(umbra_slot_delete(wide.mmu, SLOT), 0); /* its log goes with it */
	assert_int_equal(umbra_log_stop(wide.mmu, SLOT), UMBRA_ENOENT);
}

/* ---- by D bits ---- */

#define TABLE 5u /* gfn of a table of 4K pages */

/* Page GFN + @i at GVA + @i pages, written or not by the guest so far; in the log, nothing. */
static void start_by_d(uint32_t code)
{
	wide_map(GVA, TABLE << 12 | RIGHTS | PTE_A);
	for (unsigned i = 0; i < 16; i++)
		wide_poke(TABLE * 4096u + i * 8, (GFN + i) << 12 | RIGHTS | PTE_A | PTE_D);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(wide_fault(GVA + i * 4096ull, code), UMBRA_RESUME);
	wide.flushes = 0;
	assert_int_equal(umbra_log_start(wide.mmu, SLOT, UMBRA_LOG_DIRTY_BITS), 0);
	assert_int_equal(wide.flushes, 1);
	assert_int_equal(collect(0, 64), 0);
	assert_int_equal(collect(GFN, 64), 0);
}

static uint64_t *spte_of(unsigned i)
{
	return &wide_shadow(GVA, 1)->table[gva_index(GVA, 1) + i];
}

/* The processor writes to page @i. */
static void hardware_writes(unsigned i)
{
	assert_int_equal(*spte_of(i) & (PTE_P | PTE_W), PTE_P | PTE_W);
	*spte_of(i) |= PTE_D;
}

/* Writes do not fault, are seen, and are seen again. */
static void test_by_d(void **state)
{
	(void)state;
	start_by_d(USER_WRITE);
	for (unsigned round = 0; round < 2; round++) {
		hardware_writes(3);
		hardware_writes(7);
		wide.flushes = 0;
		assert_int_equal(collect(GFN, 64), 1 << 3 | 1 << 7);
		assert_int_equal(wide.flushes, 1);
		assert_int_equal(*spte_of(3) & (PTE_W | PTE_D), PTE_W);
		assert_int_equal(collect(GFN, 64), 0);
		assert_int_equal(wide.flushes, 1);
	}
	hardware_writes(3);
	wide.flushes = 0;
	assert_int_equal(collect(GFN + 3, 1), 1);
	assert_int_equal(wide.flushes, 1);
	/* What is read may be written; what faults for a write is marked at once. */
	wide_drop(GFN, 16);
	assert_int_equal(wide_fault(GVA, UMBRA_PF_U), UMBRA_RESUME);
	assert_int_equal(*spte_of(0) & (PTE_W | PTE_D), PTE_W);
	assert_int_equal(wide_fault(GVA + 0x1000, USER_WRITE), UMBRA_RESUME);
	assert_int_equal(*spte_of(1) & (PTE_W | PTE_D), PTE_W | PTE_D);
	hardware_writes(0);
	assert_int_equal(collect(GFN, 64), 1 << 0 | 1 << 1);
	assert_int_equal(umbra_log_stop(wide.mmu, SLOT), 0);
	assert_int_equal(wide.mmu->dirty_logs, 0);
	wide_sound();
	hardware_writes(0);
	assert_int_equal(wide_fault(GVA, USER_WRITE), UMBRA_RESUME);
	assert_int_equal(umbra_log_start(wide.mmu, SLOT, 0), 0);
	assert_int_equal(collect(GFN, 64), 0);
	assert_int_equal(*spte_of(0) & PTE_W, 0);
}

static void drop_it(void)
{
	wide_drop(GFN + 3, 1);
}

static void drop_all(void)
{
	wide_drop(0, 0x1000);
}

static void guest_unmaps(void)
{
	wide_write(TABLE * 4096u + 3 * 8, 0);
}

static void guest_protects(void)
{
	wide_write(TABLE * 4096u + 3 * 8, (GFN + 3) << 12 | PTE_P | PTE_U | PTE_A | PTE_D);
}

static void guest_unmaps_table(void)
{
	wide_write(0x3000 + (GVA >> 21 & 511) * 8, 0);
}

static void zap_all(void)
{
	umbra_zap_all(wide.mmu);
}

static void unprotect(void)
{
	assert_int_equal(umbra_unprotect(wide.mmu, (umbra_gfn){TABLE}), 1);
}

static void write_protect(void)
{
	assert_int_equal(umbra_write_protect(wide.mmu, (umbra_gfn){GFN}, 8, NULL), 0);
}

static void other_rights(void)
{
	uint64_t before = *spte_of(3) & PTE_D;

	wide_poke(TABLE * 4096u + 3 * 8, (GFN + 3) << 12 | RIGHTS | PTE_A | PTE_D | PTE_NX);
	assert_int_equal(wide_fault(GVA + 0x3000, UMBRA_PF_U), UMBRA_RESUME);
	assert_int_equal(*spte_of(3) & PTE_D, before);
	wide_poke(TABLE * 4096u + 3 * 8, (GFN + 3) << 12 | PTE_P | PTE_U | PTE_A | PTE_D);
	assert_int_equal(wide_fault(GVA + 0x3000, UMBRA_PF_U), UMBRA_RESUME);
}

static void (*const ways[])(void) = {drop_it,     drop_all,  guest_unmaps,       guest_protects,
				     zap_all,     unprotect, guest_unmaps_table, write_protect,
				     other_rights};

#define WAYS (sizeof(ways) / sizeof(ways[0]))

/* Whatever takes the D bit away has seen it. */
static void test_d_goes(void **state)
{
	(void)state;
	for (unsigned i = 0; i < WAYS; i++) {
		start_by_d(i & 1 ? USER_WRITE : UMBRA_PF_U);
		hardware_writes(3);
		ways[i]();
		wide_sound();
		assert_int_equal(collect(GFN, 64), 1 << 3);
		assert_int_equal(collect(GFN, 64), 0);
		assert_int_equal(umbra_log_stop(wide.mmu, SLOT), 0);
		umbra_zap_all(wide.mmu);
	}
}

#define PAGES   8u
#define ALIASES 5u /* of each */

/* Chains with descriptors, each by itself or eight at a time: every one of their sptes is seen. */
static void test_d_of_chains(void **state)
{
	(void)state;
	wide_map(GVA, TABLE << 12 | RIGHTS | PTE_A);
	for (unsigned i = 0; i < PAGES * ALIASES; i++)
		wide_poke(TABLE * 4096u + i * 8, (GFN + i % PAGES) << 12 | RIGHTS | PTE_A | PTE_D);
	assert_int_equal(umbra_log_start(wide.mmu, SLOT, UMBRA_LOG_DIRTY_BITS), 0);
	for (unsigned written = 0; written < 2 * PAGES * ALIASES; written++) {
		unsigned at = written / 2, page = at % PAGES;

		for (unsigned i = 0; i < PAGES * ALIASES; i++)
			assert_int_equal(wide_fault(GVA + i * 4096ull, UMBRA_PF_U), UMBRA_RESUME);
		hardware_writes(at);
		assert_int_equal(written & 1 ? wide_drop(GFN, PAGES) : wide_drop(GFN + page, 1),
				 written & 1 ? PAGES * ALIASES : ALIASES);
		assert_int_equal(collect(GFN, 64), 1 << page);
	}
}

/* What host.input was asked about, and what it says of GFN + 3 in place of the hardware. */
static struct {
	uint64_t asked; /* a bit a page */
	unsigned times;
	bool says;
} inputs;

static uint64_t answer(void *ctx, enum umbra_input kind, uint64_t key, uint64_t value)
{
	(void)ctx;
	if (kind != UMBRA_INPUT_DIRTY || key - GFN >= 64)
		return value;
	inputs.asked |= 1ull << (key - GFN);
	inputs.times++;
	return key == GFN + 3 ? inputs.says : value;
}

/* host.input hears of each such spte, and has the last word. */
static void test_d_is_input(void **state)
{
	(void)state;
	wide.mmu->host.input = answer;
	for (unsigned i = 0; i < 2 * WAYS; i++) {
		inputs.says = false;
		start_by_d(UMBRA_PF_U);
		if (i & 1)
			hardware_writes(3);
		memset(&inputs, 0, sizeof(inputs));
		inputs.says = !(i & 1);
		ways[i / 2]();
		assert_true(inputs.asked & 1 << 3);
		assert_int_equal(collect(GFN, 64), inputs.says << 3);
		assert_int_equal(umbra_log_stop(wide.mmu, SLOT), 0);
		umbra_zap_all(wide.mmu);
	}
}

/* Collecting asks about all that may be written, once; not about what is known to be. */
static void test_d_is_asked_once(void **state)
{
	(void)state;
	wide.mmu->host.input = answer;
	inputs.says = false;
	start_by_d(UMBRA_PF_U);
	assert_int_equal(wide_fault(GVA + 0x5000, USER_WRITE), UMBRA_RESUME);
	memset(&inputs, 0, sizeof(inputs));
	inputs.says = true;
	assert_int_equal(collect(GFN, 64), 1 << 3 | 1 << 5);
	assert_int_equal(inputs.asked, 0xffff & ~(1 << 5));
	assert_int_equal(inputs.times, 15);
}

/* A large page is not writable, so that its D bit need not tell of 512. */
static void test_by_d_large(void **state)
{
	unsigned level;

	(void)state;
	wide_map(GVA, GFN << 12 | RIGHTS | PTE_PS | PTE_D);
	assert_int_equal(wide_fault(GVA, USER_WRITE), UMBRA_RESUME);
	assert_int_equal(umbra_log_start(wide.mmu, SLOT, UMBRA_LOG_DIRTY_BITS), 0);
	assert_int_equal(level_at(GVA), 2);
	assert_int_equal(wide_leaf(GVA, &level) & PTE_W, 0);
	assert_int_equal(collect(GFN, 64), 0);
	assert_int_equal(wide_drop(GFN, 1), 1);
	assert_int_equal(wide_fault(GVA, UMBRA_PF_U), UMBRA_RESUME);
	assert_int_equal(level_at(GVA), 2);
	assert_int_equal(wide_leaf(GVA, &level) & PTE_W, 0);
	assert_int_equal(wide_fault(GVA + 0x5000, USER_WRITE), UMBRA_RESUME);
	assert_int_equal(level_at(GVA + 0x5000), 1);
	assert_int_equal(collect(GFN, 64), 1 << 5);
}

/*
 * A TLB may write through what the guest has unmapped, until somebody flushes it: who collects the
 * page does, though no spte is left.
 */
static void test_stale(void **state)
{
	uint64_t dirty;

	(void)state;
	start_by_d(USER_WRITE);
	assert_int_equal(wide_fault(GVA + 0x3000, USER_WRITE), UMBRA_RESUME);
	guest_unmaps();
	wide.flushes = 0;
	assert_int_equal(umbra_log_collect_word(wide.mmu, (umbra_gfn){GFN}, ~0ull, &dirty), 0);
	assert_int_equal(dirty, 1 << 3);
	assert_int_equal(wide.flushes, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    WIDE_TEST(test_lazily),          WIDE_TEST(test_eagerly),
	    WIDE_TEST(test_tables),          WIDE_TEST(test_words),
	    WIDE_TEST(test_refused),         WIDE_TEST(test_by_d),
	    WIDE_TEST(test_d_goes),          WIDE_TEST(test_by_d_large),
	    WIDE_TEST(test_stale),           WIDE_TEST(test_d_is_input),
	    WIDE_TEST(test_d_is_asked_once), WIDE_TEST(test_d_of_chains),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
