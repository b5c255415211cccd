/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Two hash tables: sptes by their place, shadow pages by gfn and role. Both only as good as what
 * the tracepoints tell: docs/trace-format.md.
 */
#include <stdlib.h>
#include <string.h>

#include "export.h"

#define FIRST_ROOM 1024u

struct entry {
	uint64_t key[2]; /* never both 0 for one that is there */
	struct umbra_record record;
	bool gone;
};

struct table {
	struct entry *entries;
	size_t room, count; /* .count: gone ones too */
	uint64_t there;
};

struct kvm_state {
	struct table sptes, pages;
	uint64_t unsync, faults;
};

static struct entry *find(const struct table *table, uint64_t a, uint64_t b)
{
	size_t i = (size_t)((a * 0x9e3779b97f4a7c15ull ^ b * 0xc2b2ae3d27d4eb4full) >> 24);

	for (i &= table->room - 1; table->entries[i].key[0] | table->entries[i].key[1];
	     i = (i + 1) & (table->room - 1))
		if (table->entries[i].key[0] == a && table->entries[i].key[1] == b)
			break;
	return &table->entries[i];
}

static bool grow(struct table *table)
{
	struct table old = *table;

	table->room = old.room ? 2 * old.room : FIRST_ROOM;
	table->count = 0;
	table->entries = calloc(table->room, sizeof(*table->entries));
	if (!table->entries) {
		*table = old;
		return false;
	}
	for (size_t i = 0; i < old.room; i++)
		if (old.entries[i].key[0] | old.entries[i].key[1]) {
			*find(table, old.entries[i].key[0], old.entries[i].key[1]) = old.entries[i];
			table->count++;
		}
	free(old.entries);
	return true;
}

static bool set(struct table *table, uint64_t a, uint64_t b, const struct umbra_record *record)
{
	struct entry *entry;

	if (2 * table->count >= table->room && !grow(table))
		return false;
	entry = find(table, a, b);
	if (!(entry->key[0] | entry->key[1]))
		table->count++;
	if (!(entry->key[0] | entry->key[1]) || entry->gone)
		table->there++;
	*entry = (struct entry){{a, b}, *record, false};
	return true;
}

static void forget(struct table *table, uint64_t a, uint64_t b)
{
	struct entry *entry = table->room ? find(table, a, b) : NULL;

	if (entry && entry->key[0] | entry->key[1] && !entry->gone) {
		entry->gone = true;
		table->there--;
	}
}

/* Of a page: its role, with a bit that makes it other than 0. */
static uint64_t role_of(const struct umbra_record *record)
{
	return (uint32_t)record->b | 1ull << 32;
}

bool kvm_state_record(struct kvm_state *state, const struct umbra_record *record)
{
	switch (record->kind) {
	case UMBRA_TRACE_KVM_SPTE:
		return set(&state->sptes, record->c >> 16, 1, record);
	case UMBRA_TRACE_KVM_PAGE:
	case UMBRA_TRACE_KVM_SYNC:
	case UMBRA_TRACE_KVM_UNSYNC:
		return set(&state->pages, record->a, role_of(record), record);
	case UMBRA_TRACE_KVM_ZAP:
		forget(&state->pages, record->a, role_of(record));
	}
	return true;
}

static bool export_page(struct export_sink *sink, uint64_t event, uint32_t number,
			const struct umbra_record *r)
{
	const struct umbra_table table = {.number = number,
					  .role = (uint32_t)r->b,
					  .gfn = {r->a},
					  .level = r->b & 15,
					  .unsync = r->c & UMBRA_KVM_UNSYNC,
					  .roots = (uint16_t)(r->b >> 32)};

	return sink->table(sink, event, &table);
}

static bool export_spte(struct export_sink *sink, uint64_t event, const struct umbra_record *r)
{
	const struct umbra_mapping mapping = {.gfn = {r->a},
					      .root = UMBRA_NO_ROOT,
					      .spte = r->b,
					      .index = r->c >> 19 & 511,
					      .level = r->c & 0xff};

	if (mapping.level < 1 || mapping.level > 3)
		return true;
	return sink->mapping(sink, event, &mapping);
}

bool kvm_state_export(struct kvm_state *state, struct export_sink *sink, uint64_t event,
		      uint64_t time)
{
	const struct umbra_stats stats = {.sptes = state->sptes.there,
					  .shadow_pages = state->pages.there};
	bool ok = !sink->counters || sink->counters(sink, time, &stats);
	uint32_t number = 0;

	for (size_t i = 0; ok && sink->table && i < state->pages.room; i++) {
		const struct entry *entry = &state->pages.entries[i];

		if (entry->key[1] && !entry->gone)
			ok = export_page(sink, event, ++number, &entry->record);
	}
	for (size_t i = 0; ok && sink->mapping && i < state->sptes.room; i++)
		if (state->sptes.entries[i].key[1])
			ok = export_spte(sink, event, &state->sptes.entries[i].record);
	return ok;
}

struct kvm_state *kvm_state_new(void)
{
	return calloc(1, sizeof(struct kvm_state));
}

void kvm_state_free(struct kvm_state *state)
{
	if (!state)
		return;
	free(state->sptes.entries);
	free(state->pages.entries);
	free(state);
}
