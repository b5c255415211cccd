/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Options of `umbra run`: parsing and what can be judged without looking at the host's files.
 */
#include "options.h"

#include <errno.h>
#include <getopt.h>
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

static enum status parse_memory(const char *text, uint64_t *memory)
{
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

static enum status parse_frames(const char *text, uint64_t *frames)
{
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

enum {
	OPTION_KERNEL = 256,
	OPTION_FORMAT,
	OPTION_MODULE,
	OPTION_PAGING,
	OPTION_EXIT_CODE,
	OPTION_INITRD,
	OPTION_NO_INITRD,
	OPTION_APPEND,
	OPTION_CMDLINE,
	OPTION_MEMORY,
	OPTION_GUESTS,
	OPTION_FRAMES,
	OPTION_SWAP,
	OPTION_QUOTA,
	OPTION_STORM,
	OPTION_MERGE,
	OPTION_COMPACT,
	OPTION_DISK,
	OPTION_DISK_RO,
	OPTION_CONSOLE,
	OPTION_SEAL,
	OPTION_RECORD,
	OPTION_RECORD_GUEST,
	OPTION_CONTROL,
	OPTION_BATCH,
	OPTION_COMPARE,
	OPTION_TIMEOUT,
	OPTION_UNTIL,
	OPTION_STATS,
	OPTION_QEMU,
	OPTION_HELP,
};

static const struct option table[] = {
    {"kernel", required_argument, NULL, OPTION_KERNEL},
    {"format", required_argument, NULL, OPTION_FORMAT},
    {"module", required_argument, NULL, OPTION_MODULE},
    {"paging", required_argument, NULL, OPTION_PAGING},
    {"exit-code", no_argument, NULL, OPTION_EXIT_CODE},
    {"initrd", required_argument, NULL, OPTION_INITRD},
    {"no-initrd", no_argument, NULL, OPTION_NO_INITRD},
    {"append", required_argument, NULL, OPTION_APPEND},
    {"cmdline", required_argument, NULL, OPTION_CMDLINE},
    {"memory", required_argument, NULL, OPTION_MEMORY},
    {"guests", required_argument, NULL, OPTION_GUESTS},
    {"frames", required_argument, NULL, OPTION_FRAMES},
    {"swap", required_argument, NULL, OPTION_SWAP},
    {"quota", required_argument, NULL, OPTION_QUOTA},
    {"storm", required_argument, NULL, OPTION_STORM},
    {"compact", required_argument, NULL, OPTION_COMPACT},
    {"merge", required_argument, NULL, OPTION_MERGE},
    {"disk", required_argument, NULL, OPTION_DISK},
    {"disk-ro", required_argument, NULL, OPTION_DISK_RO},
    {"console", required_argument, NULL, OPTION_CONSOLE},
    {"seal", no_argument, NULL, OPTION_SEAL},
    {"record", required_argument, NULL, OPTION_RECORD},
    {"record-guest", required_argument, NULL, OPTION_RECORD_GUEST},
    {"control", required_argument, NULL, OPTION_CONTROL},
    {"batch", no_argument, NULL, OPTION_BATCH},
    {"compare", no_argument, NULL, OPTION_COMPARE},
    {"until", required_argument, NULL, OPTION_UNTIL},
    {"timeout", required_argument, NULL, OPTION_TIMEOUT},
    {"stats", required_argument, NULL, OPTION_STATS},
    {"qemu", required_argument, NULL, OPTION_QEMU},
    {"help", no_argument, NULL, OPTION_HELP},
    {NULL, 0, NULL, 0},
};

static enum status parse_format(const char *text, enum kernel_format *format)
{
	static const char *const names[] = {
	    [KERNEL_LINUX_16] = "linux16", [KERNEL_LINUX_32] = "linux32",
	    [KERNEL_LINUX_64] = "linux64", [KERNEL_MULTIBOOT] = "multiboot",
	    [KERNEL_FLAT] = "flat",
	};

	for (unsigned i = KERNEL_LINUX_16; i <= KERNEL_FLAT; i++)
		if (strcmp(text, names[i]) == 0) {
			*format = (enum kernel_format)i;
			return STATUS_OK;
		}
	return complain(STATUS_USAGE,
			"--format %s: give linux16, linux32, linux64, multiboot or flat", text);
}

static enum status parse_one(int option, struct options *options, bool *done)
{
	switch (option) {
	case OPTION_KERNEL:
		options->kernel = optarg;
		break;
	case OPTION_FORMAT:
		return parse_format(optarg, &options->format);
	case OPTION_MODULE:
		if (options->module_count == MODULES_MAX)
			return complain(STATUS_USAGE, "--module: at most %d", MODULES_MAX);
		options->modules[options->module_count++] = optarg;
		break;
	case OPTION_PAGING:
		if (strcmp(optarg, "shadow") != 0 && strcmp(optarg, "nested") != 0)
			return complain(STATUS_USAGE, "--paging %s: give shadow or nested", optarg);
		options->paging = *optarg == 'n' ? PAGING_NESTED : PAGING_SHADOW;
		break;
	case OPTION_EXIT_CODE:
		options->exit_code = true;
		break;
	case OPTION_INITRD:
		options->initrd = optarg;
		break;
	case OPTION_NO_INITRD:
		options->no_initrd = true;
		break;
	case OPTION_APPEND:
		options->append = optarg;
		break;
	case OPTION_CMDLINE:
		options->cmdline = optarg;
		break;
	case OPTION_MEMORY:
		return parse_memory(optarg, &options->memory);
	case OPTION_GUESTS:
		if (!parse_count(optarg, 1, UMBRA_GUESTS_MAX, &options->guests))
			return complain(STATUS_USAGE, "--guests %s: give 1 to %u", optarg,
					UMBRA_GUESTS_MAX);
		break;
	case OPTION_RECORD_GUEST:
		if (!parse_count(optarg, 0, UMBRA_GUESTS_MAX - 1, &options->record_guest))
			return complain(STATUS_USAGE, "--record-guest %s: give 0 to %u", optarg,
					UMBRA_GUESTS_MAX - 1);
		break;
	case OPTION_FRAMES:
		return parse_frames(optarg, &options->frames);
	case OPTION_SWAP:
		return parse_swap(optarg, options);
	case OPTION_QUOTA:
		if (!parse_count(optarg, UMBRA_QUOTA_MIN, UMBRA_QUOTA_MAX, &options->quota))
			return complain(STATUS_USAGE, "--quota %s: give %u to %u shadow pages",
					optarg, UMBRA_QUOTA_MIN, UMBRA_QUOTA_MAX);
		break;
	case OPTION_STORM:
		if (!parse_count(optarg, 0, UMBRA_STORM_RATE_MAX, &options->storm))
			return complain(STATUS_USAGE, "--storm %s: give 0 to %u pages a second",
					optarg, UMBRA_STORM_RATE_MAX);
		break;
	case OPTION_COMPACT:
		if (!parse_count(optarg, 0, UMBRA_COMPACT_RATE_MAX, &options->compact))
			return complain(STATUS_USAGE, "--compact %s: give 0 to %u frames a second",
					optarg, UMBRA_COMPACT_RATE_MAX);
		break;
	case OPTION_MERGE:
		if (!parse_count(optarg, 0, UMBRA_MERGE_RATE_MAX, &options->merge))
			return complain(STATUS_USAGE, "--merge %s: give 0 to %u pages a second",
					optarg, UMBRA_MERGE_RATE_MAX);
		break;
	case OPTION_DISK:
	case OPTION_DISK_RO:
		if (options->disk)
			return complain(STATUS_USAGE, "--disk, --disk-ro: one disk only");
		options->disk = optarg;
		options->disk_ro = option == OPTION_DISK_RO;
		break;
	case OPTION_CONSOLE:
		if (strcmp(optarg, "uart") != 0 && strcmp(optarg, "virtio") != 0)
			return complain(STATUS_USAGE, "--console %s: give uart or virtio", optarg);
		options->virtio_console = *optarg == 'v';
		break;
	case OPTION_SEAL:
		options->seal = true;
		break;
	case OPTION_RECORD:
		options->record = optarg;
		break;
	case OPTION_CONTROL:
		options->control = optarg;
		break;
	case OPTION_BATCH:
		options->batch = true;
		break;
	case OPTION_COMPARE:
		options->compare = true;
		break;
	case OPTION_TIMEOUT:
		if (!parse_number(optarg, 0.001, TIMEOUT_MAX, &options->timeout))
			return complain(STATUS_USAGE, "--timeout %s: give a number of seconds",
					optarg);
		break;
	case OPTION_UNTIL:
		if (!*optarg || strlen(optarg) >= UNTIL_MAX)
			return complain(STATUS_USAGE, "--until: give 1 to %d characters",
					UNTIL_MAX - 1);
		options->until = optarg;
		break;
	case OPTION_STATS:
		options->stats = optarg;
		break;
	case OPTION_QEMU:
		options->qemu = optarg;
		break;
	case OPTION_HELP:
		fputs(help, stdout);
		*done = true;
		break;
	default:
		fputs("`umbra run --help` lists the options\n", stderr);
		return STATUS_USAGE;
	}
	return STATUS_OK;
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
	int option;

	*options = (struct options){.memory = 1ull << 30, .storm = 100, .guests = 1};
	*done = false;
	optind = 1;
	while (!*done && (option = getopt_long(argc, argv, "", table, NULL)) != -1) {
		enum status status = parse_one(option, options, done);
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
