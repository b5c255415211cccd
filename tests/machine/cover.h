/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a run of the simulated machine came by, counted by feature: random guests that never map a
 * large page, say, prove nothing about large pages. The machine counts what it sees (sim.c,
 * sim_cpu.c, sim_check.c); what only umbra knows is taken from its statistics, at the end
 * (cover_end()) and, for what comes and goes with large leaves, after each step (cover_step()).
 */
#ifndef COVER_H
#define COVER_H

#include <stdbool.h>
#include <stdint.h>

#include <umbra/umbra.h>

#include "ref.h"

struct sim;

enum cover {
	COVER_WALK_2M, /* hardware's walks that end in a large leaf */
	COVER_WALK_1G,
	COVER_STORE_LARGE, /* stores through one */
	COVER_WHOLE_4M,    /* accesses through a 2 MiB leaf to a guest's 4 MiB page */
	COVER_DIRECT,      /* through a small leaf to a guest's large page */
	COVER_MADE_2M,     /* cover_step() */
	COVER_MADE_1G,
	COVER_BROKEN_BY_ACCESS,
	COVER_BROKEN_BY_WRITE,
	COVER_BROKEN_BY_HOST,
	COVER_BROKEN_1G,
	COVER_NOTED, /* MMIO told from a note */
	COVER_ROOT_OFF,
	COVER_ROOT_32BIT,
	COVER_ROOT_PSE,
	COVER_ROOT_PAE,
	COVER_ROOT_4LEVEL,
	COVER_ROOT_5LEVEL,
	COVER_ROOT_LA57_LEGACY, /* CR4.LA57 outside of long mode */
	COVER_ROOT_KEPT,
	COVER_PDPTES_GOOD,
	COVER_PDPTES_BAD,
	COVER_INVLPG,
	COVER_INVPCID_ADDRESS, /* the types, in the order of enum umbra_invpcid */
	COVER_INVPCID_PCID,
	COVER_INVPCID_ALL_GLOBAL,
	COVER_INVPCID_ALL,
	COVER_RESERVED_BIT, /* injected */
	COVER_KEY_REFUSED,
	COVER_SMEP_REFUSED,
	COVER_SMAP_REFUSED,
	COVER_UNSYNC,
	COVER_SYNC,
	COVER_FLOODED,
	COVER_RECLAIMED,
	COVER_PREFETCHED,
	COVER_ADDED, /* sptes */
	COVER_REMOVED,
	COVER_DROPPED,
	COVER_OWN_TABLE,     /* writes through the very table that they change */
	COVER_EMULATED_PAGE, /* CR0.WP = 0 under SMAP or keys */
	COVER_REMAPPED,
	COVER_STALE, /* seen, and legal */
	COVER_NESTED,
	COVER_TABLE_MOVED,  /* guest_table_move() */
	COVER_TABLE_INSIDE, /*   into a 2 MiB area that is mapped whole */
	COVER_PDE_TO_TABLE, /* guest_pde_turn() */
	COVER_PDE_TO_LARGE,
	COVER_BOOT_STAGE,
	COVER_SLOT_CUT, /* slots added that hold a part of a 2 MiB area */
	COVER_GATHERED,
	COVER_SLOT_MOVED,
	COVER_LOG_W, /* logs begun */
	COVER_LOG_D,
	COVER_TOUCHED, /* pages that were watched */
	COVER_FEATURES
};

/* What a step was, for cover_step(). */
enum cover_step {
	COVER_STEP_ACCESS,
	COVER_STEP_WRITE,
	COVER_STEP_HOST,
	COVER_STEP_OTHER
};

/* An access passed through a leaf of @size to a page of @page_size. */
void cover_pass(struct sim *sim, struct ref_access access, uint64_t size, uint64_t page_size);
void cover_paging(struct sim *sim, const struct umbra_paging *paging);

/* Large leaves that came or went since the last step. */
void cover_step(struct sim *sim, enum cover_step step);
void cover_end(struct sim *sim);

/* "name count" each, over all runs in @total; returns how many are 0. */
unsigned cover_print(const uint64_t total[COVER_FEATURES]);

#endif
