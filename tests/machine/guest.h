/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest that tests share: a small memory with slots that cross large-page borders, and tables
 * at known gfns, each with a level that it is meant for (nothing stops a random entry from
 * using it for another one).
 */
#ifndef GUEST_H
#define GUEST_H

#include "sim.h"

#define GUEST_GFNS 0x400u

enum guest_slot {
	GUEST_LOW,     /* gfns 0..0xbf */
	GUEST_CROSS,   /* 0x1f0..0x22f: crosses a 2 MiB border */
	GUEST_ROM,     /* 0x240..0x25f, read-only */
	GUEST_PLUGGED, /* from 0x300 on: comes and goes */
};

/* How often, in percent, random entries are wild: reserved bits, any target, any level. */
struct guest_taste {
	unsigned wild;
	unsigned absent; /* not present */
	unsigned large;
};

void guest_slots_add(struct sim *sim);

/* What the table at @gfn is meant for: 1..4; 0: no table. */
unsigned guest_level(uint64_t gfn);
uint64_t guest_table(struct sim *sim, unsigned level);

/* A gva made of the few indices that tables use; and one of these indices. */
uint64_t guest_gva(struct sim *sim);
unsigned guest_index(struct sim *sim);

uint64_t guest_entry(struct sim *sim, const struct guest_taste *taste, unsigned level);

/* Fill all tables with random entries. */
void guest_populate(struct sim *sim, const struct guest_taste *taste);

/* Registers: CR3 one of the tables; paging off rarely. */
struct umbra_paging guest_paging(struct sim *sim, const struct guest_taste *taste);

/* Long mode with the given CR3, all protections on. */
struct umbra_paging guest_long_mode(uint64_t cr3);

#endif
