/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Options of `umbra run`: parsing and what can be judged without looking at the host's files.
 */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <umbra/machine.h>
#include <umbra/umbra.h>

#include "console.h"

#define TIMEOUT_MAX 1e7
#define FRAMES_MIN  (32ull << 20)
#define SWAP_MIN    (1ull << 20)
#define SWAP_MAX    (1ull << 40)

static const char help[] =
    "usage: umbra run [OPTION...]\n"
    "\n"
    "Boot a guest whose every memory access goes through umbra's page tables.\n"
    "Without --kernel and --initrd: Debian's kernel (fetched once) and umbra's own initramfs.\n"
    "On a terminal you get a shell in the guest; otherwise the guest runs the workload.\n"
    "\n"
    "  --kernel F      a Linux bzImage, a Multiboot 1 image, or what --format says\n"
    "  --format X      linux16, linux32, linux64: that entry point of a bzImage; multiboot;\n"
    "                  flat: a boot sector, loaded at 0x7c00 in real mode\n"
    "  --module F      \"FILE WORDS...\", for a Multiboot guest; may be given eight times\n"
    "  --paging X      shadow (default), or nested: the processor walks the guest's tables\n"
    "  --exit-code     pass on the status that the guest writes to port 0xf4\n"
    "  --initrd F      initial RAM disk\n"
    "  --no-initrd     none, not even umbra's own\n"
    "  --disk F        a disk for the guest: a raw image; Debian's kernel boots from it\n"
    "  --disk-ro F     the same, never written; several machines may share it\n"
    "  --console X     uart (default), or virtio: hvc0\n"
    "  --append S      words to add to the guest kernel's command line\n"
    "  --cmdline S     a command line in place of the default one\n"
    "  --memory SIZE   guest memory, with suffix K, M or G (default 1G, at least 64M)\n"
    "  --guests N      so many guests, 1 to 8, each with that memory (default 1)\n"
    "  --frames SIZE   what the machine has of it (default: all, and some to move it)\n"
    "  --swap FILE[,SIZE]  where cold pages go then (SIZE: by default the guests' memory)\n"
    "  --quota PAGES   shadow pages at most (default: the hypervisor's choice)\n"
    "  --storm N       migrate N random guest pages a second (default 100)\n"
    "  --compact N     move N frames a second, to map 2 MiB of a guest at once (default 0)\n"
    "  --merge N       look at N guest pages a second, have equal ones share a frame (default 0)\n"
    "  --control PATH  listen at that socket for umbra ctl, umbra rmap and umbra walk\n"
    "  --record FILE   record everything that the MMU is asked, for umbra replay\n"
    "  --record-guest N  of several guests: this one, not guest 0\n"
    "  --seal          see at the end that nothing but the guest's memory was written\n"
    "  --batch         the workload and then power-off, on a terminal too\n"
    "  --compare       boot the same guest on plain QEMU first, print both boot times\n"
    "  --until S       stop the guest, successfully, when its console has said S\n"
    "  --timeout S     stop the guest after S seconds\n"
    "  --stats F       write the figures to F as JSON\n"
    "  --qemu F        QEMU to use (default: qemu-system-x86_64)\n"
    "  --help          this text\n"
    "\n"
    "While it runs on a terminal: Ctrl-A x ends it, Ctrl-A s prints statistics,\n"
    "Ctrl-A Ctrl-A sends Ctrl-A. Exit statuses: umbra(1).\n";

bool options_size(const char *text, uint64_t *bytes)
{
	char *end;
	unsigned shift = 0;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	unsigned long long value = strtoull(text, &end, 10);
	switch (*end) {
	case 'K':
	case 'k':
		shift = 10;
		break;
	case 'M':
	case 'm':
		shift = 20;
		break;
	case 'G':
	case 'g':
		shift = 30;
		break;
	case '\0':
		break;
	default:
		return false;
	}
	if (errno || (shift && end[1]) || value > UINT64_MAX >> shift)
		return false;
	*bytes = (uint64_t)value << shift;
	return true;
}

static bool parse_number(const char *text, double low, double high, double *value)
{
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	*value = strtod(text, &end);
	return *end == '\0' && *value >= low && *value <= high;
}

static bool parse_count(const char *text, uint32_t low, uint32_t high, uint32_t *count)
{
	double value;

	if (!parse_number(text, low, high, &value) || value != (double)(uint32_t)value)
		return false;
	*count = (uint32_t)value;
	return true;
}

static enum status parse_memory(char *text, struct options *options)
{
	uint64_t *memory = &options->memory;

	if (!options_size(text, memory))
		return complain(STATUS_MEMORY,
				"--memory %s: not a size; write for example 512M or 1G", text);
	if (*memory < MEMORY_MIN)
		return complain(STATUS_MEMORY, "--memory %s: too small; give 64M or more", text);
	if (*memory > 1ull << 40)
		return complain(STATUS_MEMORY, "--memory %s: more than 1024G cannot be mapped",
				text);
	*memory &= ~0xfffffull;
	return STATUS_OK;
}

static enum status parse_frames(char *text, struct options *options)
{
	uint64_t *frames = &options->frames;

	if (!options_size(text, frames) || *frames < FRAMES_MIN || *frames > 64ull << 30)
		return complain(STATUS_MEMORY, "--frames %s: give a size from 32M to 64G", text);
	*frames &= ~0xfffffull;
	return STATUS_OK;
}

/*
 * FILE, or FILE,SIZE: what follows the last comma is the size, always. So a name with a comma needs
 * one behind it, and nobody's slip of the pen becomes a file's name.
 */
static enum status parse_swap(char *text, struct options *options)
{
	char *comma = strrchr(text, ',');

	options->swap = text;
	options->swap_bytes = 0;
	if (comma && !options_size(comma + 1, &options->swap_bytes))
		return complain(
		    STATUS_USAGE,
		    "--swap %s: \"%s\" is no size; write FILE,SIZE with a SIZE like 512M "
		    "or 2G, for a file whose name has a comma, too",
		    text, comma + 1);
	options->swap_bytes &= ~0x1ffffull;
	if (comma && (options->swap_bytes < SWAP_MIN || options->swap_bytes > SWAP_MAX))
		return complain(STATUS_USAGE, "--swap %s: give a size from 1M to 1024G", text);
	if (comma)
		*comma = '\0';
	if (!*text)
		return complain(STATUS_USAGE, "--swap: give the name of a file");
	return STATUS_OK;
}

static enum status parse_format(char *text, struct options *options)
{
	static const char *const names[] = {
	    [KERNEL_LINUX_16] = "linux16", [KERNEL_LINUX_32] = "linux32",
	    [KERNEL_LINUX_64] = "linux64", [KERNEL_MULTIBOOT] = "multiboot",
	    [KERNEL_FLAT] = "flat",
	};

	for (unsigned i = KERNEL_LINUX_16; i <= KERNEL_FLAT; i++)
		if (strcmp(text, names[i]) == 0) {
			options->format = (enum kernel_format)i;
			return STATUS_OK;
		}
	return complain(STATUS_USAGE,
			"--format %s: give linux16, linux32, linux64, multiboot or flat", text);
}

static enum status parse_module(char *text, struct options *options)
{
	if (options->module_count == MODULES_MAX)
		return complain(STATUS_USAGE, "--module: at most %d", MODULES_MAX);
	options->modules[options->module_count++] = text;
	return STATUS_OK;
}

static enum status parse_paging(char *text, struct options *options)
{
	if (strcmp(text, "shadow") != 0 && strcmp(text, "nested") != 0)
		return complain(STATUS_USAGE, "--paging %s: give shadow or nested", text);
	options->paging = *text == 'n' ? PAGING_NESTED : PAGING_SHADOW;
	return STATUS_OK;
}

static enum status parse_console(char *text, struct options *options)
{
	if (strcmp(text, "uart") != 0 && strcmp(text, "virtio") != 0)
		return complain(STATUS_USAGE, "--console %s: give uart or virtio", text);
	options->virtio_console = *text == 'v';
	return STATUS_OK;
}

static enum status parse_disk(char *text, struct options *options)
{
	if (options->disk)
		return complain(STATUS_USAGE, "--disk, --disk-ro: one disk only");
	options->disk = text;
	return STATUS_OK;
}

static enum status parse_disk_ro(char *text, struct options *options)
{
	enum status status = parse_disk(text, options);

	options->disk_ro |= status == STATUS_OK;
	return status;
}

static enum status parse_timeout(char *text, struct options *options)
{
	if (!parse_number(text, 0.001, TIMEOUT_MAX, &options->timeout))
		return complain(STATUS_USAGE, "--timeout %s: give a number of seconds", text);
	return STATUS_OK;
}

static enum status parse_until(char *text, struct options *options)
{
	if (!*text || strlen(text) >= UNTIL_MAX)
		return complain(STATUS_USAGE, "--until: give 1 to %d characters", UNTIL_MAX - 1);
	options->until = text;
	return STATUS_OK;
}

/* ------------------------------------------------------------------ all of them */

enum kind {
	KIND_WORD,  /* a const char *, as it is */
	KIND_FLAG,  /* a bool: it was given */
	KIND_COUNT, /* a uint32_t, .low to .high */
	KIND_OTHER, /* what .parse makes of it */
	KIND_HELP,
};

#define AT(field) offsetof(struct options, field)

static const struct known {
	const char *name;
	enum kind kind;
	size_t at; /* in struct options */
	uint32_t low, high;
	const char *unit;
	enum status (*parse)(char *text, struct options *options);
} known[] = {
    {.name = "kernel", .kind = KIND_WORD, .at = AT(kernel)},
    {.name = "format", .kind = KIND_OTHER, .parse = parse_format},
    {.name = "module", .kind = KIND_OTHER, .parse = parse_module},
    {.name = "paging", .kind = KIND_OTHER, .parse = parse_paging},
    {.name = "exit-code", .kind = KIND_FLAG, .at = AT(exit_code)},
    {.name = "initrd", .kind = KIND_WORD, .at = AT(initrd)},
    {.name = "no-initrd", .kind = KIND_FLAG, .at = AT(no_initrd)},
    {.name = "append", .kind = KIND_WORD, .at = AT(append)},
    {.name = "cmdline", .kind = KIND_WORD, .at = AT(cmdline)},
    {.name = "memory", .kind = KIND_OTHER, .parse = parse_memory},
    {"guests", KIND_COUNT, AT(guests), 1, UMBRA_GUESTS_MAX, "", NULL},
    {.name = "frames", .kind = KIND_OTHER, .parse = parse_frames},
    {.name = "swap", .kind = KIND_OTHER, .parse = parse_swap},
    {"quota", KIND_COUNT, AT(quota), UMBRA_QUOTA_MIN, UMBRA_QUOTA_MAX, " shadow pages", NULL},
    {"storm", KIND_COUNT, AT(storm), 0, UMBRA_STORM_RATE_MAX, " pages a second", NULL},
    {"compact", KIND_COUNT, AT(compact), 0, UMBRA_COMPACT_RATE_MAX, " frames a second", NULL},
    {"merge", KIND_COUNT, AT(merge), 0, UMBRA_MERGE_RATE_MAX, " pages a second", NULL},
    {.name = "disk", .kind = KIND_OTHER, .parse = parse_disk},
    {.name = "disk-ro", .kind = KIND_OTHER, .parse = parse_disk_ro},
    {.name = "console", .kind = KIND_OTHER, .parse = parse_console},
    {.name = "seal", .kind = KIND_FLAG, .at = AT(seal)},
    {.name = "record", .kind = KIND_WORD, .at = AT(record)},
    {"record-guest", KIND_COUNT, AT(record_guest), 0, UMBRA_GUESTS_MAX - 1, "", NULL},
    {.name = "control", .kind = KIND_WORD, .at = AT(control)},
    {.name = "batch", .kind = KIND_FLAG, .at = AT(batch)},
    {.name = "compare", .kind = KIND_FLAG, .at = AT(compare)},
    {.name = "until", .kind = KIND_OTHER, .parse = parse_until},
    {.name = "timeout", .kind = KIND_OTHER, .parse = parse_timeout},
    {.name = "stats", .kind = KIND_WORD, .at = AT(stats)},
    {.name = "qemu", .kind = KIND_WORD, .at = AT(qemu)},
    {.name = "help", .kind = KIND_HELP},
};

#define KNOWN (sizeof(known) / sizeof(known[0]))

_Static_assert(KNOWN <= '?', "getopt_long() says '?' of what is none of them");

/* The option of known[@at] was given, with @text where it takes something. */
static enum status take(const struct known *option, char *text, struct options *options, bool *done)
{
	void *field = (char *)options + option->at;

	switch (option->kind) {
	case KIND_WORD:
		*(const char **)field = text;
		return STATUS_OK;
	case KIND_FLAG:
		*(bool *)field = true;
		return STATUS_OK;
	case KIND_COUNT:
		if (parse_count(text, option->low, option->high, field))
			return STATUS_OK;
		return complain(STATUS_USAGE, "--%s %s: give %u to %u%s", option->name, text,
				option->low, option->high, option->unit);
	case KIND_OTHER:
		return option->parse(text, options);
	case KIND_HELP:
		fputs(help, stdout);
		*done = true;
	}
	return STATUS_OK;
}

/* For getopt_long(): each option's value is its place in known[]. */
static void list_options(struct option list[KNOWN + 1])
{
	for (size_t i = 0; i < KNOWN; i++) {
		bool bare = known[i].kind == KIND_FLAG || known[i].kind == KIND_HELP;

		list[i] = (struct option){.name = known[i].name,
					  .has_arg = bare ? no_argument : required_argument,
					  .val = (int)i};
	}
	list[KNOWN] = (struct option){0};
}

/* What several guests cannot have. */
static enum status judge_guests(const struct options *options)
{
	if (options->guests > 1 && options->disk && !options->disk_ro)
		return complain(STATUS_USAGE,
				"--disk with --guests %u: they would write over one another's; "
				"give --disk-ro",
				options->guests);
	if (options->record_guest >= options->guests)
		return complain(STATUS_USAGE,
				"--record-guest %u: there is no such guest; --guests says how many",
				options->record_guest);
	return STATUS_OK;
}

enum status options_parse(int argc, char **argv, struct options *options, bool *done)
{
	struct option list[KNOWN + 1];
	int option;

	*options = (struct options){.memory = 1ull << 30, .storm = 100, .guests = 1};
	*done = false;
	optind = 1;
	list_options(list);
	while (!*done && (option = getopt_long(argc, argv, "", list, NULL)) != -1) {
		enum status status = STATUS_USAGE;

		if (option != '?')
			status = take(&known[option], optarg, options, done);
		else
			fputs("`umbra run --help` lists the options\n", stderr);
		if (status != STATUS_OK)
			return status;
	}
	if (*done)
		return STATUS_OK;
	if (optind < argc)
		return complain(STATUS_USAGE, "\"%s\": no such argument; `umbra run --help` helps",
				argv[optind]);
	if (options->swap && !options->swap_bytes)
		options->swap_bytes = options->memory * options->guests & ~0x1ffffull;
	if (options->initrd && options->no_initrd)
		return complain(STATUS_USAGE, "--initrd and --no-initrd exclude each other");
	return judge_guests(options);
}
