/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Linux boot protocol, 64-bit entry (Documentation/x86/boot.rst, "The Real-mode Kernel Header"
 * and "64-bit Boot Protocol"). Where things go in guest-physical memory:
 *
 *     0x06000  GDT                      0x10000  boot_params ("zero page")
 *     0x08000  identity page tables     0x20000  command line
 *     0x0f000  end of a small stack     preferred address: the kernel
 *     initrd: as high as the header allows
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
#define HDR_RAMDISK     0x218
#define HDR_RAMDISK_LEN 0x21c
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

struct setup {
	uint8_t params[4096];
	const uint8_t *payload;
	uint64_t payload_size, init_size, address;
};

static uint64_t field(const uint8_t *at, unsigned size)
{
	uint64_t value = 0;

	memcpy(&value, at, size);
	return value;
}

static void field_set(uint8_t *at, unsigned size, uint64_t value)
{
	memcpy(at, &value, size);
}

static _Noreturn void refuse(struct vcpu *vcpu, const char *why)
{
	machine_end(vcpu->vm, UMBRA_END_IMAGE, "%s", why);
}

/* The end of guest RAM below 4 GiB. */
static uint64_t low_end(const struct vm *vm)
{
	return vm->options.memory < MEMORY_LOW_MAX ? vm->options.memory : MEMORY_LOW_MAX;
}

/* Check the image, copy its header into the parameters, decide where the kernel goes. */
static void header_read(struct vcpu *vcpu, const struct boot_files *files, struct setup *s)
{
	const uint8_t *image = (const uint8_t *)files->kernel.start;
	uint64_t size = files->kernel.end - files->kernel.start, sectors, end;

	if (size < HDR_END || field(image + HDR_BOOT_FLAG, 2) != 0xaa55 ||
	    memcmp(image + HDR_MAGIC, "HdrS", 4))
		refuse(vcpu, "the kernel is not a Linux bzImage");
	if (field(image + HDR_VERSION, 2) < 0x20c)
		refuse(vcpu, "the kernel's boot protocol is older than 2.12");
	if (!(field(image + HDR_XLOADFLAGS, 2) & 1))
		refuse(vcpu, "the kernel has no 64-bit entry point");
	sectors = image[HDR_START] ? image[HDR_START] : 4;
	s->payload_size = field(image + HDR_SYSSIZE, 4) * 16;
	if ((sectors + 1) * SECTOR >= size || s->payload_size > size - (sectors + 1) * SECTOR)
		refuse(vcpu, "the kernel is truncated");
	s->payload = image + (sectors + 1) * SECTOR;

	end = HDR_MAGIC + image[HDR_JUMP + 1];
	if (end > 0x290)
		end = 0x290;
	memset(s->params, 0, sizeof(s->params));
	memcpy(s->params + HDR_START, image + HDR_START, end - HDR_START);

	s->init_size = field(image + HDR_INIT_SIZE, 4);
	if (s->init_size < s->payload_size)
		s->init_size = s->payload_size;
	s->address = field(image + HDR_PREFERRED, 8);
	if (s->address < 0x100000 || s->address > low_end(vcpu->vm) ||
	    s->init_size > low_end(vcpu->vm) - s->address) {
		uint64_t alignment = field(image + HDR_ALIGNMENT, 4);

		if (alignment < UMBRA_PAGE_SIZE || alignment & (alignment - 1))
			alignment = 0x200000;
		s->address = (0x100000 + alignment - 1) & ~(alignment - 1);
		if (!image[HDR_RELOCATABLE] || s->address > low_end(vcpu->vm) ||
		    s->init_size > low_end(vcpu->vm) - s->address)
			refuse(vcpu, "the kernel does not fit in guest memory");
	}
}

static void initrd_load(struct vcpu *vcpu, const struct boot_files *files, struct setup *s)
{
	uint64_t size = files->initrd.end - files->initrd.start;
	uint64_t top = field(s->params + HDR_INITRD_MAX, 4) + 1, at;

	if (!size)
		return;
	if (top > low_end(vcpu->vm))
		top = low_end(vcpu->vm);
	at = (top - size) & ~(uint64_t)(UMBRA_PAGE_SIZE - 1);
	if (size > top || at < s->address + s->init_size)
		refuse(vcpu, "the initrd does not fit in guest memory");
	if (!memory_write(vcpu->vm, at, (const void *)files->initrd.start, size))
		refuse(vcpu, "no frames left for the initrd");
	field_set(s->params + HDR_RAMDISK, 4, at);
	field_set(s->params + HDR_RAMDISK_LEN, 4, size);
}

static void e820_add(struct setup *s, uint64_t start, uint64_t end, uint32_t type)
{
	uint8_t *entry = s->params + PARAMS_E820 + 20 * s->params[HDR_E820_COUNT]++;

	field_set(entry, 8, start);
	field_set(entry + 8, 8, end - start);
	field_set(entry + 16, 4, type);
}

static void e820_fill(const struct vm *vm, struct setup *s)
{
	e820_add(s, 0, 0x9fc00, 1);
	e820_add(s, 0x9fc00, 0xa0000, 2); /* where a PC keeps its extended BIOS data */
	for (unsigned i = 0; i < vm->slot_count; i++) {
		uint64_t start = vm->slots[i].first << UMBRA_PAGE_SHIFT;
		uint64_t end = start + (vm->slots[i].pages << UMBRA_PAGE_SHIFT);

		if (vm->slots[i].reserved)
			e820_add(s, start, end, 2);
		else if (start)
			e820_add(s, start, end, 1);
	}
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

static void registers_set(struct vcpu *vcpu, uint64_t entry)
{
	struct emu_segment data = {0x18, 0xc93, 0xffffffff, 0};
	struct vmcb *vmcb = vcpu->vmcb;

	vmcb->cs = (struct emu_segment){0x10, 0xa9b, 0xffffffff, 0};
	vmcb->ds = vmcb->es = vmcb->ss = vmcb->fs = vmcb->gs = data;
	vmcb->gdtr.base = AT_GDT;
	vmcb->gdtr.limit = 4 * 8 - 1;
	vmcb->tr = (struct emu_segment){0, 0x08b, 0xffff, 0};
	vmcb->ldtr = (struct emu_segment){0, 0x082, 0xffff, 0};
	vmcb->rip = entry;
	vcpu->gpr[GPR_RSP] = AT_STACK;
	vcpu->gpr[GPR_RSI] = AT_PARAMS;
	vcpu->cr0 = CR0_PG | CR0_WP | CR0_ET | CR0_PE;
	vcpu->cr3 = AT_TABLES;
	vcpu->cr4 = CR4_PAE;
	vcpu->efer = EFER_LME | EFER_LMA | EFER_NXE;
}

/*
 * The command line, with the TSC's rate behind it: a guest that measures it by itself (the outer
 * PIT is all it has) may come out wrong by any factor on a busy host. The user's word goes first.
 * Returns the length with the NUL, or 0: too long for @line.
 */
static uint64_t line_make(const struct vcpu *vcpu, const char *given, char *line, size_t size)
{
	static const char name[] = "tsc_early_khz=";
	bool has_own = false;
	size_t n = strlen(given);

	for (size_t i = 0; i + sizeof(name) - 1 <= n && !has_own; i++)
		has_own = !memcmp(given + i, name, sizeof(name) - 1);
	if (n + 40 > size)
		return 0;
	memcpy(line, given, n + 1);
	if (!has_own)
		n += format(line + n, size - n, "%s%s%lu", n ? " " : "", name,
			    vcpu->vm->cpu->tsc_hz / 1000);
	return n + 1;
}

void loader_load(struct vcpu *vcpu, const struct boot_files *files)
{
	static char text[4096];
	static struct setup s; /* too large for the stack; used once */
	static const uint64_t gdt[4] = {0, 0, 0x00af9b000000ffffull, 0x00cf93000000ffffull};
	struct vm *vm = vcpu->vm;
	uint64_t line = line_make(vcpu, files->command_line, text, sizeof(text));

	header_read(vcpu, files, &s);
	if (!line || line - 1 > field(s.params + HDR_LINE_SIZE, 4))
		refuse(vcpu, "the kernel's command line is too long");
	initrd_load(vcpu, files, &s);
	e820_fill(vm, &s);
	s.params[HDR_LOADER] = 0xff;
	s.params[HDR_LOADFLAGS] |= 1;
	field_set(s.params + HDR_LINE, 4, AT_LINE);
	if (!memory_write(vm, s.address, s.payload, s.payload_size) ||
	    !memory_write(vm, AT_PARAMS, s.params, sizeof(s.params)) ||
	    !memory_write(vm, AT_LINE, text, line) || !memory_write(vm, AT_GDT, gdt, sizeof(gdt)) ||
	    !tables_write(vm) || !mptable_write(vm))
		refuse(vcpu, "no frames left for the kernel");
	registers_set(vcpu, s.address + 0x200);
}
