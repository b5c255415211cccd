/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Stale on purpose: short scripts that leave a translation in one processor's TLB which the
 * reverse map no longer knows, as the architecture allows, and then let the host take the page
 * away. The TLB must have forgotten it by then. Random guests come here too seldom.
 *
 * Two processors share one address space: 1 -> 4 -> 8 -> 0x10, where page n maps gfn 0x40 + n,
 * and page 16 is the page table itself.
 */
#include <stdio.h>

#include "guest.h"

#define PWU   (REF_P | REF_W | REF_U)
#define PAGE  4096ull
#define TABLE (16 * PAGE) /* gva of the page table */

static struct sim *sim;

static void put(uint64_t gpa, uint64_t entry)
{
	sim_device_write(sim, gpa, &entry, sizeof(entry));
}

static void touch(unsigned cpu, uint64_t gva, bool write, uint64_t word)
{
	const struct ref_access access = {.write = write};
	uint32_t code;

	if (sim_access(&sim->cpu[cpu], gva, access, &word, &code) != SIM_DONE)
		sim_fail(sim, "gva %#llx cannot be reached", (unsigned long long)gva);
	sim_check_audit(sim);
}

/* Both processors know page 3 as gfn 0x43, read-only so far; the table is mapped. */
static void begin(void)
{
	touch(0, TABLE, true, 0x40000 | PWU);
	for (unsigned i = 0; i < 2; i++) {
		touch(i, 3 * PAGE, false, 0);
		touch(i, 5 * PAGE, false, 0);
	}
}

/* The guest's own store makes page 3 gfn 0x44. */
static void change(void)
{
	touch(0, TABLE + 3 * 8, true, 0x44000 | PWU);
}

/* A fault on one processor replaces the leaf that the other still holds. */
static void replaced(void)
{
	begin();
	change();
	touch(0, 3 * PAGE, true, 1);
	sim_drop(sim, 0x43, 1, SIM_SWAP);
}

/* The same; then each processor flushes one other page, which says nothing about this one. */
static void replaced_then_invlpg(void)
{
	begin();
	change();
	touch(0, 3 * PAGE, true, 1);
	for (unsigned i = 0; i < SIM_CPUS; i++)
		sim_invlpg(&sim->cpu[i], 5 * PAGE);
	sim_remap(sim, 0x43);
}

/* A CR3 load on one processor synchronises the table under the other's feet. */
static void synced(void)
{
	begin();
	change();
	sim_paging_set(&sim->cpu[0], &sim->cpu[0].paging);
	sim_check_audit(sim);
	sim_drop(sim, 0x40, 8, SIM_SWAP);
}

/* INVLPG on one processor does. */
static void invalidated(void)
{
	begin();
	change();
	sim_invlpg(&sim->cpu[0], 3 * PAGE);
	sim_check_audit(sim);
	sim_remap(sim, 0x43);
}

/* A device's write to the table does. */
static void written(void)
{
	begin();
	put(0x10018, 0x44000 | PWU);
	sim_check_audit(sim);
	sim_remap(sim, 0x43);
}

/* An upper table is written: the link goes, the leaves stay. */
static void unlinked(void)
{
	begin();
	put(0x8000, 0x11000 | PWU);
	sim_check_audit(sim);
	sim_drop(sim, 0x40, 8, SIM_SWAP);
}

/* The table is no longer tracked, its shadow page gone. */
static void unprotected(void)
{
	begin();
	umbra_unprotect(sim->mmu, (umbra_gfn){0x10});
	sim_check_audit(sim);
	sim_drop(sim, 0x40, 8, SIM_SWAP);
}

/* Pages reclaimed by the quota take their leaves with them. */
static void reclaimed(void)
{
	begin();
	for (uint64_t i = 0; i < 40; i++) {
		put(0x8000 + 8 * (i + 1), (0x20000 + i * PAGE) | PWU);
		put(0x20000 + i * PAGE, (0x50 + i) << 12 | PWU);
		touch(1, (i + 1) << 21, true, i);
	}
	if (umbra_quota_set(sim->mmu, UMBRA_QUOTA_MIN))
		sim_fail(sim, "quota refused");
	sim_check_audit(sim);
	for (uint64_t gfn = 0x50; gfn < 0x78; gfn++) {
		uint64_t left = 1;

		/* First those that nothing maps any more: no spte will ask for a flush. */
		umbra_rmap_count(sim->mmu, (umbra_gfn){gfn}, &left);
		if (!left)
			sim_drop(sim, gfn, 1, SIM_SWAP);
	}
	sim_drop(sim, 0x50, 40, SIM_SWAP);
}

/* W goes from a leaf when its page becomes a table; the TLB that has W must lose it. */
static void became_table(void)
{
	begin();
	for (unsigned i = 0; i < 2; i++)
		touch(i, 3 * PAGE, true, 0x45000 | PWU);
	put(0x8008, 0x43000 | PWU); /* 2 MiB on, gfn 0x43 is a page table */
	touch(0, 1 << 21, false, 0);
	touch(1, 3 * PAGE, true, 0x46000 | PWU);
	sim_invlpg(&sim->cpu[0], 1 << 21);
	touch(0, 1 << 21, true, 9);
	sim_drop(sim, 0x45, 1, SIM_SWAP);
}

/* The kernel's view of a read-only user page (CR0.WP = 0) becomes the user's, and back. */
static void turned_round(void)
{
	struct umbra_paging paging = sim->cpu[0].paging;
	const struct ref_access user = {.user = true};
	uint64_t word = 0;
	uint32_t code;

	paging.cr0 &= ~REF_CR0_WP;
	put(0x10018, 0x43000 | REF_P | REF_U);
	for (unsigned i = 0; i < 2; i++)
		sim_paging_set(&sim->cpu[i], &paging);
	for (unsigned i = 0; i < 8; i++) {
		touch(i & 1, 3 * PAGE, true, i);
		sim_access(&sim->cpu[i >> 1 & 1], 3 * PAGE, user, &word, &code);
		sim_check_audit(sim);
	}
	sim_remap(sim, 0x43);
}

int main(void)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} cases[] = {
	    {"a leaf replaced by a fault", replaced},
	    {"a leaf replaced, other pages flushed", replaced_then_invlpg},
	    {"a table synchronised by CR3", synced},
	    {"a leaf synchronised by INVLPG", invalidated},
	    {"a table written by a device", written},
	    {"a table unlinked", unlinked},
	    {"a table unprotected", unprotected},
	    {"tables reclaimed", reclaimed},
	    {"a page becomes a table", became_table},
	    {"a page of kernel and user", turned_round},
	};
	const unsigned count = sizeof(cases) / sizeof(cases[0]);

	printf("1..%u\n", count);
	for (unsigned i = 0; i < count; i++) {
		const struct sim_options options = {
		    .name = cases[i].name,
		    .gfns = GUEST_GFNS,
		    .config = {.shadow_quota = 128, .maxphyaddr = 40},
		};
		const struct umbra_paging paging = guest_long_mode(0x1000);

		sim = sim_create(&options);
		guest_slots_add(sim);
		put(0x1000, 0x4000 | PWU);
		put(0x4000, 0x8000 | PWU);
		put(0x8000, 0x10000 | PWU);
		for (uint64_t page = 0; page < 16; page++)
			put(0x10000 + page * 8, (0x40 + page) << 12 | PWU);
		put(0x10000 + 16 * 8, 0x10000 | PWU);
		for (unsigned cpu = 0; cpu < SIM_CPUS; cpu++)
			sim_paging_set(&sim->cpu[cpu], &paging);
		cases[i].run();
		sim_check_audit(sim);
		sim_check_tlbs(sim);
		sim_check_mirror(sim, 0, 1);
		sim_destroy(sim);
		printf("ok %u - %s\n", i + 1, cases[i].name);
		fflush(stdout);
	}
	return 0;
}
