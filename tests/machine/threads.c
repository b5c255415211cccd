/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Several processors at once, in threads: each faults, loads CR3, flushes and writes tables of its
 * own guest while a host thread drops, moves, watches, logs, ages, splits,
 * zaps, changes the quota, adds, moves
 * and deletes a slot, and counts. The audit comes at the end: between a store and its
 * umbra_guest_write() a table may differ from its shadow. Run under ThreadSanitizer it proves that
 * the one lock covers what it should; run plainly, that nothing is lost. The seed is argv[1]
 * (default 1) and is printed.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <umbra/umbra.h>

#include "arena.h"

#define CPUS       3u
#define STEPS      200000u
#define DATA       64u /* gfns 0..63, shared by all */
#define TABLES     16u /* gfns of each processor's tables, from 64 on */
#define EXTRA_SLOT 4096u

#define RIGHTS 0x67ull /* P W U A D */

struct cpu {
	struct umbra_mmu *mmu;
	struct umbra_vcpu *vcpu;
	struct arena *arena;
	unsigned number;
	uint64_t random;
	uint64_t resumed;
};

static atomic_bool done;

static uint64_t next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

_Noreturn static void fail(const char *what)
{
	fprintf(stderr, "threads: %s\n", what);
	exit(1);
}

/* Guest words are written by one thread and read by another: the guest's own atomics. */
static void guest_store(struct cpu *cpu, uint64_t gfn, unsigned index, uint64_t value)
{
	_Atomic uint64_t *page = arena_page(cpu->arena, (umbra_gfn){gfn});

	if (!page)
		fail("no frame");
	atomic_store(&page[index], value);
	if (umbra_guest_write(cpu->mmu, (gfn << 12) + index * 8ull, 8))
		fail("guest_write refused 8 bytes");
}

/* PML4 -> PDPT -> PD -> two tables; @which of two address spaces of the processor. */
static uint64_t base_of(const struct cpu *cpu, unsigned which)
{
	return DATA + (cpu->number * 2ull + which) * TABLES;
}

static void build(struct cpu *cpu, unsigned which)
{
	uint64_t base = base_of(cpu, which);

	guest_store(cpu, base, 0, (base + 1) << 12 | RIGHTS);
	guest_store(cpu, base + 1, 0, (base + 2) << 12 | RIGHTS);
	for (unsigned i = 0; i < 2; i++)
		guest_store(cpu, base + 2, i, (base + 3 + i) << 12 | RIGHTS);
	for (unsigned i = 0; i < 64; i++)
		for (unsigned table = 0; table < 2; table++)
			guest_store(cpu, base + 3 + table, i,
				    (next(&cpu->random) % DATA) << 12 | RIGHTS);
}

static void load_cr3(struct cpu *cpu, unsigned which)
{
	const struct umbra_paging paging = {
	    .cr0 = 0x80010001, .cr3 = base_of(cpu, which) << 12, .cr4 = 0x20, .efer = 0xd00};

	if (umbra_vcpu_set_paging(cpu->vcpu, &paging))
		fail("set_paging refused long mode");
}

static void step(struct cpu *cpu)
{
	uint64_t r = next(&cpu->random);
	uint64_t gva = (r >> 8 & 1) << 21 | (r >> 16 & 63) << 12;
	struct umbra_root root;
	struct umbra_answer answer;

	switch (r % 16) {
	case 0:
		load_cr3(cpu, r >> 32 & 1);
		break;
	case 1:
		umbra_invlpg(cpu->vcpu, gva);
		break;
	case 2:
		guest_store(cpu, base_of(cpu, r >> 32 & 1) + 3, r >> 16 & 63,
			    (r >> 40) % DATA << 12 | RIGHTS);
		break;
	case 3:
		umbra_unprotect(cpu->mmu, (umbra_gfn){base_of(cpu, 0) + (r >> 32) % 5});
		break;
	default:
		do { /* while the host takes the page away */
			if (umbra_vcpu_root(cpu->vcpu, &root))
				fail("no root");
			answer = umbra_fault(cpu->vcpu, gva,
					     r & 1 << 20 ? UMBRA_PF_U | UMBRA_PF_W : UMBRA_PF_U);
		} while (answer.verdict == UMBRA_RETRY);
		if (answer.verdict != UMBRA_RESUME)
			fail("a good access was not resumed");
		cpu->resumed++;
	}
}

static void *cpu_main(void *arg)
{
	struct cpu *cpu = arg;

	for (unsigned i = 0; i < STEPS; i++)
		step(cpu);
	return NULL;
}

static void audit(struct umbra_mmu *mmu)
{
	struct umbra_audit report;

	if (umbra_audit(mmu, &report)) {
		fprintf(stderr, "threads: invariant %u, gfn %#llx: %s\n", report.invariant,
			(unsigned long long)report.gfn, report.what);
		exit(1);
	}
}

static atomic_ullong touches;

static void touched(void *ctx, const struct umbra_touch *touch)
{
	(void)ctx;
	if (touch->gfn.n >= DATA || !touch->kind)
		fail("a touch of what nobody watches");
	touches++;
}

/* What came later. Another thread may be at the same page. */
static void host_more(struct umbra_mmu *mmu, umbra_gfn gfn, uint64_t r)
{
	struct umbra_invalidation held[2];

	uint64_t words[2];

	switch (r >> 40 & 7) {
	case 2:
		umbra_log_start(mmu, 1, r >> 44 & 3);
		break;
	case 3:
		umbra_log_stop(mmu, 1);
		break;
	case 4:
		if (umbra_log_collect(mmu, gfn, DATA, words) ||
		    umbra_age(mmu, gfn, DATA, r >> 44 & 1, words))
			fail("a log or an age refused");
		break;
	case 5:
		if (umbra_write_protect(mmu, gfn, 8, NULL))
			fail("write protection refused");
		break;
	case 0:
		if (umbra_invalidate_gather(mmu, gfn, 2, &held[0], NULL) ||
		    umbra_invalidate_gather(mmu, (umbra_gfn){gfn.n ^ 8}, 1, &held[1], NULL))
			fail("a range could not be held");
		umbra_flush(mmu);
		umbra_invalidate_end(mmu, &held[0]);
		umbra_invalidate_end(mmu, &held[1]);
		break;
	case 1:
		if (umbra_split(mmu, gfn, 8, NULL))
			fail("split refused");
		break;
	default:
		if (umbra_watch(mmu, gfn, r >> 44 & 7))
			fail("watch refused");
	}
}

static void host_step(struct umbra_mmu *mmu, struct arena *arena, uint64_t r)
{
	const struct umbra_slot extra = {.id = 9, .first = {EXTRA_SLOT}, .pages = 64, .flags = 0};
	umbra_gfn gfn = {(r >> 8) % DATA};
	struct umbra_stats stats;
	struct umbra_frame to = {.writable = true};

	switch (r % 9) {
	case 8:
		host_more(mmu, gfn, r);
		break;
	case 0:
		umbra_drop(mmu, gfn, (r >> 32) % 16, NULL);
		break;
	case 1:
		umbra_zap_all(mmu);
		break;
	case 2:
		umbra_quota_set(mmu, UMBRA_QUOTA_MIN + (r >> 32) % 64);
		break;
	case 3:
		if (umbra_slot_add(mmu, &extra) ||
		    umbra_slot_move(mmu, extra.id, (umbra_gfn){EXTRA_SLOT + (r >> 8) % 512}) ||
		    umbra_slot_delete(mmu, extra.id))
			fail("a slot could not be added, moved and deleted");
		break;
	case 4:
		umbra_stats_get(mmu, &stats);
		break;
	default:
		if (!arena_frame_reserve(arena, &to.pfn) && umbra_remap(mmu, gfn, &to, NULL))
			fail("remap refused");
	}
}

static void *host_main(void *arg)
{
	struct cpu *cpu = arg;
	uint64_t random = 77;

	while (!atomic_load(&done))
		host_step(cpu->mmu, cpu->arena, next(&random));
	return NULL;
}

static void no_tlb(void *ctx, const struct umbra_flush *flush)
{
	(void)ctx;
	(void)flush;
}

int main(int argc, char **argv)
{
	const struct arena_options options = {.gfns = EXTRA_SLOT + 576,
					      .frames = 2048,
					      .high = 64 << 20,
					      .low = 1 << 20,
					      .seed = 1,
					      .flush = no_tlb};
	const struct umbra_config config = {.shadow_quota = 64, .maxphyaddr = 40, .prefetch = 7};
	const struct umbra_slot slot = {.id = 1, .pages = 1024};
	uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
	pthread_t thread[CPUS + 1];
	struct cpu cpu[CPUS];
	struct umbra_host host = arena_host;
	struct arena *arena;
	struct umbra_mmu *mmu;

	host.touched = touched;
	printf("threads: seed %llu\n", (unsigned long long)seed);
	if (arena_create(&options, &arena) || umbra_mmu_create(&host, arena, &config, &mmu) ||
	    umbra_slot_add(mmu, &slot))
		fail("no memory");
	for (unsigned i = 0; i < CPUS; i++) {
		cpu[i] = (struct cpu){
		    .mmu = mmu, .arena = arena, .number = i, .random = seed * 1000003 + i + 1};
		if (umbra_vcpu_create(mmu, i, &cpu[i].vcpu))
			fail("no vcpu");
		build(&cpu[i], 0);
		build(&cpu[i], 1);
		load_cr3(&cpu[i], 0);
	}
	pthread_create(&thread[CPUS], NULL, host_main, &cpu[0]);
	for (unsigned i = 0; i < CPUS; i++)
		pthread_create(&thread[i], NULL, cpu_main, &cpu[i]);
	for (unsigned i = 0; i < CPUS; i++)
		pthread_join(thread[i], NULL);
	atomic_store(&done, true);
	pthread_join(thread[CPUS], NULL);
	audit(mmu);
	printf("threads: %llu touches\n", (unsigned long long)atomic_load(&touches));
	for (unsigned i = 0; i < CPUS; i++)
		printf("threads: cpu %u: %llu faults resumed\n", i,
		       (unsigned long long)cpu[i].resumed);
	umbra_mmu_destroy(mmu);
	if (arena_in_use(arena))
		fail("memory leaked");
	arena_destroy(arena);
	return 0;
}
