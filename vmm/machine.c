/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Owns the machine page. The only global of the guest's story: it is one by nature, since it has
 * one address in the machine; everybody else gets it as vm->machine.
 */
#include <stdarg.h>
#include <stddef.h>

#include "machine.h"
#include "print.h"
#include "seal.h"
#include "string.h"
#include "vm.h"
#include "x86.h"

#define EXIT_PORT 0xf4

__attribute__((section(".machine"), aligned(4096))) struct umbra_machine machine_page;

void machine_init(void)
{
	memset(&machine_page, 0, sizeof(machine_page));
	machine_page.version = UMBRA_MACHINE_VERSION;
	machine_page.size = sizeof(machine_page);
	machine_page.phase = UMBRA_PHASE_START;
	machine_page.tsc_start = rdtsc();
}

void machine_ready(void)
{
	__atomic_store_n(&machine_page.magic, UMBRA_MACHINE_MAGIC, __ATOMIC_RELEASE);
}

static struct umbra_stats before; /* of MMUs that are gone */

static uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* *@sum += *@more, but for what is not a count of what happened. */
static void stats_add(struct umbra_stats *sum, const struct umbra_stats *more)
{
	struct umbra_stats now = *sum;
	const uint64_t *from = (const uint64_t *)more;
	uint64_t *to = (uint64_t *)sum;

	for (size_t i = 0; i < sizeof(*sum) / sizeof(*to); i++)
		to[i] += from[i];
	sum->shadow_pages = now.shadow_pages;
	sum->shadow_pages_peak = larger(now.shadow_pages_peak, more->shadow_pages_peak);
	sum->shadow_pages_unsync = now.shadow_pages_unsync;
	sum->sptes = now.sptes;
	memcpy(sum->sptes_large, now.sptes_large, sizeof(now.sptes_large));
	sum->longest_chain = larger(now.longest_chain, more->longest_chain);
	sum->descs = now.descs;
	memcpy(sum->rmap_histogram, now.rmap_histogram, sizeof(now.rmap_histogram));
}

void machine_stats_keep(const struct umbra_stats *stats)
{
	stats_add(&before, stats);
}

void machine_stats(struct vm *vm)
{
	struct umbra_machine *page = &machine_page;

	umbra_stats_get(vm->mmu, &page->mmu);
	stats_add(&page->mmu, &before);
	page->shared_frames = vm->frames->shared;
	page->sharers = vm->frames->sharers;
	if (page->mmu.sptes < page->peak_sptes)
		return;
	page->peak_sptes = page->mmu.sptes;
	for (unsigned i = 0; i < UMBRA_HISTOGRAM; i++)
		page->peak_histogram[i] = page->mmu.rmap_histogram[i];
}

void machine_end(struct vm *vm, enum umbra_end end, const char *fmt, ...)
{
	struct umbra_machine *page = &machine_page;
	bool orderly =
	    end == UMBRA_END_POWEROFF || end == UMBRA_END_REBOOT || end == UMBRA_END_GUEST;
	va_list args;

	if (vm && vm->frames && vm->frames->sealed)
		page->broken_pages = seal_broken(vm);
	if (page->broken_pages) {
		end = UMBRA_END_BREACH;
		orderly = false;
		format(page->message, sizeof(page->message), "%lu pages", page->broken_pages);
	} else if (orderly && page->audit_violations) {
		end = UMBRA_END_AUDIT; /* the message is there already */
		orderly = false;
	} else {
		va_start(args, fmt);
		format_list(page->message, sizeof(page->message), fmt, args);
		va_end(args);
	}
	if (vm && vm->mmu)
		machine_stats(vm);
	if (vm)
		record_end(vm, end);
	page->tsc_end = rdtsc();
	page->end = end;
	machine_ready();
	__atomic_store_n(&page->phase, UMBRA_PHASE_ENDED, __ATOMIC_RELEASE);
	if (!orderly && end != UMBRA_END_COMMAND)
		print("\numbra: %s\n", page->message);
	outl(EXIT_PORT, end);
	for (;;)
		__asm__ volatile("cli; hlt");
}
