/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Owns the machine pages. The only global of the guests' story: they are one by nature, since they
 * have one address in the machine; everybody else gets a guest's as vm->machine.
 */
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include "host.h"
#include "machine.h"
#include "print.h"
#include "schedule.h"
#include "seal.h"
#include "serial.h"
#include "string.h"
#include "vm.h"
#include "x86.h"

#define EXIT_PORT 0xf4

static __attribute__((section(".machine"))) struct {
	struct umbra_machine page;
} __attribute__((aligned(UMBRA_MACHINE_STRIDE))) pages[UMBRA_GUESTS_MAX];

_Static_assert(sizeof(pages[0]) == UMBRA_MACHINE_STRIDE, "a machine page is larger than its place");

struct umbra_machine *machine_page(unsigned guest)
{
	return &pages[guest].page;
}

void machine_init(void)
{
	memset(pages, 0, sizeof(pages));
	for (unsigned i = 0; i < UMBRA_GUESTS_MAX; i++) {
		struct umbra_machine *page = machine_page(i);

		page->version = UMBRA_MACHINE_VERSION;
		page->size = sizeof(*page);
		page->phase = UMBRA_PHASE_START;
		page->tsc_start = rdtsc();
	}
}

/* The first page's comes last. */
static void magic_write(unsigned guests)
{
	for (unsigned i = guests; i--;)
		__atomic_store_n(&machine_page(i)->magic, UMBRA_MACHINE_MAGIC, __ATOMIC_RELEASE);
}

void machine_ready(unsigned guests, uint64_t tsc_hz, bool nested)
{
	machine_page(0)->guests = guests;
	for (unsigned i = 0; i < guests; i++) {
		machine_page(i)->tsc_hz = tsc_hz;
		machine_page(i)->nested = nested;
	}
	magic_write(guests);
}

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

void machine_stats_keep(struct vm *vm, const struct umbra_stats *stats)
{
	stats_add(&vm->stats_before, stats);
}

void machine_stats(struct vm *vm)
{
	struct umbra_machine *page = vm->machine;

	swap_figures(vm->host);
	umbra_stats_get(vm->mmu, &page->mmu);
	stats_add(&page->mmu, &vm->stats_before);
	if (page->mmu.sptes < page->peak_sptes)
		return;
	page->peak_sptes = page->mmu.sptes;
	for (unsigned i = 0; i < UMBRA_HISTOGRAM; i++)
		page->peak_histogram[i] = page->mmu.rmap_histogram[i];
}

/* ------------------------------------------------------------------ ends */

static bool is_orderly(enum umbra_end end)
{
	return end == UMBRA_END_POWEROFF || end == UMBRA_END_REBOOT || end == UMBRA_END_GUEST;
}

/* How bad: what the machine ends with is the worst end of its guests'. */
static unsigned badness(uint32_t end)
{
	return end == UMBRA_END_POWEROFF  ? 0
	       : end == UMBRA_END_GUEST   ? 1
	       : end == UMBRA_END_COMMAND ? 2
	       : end == UMBRA_END_REBOOT  ? 3
					  : 4;
}

static void page_end(struct umbra_machine *page, enum umbra_end end)
{
	page->tsc_end = rdtsc();
	page->end = end;
	__atomic_store_n(&page->phase, UMBRA_PHASE_ENDED, __ATOMIC_RELEASE);
}

/* Whoever has not ended by itself ends with @end and @message. */
static _Noreturn void machine_stop(enum umbra_end end, const char *message)
{
	unsigned guests = machine_page(0)->guests;
	enum umbra_end worst = end;

	for (unsigned i = 0; i < (guests ? guests : 1); i++) {
		struct umbra_machine *page = machine_page(i);

		if (page->phase != UMBRA_PHASE_ENDED) {
			format(page->message, sizeof(page->message), "%s", message);
			page_end(page, end);
		}
		if (badness(page->end) > badness(worst))
			worst = page->end;
	}
	machine_page(0)->stopped = worst;
	magic_write(guests ? guests : 1);
	outl(EXIT_PORT, worst);
	print("\numbra: %s\n", message); /* nobody who started it will tell */
	for (;;)
		__asm__ volatile("cli; hlt");
}

/* What ends with @vm: a guest that violates or breaks something ends otherwise than it means to. */
static enum umbra_end judge(struct vm *vm, enum umbra_end end)
{
	struct umbra_machine *page = vm->machine;

	if (vm->frames && vm->frames->sealed)
		page->broken_pages = seal_broken(vm->host);
	if (page->broken_pages) {
		format(page->message, sizeof(page->message), "%lu pages", page->broken_pages);
		return UMBRA_END_BREACH;
	}
	/* An audit's message is there already. */
	return is_orderly(end) && page->audit_violations ? UMBRA_END_AUDIT : end;
}

/* How a guest ended that others go on without, is said at once; all else by who started it. */
static void guest_end(struct vm *vm, enum umbra_end end)
{
	if (vm->mmu)
		machine_stats(vm);
	record_end(vm, end);
	serial_finish(vm);
	page_end(vm->machine, end);
	if (!is_orderly(end) && end != UMBRA_END_COMMAND && schedule_has_others(vm))
		print("\numbra: guest %u: %s\n", vm->number, vm->machine->message);
}

void machine_end(struct vm *vm, enum umbra_end end, const char *fmt, ...)
{
	char message[sizeof(machine_page(0)->message)];
	enum umbra_end judged = vm ? judge(vm, end) : end;
	va_list args;

	va_start(args, fmt);
	format_list(message, sizeof(message), fmt, args);
	va_end(args);
	if (!vm)
		machine_stop(end, message);
	if (judged == end)
		memcpy(vm->machine->message, message, sizeof(message));
	guest_end(vm, judged);
	if (judged != UMBRA_END_BREACH && schedule_has_others(vm))
		schedule_retire(vm);
	machine_stop(judged, vm->machine->message);
}
