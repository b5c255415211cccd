/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's loaders on images that nobody would have built. An input begins with one that is
 * right (a bzImage, Multiboot's kinds, a boot sector; or zeros) and changes bytes of it:
 *
 *     machine 3, image 5, modules 1 and 2 each, words 1 and their bytes,
 *     then until the end: patches, each a place 2, how many 1, bytes
 *
 * What must hold: nothing is read that is not of the image, a module or its words (each ends where
 * no byte may be touched); guest memory alone is written; a guest that begins has its modules whole
 * where it is told they are.
 */
#include <string.h>

#include "check.h"
#include "input.h"
#include "loader.h"
#include "memory.h"
#include "multiboot.h"
#include "outer.h"

#define SIZE_MAX_LOG 4u
#define WORDS_MAX    255u
#define PARAMS       0x10000u /* linux.c's */

/* What the image is before it is changed. */
enum shape {
	ZEROS,
	LINUX,
	KLUDGE,
	ELF_32,
	ELF_64,
	SHAPES
};

struct file {
	uint8_t *bytes;
	size_t size;
	char *words;
};

/* Out of longjmp()'s reach. */
static struct file kernel, modules[LOADER_MODULES];
static struct boot_files files;

static void put(struct file *file, uint64_t at, unsigned size, uint64_t value)
{
	for (unsigned i = 0; i < size && at + i < file->size; i++)
		file->bytes[at + i] = (uint8_t)(value >> 8 * i);
}

static uint64_t get(const struct file *file, uint64_t at, unsigned size)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < size && at + i < file->size; i++)
		value |= (uint64_t)file->bytes[at + i] << 8 * i;
	return value;
}

static void linux_make(struct file *file)
{
	put(file, 0x1f1, 1, 1);                        /* sectors of setup code */
	put(file, 0x1f4, 4, (file->size - 1024) / 16); /* of the rest */
	put(file, 0x1fe, 2, 0xaa55);
	put(file, 0x200, 2, 0x66eb);
	put(file, 0x202, 4, 0x53726448);
	put(file, 0x206, 2, 0x20f);
	put(file, 0x211, 1, 1);
	put(file, 0x22c, 4, 0x7fffffff);
	put(file, 0x230, 4, 0x1000);
	put(file, 0x234, 1, 1);
	put(file, 0x236, 2, 1);
	put(file, 0x238, 4, 0x7ff);
	put(file, 0x258, 8, 0x100000);
	put(file, 0x260, 4, 0x4000);
}

static void multiboot_make(struct file *file, uint64_t at, bool kludge)
{
	put(file, at, 4, 0x1badb002);
	put(file, at + 4, 4, kludge ? 1u << 16 | 3 : 3);
	if (!kludge)
		return;
	put(file, at + 12, 4, 0x100000 + at);
	put(file, at + 16, 4, 0x100000);
	put(file, at + 24, 4, 0x104000);
	put(file, at + 28, 4, 0x100000);
}

static void elf_make(struct file *file, bool wide)
{
	unsigned word = wide ? 8 : 4, table = wide ? 64 : 52, entry = wide ? 56 : 32;

	put(file, 0, 4, 0x464c457f);
	put(file, 4, 3, wide ? 0x10102 : 0x10101);
	put(file, 16, 4, wide ? 0x3e0002 : 0x30002);
	put(file, 24, word, 0x100000);
	put(file, wide ? 32 : 28, word, table);
	put(file, wide ? 54 : 42, 2, entry);
	put(file, wide ? 56 : 44, 2, 2);
	for (unsigned i = 0; i < 2; i++, table += entry) {
		put(file, table, 4, 1);
		put(file, table + (wide ? 8 : 4), word, i * 0x100);
		put(file, table + (wide ? 24 : 12), word, 0x100000 + i * 0x10000);
		put(file, table + (wide ? 32 : 16), word, 0x80);
		put(file, table + (wide ? 40 : 20), word, 0x2000);
	}
}

/* The header's sum is right again, or no patch of a header would be looked at. */
static void multiboot_sum(struct file *file, uint64_t at)
{
	put(file, at + 8, 4, 0 - get(file, at, 4) - get(file, at + 4, 4));
}

static void file_make(struct file *file, size_t size)
{
	file->size = size;
	file->bytes = calloc(1, size + !size);
	check(file->bytes, "no memory");
}

static void words_make(struct file *file, struct input *input)
{
	unsigned size = input_u8(input), many = size & 1 ? 64 : 1;

	size = size % (WORDS_MAX + 1) * many;
	file->words = malloc(size + 1);
	check(file->words, "no memory");
	memset(file->words, 'w', size);
	for (unsigned i = 0; i < size && i < 16 && !input_is_empty(input); i++)
		file->words[i] = (char)input_u8(input);
	file->words[size] = 0;
}

static struct boot_file boot_file(const struct file *file)
{
	return (struct boot_file){{(uintptr_t)file->bytes, (uintptr_t)file->bytes + file->size},
				  file->words};
}

static void kernel_make(struct input *input)
{
	uint8_t shape = input_u8(input), how = input_u8(input), many = input_u8(input);
	uint64_t at = input_u8(input) * (how & 4 ? 64u : 4u);
	size_t size = (size_t)(input_u8(input) + 1) << (5 + (how & 3));

	if (how & 8) /* the header is what the image ends with */
		size = at + 12 + many % 24;
	else if (how & 16)
		size = (size + many) << (how >> 5 & SIZE_MAX_LOG);
	else
		size += 1024 + many;
	file_make(&kernel, size);
	shape %= SHAPES;
	if (shape == LINUX)
		linux_make(&kernel);
	if (shape == ELF_32 || shape == ELF_64)
		elf_make(&kernel, shape == ELF_64), at += 256;
	if (shape >= KLUDGE)
		multiboot_make(&kernel, at, shape == KLUDGE);
	words_make(&kernel, input);
	for (unsigned i = 0; i < files.modules; i++)
		words_make(&modules[i], input);
	while (!input_is_empty(input)) {
		uint16_t place = input_u16(input);
		unsigned count = input_u8(input) % 9;

		for (unsigned i = 0; i < count; i++)
			put(&kernel, (uint64_t)place + i, 1, input_u8(input));
	}
	if (shape >= KLUDGE)
		multiboot_sum(&kernel, at);
}

static void modules_make(struct input *input)
{
	files.modules = input_u8(input) % (LOADER_MODULES + 1);
	for (unsigned i = 0; i < files.modules; i++) {
		uint16_t size = input_u16(input);

		file_make(&modules[i], size % 0x9000);
		for (size_t at = 0; at < modules[i].size; at += 256)
			modules[i].bytes[at] = (uint8_t)(i + at / 256);
	}
}

static void machine_make(struct input *input)
{
	static const uint64_t memory[] = {16ull << 20, 2ull << 20, 3ull << 20, 4ull << 20};
	uint8_t what = input_u8(input), frames = input_u8(input), form = input_u8(input);

	outer_reset(memory[what & 3], frames ? frames * 2u : OUTER_FRAMES);
	outer.vm.options.spare = what & 4 ? UMBRA_PAGE_SIZE : 0;
	outer.vm.options.format = form % FORMATS;
	check(!memory_init(&outer.vm), "no memory to begin with");
}

/* ------------------------------------------------------------------ what must hold */

static uint64_t guest_word(uint64_t gpa)
{
	uint32_t value = 0;

	check(memory_guest_read(&outer.vm, gpa, &value, sizeof(value)),
	      "the guest is told nothing");
	return value;
}

static void check_module(const struct file *file, uint64_t at, uint64_t size)
{
	uint8_t *there = calloc(1, file->size + 1);

	check(there, "no memory");
	check(size == file->size, "a module of another size");
	check(memory_guest_read(&outer.vm, at, there, size), "a module outside of memory");
	check(!memcmp(there, file->bytes, size), "a module is not whole");
	free(there);
}

static void check_loaded(void)
{
	const uint64_t *gpr = outer.vcpu.gpr;
	uint64_t list;

	check(outer.vcpu.efer || outer.vmcb.rip <= UINT32_MAX, "a guest that begins nowhere");
	if (gpr[GPR_RSI] == PARAMS && files.modules && guest_word(PARAMS + 0x21c))
		check_module(&modules[0], guest_word(PARAMS + 0x218), guest_word(PARAMS + 0x21c));
	if (gpr[GPR_RAX] != MULTIBOOT_LOADED)
		return;
	check(guest_word(gpr[GPR_RBX] + 20) == files.modules, "modules are missing");
	list = guest_word(gpr[GPR_RBX] + 24);
	for (unsigned i = 0; i < files.modules; i++) {
		uint64_t start = guest_word(list + 16 * i), end = guest_word(list + 16 * i + 4);

		check_module(&modules[i], start, end - start);
		check(!files.modules || guest_word(list + 16 * i + 8), "a module without words");
	}
}

static void load(void)
{
	if (setjmp(outer.end))
		return;
	loader_load(&outer.vcpu, &files);
	check_loaded();
}

static void file_free(struct file *file)
{
	free(file->bytes);
	free(file->words);
	*file = (struct file){0};
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct input input = {bytes, bytes + size};

	machine_make(&input);
	modules_make(&input);
	kernel_make(&input);
	files.kernel = boot_file(&kernel);
	for (unsigned i = 0; i < files.modules; i++)
		files.module[i] = boot_file(&modules[i]);
	load();
	file_free(&kernel);
	for (unsigned i = 0; i < files.modules; i++)
		file_free(&modules[i]);
	return 0;
}
