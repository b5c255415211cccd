/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * umbra-vmm: a hypervisor for Linux guests on AMD-V, whose memory management is libumbra. It is a
 * Multiboot-1 image: QEMU starts it with -kernel, GRUB with `multiboot`.
 *
 *   command line   memory=BYTES   RAM of a guest (needed), a multiple of 4096, 16 MiB..64 GiB
 *                  guests=N       how many guests, all from the same image (1, up to 8)
 *                  quota=PAGES    shadow pages at most (16384)
 *                  storm=N        migrations of random pages a second from the beginning (0)
 *                  merge=N        pages a second that are looked at, to be shared (0)
 *                  compact=N      frames moved a second, to collapse 512 pages to one mapping (0)
 *                  prefetch=N     neighbours mapped along with a faulting page (8)
 *                  audit=N        audit the MMU every N exits (0: only when asked)
 *                  spare=BYTES    more memory in a slot of its own at 512 GiB, told as reserved (0)
 *                  disk=SECTORS   a disk, served by the `umbra` command (0); disk_ro=1: read-only
 *                  frames=BYTES   memory that guests get in all, 16 MiB at least (as much as they
 *                                 are told, and some)
 *                  swap=PAGES     a file for pages that find no room there (0)
 *                  seal=1         see at the end that only the guest's memory was written (0)
 *                  console=1      a virtio console in place of COM1 (0)
 *                  nested=1       nested paging instead of shadow paging (0)
 *                  format=N       what the guest's image is: enum format in loader.h (0)
 *   module 0       the guest's image; its string: "name command-line"
 *   module 1..     files for it: a Linux initrd, or Multiboot modules with their strings
 *
 * What happens: boot.S enters 64-bit mode; vmm_main() below sets up the processor (cpu.c, trap.c),
 * memory (frames.c), SVM (svm.c), the guest's memory on top of libumbra (memory.c, memory_copy.c)
 * and its devices, loads the image (loader.c, then linux.c, mbload.c or bios.c) and runs each
 * guest's vcpu (vcpu.c) in its turn (schedule.c). Exits go to pagefault.c, paging.c, ports.c,
 * msr.c and leaves.c; fetch.c reads instructions, emulate.c has
 * them carried out (emu/). The guest's devices are on ports (ports.c) and in memory (bus.c):
 * lapic.c, ioapic.c, pic.c, pit.c, rtc.c, uart.c, fwcfg.c, testdev.c, the control ports
 * (control.c); and on PCI (pci.c, virtio.c) virtio_blk.c, virtio_console.c. The outside watches
 * through the machine page (umbra/machine.h, machine.c). What is done to guests' frames meanwhile:
 * merge.c, compact.c, swap.c (swapmap.c); books.c sees that all of it adds up.
 *
 * This file owns the way from the loader's information to running vcpus.
 */
#include "control.h"
#include "cpu.h"
#include "frames.h"
#include "host.h"
#include "loader.h"
#include "machine.h"
#include "memory.h"
#include "multiboot.h"
#include "options.h"
#include "pic.h"
#include "pit.h"
#include "schedule.h"
#include "seal.h"
#include "serial.h"
#include "string.h"
#include "swap.h"
#include "trap.h"
#include "uart.h"
#include "vcpu.h"
#include "virtio_blk.h"
#include "virtio_console.h"
#include "vm.h"
#include "x86.h"

#define PAGE_NX      (1ull << 63)
#define LOW_MEMORY   0x100000ull
#define MAPPED_FIRST (1ull << 32)

_Noreturn void vmm_main(uint32_t magic, const struct multiboot *multiboot);

extern char image_start[], image_end[], stack_guard[];
extern uint64_t boot_pdpt[512], boot_pd[4 * 512];

/* GCC lays the last one first: what each exit needs lies side by side. */
static struct vm guests[UMBRA_GUESTS_MAX];
static struct host host;
static struct cpu boot_cpu;

static struct range text_range(uint32_t at)
{
	return (struct range){at, at ? at + strlen((const char *)(uintptr_t)at) + 1 : 0};
}

/* Skip the file name that begins a Multiboot string. */
static const char *skip_word(const char *s)
{
	while (*s && *s != ' ')
		s++;
	while (*s == ' ')
		s++;
	return s;
}

/* 1 GiB pages, where the processor has them, reach RAM above 4 GiB. Returns the end of it. */
static uint64_t map_all(void)
{
	if (!(cpuid(0x80000001u, 0).edx & 1u << 26))
		return MAPPED_FIRST;
	for (uint64_t i = 4; i < 512; i++)
		boot_pdpt[i] = i << 30 | 0x83 | PAGE_NX;
	return 512ull << 30;
}

/* Unmap the page at @guard, so that what strays there faults instead of spreading. */
static void guard_page(struct frames *f, uint64_t guard)
{
	uint64_t *entry = &boot_pd[guard >> 21], base = guard & ~0x1fffffull;
	uint64_t *table = pool_alloc(f, 4096);

	if (!table)
		return;
	for (uint64_t i = 0; i < 512; i++)
		table[i] = base + i * 4096 == guard ? 0 : (base + i * 4096) | 3;
	*entry = (uintptr_t)table | 3;
	__asm__ volatile("movq %%cr3, %%rax; movq %%rax, %%cr3" : : : "rax", "memory");
}

/* Frames that guests are to have: as many as asked for, or for all pages, and some to move them. */
static uint64_t frames_wanted(const struct options *options, uint64_t extra)
{
	uint64_t pages = options->guests * ((options->memory + options->spare) / 4096);

	if (!options->frames)
		return pages + pages / 16 + 1024;
	return options->frames / 4096 > extra ? options->frames / 4096 - extra : 0;
}

static void memory_take(const struct multiboot *m, const struct options *options)
{
	struct range usable[FRAMES_RANGES], reserved[FRAMES_RANGES];
	const struct multiboot_module *modules = (const void *)(uintptr_t)m->modules;
	uint64_t limit = map_all(), extra = 0;
	size_t n = 0, r = 0;

	for (uint32_t at = m->map; at < m->map + m->map_length && n < FRAMES_RANGES;) {
		const struct multiboot_region *region = (const void *)(uintptr_t)at;
		struct range range = {region->base, region->base + region->length};

		at += region->size + 4;
		if (range.start < LOW_MEMORY)
			range.start = LOW_MEMORY;
		if (range.end > limit)
			range.end = limit;
		if (region->type == 1 && range.start < range.end)
			usable[n++] = range;
	}
	reserved[r++] = (struct range){(uintptr_t)image_start, (uintptr_t)image_end};
	reserved[r++] = (struct range){(uintptr_t)m, (uintptr_t)m + 256};
	reserved[r++] = text_range(m->command_line);
	reserved[r++] = (struct range){m->modules, m->modules + m->module_count * 16};
	for (uint32_t i = 0; i < m->module_count && r + 2 <= FRAMES_RANGES; i++) {
		reserved[r++] = (struct range){modules[i].start, modules[i].end};
		reserved[r++] = text_range(modules[i].string);
		extra += (modules[i].end - modules[i].start) / 4096;
	}
	if (!frames_init(&host.frames, usable, n, reserved, r, frames_wanted(options, extra),
			 extra))
		machine_end(NULL, UMBRA_END_NOMEM,
			    "the machine has too little memory" MACHINE_MORE);
	guard_page(&host.frames, 0); /* NULL */
	guard_page(&host.frames, (uintptr_t)stack_guard);
}

static void vm_create(unsigned number, const struct options *options)
{
	struct vm *vm = &guests[number];

	vm->machine = machine_page(number);
	vm->options = *options;
	vm->host = &host;
	vm->number = number;
	host.guest[host.guests++] = vm;
	vm->frames = &host.frames;
	vm->cpu = &boot_cpu;
	if (memory_init(vm) || control_init(vm) || virtio_blk_init(vm) || virtio_console_init(vm) ||
	    vcpu_create(vm, &host.frames))
		machine_end(
		    NULL, UMBRA_END_NOMEM,
		    "too little memory to set guest %u of %lu bytes up; give fewer --guests",
		    number, options->memory);
	pic_init(&vm->pic);
	ioapic_init(&vm->ioapic);
	pit_init(vm);
	rtc_init(vm);
	serial_init(vm);
}

/* Modules are copied into the guest by now; their frames are as good as any. */
static void modules_free(const struct multiboot_module *modules, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		frames_give_range(&host.frames, (struct range){modules[i].start, modules[i].end});
}

static struct boot_file module_file(const struct multiboot_module *module)
{
	return (struct boot_file){.range = {module->start, module->end},
				  .words = skip_word((const char *)(uintptr_t)module->string)};
}

/* What the loader brought, as it is for each of the guests. */
static void files_find(const struct multiboot *m, struct boot_files *files)
{
	const struct multiboot_module *modules = (const void *)(uintptr_t)m->modules;

	if (!(m->flags & MULTIBOOT_HAS_MODULES) || m->module_count < 1 ||
	    m->module_count > LOADER_MODULES + 1)
		machine_end(NULL, UMBRA_END_IMAGE,
			    "module 0 must be the guest's image, the others files for it");
	files->kernel = module_file(&modules[0]);
	for (; files->modules < m->module_count - 1; files->modules++)
		files->module[files->modules] = module_file(&modules[files->modules + 1]);
}

static void options_read(const struct multiboot *m, struct options *options)
{
	const char *line = (const char *)(uintptr_t)m->command_line;

	options_parse(m->flags & MULTIBOOT_HAS_LINE ? skip_word(line) : "", options);
}

void vmm_main(uint32_t magic, const struct multiboot *m)
{
	struct boot_files files = {.modules = 0};
	struct options options;

	machine_init();
	uart_init();
	cpu_init(&boot_cpu);
	if (magic != MULTIBOOT_LOADED || !(m->flags & MULTIBOOT_HAS_MAP))
		machine_end(NULL, UMBRA_END_IMAGE, "not started by a Multiboot loader");
	if (!svm_available())
		machine_end(NULL, UMBRA_END_NO_SVM, "the processor has no SVM, or it is disabled");
	options_read(m, &options);
	files_find(m, &files);
	memory_take(m, &options);
	host.swap.on = options.frames || options.swap;
	cpu_clock_init(&boot_cpu);
	machine_ready((unsigned)options.guests, boot_cpu.tsc_hz, options.nested);
	if (!svm_init(&boot_cpu.svm, &host.frames))
		machine_end(NULL, UMBRA_END_NOMEM,
			    "the machine has too little memory" MACHINE_MORE);
	for (unsigned i = 0; i < options.guests; i++)
		vm_create(i, &options);
	if (!swap_init(&host, options.swap))
		machine_end(NULL, UMBRA_END_NOMEM,
			    "too little memory to swap %lu pages; give less with --swap FILE,SIZE",
			    options.swap);
	for (unsigned i = 0; i < options.guests; i++)
		loader_load(host.guest[i]->vcpu, &files);
	modules_free((const void *)(uintptr_t)m->modules, m->module_count);
	if (merge_set(&host, options.merge, rdtsc()) ||
	    compact_set(&host, options.compact, rdtsc()))
		machine_end(NULL, UMBRA_END_NOMEM,
			    "too little memory to merge or compact pages" MACHINE_MORE);
	if (options.seal)
		seal_begin(&host);
	schedule_run(&host);
}
