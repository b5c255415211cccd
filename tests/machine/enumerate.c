/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Every combination of what a translation depends on, each touched by every kind of access: first
 * with nothing mapped for it, then with what that left. touch.c judges each touch by the reference
 * walker.
 *
 * A combination is a number. Its digits, the last one turning fastest, are
 *
 *     registers    WP NXE SMEP SMAP AC, in long mode also what protection keys deny; in PAE paging
 *                  the PDPTE's P
 *     backing      4K, 2M, 1G: what the host has memory in
 *     place        memory, read-only slot, no slot, frames that are not writable
 *     upper, lower one bit for each condition (see below) that turns a good entry round
 *     kind         of the first access
 *
 * enumerate [--quick] [--mode NAME] [--part I/N] [--set NAME --only NUMBER]
 *   --quick  some of each set, a fixed step apart that has no divisor in common with its digits
 *   --part   the I-th (from 1) of N equal parts of each set
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "touch.h"

#define GIB   (1ull << 30)
#define GOOD  (REF_P | REF_W | REF_U | REF_A)
#define KEY   5u
#define QUICK 60000u /* combinations of a set */

struct condition {
	const char *name;
	uint64_t bits; /* turned round */
};

/* clang-format off */
static const struct condition upper_entry[] = {
    {"P", REF_P}, {"W", REF_W}, {"U", REF_U}, {"A", REF_A}, {"NX", REF_NX}, {"PS", REF_PS},
    {"beyond", 1ull << 45}, {"G", REF_G},
};
static const struct condition leaf_entry[] = {
    {"P", REF_P}, {"W", REF_W}, {"U", REF_U}, {"A", REF_A}, {"D", REF_D}, {"NX", REF_NX},
    {"type", REF_PWT | REF_PCD | REF_PS}, {"key", (uint64_t)KEY << 59}, {"beyond", 1ull << 45},
    {"G", REF_G},
};
static const struct condition large_entry[] = {
    {"P", REF_P}, {"W", REF_W}, {"U", REF_U}, {"A", REF_A}, {"D", REF_D}, {"NX", REF_NX},
    {"type", REF_PWT | REF_PCD | REF_PAT}, {"key", (uint64_t)KEY << 59}, {"beyond", 1ull << 45},
    {"G", REF_G}, {"low", 1ull << 20},
};
static const struct condition upper_entry_32[] = {
    {"P", REF_P}, {"W", REF_W}, {"U", REF_U}, {"A", REF_A}, {"PS", REF_PS}, {"G", REF_G},
};
static const struct condition leaf_entry_32[] = {
    {"P", REF_P}, {"W", REF_W}, {"U", REF_U}, {"A", REF_A}, {"D", REF_D},
    {"type", REF_PWT | REF_PCD | REF_PS}, {"G", REF_G},
};
static const struct condition large_entry_32[] = {
    {"P", REF_P}, {"W", REF_W}, {"U", REF_U}, {"A", REF_A}, {"D", REF_D},
    {"type", REF_PWT | REF_PCD | REF_PAT}, {"G", REF_G}, {"bit 21", 1u << 21},
    {"bit 32", 1u << 13}, {"beyond", 1u << 20},
};
/* clang-format on */

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const char *const registers[] = {"WP", "NXE", "SMEP", "SMAP", "AC"};
static const char *const places[] = {"memory", "read-only", "nothing", "not writable"};

/* What protection keys deny: CR4 bits, and the two bits of the page's key in each register. */
static const struct {
	const char *name;
	uint64_t cr4;
	unsigned user, supervisor;
} keys[] = {
    {"no keys", 0, 3, 3},
    {"PKU", REF_CR4_PKE, 0, 3},
    {"PKU AD", REF_CR4_PKE, 1, 0},
    {"PKU WD", REF_CR4_PKE, 2, 0},
    {"PKS AD", REF_CR4_PKS, 0, 1},
    {"PKS WD", REF_CR4_PKS, 0, 2},
    {"PKU WD, PKS AD", REF_CR4_PKE | REF_CR4_PKS, 2, 1},
    {"PKU AD, PKS WD", REF_CR4_PKE | REF_CR4_PKS, 1, 2},
};

enum mode {
	OFF,
	BITS_32,
	PSE,
	PAE,
	LONG_4,
	LONG_5,
	NESTED_4,
	NESTED_5,
	MODES
};

static const struct {
	const char *name;
	unsigned root;   /* level */
	unsigned width;  /* of an entry */
	unsigned shapes; /* levels that map pages */
	uint8_t index[6];
	uint8_t maxphyaddr;
} modes[MODES] = {
    [OFF] = {"off", 0, 8, 1, {0}, 40},
    [BITS_32] = {"32", 2, 4, 1, {0}, 36},
    [PSE] = {"pse", 2, 4, 2, {0}, 36},
    [PAE] = {"pae", 3, 8, 2, {0, 5, 7, 2}, 40},
    [LONG_4] = {"4", 4, 8, 3, {0, 5, 7, 3, 1}, 40},
    [LONG_5] = {"5", 5, 8, 3, {0, 5, 7, 3, 1, 2}, 40},
    [NESTED_4] = {"nested 4", 0, 8, 1, {0}, 40},
    [NESTED_5] = {"nested 5", 0, 8, 1, {0}, 40},
};

/* Where one index is not enough for all parts of a 32-bit table. */
#define INDEX_32_2 771u
#define INDEX_32_1 683u

struct set {
	enum mode mode;
	unsigned shape;        /* level of the leaf */
	unsigned upper, lower; /* levels that vary; 0: none */
	unsigned upper_conditions, lower_conditions;
	unsigned places, backings;
	uint32_t cpu; /* enum umbra_cpu */
};

struct digits {
	unsigned registers, backing, place, upper, lower, kind;
};

static uint64_t touches;

/* ------------------------------------------------------------------ conditions */

static const struct condition *conditions(const struct set *set, unsigned level, unsigned *count)
{
	bool wide = modes[set->mode].width == 8;

	if (level > set->shape) {
		*count = wide ? COUNT(upper_entry) : COUNT(upper_entry_32);
		return wide ? upper_entry : upper_entry_32;
	}
	if (level == 1) {
		*count = wide ? COUNT(leaf_entry) : COUNT(leaf_entry_32);
		return wide ? leaf_entry : leaf_entry_32;
	}
	*count = wide ? COUNT(large_entry) : COUNT(large_entry_32);
	return wide ? large_entry : large_entry_32;
}

static unsigned register_settings(enum mode mode)
{
	switch (mode) {
	case BITS_32:
	case PSE:
		return 16; /* there is no NX */
	case PAE:
		return 64;
	case LONG_4:
	case LONG_5:
		return 32 * COUNT(keys);
	default:
		return 1;
	}
}

static uint64_t set_size(const struct set *set)
{
	return (uint64_t)register_settings(set->mode) * set->backings * set->places * KINDS
	       << (set->upper_conditions + set->lower_conditions);
}

static unsigned take(uint64_t *number, uint64_t radix)
{
	unsigned digit = (unsigned)(*number % radix);

	*number /= radix;
	return digit;
}

static struct digits digits_of(const struct set *set, uint64_t number)
{
	struct digits digits;

	digits.kind = take(&number, KINDS);
	digits.lower = take(&number, 1ull << set->lower_conditions);
	digits.upper = take(&number, 1ull << set->upper_conditions);
	digits.place = take(&number, set->places);
	digits.backing = take(&number, set->backings);
	digits.registers = take(&number, register_settings(set->mode));
	return digits;
}

/* Which of WP, NXE, SMEP, SMAP, AC are turned round, and the digit of what comes behind. */
static unsigned register_bits(enum mode mode, unsigned digit, unsigned *rest)
{
	if (mode == BITS_32 || mode == PSE) {
		*rest = 0;
		return (digit & 1) | (digit & ~1u) << 1; /* all but NXE */
	}
	*rest = digit / 32;
	return digit % 32;
}

/* ------------------------------------------------------------------ setting up */

static uint64_t table_of(unsigned level)
{
	return (16ull + level) << 12;
}

static unsigned index_of(const struct set *set, unsigned level)
{
	if (modes[set->mode].width == 4)
		return level == 2 ? INDEX_32_2 : INDEX_32_1;
	return modes[set->mode].index[level];
}

static uint64_t place_of(const struct set *set, unsigned place)
{
	static const uint64_t base[] = {GIB, 2 * GIB, 3 * GIB, GIB / 2};

	return place == 3 && (set->shape == 3 || set->mode == OFF || set->mode >= NESTED_4)
		   ? set->mode == OFF ? GIB / 2 : 4 * GIB
		   : base[place];
}

static uint64_t gva_of(const struct set *set, const struct digits *digits)
{
	uint64_t gva = 0x358;

	if (!modes[set->mode].root)
		return place_of(set, digits->place) | 0x12345358;
	if (modes[set->mode].width == 4)
		return gva | (uint64_t)INDEX_32_2 << 22 | INDEX_32_1 << 12;
	for (unsigned level = 1; level <= modes[set->mode].root; level++)
		gva |= (uint64_t)index_of(set, level) << (12 + 9 * (level - 1));
	return gva;
}

static uint64_t turned(const struct set *set, unsigned level, unsigned bits)
{
	unsigned count;
	const struct condition *all = conditions(set, level, &count);
	uint64_t turned = 0;

	for (unsigned i = 0; i < count; i++)
		turned |= bits >> i & 1 ? all[i].bits : 0;
	return turned;
}

static uint64_t entry_of(const struct set *set, unsigned level, const struct digits *digits)
{
	uint64_t entry = GOOD;

	if (level > set->shape)
		entry |= table_of(level - 1);
	else
		entry |=
		    place_of(set, digits->place) | REF_D | (level > 1 ? REF_PS : (uint64_t)0x5000);
	if (level == set->upper)
		entry ^= turned(set, level, digits->upper);
	if (level == set->lower)
		entry ^= turned(set, level, digits->lower);
	if (set->mode == PAE && level == 3) {
		unsigned absent;

		register_bits(PAE, digits->registers, &absent);
		return (table_of(2) | REF_P | REF_PCD) ^ absent;
	}
	return entry;
}

static void entries_write(struct toucher *toucher, const struct set *set,
			  const struct digits *digits)
{
	for (unsigned level = modes[set->mode].root; level >= set->shape && level; level--)
		toucher_write(toucher,
			      table_of(level) + index_of(set, level) * modes[set->mode].width,
			      entry_of(set, level, digits), modes[set->mode].width);
}

static struct touch_state state_of(const struct set *set, const struct digits *digits)
{
	unsigned rest, bits = register_bits(set->mode, digits->registers, &rest);
	struct touch_state state = {
	    .paging = {.cr0 = REF_CR0_PG | REF_CR0_WP | 1,
		       .cr3 = table_of(modes[set->mode].root),
		       .cr4 = REF_CR4_PAE,
		       .efer = REF_EFER_NXE},
	    .backing = 1 + digits->backing,
	};

	state.paging.cr0 ^= bits & 1 ? REF_CR0_WP : 0;
	state.paging.efer ^= bits & 2 ? REF_EFER_NXE : 0;
	state.paging.cr4 |= bits & 4 ? REF_CR4_SMEP : 0;
	state.paging.cr4 |= bits & 8 ? REF_CR4_SMAP : 0;
	state.ac = bits & 16;
	switch (set->mode) {
	case LONG_5:
		state.paging.cr4 |= REF_CR4_LA57;
		/* fall through */
	case LONG_4:
		state.paging.efer |= REF_EFER_LME | REF_EFER_LMA;
		state.paging.cr4 |= keys[rest].cr4;
		state.pkru = keys[rest].user << 2 * KEY;
		state.pkrs = keys[rest].supervisor << 2 * KEY;
		break;
	case BITS_32:
		state.paging.cr4 &= ~REF_CR4_PAE;
		break;
	case PSE:
		state.paging.cr4 ^= REF_CR4_PAE | REF_CR4_PSE;
		break;
	case PAE:
		break;
	default:
		state.paging.cr0 &= ~REF_CR0_PG;
		break;
	}
	return state;
}

/* ------------------------------------------------------------------ saying what */

static void print_conditions(const struct set *set, unsigned level, unsigned bits)
{
	unsigned count;
	const struct condition *all = conditions(set, level, &count);

	fprintf(stderr, "  entry of level %u, turned round:", level);
	for (unsigned i = 0; i < count; i++)
		if (bits >> i & 1)
			fprintf(stderr, " %s", all[i].name);
	fprintf(stderr, "\n");
}

static void set_name(const struct set *set, char *name, size_t size)
{
	static const char *const pages[] = {"", "4K", "2M", "1G"};

	snprintf(name, size, "%s/%s/%u-%u/%u", modes[set->mode].name, pages[set->shape], set->upper,
		 set->lower, set->cpu);
}

static void complain(const struct set *set, uint64_t number, const char *what)
{
	static const char *const kinds[] = {"read",      "write",      "fetch",
					    "user read", "user write", "user fetch"};
	struct digits digits = digits_of(set, number);
	unsigned rest, bits = register_bits(set->mode, digits.registers, &rest);
	char name[64];

	set_name(set, name, sizeof(name));
	fprintf(stderr,
		"enumerate: %s\n  first access: %s; to %s, backed by level %u\n  turned round:",
		what, kinds[digits.kind], places[digits.place], 1 + digits.backing);
	for (unsigned i = 0; i < COUNT(registers); i++)
		if (bits >> i & 1)
			fprintf(stderr, " %s", registers[i]);
	if (set->mode == LONG_4 || set->mode == LONG_5)
		fprintf(stderr, "; %s", keys[rest].name);
	fprintf(stderr, "\n");
	if (set->upper)
		print_conditions(set, set->upper, digits.upper);
	if (set->lower)
		print_conditions(set, set->lower, digits.lower);
	fprintf(stderr, "again: enumerate --set '%s' --only %" PRIu64 "\n", name, number);
}

/* ------------------------------------------------------------------ going through */

struct range {
	uint64_t from, to, step;
};

static struct toucher *machine_for(const struct set *set)
{
	struct umbra_config config = {
	    .shadow_quota = 128,
	    .maxphyaddr = modes[set->mode].maxphyaddr,
	    .nested = set->mode == NESTED_4   ? 4
		      : set->mode == NESTED_5 ? 5
					      : 0,
	    .cpu = set->cpu,
	};

	return toucher_create(&config);
}

static bool is_same_state(const struct digits *a, const struct digits *b)
{
	return a->registers == b->registers && a->backing == b->backing;
}

/* Returns whether all was as it should be. */
static bool go_through(const struct set *set, const struct range *range, uint64_t *visited)
{
	struct toucher *toucher = machine_for(set);
	struct digits last = {.registers = ~0u};
	uint64_t size = set_size(set), number = range->from;
	const char *error = NULL;

	*visited = 0;
	for (uint64_t i = range->from; i < range->to && !error; i++) {
		struct digits digits;

		number = i * range->step % size;
		digits = digits_of(set, number);
		entries_write(toucher, set, &digits);
		if (!is_same_state(&digits, &last)) {
			struct touch_state state = state_of(set, &digits);

			error = toucher_set(toucher, &state);
		}
		last = digits;
		if (!error)
			error = toucher_touch(toucher, gva_of(set, &digits), digits.kind, &touches);
		++*visited;
		if (!error && (*visited & 0xffff) == 1)
			error = toucher_audit(toucher);
	}
	if (!error)
		error = toucher_audit(toucher);
	if (error)
		complain(set, number, error);
	toucher_destroy(toucher);
	return !error;
}

/* A step that visits every digit's values, whatever the radices: they are products of 2 and 3. */
static uint64_t quick_step(uint64_t size)
{
	uint64_t step = size / QUICK | 1;

	while (step % 3 == 0 || step % 2 == 0)
		step++;
	return step;
}

struct arguments {
	bool quick;
	const char *mode, *set, *only;
	uint64_t part, parts;
};

static bool run_set(const struct set *set, const struct arguments *arguments, unsigned *failures)
{
	uint64_t size = set_size(set), visited, before = touches;
	struct range range = {0, size, 1};
	struct timespec start, end;
	char name[64];
	bool good;

	set_name(set, name, sizeof(name));
	if ((arguments->mode && strcmp(arguments->mode, modes[set->mode].name)) ||
	    (arguments->set && strcmp(arguments->set, name)))
		return true;
	if (arguments->quick) {
		range.step = quick_step(size);
		range.to = size < QUICK ? size : QUICK;
	}
	if (arguments->parts) {
		range.from = range.to / arguments->parts * (arguments->part - 1);
		if (arguments->part < arguments->parts)
			range.to = range.to / arguments->parts * arguments->part;
	}
	if (arguments->only)
		range = (struct range){strtoull(arguments->only, NULL, 0),
				       strtoull(arguments->only, NULL, 0) + 1, 1};
	clock_gettime(CLOCK_MONOTONIC, &start);
	good = go_through(set, &range, &visited);
	clock_gettime(CLOCK_MONOTONIC, &end);
	*failures += !good;
	printf("%-14s %12" PRIu64 " combinations, %11" PRIu64 " visited, step %6" PRIu64
	       ", %12" PRIu64 " touches, %5ld s%s\n",
	       name, size, visited, range.step, touches - before, (long)(end.tv_sec - start.tv_sec),
	       good ? "" : ": FAILED");
	fflush(stdout);
	return good;
}

/*
 * Conditions that vary when two levels do: all but the last ones of the tables above, which stand
 * alone (G, and what is reserved in the same way as "beyond").
 */
static unsigned pair_conditions(const struct set *set, unsigned level)
{
	return level > set->shape ? 7 : 9;
}

static void run_long(enum mode mode, const struct arguments *arguments, unsigned *failures)
{
	struct set set = {.mode = mode, .places = 1, .backings = 1};
	unsigned count;

	for (set.shape = 1; set.shape <= 3; set.shape++) {
		for (set.upper = modes[mode].root; set.upper > set.shape; set.upper--) {
			for (set.lower = set.upper - 1; set.lower >= set.shape; set.lower--) {
				set.upper_conditions = pair_conditions(&set, set.upper);
				set.lower_conditions = pair_conditions(&set, set.lower);
				run_set(&set, arguments, failures);
			}
		}
	}
	/* One level alone, in every place, on processors of both kinds. */
	set = (struct set){.mode = mode, .places = COUNT(places)};
	for (unsigned i = 0; i < 2; i++) {
		set.cpu = i ? UMBRA_CPU_AMD | UMBRA_CPU_NO_1G | UMBRA_CPU_NO_PSE36 : 0;
		for (set.shape = 1; set.shape <= 3; set.shape++) {
			set.backings = set.shape;
			for (set.lower = modes[mode].root; set.lower >= set.shape; set.lower--) {
				conditions(&set, set.lower, &count);
				set.lower_conditions = count;
				run_set(&set, arguments, failures);
			}
		}
	}
}

static void run_legacy(enum mode mode, const struct arguments *arguments, unsigned *failures)
{
	struct set set = {.mode = mode, .places = COUNT(places), .backings = 1};
	unsigned root = mode == PAE ? 2 : modes[mode].root;

	for (unsigned i = 0; i < 2; i++) {
		set.cpu = i ? UMBRA_CPU_AMD | UMBRA_CPU_NO_1G | UMBRA_CPU_NO_PSE36 : 0;
		set.shape = 1;
		set.upper = root;
		set.lower = 1;
		set.backings = 1;
		conditions(&set, set.upper, &set.upper_conditions);
		conditions(&set, set.lower, &set.lower_conditions);
		if (!i || mode != PAE) /* to which the flags mean nothing */
			run_set(&set, arguments, failures);
		if (modes[mode].shapes < 2)
			continue;
		set.shape = set.lower = 2;
		set.upper = set.upper_conditions = 0;
		set.backings = 2;
		conditions(&set, set.lower, &set.lower_conditions);
		run_set(&set, arguments, failures);
	}
}

static void run_plain(enum mode mode, const struct arguments *arguments, unsigned *failures)
{
	const struct set set = {
	    .mode = mode, .shape = 1, .places = COUNT(places), .backings = mode == OFF ? 2 : 3};

	run_set(&set, arguments, failures);
}

static int usage(void)
{
	fprintf(stderr,
		"enumerate [--quick] [--mode NAME] [--part I/N] [--set NAME --only NUMBER]\n");
	return 2;
}

int main(int argc, char **argv)
{
	struct arguments arguments = {0};
	unsigned failures = 0;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--quick"))
			arguments.quick = true;
		else if (i + 1 == argc)
			return usage();
		else if (!strcmp(argv[i], "--mode"))
			arguments.mode = argv[++i];
		else if (!strcmp(argv[i], "--set"))
			arguments.set = argv[++i];
		else if (!strcmp(argv[i], "--only"))
			arguments.only = argv[++i];
		else if (strcmp(argv[i], "--part") ||
			 sscanf(argv[++i], "%" SCNu64 "/%" SCNu64, &arguments.part,
				&arguments.parts) != 2 ||
			 !arguments.part || arguments.part > arguments.parts)
			return usage();
	}
	for (enum mode mode = 0; mode < MODES; mode++) {
		if (!modes[mode].root)
			run_plain(mode, &arguments, &failures);
		else if (mode == LONG_4 || mode == LONG_5)
			run_long(mode, &arguments, &failures);
		else
			run_legacy(mode, &arguments, &failures);
	}
	printf("%" PRIu64 " touches, %u failures\n", touches, failures);
	return failures ? 1 : 0;
}
