/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Multiboot 1 guests (Multiboot Specification 0.6.96): ELF32 and ELF64 images, and those whose
 * header says where they go (its "a.out kludge"). The information structure, its strings and memory
 * map lie together in low memory, modules as high as they fit. The guest begins in 32-bit protected
 * mode, paging off (§3.2).
 */
#include "loader.h"
#include "memory.h"
#include "multiboot.h"
#include "string.h"
#include "vcpu.h"

#define SEARCH      8192u
#define MAGIC       0x1badb002u
#define FLAG_VIDEO  (1u << 2)
#define FLAG_KLUDGE (1u << 16)
#define KNOWN       (FLAG_VIDEO | FLAG_KLUDGE | 3u) /* of those that must be understood: 15:0 */

#define AT_GDT   0x0800ull
#define AT_INFO  0x1000ull
#define INFO_MAX 0x7000u

#define ELF_MAGIC 0x464c457fu
#define PT_LOAD   1

struct image {
	const uint8_t *bytes;
	uint64_t size;
	uint64_t end;   /* of what was loaded */
	uint64_t total; /* bytes of all segments: as many as there is memory, or they overlap */
};

static const uint8_t *header_find(const struct boot_file *kernel)
{
	const uint8_t *bytes = (const uint8_t *)kernel->range.start;
	uint64_t size = kernel->range.end - kernel->range.start;

	for (uint64_t at = 0; at + 12 <= size && at < SEARCH; at += 4)
		if (field(bytes + at, 4) == MAGIC &&
		    !(uint32_t)(field(bytes + at, 4) + field(bytes + at + 4, 4) +
				field(bytes + at + 8, 4)))
			return bytes + at;
	return NULL;
}

bool mbload_is_multiboot(const struct boot_file *kernel)
{
	return header_find(kernel);
}

/* @size bytes at @offset of the file to @address, and zeros up to @room bytes. */
static void segment_load(struct vcpu *vcpu, struct image *image, uint64_t offset, uint64_t size,
			 uint64_t address, uint64_t room)
{
	static const uint8_t zeros[4096];
	struct vm *vm = vcpu->vm;

	if (offset > image->size || size > image->size - offset || size > room)
		loader_refuse(vcpu, "the Multiboot image is truncated or its headers are wrong");
	image->total += room;
	if (address + room < address || address + room > loader_low_end(vm) ||
	    image->total > loader_low_end(vm))
		loader_refuse(vcpu, "the Multiboot image does not fit in guest memory");
	if (!memory_write(vm, address, image->bytes + offset, size))
		loader_refuse(vcpu, "the Multiboot image wants memory where there is none");
	for (uint64_t at = size; at < room;) {
		uint64_t piece = room - at < sizeof(zeros) ? room - at : sizeof(zeros);

		if (!memory_write(vm, address + at, zeros, piece))
			loader_refuse(vcpu, "the Multiboot image wants memory where there is none");
		at += piece;
	}
	if (address + room > image->end)
		image->end = address + room;
}

/* §3.1.3: the header's addresses. The entry point. */
static uint64_t kludge_load(struct vcpu *vcpu, struct image *image, const uint8_t *header)
{
	uint64_t at = (uint64_t)(header - image->bytes);
	uint64_t header_address, load, load_end, bss_end, offset, size;

	if (at + 32 > image->size)
		loader_refuse(vcpu, "the Multiboot image ends within its header");
	header_address = field(header + 12, 4);
	load = field(header + 16, 4);
	load_end = field(header + 20, 4);
	bss_end = field(header + 24, 4);
	if (header_address < load || header_address - load > at || (load_end && load_end < load))
		loader_refuse(vcpu, "the Multiboot header's addresses contradict one another");
	offset = at - (header_address - load);
	size = load_end ? load_end - load : image->size - offset;
	segment_load(vcpu, image, offset, size, load,
		     bss_end > load + size ? bss_end - load : size);
	return field(header + 28, 4);
}

static uint64_t elf_load(struct vcpu *vcpu, struct image *image)
{
	const uint8_t *b = image->bytes;
	bool wide = image->size > 4 && b[4] == 2;
	uint64_t table, entry_size, count, entry;

	if (image->size < 64 || field(b, 4) != ELF_MAGIC || (b[4] != 1 && b[4] != 2) || b[5] != 1)
		loader_refuse(vcpu, "the Multiboot image is no ELF file and its header gives no "
				    "addresses");
	entry = field(b + 24, wide ? 8 : 4);
	table = field(b + (wide ? 32 : 28), wide ? 8 : 4);
	entry_size = field(b + (wide ? 54 : 42), 2);
	count = field(b + (wide ? 56 : 44), 2);
	if (entry_size < (wide ? 56u : 32u) || table > image->size ||
	    count * entry_size > image->size - table)
		loader_refuse(vcpu, "the ELF image's program headers lie outside of it");
	for (uint64_t i = 0; i < count; i++) {
		const uint8_t *p = b + table + i * entry_size;

		if (field(p, 4) != PT_LOAD)
			continue;
		if (wide)
			segment_load(vcpu, image, field(p + 8, 8), field(p + 32, 8),
				     field(p + 24, 8), field(p + 40, 8));
		else
			segment_load(vcpu, image, field(p + 4, 4), field(p + 16, 4),
				     field(p + 12, 4), field(p + 20, 4));
	}
	if (entry >> 32)
		loader_refuse(vcpu, "the ELF image's entry point lies above 4 GiB");
	return entry;
}

/* ------------------------------------------------------------------ the information */

struct info {
	uint8_t bytes[INFO_MAX];
	unsigned used;
};

/* Room for @size bytes in it; its guest-physical address. */
static uint32_t info_take(struct vcpu *vcpu, struct info *info, const void *from, unsigned size)
{
	unsigned at = (info->used + 7) & ~7u;

	if (at + size > INFO_MAX)
		loader_refuse(vcpu, "the Multiboot guest's command lines are too long");
	memcpy(info->bytes + at, from, size);
	info->used = at + size;
	return (uint32_t)(AT_INFO + at);
}

static void map_fill(struct vcpu *vcpu, struct info *info, struct multiboot *m)
{
	struct loader_region regions[LOADER_REGIONS];
	struct multiboot_region map[LOADER_REGIONS];
	unsigned count = loader_map(vcpu->vm, regions);

	for (unsigned i = 0; i < count; i++)
		map[i] =
		    (struct multiboot_region){sizeof(map[0]) - 4, regions[i].start,
					      regions[i].end - regions[i].start, regions[i].type};
	m->map_length = count * (unsigned)sizeof(map[0]);
	m->map = info_take(vcpu, info, map, m->map_length);
	m->mem_lower = 639;
	m->mem_upper = (uint32_t)((loader_low_end(vcpu->vm) - 0x100000) >> 10);
	m->flags |= MULTIBOOT_HAS_MAP | 1;
}

static void modules_load(struct vcpu *vcpu, const struct boot_files *files,
			 const struct image *image, struct info *info, struct multiboot *m)
{
	struct multiboot_module list[LOADER_MODULES];
	uint64_t top = loader_low_end(vcpu->vm);

	for (unsigned i = 0; i < files->modules; i++) {
		const struct boot_file *file = &files->module[i];
		uint64_t size = file->range.end - file->range.start;

		top = (top - size) & ~(uint64_t)(UMBRA_PAGE_SIZE - 1);
		if (size > loader_low_end(vcpu->vm) || top < image->end || top < 0x100000)
			loader_refuse(vcpu, "the modules do not fit in guest memory");
		if (!memory_write(vcpu->vm, top, (const void *)file->range.start, size))
			loader_refuse(vcpu, "no frames left for the modules");
		list[i] = (struct multiboot_module){
		    (uint32_t)top, (uint32_t)(top + size),
		    info_take(vcpu, info, file->words, (unsigned)strlen(file->words) + 1), 0};
	}
	m->modules = info_take(vcpu, info, list, files->modules * (unsigned)sizeof(list[0]));
	m->module_count = files->modules;
	m->flags |= MULTIBOOT_HAS_MODULES;
}

void mbload_load(struct vcpu *vcpu, const struct boot_files *files)
{
	static struct info info; /* too large for the stack; used once */
	static const char name[] = "umbra";
	struct image image = {(const uint8_t *)files->kernel.range.start,
			      files->kernel.range.end - files->kernel.range.start, 0, 0};
	const uint8_t *header = header_find(&files->kernel);
	struct multiboot m = {.flags = MULTIBOOT_HAS_LINE | MULTIBOOT_HAS_NAME};
	uint32_t flags;
	uint64_t entry;

	if (!header)
		loader_refuse(vcpu, "the kernel has no Multiboot header in its first 8 KiB");
	flags = (uint32_t)field(header + 4, 4);
	if (flags & 0xffff & ~KNOWN)
		loader_refuse(vcpu, "the Multiboot header asks for features that nobody knows");
	entry = flags & FLAG_KLUDGE ? kludge_load(vcpu, &image, header) : elf_load(vcpu, &image);
	info.used = sizeof(m);
	m.command_line =
	    info_take(vcpu, &info, files->kernel.words, (unsigned)strlen(files->kernel.words) + 1);
	m.loader_name = info_take(vcpu, &info, name, sizeof(name));
	map_fill(vcpu, &info, &m);
	modules_load(vcpu, files, &image, &info, &m);
	memcpy(info.bytes, &m, sizeof(m));
	if (!memory_write(vcpu->vm, AT_INFO, info.bytes, info.used) ||
	    !loader_gdt_write(vcpu->vm, AT_GDT))
		loader_refuse(vcpu, "no frames left for the Multiboot information");
	loader_enter_32(vcpu, AT_GDT, entry);
	vcpu->gpr[GPR_RAX] = MULTIBOOT_LOADED;
	vcpu->gpr[GPR_RBX] = AT_INFO;
	vcpu->gpr[GPR_RSP] = AT_INFO;
}
