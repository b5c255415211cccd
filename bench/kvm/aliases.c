/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A bare-metal guest for host rows: maps the pages of the spare memory (512 GiB up) through many
 * aliases from page tables of its own, touches them all, and asks the host over the control ports
 * (umbra/machine.h) to take them away in each way there is. For every round it prints
 *
 *     host NAME TICKS SPTES
 *
 * Words of its command line: pages= (a multiple of 512), aliases=, rounds=. Runs on the loader's
 * identity map of the low 4 GiB; takes memory for its tables from 32 MiB up.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <umbra/machine.h>

#define HDR_CMDLINE 0x228
#define TABLES      0x2000000u
#define PAGES_FIRST (1ull << 39) /* guest-physical */
#define ALIASES     (1ull << 40) /* guest-virtual */
#define PAGE        4096ull
#define TABLE_SPAN  (512 * PAGE)
#define PTE_BITS    0x67u /* present, writable, user, accessed, dirty */
#define COM1        0x3f8

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

static void build(uint64_t pages, uint64_t aliases)
{
	uint64_t *loaders, *root;

	next_table = (uint64_t *)(uintptr_t)TABLES;
	root = table_new();
	__asm__ volatile("movq %%cr3, %0" : "=r"(loaders));
	root[0] = loaders[0];
	for (uint64_t i = 0; i < aliases * pages; i++)
		map(root, ALIASES + i * PAGE, PAGES_FIRST + i % pages * PAGE);
	__asm__ volatile("movq %0, %%cr3" : : "r"(root) : "memory");
}

static void touch(uint64_t count)
{
	for (uint64_t i = 0; i < count; i++)
		*(volatile uint8_t *)(ALIASES + i * PAGE) = 1;
}

void aliases_main(const uint8_t *params)
{
	static const struct {
		const char *name;
		enum umbra_ctl operation;
	} jobs[] = {
	    {"drop_range", UMBRA_CTL_RANGE_DROP},  {"drop_page", UMBRA_CTL_RANGE_DROP_EACH},
	    {"protect", UMBRA_CTL_RANGE_PROTECT},  {"remap", UMBRA_CTL_RANGE_REMAP},
	    {"slot_renew", UMBRA_CTL_RANGE_RENEW},
	};
	const char *line = (const char *)(uintptr_t) * (const uint32_t *)(params + HDR_CMDLINE);
	uint64_t pages = word(line, "pages", 512), aliases = word(line, "aliases", 128);
	uint64_t rounds = word(line, "rounds", 3);

	build(pages, aliases);
	ask(UMBRA_CTL_RANGE_FIRST, (uint32_t)(PAGES_FIRST / PAGE));
	ask(UMBRA_CTL_RANGE_PAGES, (uint32_t)pages);
	for (size_t job = 0; job < sizeof(jobs) / sizeof(jobs[0]); job++)
		for (uint64_t i = 0; i < rounds; i++) {
			uint32_t ticks, sptes;

			touch(aliases * pages);
			ticks = ask(jobs[job].operation, 0);
			sptes = ask(UMBRA_CTL_RANGE_SPTES, 0);
			say("host ");
			say(jobs[job].name);
			say(" ");
			say_number(ticks);
			say(" ");
			say_number(sptes == UINT32_MAX ? aliases * pages : sptes);
			say("\r\n");
		}
	say("end\r\n");
	ask(UMBRA_CTL_POWEROFF, 0);
}
