/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest that tests share: a small memory with slots that cross large-page borders, one of which
 * has whole 2 MiB areas, and tables at known gfns, each of a kind that it is meant for (nothing
 * stops a random entry from using it as another one). Tables may move, into areas that are mapped
 * whole too. With gfns for it (GUEST_HUGE_GFNS) there is 1 GiB that is mapped whole.
 */
#ifndef GUEST_H
#define GUEST_H

#include "sim.h"

#define GUEST_GFNS      0xc40u
#define GUEST_HUGE      0x40000u /* the first gfn of the 1 GiB */
#define GUEST_HUGE_GFNS 0x80000u

enum guest_slot {
	GUEST_LOW,     /* gfns 0..0xbf */
	GUEST_CROSS,   /* 0x1f0..0x22f: crosses a 2 MiB border */
	GUEST_ROM,     /* 0x240..0x25f, read-only */
	GUEST_PLUGGED, /* from 0x300 on: comes and goes */
	GUEST_BIG,     /* 0x5f0..0x9ff: two whole 2 MiB areas, */
	GUEST_TOP,     /* 0xa00..0xc0f: and another, one of 4 MiB with the second; comes and goes */
	GUEST_GIGA,    /* 1 GiB from GUEST_HUGE on, if the machine has so many gfns */
};

/* Kinds of tables. PAE paging shares GUEST_PT and GUEST_PD with long mode. */
enum guest_kind {
	GUEST_NO_TABLE,
	GUEST_PT,
	GUEST_PD,
	GUEST_PDPT,
	GUEST_PML4,
	GUEST_PML5,
	GUEST_PDPTES, /* of PAE paging */
	GUEST_PT32,   /* 4-byte entries, two in each word */
	GUEST_PD32,
	GUEST_KINDS
};

enum guest_mode {
	GUEST_OFF,
	GUEST_32BIT,
	GUEST_PSE,
	GUEST_PAE,
	GUEST_4LEVEL,
	GUEST_5LEVEL,
	GUEST_MODES
};

/* How often, in percent, random entries are wild: reserved bits, any target, any level. */
struct guest_taste {
	unsigned wild;
	unsigned absent; /* not present */
	unsigned large;
	unsigned keys;  /* pages with a protection key; reserved bits to PAE paging */
	unsigned modes; /* which of enum guest_mode it uses, 1 << mode each; 0: 4 levels, or off */
};

/* Also puts the tables back to where they are at first. */
void guest_slots_add(struct sim *sim);

/* A kind of table: of the modes that @taste has, any. */
unsigned guest_kind(struct sim *sim, const struct guest_taste *taste);

/* What the table at @gfn is meant for: an enum guest_kind; 0: no table. */
unsigned guest_level(uint64_t gfn);
uint64_t guest_table(struct sim *sim, unsigned kind);

/* The gfn of a page that entries like to map. */
uint64_t guest_page(struct sim *sim, const struct guest_taste *taste);

/* A gva made of the few indices that tables use (57 bits; sim_fit() cuts it); an index. */
uint64_t guest_gva(struct sim *sim);
unsigned guest_index(struct sim *sim);

/* A word for a table of that kind: one entry, or two of 4 bytes. */
uint64_t guest_entry(struct sim *sim, const struct guest_taste *taste, unsigned kind);

/* Move a table to another gfn, and most of what leads to it; what was there becomes data. */
void guest_table_move(struct sim *sim);

/* A large entry becomes a table that maps the same gfns in pages of 4 KiB, or the other way round.
 */
void guest_pde_turn(struct sim *sim, const struct guest_taste *taste);

/* Fill all tables with random entries. */
void guest_populate(struct sim *sim, const struct guest_taste *taste);

/* Registers: of any mode that the taste allows, CR3 one of the tables; paging off rarely. */
struct umbra_paging guest_paging(struct sim *sim, const struct guest_taste *taste);
struct umbra_paging guest_paging_in(struct sim *sim, const struct guest_taste *taste,
				    enum guest_mode mode);

/* Another CR3 for the mode that @paging is of. */
uint64_t guest_cr3(struct sim *sim, const struct guest_taste *taste,
		   const struct umbra_paging *paging);

/* PKRU or PKRS: mostly a few keys with a few bits. */
uint32_t guest_keys(struct sim *sim);

/* Long mode with the given CR3, all protections on. */
struct umbra_paging guest_long_mode(uint64_t cr3);

#endif
