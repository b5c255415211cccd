/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * umbra_age(), judged by the accessed bits themselves: a page is young if one of its sptes, as
 * umbra_rmap_visit() shows them, has A; without accessed bits, if it has one at all.
 */
#include "sim.h"

#define MOST 1024u /* pages */

struct looked {
	bool any, accessed;
};

static bool look(void *ctx, const struct umbra_mapping *mapping)
{
	struct looked *looked = ctx;

	looked->any = true;
	looked->accessed |= !!(mapping->spte & REF_A);
	return !looked->accessed;
}

static bool is_young(struct sim *sim, uint64_t gfn)
{
	struct looked looked = {0};

	umbra_rmap_visit(sim->mmu, (umbra_gfn){gfn}, look, &looked);
	return sim->options.config.without & UMBRA_WITHOUT_ACCESSED ? looked.any : looked.accessed;
}

static void ask(struct sim *sim, uint64_t first, uint64_t pages, unsigned flags, uint64_t *young)
{
	sim_op(sim, "age: first, pages, flags", first, pages, flags);
	if (umbra_age(sim->mmu, (umbra_gfn){first}, pages, flags, young))
		sim_fail(sim, "umbra_age refuses %#llx, %llu", (unsigned long long)first,
			 (unsigned long long)pages);
}

static void compare(struct sim *sim, uint64_t first, uint64_t pages, const uint64_t *young,
		    const uint64_t *wanted)
{
	for (uint64_t i = 0; i < pages; i++)
		if ((young[i / 64] ^ wanted[i / 64]) >> i % 64 & 1)
			sim_fail(sim, "gfn %#llx is told to be %s", (unsigned long long)(first + i),
				 young[i / 64] >> i % 64 & 1 ? "young" : "idle");
}

void sim_age(struct sim *sim, uint64_t first, uint64_t pages, bool test)
{
	uint64_t young[MOST / 64], wanted[MOST / 64] = {0}, none[MOST / 64] = {0};

	pages = pages < MOST ? pages : MOST;
	for (uint64_t i = 0; i < pages; i++)
		wanted[i / 64] |= (uint64_t)is_young(sim, first + i) << i % 64;
	ask(sim, first, pages, UMBRA_AGE_TEST, young);
	compare(sim, first, pages, young, wanted);
	if (test)
		return;
	ask(sim, first, pages, 0, young);
	compare(sim, first, pages, young, wanted);
	ask(sim, first, pages, UMBRA_AGE_TEST, young); /* nobody ran since */
	compare(sim, first, pages, young, none);
	if (sim->options.config.without & UMBRA_WITHOUT_ACCESSED)
		sim_check_revoked(sim, first, pages, false);
}
