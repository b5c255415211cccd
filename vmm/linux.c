/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Linux kernels, by the Linux boot protocol's 64-, 32- and 16-bit entries
 * (Documentation/x86/boot.rst). Where things go in guest-physical memory:
 *
 *     0x06000  GDT                      0x10000  boot_params ("zero page")
 *     0x08000  identity page tables     0x20000  command line
 *     0x0f000  end of a small stack     0x90000  setup code, for the 16-bit entry
 *     preferred address: the kernel     initrd: as high as the header allows
 */
#include <umbra/machine.h>

#include "cpu.h"
#include "loader.h"
#include "machine.h"
#include "memory.h"
#include "mptable.h"
#include "print.h"
#include "string.h"
#include "vcpu.h"
#include "vm.h"
#include "x86.h"

#define AT_GDT    0x6000ull
#define AT_TABLES 0x8000ull /* PML4, PDPT, four PDs */
#define AT_STACK  0xf000ull
#define AT_PARAMS 0x10000ull
#define AT_LINE   0x20000ull
#define AT_SETUP  0x90000ull /* the 16-bit entry's, with heap and stack up to 0x9e000 */
#define SETUP_MAX 0x8000u
#define HEAP_END  0xe000u

/* Offsets in the setup header = in boot_params. */
#define HDR_E820_COUNT  0x1e8
#define HDR_START       0x1f1
#define HDR_SYSSIZE     0x1f4
#define HDR_BOOT_FLAG   0x1fe
#define HDR_JUMP        0x200
#define HDR_MAGIC       0x202
#define HDR_VERSION     0x206
#define HDR_LOADER      0x210
#define HDR_LOADFLAGS   0x211
#define HDR_CODE32      0x214
#define HDR_RAMDISK     0x218
#define HDR_RAMDISK_LEN 0x21c
#define HDR_HEAP_END    0x224
#define HDR_LINE        0x228
#define HDR_INITRD_MAX  0x22c
#define HDR_ALIGNMENT   0x230
#define HDR_RELOCATABLE 0x234
#define HDR_XLOADFLAGS  0x236
#define HDR_LINE_SIZE   0x238
#define HDR_PREFERRED   0x258
#define HDR_INIT_SIZE   0x260
#define HDR_END         0x268
#define PARAMS_E820     0x2d0
#define SECTOR          512u
#define LOADED_HIGH     1u /* loadflags */
#define CAN_USE_HEAP    0x80u
#define KERNEL_64       1u /* xloadflags */

struct setup {
	uint8_t params[4096];
	const uint8_t *payload;
	uint64_t setup_size, payload_size, init_size, address;
};

bool linux_is_image(const struct boot_file *kernel)
{
	const uint8_t *image = (const uint8_t *)kernel->range.start;

	return kernel->range.end - kernel->range.start >= HDR_END &&
	       field(image + HDR_BOOT_FLAG, 2) == 0xaa55 && !memcmp(image + HDR_MAGIC, "HdrS", 4);
}

/* Where the kernel goes: where it likes best, else the lowest place that it may be moved to. */
static void place_choose(struct vcpu *vcpu, struct setup *s)
{
	uint64_t end = loader_low_end(vcpu->vm);

	s->init_size = field(s->params + HDR_INIT_SIZE, 4);
	if (s->init_size < s->payload_size)
		s->init_size = s->payload_size;
	s->address = field(s->params + HDR_PREFERRED, 8);
	if (s->address < 0x100000 || s->address > end || s->init_size > end - s->address) {
		uint64_t alignment = field(s->params + HDR_ALIGNMENT, 4);
		bool movable = s->params[HDR_RELOCATABLE];

		if (alignment < UMBRA_PAGE_SIZE || alignment & (alignment - 1))
			alignment = 0x200000;
		movable |= !s->address; /* an old one that says nothing runs at 1 MiB */
		if (!s->address)
			alignment = 0x100000;
		s->address = (0x100000 + alignment - 1) & ~(alignment - 1);
		if (!movable || s->address > end || s->init_size > end - s->address)
			loader_refuse(vcpu, "the kernel does not fit in guest memory");
	}
}

/* Check the image, copy its header into the parameters. */
static void header_read(struct vcpu *vcpu, const struct boot_files *files, struct setup *s)
{
	const uint8_t *image = (const uint8_t *)files->kernel.range.start;
	uint64_t size = files->kernel.range.end - files->kernel.range.start, end;

	if (!linux_is_image(&files->kernel))
		loader_refuse(vcpu, "the kernel is not a Linux bzImage");
	if (field(image + HDR_VERSION, 2) < 0x206 || !(image[HDR_LOADFLAGS] & LOADED_HIGH))
		loader_refuse(vcpu, "the kernel's boot protocol is older than 2.06, or it is a "
				    "zImage");
	s->setup_size = ((image[HDR_START] ? image[HDR_START] : 4) + 1) * SECTOR;
	s->payload_size = field(image + HDR_SYSSIZE, 4) * 16;
	/* Counted in 16 bytes, rounded up. */
	if (s->setup_size >= size || s->payload_size > size - s->setup_size + 15)
		loader_refuse(vcpu, "the kernel is truncated");
	if (s->payload_size > size - s->setup_size)
		s->payload_size = size - s->setup_size;
	s->payload = image + s->setup_size;

	end = HDR_MAGIC + image[HDR_JUMP + 1];
	if (end > 0x290)
		end = 0x290;
	memset(s->params, 0, sizeof(s->params));
	memcpy(s->params + HDR_START, image + HDR_START, end - HDR_START);
	place_choose(vcpu, s);
}

static void initrd_load(struct vcpu *vcpu, const struct boot_files *files, struct setup *s)
{
	uint64_t size = files->module[0].range.end - files->module[0].range.start;
	uint64_t top = field(s->params + HDR_INITRD_MAX, 4) + 1, at;

	if (!files->modules || !size)
		return;
	if (top > loader_low_end(vcpu->vm))
		top = loader_low_end(vcpu->vm);
	at = (top - size) & ~(uint64_t)(UMBRA_PAGE_SIZE - 1);
	if (size > top || at < s->address + s->init_size)
		loader_refuse(vcpu, "the initrd does not fit in guest memory");
	if (!memory_write(vcpu->vm, at, (const void *)files->module[0].range.start, size))
		loader_refuse(vcpu, "no frames left for the initrd");
	field_set(s->params + HDR_RAMDISK, 4, at);
	field_set(s->params + HDR_RAMDISK_LEN, 4, size);
}

static void e820_fill(const struct vm *vm, struct setup *s)
{
	struct loader_region regions[LOADER_REGIONS];
	unsigned count = loader_map(vm, regions);

	for (unsigned i = 0; i < count; i++) {
		uint8_t *entry = s->params + PARAMS_E820 + 20 * i;

		field_set(entry, 8, regions[i].start);
		field_set(entry + 8, 8, regions[i].end - regions[i].start);
		field_set(entry + 16, 4, regions[i].type);
	}
	s->params[HDR_E820_COUNT] = (uint8_t)count;
}

static bool tables_write(struct vm *vm)
{
	uint64_t table[512];
	bool ok;

	memset(table, 0, sizeof(table));
	table[0] = (AT_TABLES + 0x1000) | 3;
	ok = memory_write(vm, AT_TABLES, table, sizeof(table));
	for (unsigned i = 0; i < 4; i++)
		table[i] = (AT_TABLES + 0x2000 + i * 0x1000) | 3;
	ok = ok && memory_write(vm, AT_TABLES + 0x1000, table, sizeof(table));
	for (unsigned i = 0; i < 4; i++) {
		for (uint64_t j = 0; j < 512; j++)
			table[j] = (i * 512 + j) << 21 | 0x83;
		ok = ok && memory_write(vm, AT_TABLES + 0x2000 + i * 0x1000, table, sizeof(table));
	}
	return ok;
}

/* "64-bit Boot Protocol": paging on, one to one. */
static void enter_64(struct vcpu *vcpu, const struct setup *s)
{
	if (!tables_write(vcpu->vm))
		loader_refuse(vcpu, "no frames left for the kernel's first page tables");
	loader_enter_32(vcpu, AT_GDT, s->address + 0x200);
	vcpu->vmcb->cs = (struct emu_segment){0x08, 0xa9b, 0xffffffff, 0};
	vcpu->gpr[GPR_RSP] = AT_STACK;
	vcpu->gpr[GPR_RSI] = AT_PARAMS;
	vcpu->cr0 = CR0_PG | CR0_WP | CR0_ET | CR0_PE;
	vcpu->cr3 = AT_TABLES;
	vcpu->cr4 = CR4_PAE;
	vcpu->efer = EFER_LME | EFER_LMA | EFER_NXE;
}

/* "32-bit Boot Protocol". */
static void enter_32(struct vcpu *vcpu, const struct setup *s)
{
	loader_enter_32(vcpu, AT_GDT, s->address);
	vcpu->gpr[GPR_RSP] = AT_STACK;
	vcpu->gpr[GPR_RSI] = AT_PARAMS;
}

/* "Running the Kernel": its own setup code, in real mode. */
static void enter_16(struct vcpu *vcpu, const struct boot_files *files, struct setup *s)
{
	static uint8_t setup[SETUP_MAX]; /* too large for the stack; used once */

	if (s->setup_size > sizeof(setup))
		loader_refuse(vcpu, "the kernel's setup code is larger than 32 KiB");
	memcpy(setup, (const void *)files->kernel.range.start, s->setup_size);
	memcpy(setup + HDR_START, s->params + HDR_START, HDR_CODE32 - HDR_START);
	setup[HDR_LOADFLAGS] |= CAN_USE_HEAP;
	field_set(setup + HDR_CODE32, 4, s->address);
	memcpy(setup + HDR_RAMDISK, s->params + HDR_RAMDISK, 8);
	field_set(setup + HDR_HEAP_END, 2, HEAP_END - 0x200);
	field_set(setup + HDR_LINE, 4, AT_LINE);
	if (!memory_write(vcpu->vm, AT_SETUP, setup, s->setup_size))
		loader_refuse(vcpu, "no frames left for the kernel's setup code");
	loader_enter_real(vcpu, (AT_SETUP >> 4) + 0x20, 0, AT_SETUP >> 4, HEAP_END);
}

/*
 * The command line, with the TSC's rate behind it: a guest that measures it by itself (the outer
 * PIT is all it has) may come out wrong by any factor on a busy host. The user's word goes first.
 * One guest of several is told its number. Returns the length with the NUL, or 0: too long for
 * @line.
 */
static uint64_t line_make(const struct vcpu *vcpu, const char *given, char *line, size_t size)
{
	static const char name[] = "tsc_early_khz=";
	const struct vm *vm = vcpu->vm;
	bool has_own = false;
	size_t n = strlen(given);

	for (size_t i = 0; i + sizeof(name) - 1 <= n && !has_own; i++)
		has_own = !memcmp(given + i, name, sizeof(name) - 1);
	if (n + 64 > size)
		return 0;
	memcpy(line, given, n + 1);
	if (!has_own)
		n += format(line + n, size - n, "%s%s%lu", n ? " " : "", name,
			    vm->cpu->tsc_hz / 1000);
	if (vm->options.guests > 1)
		n += format(line + n, size - n, " umbra.guest=%u", vm->number);
	return n + 1;
}

void linux_load(struct vcpu *vcpu, const struct boot_files *files, enum format format)
{
	static char text[4096];
	static struct setup s; /* too large for the stack; used once */
	struct vm *vm = vcpu->vm;
	uint64_t line = line_make(vcpu, files->kernel.words, text, sizeof(text));
	bool wide;

	header_read(vcpu, files, &s);
	if (!line || line - 1 > field(s.params + HDR_LINE_SIZE, 4))
		loader_refuse(vcpu, "the kernel's command line is too long");
	wide = field(s.params + HDR_VERSION, 2) >= 0x20c &&
	       field(s.params + HDR_XLOADFLAGS, 2) & KERNEL_64;
	if (format == FORMAT_AUTO)
		format = wide ? FORMAT_LINUX_64 : FORMAT_LINUX_32;
	if (format == FORMAT_LINUX_64 && !wide)
		loader_refuse(vcpu, "the kernel has no 64-bit entry point");
	initrd_load(vcpu, files, &s);
	e820_fill(vm, &s);
	s.params[HDR_LOADER] = 0xff;
	s.params[HDR_LOADFLAGS] |= LOADED_HIGH;
	field_set(s.params + HDR_LINE, 4, AT_LINE);
	if (!memory_write(vm, s.address, s.payload, s.payload_size) ||
	    !memory_write(vm, AT_PARAMS, s.params, sizeof(s.params)) ||
	    !memory_write(vm, AT_LINE, text, line) || !loader_gdt_write(vm, AT_GDT) ||
	    !mptable_write(vm))
		loader_refuse(vcpu, "no frames left for the kernel");
	if (format == FORMAT_LINUX_64)
		enter_64(vcpu, &s);
	else if (format == FORMAT_LINUX_32)
		enter_32(vcpu, &s);
	else
		enter_16(vcpu, files, &s);
}
