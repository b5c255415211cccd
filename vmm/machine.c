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

void machine_stats(struct vm *vm)
{
	struct umbra_machine *page = &machine_page;

	umbra_stats_get(vm->mmu, &page->mmu);
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
