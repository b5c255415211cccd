/* SPDX-License-Identifier: BSD-2-Clause */
/* All that an MMU holds, through the library's own looking in. */
#include "export.h"

struct visit {
	struct export_sink *sink;
	uint64_t event, gfn;
	bool ok;
};

static bool visit_table(void *ctx, const struct umbra_table *table)
{
	struct visit *v = ctx;

	v->ok = v->sink->table(v->sink, v->event, table);
	return v->ok;
}

/* A large one has its turn with the first of its gfns. */
static bool visit_mapping(void *ctx, const struct umbra_mapping *mapping)
{
	struct visit *v = ctx;

	if (mapping->gfn.n == v->gfn)
		v->ok = v->sink->mapping(v->sink, v->event, mapping);
	return v->ok;
}

bool export_mmu(struct export_sink *sink, uint64_t event, uint64_t time, struct umbra_mmu *mmu)
{
	struct visit v = {.sink = sink, .event = event, .ok = true};
	struct umbra_slot slots[UMBRA_SLOTS_MAX];
	size_t count = umbra_slots_get(mmu, slots);
	struct umbra_stats stats;

	if (sink->counters) {
		umbra_stats_get(mmu, &stats);
		v.ok = sink->counters(sink, time, &stats);
	}
	if (sink->table && v.ok)
		umbra_tables_visit(mmu, visit_table, &v);
	for (size_t i = 0; sink->mapping && i < count && v.ok; i++)
		for (uint64_t j = 0; j < slots[i].pages && v.ok; j++) {
			v.gfn = slots[i].first.n + j;
			umbra_rmap_visit(mmu, (umbra_gfn){v.gfn}, visit_mapping, &v);
		}
	return v.ok;
}
