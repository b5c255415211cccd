/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Page tables in unusual places: a root that maps itself, changed through that; tables moved and
 * freed under the processor; tables in read-only memory, where no memory is, and in a device; one
 * table at two levels; 1 GiB, 2 MiB and 4 KiB pages taking one another's place.
 */
#include "bare.h"

#define SELF          510u /* the root's entry for itself */
#define WHERE         0x5000000000ull
#define ROM           0xd0000ull
#define DEVICE        0xff000000ull
#define CTL           0x5a0
#define CTL_ARG       0x5a4
#define CTL_ID        0x61626d75u
#define CTL_READ_ONLY 23

static uint64_t root;

/* The entry of level @level for @gva, by the root's map of itself. */
static volatile uint64_t *itself(uint64_t gva, unsigned level)
{
	uint64_t at = gva & 0xffffffffffffull;

	for (unsigned i = 0; i < level; i++)
		at = (at >> 9 & 0x7ffffffff8ull) | (uint64_t)SELF << 39;
	return (volatile uint64_t *)(at | 0xffff000000000000ull);
}

static void self_mapped(void)
{
	uint64_t pages[2] = {page_new(), page_new()};

	WORD(pages[0]) = 1111;
	WORD(pages[1]) = 2222;
	((uint64_t *)root)[SELF] = root | P | W;
	cr3_write(root);
	*entry(root, WHERE, 1) = pages[0] | P | W;
	for (unsigned i = 0; i < 1000; i++) {
		*itself(WHERE, 1) = pages[i % 2] | P | W;
		invlpg(WHERE);
		EXPECT(WORD(WHERE) == (i % 2 ? 2222 : 1111), "round %u reads %u", (uint64_t)i,
		       WORD(WHERE));
		EXPECT(*itself(WHERE, 1) & A, "round %u: not accessed", (uint64_t)i);
	}
	EXPECT((*itself(WHERE, 4) & PFN) == (*entry(root, WHERE, 4) & PFN), "level 4 differs");
	/* The map of itself taken away and brought back through itself. */
	for (unsigned i = 0; i < 100; i++) {
		volatile uint64_t *own = itself(0xffffffffffffffffull << 39, 4);

		(void)own;
		((volatile uint64_t *)root)[SELF] = 0;
		invlpg((uintptr_t)itself(WHERE, 1));
		cr3_write(root);
		((volatile uint64_t *)root)[SELF] = root | P | W;
		EXPECT((*itself(WHERE, 1) & PFN) == pages[1], "the map of itself did not return");
	}
}

static void moved(void)
{
	uint64_t page = page_new(), where = WHERE + (1ull << 30);
	uint64_t *above = entry(root, where, 2), tables[2] = {page_new(), page_new()};

	WORD(page) = 42;
	for (unsigned i = 0; i < 1000; i++) {
		uint64_t *next = (uint64_t *)tables[i % 2], *last = (uint64_t *)tables[1 - i % 2];

		for (unsigned k = 0; k < 512; k++)
			next[k] = k == i % 512 ? page | P | W : 0;
		*above = (uintptr_t)next | P | W | U;
		cr3_write(root);
		/* The one before is data now. */
		for (unsigned k = 0; k < 512; k++)
			last[k] = random();
		EXPECT(WORD(where + 4096ull * (i % 512)) == 42, "round %u", (uint64_t)i);
	}
}

static void two_levels(void)
{
	/* A table that is its own child: entry 0 leads to itself, entry 1 to a page. */
	uint64_t table = page_new(), page = page_new(), where = WHERE + (2ull << 30);

	WORD(page) = 77;
	((uint64_t *)table)[0] = table | P | W;
	((uint64_t *)table)[1] = page | P | W;
	*entry(root, where, 2) = table | P | W; /* as a table of pages: page 0 is the table */
	cr3_write(root);
	EXPECT(WORD(where + 4096) == 77, "the page reads %u", WORD(where + 4096));
	EXPECT((WORD(where + 8) & PFN) == page, "the table reads %x", WORD(where + 8));
	*entry(root, where, 3) = table | P | W; /* as a directory: entry 0 is itself as table */
	cr3_write(root);
	EXPECT(WORD(where + 4096) == 77, "the page by two levels reads %u", WORD(where + 4096));
	WORD(where + 16) = page | P | W; /* entry 2, through the table itself */
	EXPECT(WORD(where + 2 * 4096) == 77, "an entry written through the table");
}

static void sizes(void)
{
	uint64_t where = WHERE + (5ull << 30), page = page_new();
	uint64_t *pdpte = entry(root, where, 3), *pde = entry(root, where, 2), directory = *pdpte;
	uint64_t *pte = entry(root, where, 1), table = *pde;

	WORD(page) = 4096;
	WORD(0x3000000) = 222;
	*pte = page | P | W;
	for (unsigned i = 0; i < 300; i++) {
		*pdpte = directory;
		*pde = i % 3 == 0 ? table : 0x3000000 | PS | P | W;
		if (i % 3 == 2)
			*pdpte = PS | P | W; /* gpa 0 */
		cr3_write(root);
		if (i % 3 == 2)
			EXPECT(WORD(where + 0x3000000) == 222, "1 GiB, round %u", (uint64_t)i);
		else
			EXPECT(WORD(where) == (i % 3 ? 222 : 4096), "round %u: %u", (uint64_t)i,
			       WORD(where));
	}
}

static uint32_t control(uint32_t operation, uint32_t argument)
{
	outl(CTL_ARG, argument);
	outl(CTL, operation);
	return inl(CTL_ARG);
}

static void load(uint64_t gva)
{
	(void)WORD(gva);
}

static void store(uint64_t gva)
{
	WORD(gva) = 5;
}

static void read_only(void)
{
	uint64_t page = page_new(), where = WHERE + (3ull << 30), *above = entry(root, where, 2);

	if (inl(CTL) != CTL_ID) /* another machine, whose memory is here ROM or RAM as it likes */
		return;
	WORD(page) = 99;
	for (unsigned k = 0; k < 512; k++)
		WORD(ROM + 8 * k) = k == 3 ? page | P | W | A | D : 0;
	EXPECT(control(CTL_READ_ONLY, ROM >> 12 | 1u << 31) == 0,
	       "memory cannot be made read-only");
	*above = ROM | P | W | U;
	cr3_write(root);
	EXPECT(WORD(where + 3 * 4096) == 99, "a table in ROM");
	WORD(where + 3 * 4096) = 100;
	EXPECT(WORD(page) == 100, "a store by a table in ROM");
	WORD(ROM + 24) = 0; /* lost */
	EXPECT(WORD(ROM + 24) != 0, "ROM was written");
	EXPECT(call(load, where).vector == PF, "an entry of ROM that is not present");
	EXPECT(control(CTL_READ_ONLY, ROM >> 12) == 0, "memory cannot be made writable");
	WORD(ROM + 24) = 0;
	cr3_write(root);
	EXPECT(call(load, where + 3 * 4096).vector == PF, "the entry is gone");
	*above = 0;
}

/* All ones: P and reserved bits. A processor that found them would raise #PF with RSVD. */
static void no_memory(void)
{
	uint64_t where = WHERE + (4ull << 30);
	struct outcome o;

	if (inl(CTL) != CTL_ID)
		return;
	*entry(root, where, 2) = 0xfd000000 | P | W | U;
	cr3_write(root);
	o = call(load, where + 5 * 4096);
	EXPECT(o.vector == PF && o.error == 9, "a table where nothing is: %u, error %x",
	       (uint64_t)o.vector, o.error);
	o = call(store, where + 5 * 4096);
	EXPECT(o.vector == PF && o.error == 11, "a store by a table where nothing is: %u, error %x",
	       (uint64_t)o.vector, o.error);
	*entry(root, where, 2) = DEVICE | P | W | U;
	cr3_write(root);
	o = call(load, where);
	EXPECT(o.vector == PF, "a table in a device: %u", (uint64_t)o.vector);
	*entry(root, where, 2) = 0;
}

int main(void)
{
	root = root_new();
	cr3_write(root);
	self_mapped();
	moved();
	two_levels();
	sizes();
	read_only();
	no_memory();
	say("guest: tables in all places hold\r\n");
	return 0;
}
