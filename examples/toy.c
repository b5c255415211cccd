/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The smallest embedding of libumbra: a toy machine with 8 MiB of memory and a toy processor
 * that can only walk page tables. A guest maps one page twice and uses both mappings; the
 * host moves the page elsewhere; the guest sees no difference. Read main() first.
 * This processor has no TLB; yours has one to flush. host/arena.h is a fuller host.
 */
#include <stdio.h>
#include <string.h>
#include <umbra/umbra.h>

#define MACHINE  (8u << 20)
#define GUEST    32 /* pages of guest memory */
#define P        0x1ull
#define W        0x2ull
#define U        0x4ull
#define ALIAS_RW 0x400000ull
#define ALIAS_RO 0x401000ull
#define DEVICE   0x402000ull

/*
 * The host: all of the machine's memory; hpa = offset in it. The first pages are the guest's,
 * in an order of the host's own; blocks for the library are cut from the rest.
 */
static _Alignas(4096) unsigned char memory[MACHINE];
static uint64_t used = 2 * GUEST * UMBRA_PAGE_SIZE;
static uint64_t frames[GUEST]; /* by gfn: pfn */

static int host_alloc(void *ctx, size_t size, bool low, struct umbra_memory *block)
{
	*block = (struct umbra_memory){memory + used, used};
	used += (size + 4095) & ~4095ull;
	(void)ctx, (void)low; /* everything here is below 4 GiB */
	return used <= MACHINE ? 0 : UMBRA_ENOMEM;
}

static void host_free(void *ctx, size_t size, struct umbra_memory block)
{
	(void)ctx, (void)size, (void)block; /* a toy: never used again */
}

static int host_frame_get(void *ctx, umbra_gfn gfn, enum umbra_want want, struct umbra_frame *frame)
{
	(void)ctx, (void)want; /* every page is always there */
	*frame = (struct umbra_frame){.pfn = {frames[gfn.n]}, .writable = true};
	return 0;
}

static void *host_frame_va(void *ctx, umbra_pfn pfn)
{
	return (void)ctx, memory + (pfn.n << UMBRA_PAGE_SHIFT);
}

static void host_frame_move(void *ctx, umbra_gfn gfn, const struct umbra_frame *to)
{
	void *old = host_frame_va(ctx, (umbra_pfn){frames[gfn.n]});

	memcpy(host_frame_va(ctx, to->pfn), old, UMBRA_PAGE_SIZE);
	memset(old, 0xdb, UMBRA_PAGE_SIZE);
	frames[gfn.n] = to->pfn.n;
}

static void host_flush(void *ctx, const struct umbra_flush *flush)
{
	printf("  flush: vcpus %#llx\n", ((void)ctx, (unsigned long long)flush->vcpus));
}

/* The processor: translate with the tables at @root, or fail with a page fault. */
static uint64_t *walk(uint64_t root, uint64_t gva, bool write)
{
	for (int shift = 39; shift >= 12; shift -= 9) {
		uint64_t entry = ((uint64_t *)(memory + root))[gva >> shift & 511];

		if (!(entry & P) || (write && !(entry & W)) || !(entry & U))
			return NULL;
		root = entry & 0x000ffffffffff000ull;
	}
	return (uint64_t *)(memory + root + (gva & 4088));
}

/* Run one user-mode load or store of the guest, as the exit loop of a hypervisor does. */
static enum umbra_verdict run(struct umbra_vcpu *vcpu, uint64_t gva, bool write, uint64_t *value)
{
	struct umbra_answer answer;
	struct umbra_root root;
	uint64_t *word;

	for (;;) {
		if (umbra_vcpu_root(vcpu, &root))
			return UMBRA_NOMEM;
		word = walk(root.hpa, gva, write);
		if (word) {
			*(write ? word : value) = *(write ? value : word);
			printf("%s %#llx: %llu\n", write ? "store" : "load ",
			       (unsigned long long)gva, (unsigned long long)*value);
			return UMBRA_RESUME;
		}
		answer = umbra_fault(vcpu, gva, UMBRA_PF_U | (write ? UMBRA_PF_W : 0));
		printf("  fault at %#llx: verdict %d, code %#x, gpa %#llx\n",
		       (unsigned long long)gva, answer.verdict, answer.error_code,
		       (unsigned long long)answer.gpa);
		if (answer.verdict != UMBRA_RESUME)
			return answer.verdict;
	}
}

static void guest_entry(uint64_t gfn, uint64_t index, uint64_t entry)
{
	((uint64_t *)(memory + frames[gfn] * UMBRA_PAGE_SIZE))[index] = entry;
}

int main(void)
{
	const struct umbra_host host = {
	    .alloc = host_alloc,
	    .free = host_free,
	    .frame_get = host_frame_get,
	    .frame_va = host_frame_va,
	    .frame_move = host_frame_move,
	    .flush = host_flush,
	};
	const struct umbra_config config = {.shadow_quota = 64, .maxphyaddr = 40};
	const struct umbra_slot slot = {.id = 0, .first = {0}, .pages = GUEST};
	const struct umbra_paging paging = {
	    .cr0 = 0x80010001, .cr3 = 0x1000, .cr4 = 0x20, .efer = 0xd00};
	struct umbra_mmu *mmu;
	struct umbra_vcpu *vcpu;
	const struct umbra_frame to = {.pfn = {GUEST + 8}, .writable = true};
	struct umbra_dropped dropped = {0};
	uint64_t value = 42;
	for (uint64_t gfn = 0; gfn < GUEST; gfn++)
		frames[gfn] = 1 + gfn * 7 % GUEST;
	/* The guest's own page tables: 1 -> 2 -> 3 -> 4, and two names for gfn 8. */
	guest_entry(1, 0, 0x2000 | P | W | U);
	guest_entry(2, 0, 0x3000 | P | W | U);
	guest_entry(3, 2, 0x4000 | P | W | U);
	guest_entry(4, 0, 0x8000 | P | W | U);  /* ALIAS_RW */
	guest_entry(4, 1, 0x8000 | P | U);      /* ALIAS_RO */
	guest_entry(4, 2, 0xff000 | P | W | U); /* DEVICE: beyond the slot */
	if (umbra_mmu_create(&host, NULL, &config, &mmu) || umbra_slot_add(mmu, &slot) ||
	    umbra_vcpu_create(mmu, 0, &vcpu) || umbra_vcpu_set_paging(vcpu, &paging))
		return 1;

	if (run(vcpu, ALIAS_RW, true, &value) || run(vcpu, ALIAS_RO, false, &value) || value != 42)
		return 1;
	if (run(vcpu, ALIAS_RO, true, &value) != UMBRA_INJECT || /* the guest said read-only */
	    run(vcpu, DEVICE, false, &value) != UMBRA_MMIO)
		return 1;
	printf("move gfn 8\n");
	if (umbra_remap(mmu, (umbra_gfn){8}, &to, &dropped) || dropped.sptes != 2)
		return 1;
	value = 0;
	if (run(vcpu, ALIAS_RO, false, &value) || value != 42)
		return 1;
	printf("moved, %llu mappings dropped, the guest saw nothing\n",
	       (unsigned long long)dropped.sptes);
	umbra_mmu_destroy(mmu);
	return 0;
}
