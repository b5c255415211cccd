/* SPDX-License-Identifier: BSD-2-Clause */
/* What the host of a random guest does: a table of deeds, one of which is drawn. */
#include "random_host.h"

#include <string.h>

/* Pages where the host did something, in areas that may be large. */
#define SPOILT 16u

static uint64_t spoilt[SPOILT];

/* Where something is done; @taste: of the guest that it is done to. */
struct place {
	uint64_t gfn, pages;
	const struct guest_taste *taste;
};

/* A slot of large pages, of which it sometimes cuts one. */
static void do_plug_big(struct sim *sim)
{
	bool giga = sim->options.gfns > GUEST_HUGE && sim_random(sim, 3) == 0;
	unsigned id = giga ? GUEST_GIGA : GUEST_TOP;
	uint64_t first = giga ? GUEST_HUGE : 0xa00, pages = giga ? 1u << 18 : 0x210;
	uint64_t cut = sim_random(sim, 3) ? 0 : 1 + sim_random(sim, giga ? 1u << 17 : 0x1f);

	if (sim->slot[id].present) {
		sim_slot_delete(sim, id);
		if (sim_random(sim, 4) == 0)
			return;
	}
	if (sim_random(sim, 2) == 0)
		first += cut;
	sim->cover[COVER_SLOT_CUT] += !!cut;
	if (sim_slot_add(sim, id, first, pages - cut, sim_random(sim, 4) ? 0 : UMBRA_SLOT_READONLY))
		sim_fail(sim, "slot refused");
}

static void do_flags(struct sim *sim)
{
	static const uint32_t ids[] = {GUEST_PLUGGED, GUEST_TOP, GUEST_GIGA};

	sim_slot_flags_set(sim, ids[sim_random(sim, 3)],
			   sim_random(sim, 2) ? UMBRA_SLOT_READONLY : 0);
}

/* Mostly somewhere free; also over itself, and where others are. */
static void do_move(struct sim *sim)
{
	static const uint64_t to[] = {0x268, 0x300, 0x320, 0x3c0, 0x5c0, 0xc0, 0x200};
	bool big = sim_random(sim, 4) == 0;

	if (big)
		sim_slot_move(sim, GUEST_TOP, 0xa00 + sim_random(sim, 0x31));
	else
		sim_slot_move(sim, GUEST_PLUGGED, to[sim_random(sim, 7)] + sim_random(sim, 4));
}

static void do_plug(struct sim *sim, const struct place *place)
{
	(void)place;
	if (sim_random(sim, 3) == 0) {
		if (sim_random(sim, 2))
			do_flags(sim);
		else
			do_move(sim);
		return;
	}
	if (sim_random(sim, 3) == 0) {
		do_plug_big(sim);
		return;
	}
	if (sim->slot[GUEST_PLUGGED].present) {
		sim_slot_delete(sim, GUEST_PLUGGED);
		if (sim_random(sim, 2))
			return;
	}
	if (sim_slot_add(sim, GUEST_PLUGGED, 0x300 + sim_random(sim, 4), 1 + sim_random(sim, 0x30),
			 sim_random(sim, 4) ? 0 : UMBRA_SLOT_READONLY))
		sim_fail(sim, "slot refused");
}

/* Any gfn, mostly one that matters: above all one that some TLB still knows. */
static uint64_t some_gfn(struct sim *sim, const struct guest_taste *taste)
{
	const struct sim_cpu *cpu = &sim->cpu[sim_random(sim, SIM_CPUS)];

	for (unsigned try = 0; try < 8; try++) {
		const struct sim_tlb_entry *entry = &cpu->tlb[sim_random(sim, SIM_TLB)];

		if (!entry->valid)
			continue;
		if (entry->size == 4096 || sim_random(sim, 4) == 0)
			return entry->gfn;
		if (sim_random(sim, 4) == 0)
			return entry->gfn + (entry->size >> 12) - 1;
		return entry->gfn + sim_random(sim, entry->size >> 12);
	}
	if (sim_random(sim, 3) == 0)
		return sim_random(sim, GUEST_GFNS);
	if (sim_random(sim, 2))
		return 0x40 + sim_random(sim, 4);
	return guest_table(sim, guest_kind(sim, taste));
}

static void do_write_protect(struct sim *sim, const struct place *place)
{
	uint64_t gfn = place->gfn;

	if (sim_random(sim, 6)) {
		sim_write_protect(sim, gfn, place->pages);
		return;
	}
	gfn &= ~511ull;
	sim_write_protect(sim, gfn, 512 < GUEST_GFNS - gfn || gfn >= GUEST_HUGE ? 512 : 1);
}

/* The host makes areas large again. */
static void do_gather(struct sim *sim, const struct place *place)
{
	(void)place;
	for (unsigned i = 0; i < SPOILT; i++) {
		if (!spoilt[i] || sim_random(sim, 4) == 0)
			continue;
		sim->cover[COVER_GATHERED]++;
		sim_gather(sim, spoilt[i]);
		spoilt[i] = 0;
	}
}

/* Where frames lie side by side they mostly stay so, or nothing would be mapped large. */
static uint64_t spare(struct sim *sim, uint64_t gfn)
{
	if ((!sim->options.large && !sim->options.huge) || gfn < 0x600)
		return gfn;
	if (sim_random(sim, 3))
		return 0x20 + sim_random(sim, 0xa0);
	spoilt[sim_random(sim, SPOILT)] = gfn;
	return gfn;
}

static void do_log(struct sim *sim, const struct place *place)
{
	uint32_t id = (uint32_t)sim_random(sim, SIM_SLOTS);

	switch (sim_random(sim, 8)) {
	case 0:
		sim_log_start(sim, id, (unsigned)sim_random(sim, 4));
		break;
	case 1:
		sim_log_stop(sim, id);
		break;
	case 2:
	case 3:
		if (sim->slot[id].present)
			sim_log_collect(sim, sim->slot[id].first, sim->slot[id].pages);
		break;
	default:
		sim_log_collect(sim, place->gfn,
				sim_random(sim, 2) ? place->pages : sim_random(sim, 700));
		break;
	}
}

static void do_invalidate_pages(struct sim *sim, const struct place *place)
{
	uint64_t first[3] = {place->gfn, spare(sim, some_gfn(sim, place->taste)),
			     spare(sim, some_gfn(sim, place->taste))};

	sim_invalidate(sim, first, 1 + (unsigned)sim_random(sim, 3));
}

static void do_swap(struct sim *sim, const struct place *place)
{
	sim_drop(sim, place->gfn, place->pages, SIM_SWAP);
}

static void do_drop(struct sim *sim, const struct place *place)
{
	sim_drop(sim, place->gfn, place->pages, SIM_KEEP);
}

/* Losing tables for good makes a dull guest. */
static void do_discard(struct sim *sim, const struct place *place)
{
	if (!guest_level(place->gfn) || sim_random(sim, 8) == 0)
		sim_drop(sim, place->gfn, 1, SIM_DISCARD);
}

static void do_drop_much(struct sim *sim, const struct place *place)
{
	(void)place;
	sim_drop(sim, sim_random(sim, 0x100), sim_random(sim, 0x300), SIM_SWAP);
	sim_drop(sim, 0x600 + sim_random(sim, 0x600), 1, SIM_KEEP);
}

static void do_unprotect(struct sim *sim, const struct place *place)
{
	sim_op(sim, "unprotect: gfn", place->gfn, 0, 0);
	umbra_unprotect(sim->mmu, (umbra_gfn){place->gfn});
}

static void do_zap_all(struct sim *sim, const struct place *place)
{
	(void)place;
	if (sim_random(sim, 4))
		return;
	sim_op(sim, "zap all", 0, 0, 0);
	umbra_zap_all(sim->mmu);
}

static void do_quota(struct sim *sim, const struct place *place)
{
	uint64_t quota = UMBRA_QUOTA_MIN;

	(void)place;
	quota += sim_random(sim, 2) ? sim_random(sim, 8) : sim_random(sim, 500);
	sim_op(sim, "quota", quota, 0, 0);
	if (umbra_quota_set(sim->mmu, (uint32_t)quota))
		sim_fail(sim, "quota refused");
}

static void do_remap(struct sim *sim, const struct place *place)
{
	sim_remap(sim, place->gfn);
}

static void do_age(struct sim *sim, const struct place *place)
{
	sim_age(sim, sim_random(sim, 2) ? place->gfn : place->gfn / 512 * 512,
		sim_random(sim, 2) ? place->pages : sim_random(sim, 1024), sim_random(sim, 2));
}

static void do_split(struct sim *sim, const struct place *place)
{
	sim_split(sim, place->gfn, place->pages);
}

static void do_watch(struct sim *sim, const struct place *place)
{
	sim_watch(sim, place->gfn, (unsigned)sim_random(sim, 8));
}

/* As often as they stand here. */
static void (*const deeds[])(struct sim *, const struct place *) = {
    do_swap,          do_swap,          do_drop,
    do_discard,       do_drop_much,     do_unprotect,
    do_zap_all,       do_quota,         do_plug,
    do_write_protect, do_write_protect, do_gather,
    do_gather,        do_remap,         do_remap,
    do_remap,         do_age,           do_log,
    do_log,           do_split,         do_invalidate_pages,
    do_watch,         do_watch,
};

void random_host_reset(void)
{
	memset(spoilt, 0, sizeof(spoilt));
}

void random_host(struct sim *sim, const struct guest_taste *taste)
{
	struct place place = {.gfn = spare(sim, some_gfn(sim, taste)), .taste = taste};

	place.pages = 1 + sim_random(sim, 3);
	if (place.gfn + place.pages > sim->options.gfns)
		place.pages = 1;
	deeds[sim_random(sim, sizeof(deeds) / sizeof(deeds[0]))](sim, &place);
}
