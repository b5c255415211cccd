/* SPDX-License-Identifier: BSD-2-Clause */
#include "fixture.h"

struct fixture fix;
const struct umbra_paging long_mode_on = {0x80010001, 0x1000, 0x20, 0xd00};
const struct umbra_paging paging_off = {0x1, 0, 0x20, 0};

static void flush(void *ctx, const struct umbra_flush *named)
{
	(void)ctx;
	fix.flushed = *named;
	fix.flushes++;
	if (fix.on_flush)
		fix.on_flush();
}

static int (*inner_frame_get)(void *ctx, umbra_gfn gfn, enum umbra_want want,
			      struct umbra_frame *frame);

static int frame_get(void *ctx, umbra_gfn gfn, enum umbra_want want, struct umbra_frame *frame)
{
	int error = inner_frame_get(ctx, gfn, want, frame);

	if (!error)
		frame->writable = !fix.shared || want == UMBRA_WANT_WRITE;
	return error;
}

static void build_tables(void)
{
	*guest_entry(1, 0) = 0x2000 | RIGHTS;
	*guest_entry(2, 0) = 0x3000 | RIGHTS;
	*guest_entry(2, 1) = 0x5000 | RIGHTS;
	*guest_entry(3, 2) = 0x4000 | RIGHTS;
	*guest_entry(5, 0) = 0x4000 | RIGHTS;
	for (unsigned i = 0; i < 16; i++)
		*guest_entry(4, i) = (FIRST + i) << 12 | RIGHTS;
}

int fixture_setup(void **state)
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
	fix = (struct fixture){0};
	assert_int_equal(arena_create(&options, &fix.arena), 0);
	failing_init(&fix.failing, &arena_host, fix.arena, &fix.host);
	inner_frame_get = fix.host.frame_get;
	fix.host.frame_get = frame_get;
	build_tables();
	assert_int_equal(umbra_mmu_create(&fix.host, &fix.failing, &config, &fix.mmu), 0);
	assert_int_equal(umbra_slot_add(fix.mmu, &slot), 0);
	assert_int_equal(umbra_vcpu_create(fix.mmu, 0, &fix.vcpu), 0);
	assert_int_equal(umbra_vcpu_set_paging(fix.vcpu, &long_mode_on), 0);
	return 0;
}

int fixture_teardown(void **state)
{
	(void)state;
	fix.on_flush = NULL;
	umbra_mmu_destroy(fix.mmu);
	assert_int_equal(arena_in_use(fix.arena), 0);
	arena_destroy(fix.arena);
	return 0;
}

uint64_t *guest_entry(uint64_t gfn, unsigned index)
{
	return (uint64_t *)arena_page(fix.arena, (umbra_gfn){gfn}) + index;
}

void guest_write(uint64_t gfn, unsigned index, uint64_t value)
{
	*guest_entry(gfn, index) = value;
	assert_int_equal(umbra_guest_write(fix.mmu, (gfn << 12) + index * 8ull, 8), 0);
}

enum umbra_verdict fault(uint64_t gva, uint32_t code)
{
	return umbra_fault(fix.vcpu, gva, code).verdict;
}

uint64_t drop(uint64_t gfn, uint64_t pages)
{
	struct umbra_dropped dropped;

	assert_int_equal(umbra_drop(fix.mmu, (umbra_gfn){gfn}, pages, &dropped), 0);
	assert_sound();
	return dropped.sptes;
}

struct shadow *shadow_at_level(uint64_t gva, unsigned level)
{
	const uint32_t *root = &fix.vcpu->root[vcpu_root_index(fix.vcpu, gva)];
	struct shadow *shadow = *root ? shadow_of(fix.mmu, *root) : NULL;

	while (shadow && shadow->role.level > level) {
		unsigned index = gva_index(gva, shadow->role.level);

		shadow = shadow->table[index] & PTE_P &&
				 !spte_is_leaf(shadow->role.level, shadow->table[index])
			     ? shadow_child(fix.mmu, shadow, index)
			     : NULL;
	}
	return shadow;
}

uint64_t spte_at(uint64_t gva)
{
	struct shadow *shadow = shadow_at_level(gva, 1);

	return shadow ? shadow->table[gva_index(gva, 1)] : 0;
}

void assert_sound(void)
{
	struct umbra_audit report;

	if (umbra_audit(fix.mmu, &report))
		fail_msg("invariant %u, gfn %#llx: %s", report.invariant,
			 (unsigned long long)report.gfn, report.what);
}
