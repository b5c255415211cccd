/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "wide.h"

#define RAM (3ull << 30)

struct wide wide;

const struct umbra_paging wide_4_levels = {0x80010001, 0x1000, 0x20, 0xd00};
const struct umbra_paging wide_5_levels = {0x80010001, 0x1000, 0x1020, 0xd00};
const struct umbra_paging wide_pae = {0x80010001, 0x1000, 0x20, 0x800};
const struct umbra_paging wide_pse = {0x80010001, 0x1000, 0x10, 0};
const struct umbra_paging wide_off = {0x00000001, 0, 0, 0};

static int host_alloc(void *ctx, size_t size, bool low, struct umbra_memory *memory)
{
	void *va = mmap(NULL, size, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | (low ? MAP_32BIT : 0), -1, 0);

	(void)ctx;
	*memory = (struct umbra_memory){va, (uintptr_t)va};
	return va == MAP_FAILED ? UMBRA_ENOMEM : 0;
}

static void host_free(void *ctx, size_t size, struct umbra_memory memory)
{
	(void)ctx;
	munmap(memory.va, size);
}

static int host_frame_get(void *ctx, umbra_gfn gfn, enum umbra_want want, struct umbra_frame *frame)
{
	(void)ctx;
	(void)want;
	if (gfn.n && gfn.n == wide.gone)
		return UMBRA_EAGAIN;
	*frame = (struct umbra_frame){
	    .pfn = {gfn.n + PFN_BASE + wide.askew},
	    .writable = !wide.protected,
	    .level = (uint8_t)wide.level,
	};
	return 0;
}

static void *host_frame_va(void *ctx, umbra_pfn pfn)
{
	(void)ctx;
	return wide.ram + ((pfn.n - PFN_BASE - wide.askew) << 12);
}

static void host_flush(void *ctx, const struct umbra_flush *flush)
{
	(void)ctx;
	wide.flushes++;
	wide.flushed = *flush;
}

static const struct umbra_host host = {
    .alloc = host_alloc,
    .free = host_free,
    .frame_get = host_frame_get,
    .frame_va = host_frame_va,
    .flush = host_flush,
};

void wide_create(const struct umbra_config *config)
{
	static const struct umbra_slot slots[] = {
	    {.id = 0, .first = {0}, .pages = 0x40000},
	    {.id = 1, .first = {0x40000}, .pages = 0x40000},
	    {.id = 2, .first = {ODD_SLOT}, .pages = 0x400},
	};

	wide = (struct wide){.level = 3};
	wide.ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_ptr_not_equal(wide.ram, MAP_FAILED);
	assert_int_equal(umbra_mmu_create(&host, NULL, config, &wide.mmu), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(umbra_slot_add(wide.mmu, &slots[i]), 0);
	assert_int_equal(umbra_vcpu_create(wide.mmu, 0, &wide.vcpu), 0);
}

int wide_setup(void **state)
{
	const struct umbra_config config = {.shadow_quota = 128, .maxphyaddr = 40};

	(void)state;
	wide_create(&config);
	return umbra_vcpu_set_paging(wide.vcpu, &wide_4_levels);
}

int wide_setup_nested(void **state)
{
	const struct umbra_config config = {.shadow_quota = 128, .maxphyaddr = 40, .nested = 4};

	(void)state;
	wide_create(&config);
	return 0;
}

int wide_teardown(void **state)
{
	(void)state;
	umbra_mmu_destroy(wide.mmu);
	munmap(wide.ram, RAM);
	return 0;
}

void wide_poke(uint64_t gpa, uint64_t value)
{
	memcpy(wide.ram + gpa, &value, sizeof(value));
}

void wide_write(uint64_t gpa, uint64_t value)
{
	wide_poke(gpa, value);
	assert_int_equal(umbra_guest_write(wide.mmu, gpa, sizeof(value)), 0);
}

uint64_t wide_word(uint64_t gpa)
{
	uint64_t value;

	memcpy(&value, wide.ram + gpa, sizeof(value));
	return value;
}

void wide_map(uint64_t gva, uint64_t pde)
{
	wide_poke(0x1000, 0x2000 | RIGHTS | PTE_A);
	wide_poke(0x2000, 0x3000 | RIGHTS | PTE_A);
	wide_write(0x3000 + (gva >> 21 & 511) * 8, pde);
}

enum umbra_verdict wide_fault(uint64_t gva, uint32_t code)
{
	return umbra_fault(wide.vcpu, gva, code).verdict;
}

uint64_t wide_drop(uint64_t gfn, uint64_t pages)
{
	struct umbra_dropped dropped;

	assert_int_equal(umbra_drop(wide.mmu, (umbra_gfn){gfn}, pages, &dropped), 0);
	return dropped.sptes;
}

uint64_t wide_count(uint64_t gfn)
{
	uint64_t sptes;

	assert_int_equal(umbra_rmap_count(wide.mmu, (umbra_gfn){gfn}, &sptes), 0);
	return sptes;
}

struct shadow *wide_shadow(uint64_t gva, unsigned level)
{
	uint32_t root = wide.vcpu->root[vcpu_root_index(wide.vcpu, gva)];
	struct shadow *shadow = root ? shadow_of(wide.mmu, root) : NULL;

	while (shadow && shadow->role.level > level) {
		unsigned index = gva_index(gva, shadow->role.level);
		uint64_t spte = shadow->table[index];

		if (!(spte & PTE_P) || spte_is_leaf(shadow->role.level, spte))
			return NULL;
		shadow = shadow_child(wide.mmu, shadow, index);
	}
	return shadow;
}

uint64_t wide_leaf(uint64_t gva, unsigned *level)
{
	for (*level = 1; *level <= LEVELS; ++*level) {
		struct shadow *shadow = wide_shadow(gva, *level);

		if (shadow && shadow->role.level == *level)
			return shadow->table[gva_index(gva, *level)];
	}
	*level = 0;
	return 0;
}

uint64_t wide_large(unsigned level)
{
	struct umbra_stats stats;

	umbra_stats_get(wide.mmu, &stats);
	return stats.sptes_large[level - 2];
}

void wide_sound(void)
{
	struct umbra_audit report;

	if (umbra_audit(wide.mmu, &report))
		fail_msg("invariant %u, gfn %#llx: %s", report.invariant,
			 (unsigned long long)report.gfn, report.what);
}
