/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A bare-metal guest for host rows: maps the pages of the spare memory (512 GiB up) through many
 * aliases from page tables of its own, touches them all, and asks the host over the control ports
 * (umbra/machine.h) for each of the things that hosts do to memory. What the host did is timed by
 * it; how the guest's accesses fare behind it, is timed here. For each it prints
 *
 *     host NAME TICKS COUNT        COUNT: sptes, or pages, as bench/kvm/report.jq says of NAME
 *
 * Words of its command line: pages= (a multiple of 512), aliases=, rounds=, kinds= (a bit for each
 * of the rounds at the end of this file; all), own= (1: what umbra waits for a process outside of
 * the machine does not count). Runs on the loader's identity map of the low 4 GiB; takes memory
 * for its tables from 32 MiB up, and other pages, to be touched in between, from 48 MiB up.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <umbra/machine.h>

#define HDR_CMDLINE  0x228
#define TABLES       0x2000000u
#define PAGES_FIRST  (1ull << 39) /* guest-physical */
#define SLOT_BYTES   (16ull << 20)
#define ALIASES      (1ull << 40) /* guest-virtual */
#define WARM_FIRST   0x3000000ull /* memory of another slot, guest-physical */
#define WARM_ALIASES (1ull << 41)
#define PAGE         4096ull
#define TABLE_SPAN   (512 * PAGE)
#define PTE_BITS     0x67u /* present, writable, user, accessed, dirty */
#define COM1         0x3f8

void aliases_main(const uint8_t *params);

static uint64_t *next_table;

static void out32(uint16_t port, uint32_t value)
{
	__asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

static uint32_t in32(uint16_t port)
{
	uint32_t value;

	__asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static uint32_t ask(enum umbra_ctl operation, uint32_t argument)
{
	out32(UMBRA_CTL_ARG, argument);
	out32(UMBRA_CTL, operation);
	return in32(UMBRA_CTL_ARG);
}

static void say(const char *text)
{
	for (; *text; text++)
		__asm__ volatile("outb %b0, %1" : : "a"(*text), "Nd"((uint16_t)COM1));
}

static void say_number(uint64_t value)
{
	char text[21];
	size_t at = sizeof(text) - 1;

	text[at] = '\0';
	do {
		text[--at] = (char)('0' + value % 10);
		value /= 10;
	} while (value);
	say(&text[at]);
}

static uint64_t word(const char *line, const char *name, uint64_t fallback)
{
	for (; *line; line++) {
		size_t i = 0;
		uint64_t value = 0;

		while (name[i] && line[i] == name[i])
			i++;
		if (name[i] || line[i] != '=')
			continue;
		for (i++; line[i] >= '0' && line[i] <= '9'; i++)
			value = value * 10 + (uint64_t)(line[i] - '0');
		return value;
	}
	return fallback;
}

static uint64_t *table_new(void)
{
	uint64_t *table = next_table;

	next_table += 512;
	for (unsigned i = 0; i < 512; i++)
		((volatile uint64_t *)table)[i] = 0;
	return table;
}

/* The table that entry @index of @table leads to, made if need be. */
static uint64_t *table_below(uint64_t *table, uint64_t index)
{
	if (!table[index])
		table[index] = (uintptr_t)table_new() | PTE_BITS;
	return (uint64_t *)(table[index] & ~0xfffull);
}

/* Every alias has tables of its own, so that each of its mappings is an entry of its own. */
static void map(uint64_t *root, uint64_t gva, uint64_t gpa)
{
	uint64_t *table = root;

	for (unsigned shift = 39; shift > 12; shift -= 9)
		table = table_below(table, gva >> shift & 511);
	table[gva >> 12 & 511] = gpa | PTE_BITS;
}

/* @aliases times the @pages pages at @gpa, from @gva on. */
static void map_all(uint64_t *root, uint64_t gva, uint64_t gpa, uint64_t pages, uint64_t aliases)
{
	for (uint64_t i = 0; i < aliases * pages; i++)
		map(root, gva + i * PAGE, gpa + i % pages * PAGE);
}

static void build(uint64_t pages, uint64_t aliases)
{
	uint64_t *loaders, *root;

	next_table = (uint64_t *)(uintptr_t)TABLES;
	root = table_new();
	__asm__ volatile("movq %%cr3, %0" : "=r"(loaders));
	root[0] = loaders[0];
	map_all(root, ALIASES, PAGES_FIRST, pages, aliases);
	map_all(root, WARM_ALIASES, WARM_FIRST, pages, aliases);
	__asm__ volatile("movq %0, %%cr3" : : "r"(root) : "memory");
}

static uint64_t ticks_now(void)
{
	uint32_t low, high;

	__asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
}

/* Write to @count pages from @gva on. Returns the ticks that took. */
static uint64_t touch(uint64_t gva, uint64_t count)
{
	uint64_t begun = ticks_now();

	for (uint64_t i = 0; i < count; i++)
		*(volatile uint8_t *)(gva + i * PAGE) = 1;
	return ticks_now() - begun;
}

static uint64_t look(uint64_t gva, uint64_t count)
{
	uint64_t begun = ticks_now();

	for (uint64_t i = 0; i < count; i++)
		(void)*(volatile uint8_t *)(gva + i * PAGE);
	return ticks_now() - begun;
}

/* ------------------------------------------------------------------ rounds */

static uint64_t pages, aliases;
static bool own;

static void touch_all(void)
{
	touch(ALIASES, aliases * pages);
}

static void row(const char *name, uint64_t ticks, uint64_t count)
{
	say("host ");
	say(name);
	say(" ");
	say_number(ticks);
	say(" ");
	say_number(count);
	say("\r\n");
}

/*
 * QEMU's TLB doubles at a flush if over 70 % of it were used since the last one, and shrinks to
 * what was used some 0.1 s later. A row shall not depend on what was there before: it is large
 * each time, and what the host needs fits.
 */
static void settle_tlb(void)
{
	uint64_t all = aliases * pages, count = all < 4096 ? all : 4096;

	for (unsigned i = 0; i < 6; i++) {
		look(ALIASES, count);
		in32(UMBRA_CTL_ARG); /* an exit, and with it a flush */
	}
}

/* False: the host cannot, and says so instead of a row. */
static bool ask_at_once(const char *name, enum umbra_ctl operation, uint32_t *ticks)
{
	*ticks = ask(operation, 0);
	if (*ticks != UINT32_MAX)
		return true;
	say("info error this host cannot: ");
	say(name);
	say("\r\n");
	return false;
}

static bool ask_timed(const char *name, enum umbra_ctl operation, uint32_t *ticks)
{
	settle_tlb();
	return ask_at_once(name, operation, ticks);
}

static uint64_t sptes(void)
{
	uint32_t count = ask(UMBRA_CTL_RANGE_SPTES, 0);

	return count == UINT32_MAX ? aliases * pages : count;
}

/* One operation, an spte. */
static bool of_sptes(const char *name, enum umbra_ctl operation)
{
	uint32_t ticks;

	if (!ask_timed(name, operation, &ticks))
		return false;
	row(name, ticks, sptes());
	return true;
}

/* One operation, a page of those that it found; 0 pages: of @all. */
static bool of_pages(const char *name, enum umbra_ctl operation, uint64_t all)
{
	uint32_t ticks;

	if (!ask_timed(name, operation, &ticks))
		return false;
	row(name, ticks, all ? all : ask(UMBRA_CTL_RANGE_FOUND, 0));
	return true;
}

/* The first access to each page, then those through its other aliases. */
static void refault(const char *page, const char *spte)
{
	row(page, touch(ALIASES, pages), pages);
	row(spte, touch(ALIASES + pages * PAGE, (aliases - 1) * pages), (aliases - 1) * pages);
}

static void round_mappings(void)
{
	static const struct {
		const char *name;
		enum umbra_ctl operation;
	} jobs[] = {
	    {"drop_range", UMBRA_CTL_RANGE_DROP},  {"drop_page", UMBRA_CTL_RANGE_DROP_EACH},
	    {"protect", UMBRA_CTL_RANGE_PROTECT},  {"remap", UMBRA_CTL_RANGE_REMAP},
	    {"slot_renew", UMBRA_CTL_RANGE_RENEW},
	};

	for (size_t job = 0; job < sizeof(jobs) / sizeof(jobs[0]); job++) {
		touch_all();
		of_sptes(jobs[job].name, jobs[job].operation);
	}
}

static void round_invalidate(void)
{
	touch_all();
	of_sptes("invalidate", UMBRA_CTL_RANGE_INVALIDATE);
	refault("invalidate_page", "invalidate_spte");
}

/* Hardware sets accessed bits only where they were cleared before. */
static void round_age(void)
{
	uint32_t ticks;

	touch_all();
	ask(UMBRA_CTL_RANGE_AGE, 0);
	touch_all();
	if (ask_timed("age", UMBRA_CTL_RANGE_AGE, &ticks))
		row("age", ticks, ask(UMBRA_CTL_RANGE_FOUND, 0) * aliases);
}

static void round_log(void)
{
	uint64_t slot = SLOT_BYTES / PAGE;

	touch_all();
	if (!of_sptes("log_start", UMBRA_CTL_RANGE_LOG_START))
		return;
	row("log_write", touch(ALIASES, pages), pages);
	of_pages("log_collect", UMBRA_CTL_RANGE_LOG_COLLECT, 0);
	of_pages("log_clean", UMBRA_CTL_RANGE_LOG_COLLECT, slot);
	touch(ALIASES, pages);
	of_pages("log_words", UMBRA_CTL_RANGE_LOG_WORDS, 0);
	ask(UMBRA_CTL_RANGE_LOG_STOP, 0);
}

/* A slot goes and comes while what is mapped of another one is in use. */
static void round_warm(void)
{
	uint64_t count = aliases * pages;

	touch_all();
	touch(WARM_ALIASES, count);
	row("warm", touch(WARM_ALIASES, count), count);
	ask(UMBRA_CTL_RANGE_RENEW, 0);
	row("warm_renewed", touch(WARM_ALIASES, count), count);
}

/* All pages hold the same: zeroes behind a 1. */
static void round_merge(void)
{
	touch_all();
	if (!of_pages("merge", UMBRA_CTL_RANGE_MERGE, 0))
		return;
	look(ALIASES, aliases * pages);
	row("merge_break", touch(ALIASES, pages), pages);
}

/* Ticks that umbra has waited for the process that has the swap file, if that is not to count. */
static uint64_t waited(size_t offset)
{
	uint64_t low;

	if (!own)
		return 0;
	low = ask(UMBRA_CTL_PEEK, (uint32_t)offset);
	return low | (uint64_t)ask(UMBRA_CTL_PEEK, (uint32_t)offset + 4) << 32;
}

static void round_swap(void)
{
	const size_t out = offsetof(struct umbra_machine, swap.out_tsc);
	const size_t in = offsetof(struct umbra_machine, swap.in_tsc);
	uint64_t before;
	uint32_t ticks;

	touch_all();
	settle_tlb();
	before = waited(out);
	if (!ask_at_once("swap_out", UMBRA_CTL_RANGE_SWAP_OUT, &ticks))
		return;
	row("swap_out", ticks - (waited(out) - before), ask(UMBRA_CTL_RANGE_FOUND, 0));
	before = waited(in);
	ticks = (uint32_t)touch(ALIASES, pages);
	row("swap_in", ticks - (waited(in) - before), pages);
}

static void round_collapse(void)
{
	touch_all();
	of_pages("collapse", UMBRA_CTL_RANGE_COLLAPSE, 0);
	ask(UMBRA_CTL_RANGE_REMAP, 0); /* one by one: it is in small pages again */
}

void aliases_main(const uint8_t *params)
{
	static void (*const kinds[])(void) = {round_mappings, round_invalidate, round_log,
					      round_warm,     round_merge,      round_swap,
					      round_age,      round_collapse};
	const char *line = (const char *)(uintptr_t) * (const uint32_t *)(params + HDR_CMDLINE);
	uint64_t rounds = word(line, "rounds", 3), which = word(line, "kinds", 255);

	pages = word(line, "pages", 512);
	aliases = word(line, "aliases", 128);
	own = word(line, "own", 0);
	build(pages, aliases);
	ask(UMBRA_CTL_RANGE_FIRST, (uint32_t)(PAGES_FIRST / PAGE));
	ask(UMBRA_CTL_RANGE_PAGES, (uint32_t)pages);
	for (size_t kind = 0; kind < sizeof(kinds) / sizeof(kinds[0]); kind++)
		for (uint64_t i = 0; i < rounds && which >> kind & 1; i++)
			kinds[kind]();
	say("end\r\n");
	ask(UMBRA_CTL_POWEROFF, 0);
}
