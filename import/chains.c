/* SPDX-License-Identifier: BSD-2-Clause */
#include "chains.h"

#include <stdlib.h>
#include <string.h>

#define ROOM_FIRST 4096u
#define ROOM_MAX   (1u << 25) /* 512 MiB */

static size_t slot(const struct chain_map *map, uint64_t key)
{
	size_t at = (size_t)(key * 0x9e3779b97f4a7c15u >> 20) & (map->room - 1);

	while (map->entries[at].key && map->entries[at].key != key)
		at = (at + 1) & (map->room - 1);
	return at;
}

static bool grow(struct chain_map *map)
{
	struct chain_map wider = {.room = map->room ? 2 * map->room : ROOM_FIRST,
				  .used = map->used};

	if (wider.room > ROOM_MAX)
		return false;
	wider.entries = calloc(wider.room, sizeof(*wider.entries));
	if (!wider.entries)
		return false;
	for (size_t i = 0; i < map->room; i++)
		if (map->entries[i].key)
			wider.entries[slot(&wider, map->entries[i].key)] = map->entries[i];
	free(map->entries);
	*map = wider;
	return true;
}

/* The value of @key, which is 0 until it is set; NULL: no memory. */
static uint64_t *value_of(struct chain_map *map, uint64_t key)
{
	size_t at;

	if (map->used * 2 >= map->room && !grow(map))
		return NULL;
	at = slot(map, key);
	if (!map->entries[at].key) {
		map->entries[at].key = key;
		map->used++;
	}
	return &map->entries[at].value;
}

void chains_set(struct chains *chains, uint64_t place, uint64_t gfn)
{
	uint64_t *there, *length, before;

	if (chains->given_up || !place || gfn + 1 < gfn)
		return;
	there = value_of(&chains->gfns, place);
	length = there ? value_of(&chains->lengths, gfn + 1) : NULL;
	if (!length) {
		chains->given_up = true;
		return;
	}
	before = *there;
	*there = gfn + 1;
	if (before == gfn + 1)
		return;
	++*length;
	if ((uint32_t)*length > *length >> 32)
		*length = (*length & UINT32_MAX) << 32 | (uint32_t)*length;
	if (before)
		--*value_of(&chains->lengths, before);
}

size_t chains_longest(const struct chains *chains, struct chain *out, size_t count)
{
	size_t found = 0;

	for (size_t i = 0; i < chains->lengths.room; i++) {
		const struct chain_entry *e = &chains->lengths.entries[i];
		struct chain chain = {e->key - 1, (uint32_t)(e->value >> 32)};
		size_t at = found;

		if (!e->key)
			continue;
		while (at && (chain.most > out[at - 1].most ||
			      (chain.most == out[at - 1].most && chain.gfn < out[at - 1].gfn)))
			at--;
		if (at == count)
			continue;
		if (found < count)
			found++;
		memmove(out + at + 1, out + at, (found - at - 1) * sizeof(*out));
		out[at] = chain;
	}
	return found;
}

void chains_free(struct chains *chains)
{
	free(chains->gfns.entries);
	free(chains->lengths.entries);
	memset(chains, 0, sizeof(*chains));
}
