/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Looking in, for people and tools: who maps a gfn and where its guest sees it; what the guest's
 * tables and ours say of one gva; which shadow pages there are. Nothing here changes anything: the
 * guest's words are read as they are, with no A bit set, and host.input is not asked.
 *
 * A mapping's gva is found by going up: an spte gives the gva's lowest bits, the chain of its
 * table's parents the next ones, up to roots. A table with several parents is at several gvas.
 *
 * Lock: the MMU's, taken in the umbra_* functions, and held while they call back.
 */
#include "walk.h"

/* ------------------------------------------------------------------ who maps a gfn */

struct visit {
	struct umbra_mmu *mmu;
	bool (*each)(void *ctx, const struct umbra_mapping *mapping);
	void *ctx;
	struct umbra_mapping mapping;
};

/* The level of roots of that kind. */
static unsigned root_level(const struct umbra_mmu *mmu, union role role)
{
	if (mmu->config.nested)
		return mmu->config.nested;
	return role.mode == MODE_OFF ? 2 : modes[role.mode].shadow_root;
}

static bool show(struct visit *visit, uint64_t gva, unsigned bits, uint64_t root)
{
	visit->mapping.gva = gva;
	visit->mapping.gva_bits = (uint8_t)bits;
	visit->mapping.root = root;
	return visit->each(visit->ctx, &visit->mapping);
}

static bool is_pae_root(const struct umbra_vcpu *vcpu, unsigned i, const struct shadow *root)
{
	return vcpu && vcpu->mode == MODE_PAE && vcpu->key[i].gfn.n == root->gfn.n &&
	       vcpu->key[i].role.word == root->role.word;
}

/* A page directory: what leads to it are the PDPTEs of vcpus, each of four for a GiB of gva. */
static bool show_below_pae(struct visit *visit, const struct shadow *root, uint64_t gva)
{
	bool shown = false;

	for (unsigned n = 0; n < UMBRA_VCPUS_MAX * PAE_ROOTS; n++) {
		const struct umbra_vcpu *vcpu = visit->mmu->vcpu[n / PAE_ROOTS];
		unsigned i = n % PAE_ROOTS;

		if (!is_pae_root(vcpu, i, root))
			continue;
		shown = true;
		if (!show(visit, gva | (uint64_t)i << 30, 32,
			  vcpu->paging.cr3 & modes[MODE_PAE].cr3))
			return false;
	}
	return shown || show(visit, gva, 30, UMBRA_NO_ROOT);
}

/* Nothing leads to @top, and from it the spte is at @gva. False: enough was seen. */
static bool show_below(struct visit *visit, const struct shadow *top, uint64_t gva)
{
	unsigned bits = shadow_shift(top->role.level + 1);
	enum paging_mode mode = top->role.mode;
	uint64_t cr3 = top->gfn.n << UMBRA_PAGE_SHIFT;

	if (top->role.level != root_level(visit->mmu, top->role))
		return show(visit, gva, bits, UMBRA_NO_ROOT);
	if (visit->mmu->config.nested)
		return show(visit, gva, bits, 0);
	if (mode == MODE_OFF)
		return show(visit, gva + (top->gfn.n << UMBRA_PAGE_SHIFT), 32, 0);
	if (mode == MODE_4 || mode == MODE_5)
		return show(visit, (uint64_t)((int64_t)(gva << (64 - bits)) >> (64 - bits)), bits,
			    cr3);
	if (mode != MODE_PAE)
		return show(visit, gva | (uint64_t)top->role.quadrant << bits, 32, cr3);
	return show_below_pae(visit, top, gva);
}

/* All ways down from a root to @shadow, at LEVELS_MAX deep: parents are a level higher. */
static bool climb(struct visit *visit, struct shadow *shadow, uint64_t gva)
{
	struct rmap_cursor cursor;

	if (!rmap_count(shadow->parents))
		return show_below(visit, shadow, gva);
	rmap_for_each(visit->mmu, shadow->parents, &cursor, h)
	{
		struct shadow *parent = handle_shadow(visit->mmu, h);
		uint64_t at = (uint64_t)(h % PTE_ENTRIES) << shadow_shift(parent->role.level);

		if (!climb(visit, parent, gva | at))
			return false;
	}
	return true;
}

static bool visit_chain(struct visit *visit, uint64_t head)
{
	struct rmap_cursor cursor;

	rmap_for_each(visit->mmu, head, &cursor, h)
	{
		struct shadow *shadow = handle_shadow(visit->mmu, h);
		unsigned index = h % PTE_ENTRIES;
		struct umbra_mapping *mapping = &visit->mapping;

		mapping->gfn = rmap_gfn(visit->mmu, h);
		mapping->spte = spte_read(&shadow->table[index]);
		mapping->table = shadow->id;
		mapping->index = (uint16_t)index;
		mapping->level = shadow->role.level;
		if (!climb(visit, shadow, (uint64_t)index << shadow_shift(mapping->level)))
			return false;
	}
	return true;
}

int umbra_rmap_visit(struct umbra_mmu *mmu, umbra_gfn gfn,
		     bool (*each)(void *ctx, const struct umbra_mapping *mapping), void *ctx)
{
	struct visit visit = {.mmu = mmu, .each = each, .ctx = ctx};
	struct slot *slot;
	bool more = true;

	port_lock(&mmu->lock);
	slot = slot_find(mmu, gfn);
	for (unsigned level = 1; slot && more && level <= LEVELS; level++) {
		uint64_t *head = slot_head_find(mmu, slot, gfn, level);

		if (head)
			more = visit_chain(&visit, *head);
	}
	port_unlock(&mmu->lock);
	return slot ? 0 : UMBRA_ENOENT;
}

/* ------------------------------------------------------------------ slots, shadow pages */

size_t umbra_slots_get(struct umbra_mmu *mmu, struct umbra_slot slots[UMBRA_SLOTS_MAX])
{
	size_t count;

	port_lock(&mmu->lock);
	count = mmu->slots;
	for (size_t i = 0; i < count; i++) {
		const struct slot *slot = &mmu->slot[i];

		slots[i] = (struct umbra_slot){slot->id, slot->flags, {slot->first}, slot->pages};
	}
	port_unlock(&mmu->lock);
	return count;
}

static struct umbra_table describe(const struct shadow *shadow)
{
	union role role = shadow->role;
	struct umbra_table table = {
	    .number = shadow->id,
	    .role = role.word,
	    .gfn = shadow->gfn,
	    .hpa = shadow->hpa,
	    .level = role.level,
	    .mode = role.mode,
	    .quadrant = role.quadrant,
	    .access = role.access,
	    .direct = role.direct,
	    .unsync = shadow->unsync,
	    .roots = shadow->roots,
	    .parents = rmap_count(shadow->parents),
	};

	for (unsigned i = 0; i < PTE_ENTRIES; i++)
		table.sptes += spte_read(&shadow->table[i]) & PTE_P;
	return table;
}

void umbra_tables_visit(struct umbra_mmu *mmu,
			bool (*each)(void *ctx, const struct umbra_table *table), void *ctx)
{
	bool more = true;

	port_lock(&mmu->lock);
	for (uint32_t i = 0; more && i < mmu->chunks.count << TUNING_CHUNK_SHIFT; i++)
		if (shadow_of(mmu, i)->state == SHADOW_USED) {
			struct umbra_table table = describe(shadow_of(mmu, i));

			more = each(ctx, &table);
		}
	port_unlock(&mmu->lock);
}

/* ------------------------------------------------------------------ one gva, side by side */

/* The guest's entries for @gva, down to its leaf or what is not present. */
static void view_guest(struct umbra_vcpu *vcpu, uint64_t gva, struct umbra_view *view)
{
	const struct mode *mode = &modes[vcpu->mode];
	uint64_t table = vcpu->paging.cr3 & mode->cr3;

	view->guest_top = mode->root;
	for (unsigned level = mode->root; level; level--) {
		struct umbra_view_entry *at = &view->guest[level];
		unsigned index =
		    gva >> mode->level[level].shift & ((1u << mode->level[level].bits) - 1);
		uint64_t implied;
		char *entries;
		int error;

		view->guest_end = (uint8_t)level;
		at->address = table + ((uint64_t)index << mode->entry_shift);
		if (mode->level[level].bare) {
			at->value = vcpu->pdpte[index];
		} else {
			entries = walk_table(vcpu->mmu, (umbra_gfn){table >> UMBRA_PAGE_SHIFT},
					     UMBRA_WANT_PEEK, &implied, &error);
			at->missing = !entries;
			if (!entries)
				return;
			at->value = mode_entry_read(
			    vcpu->mode, entries + (table & (UMBRA_PAGE_SIZE - 1)), index);
		}
		if (!(at->value & PTE_P) || mode_is_leaf(vcpu->mode, level, at->value))
			return;
		table = at->value & PTE_ADDRESS;
	}
}

/* Our entries for it. */
static void view_shadow(struct umbra_vcpu *vcpu, uint64_t gva, struct umbra_view *view)
{
	const struct root_key *key = &vcpu->key[vcpu_root_index(vcpu, gva)];
	struct shadow *shadow = key->role.word ? shadow_find(vcpu->mmu, key->gfn, key->role) : NULL;

	view->shadow_top = vcpu->role.level;
	for (unsigned level = vcpu->role.level; shadow && level; level--) {
		struct umbra_view_entry *at = &view->shadow[level];
		unsigned index = gva_index(gva, level);

		view->shadow_end = (uint8_t)level;
		at->address = shadow->hpa + index * sizeof(*shadow->table);
		at->value = spte_read(&shadow->table[index]);
		at->table = shadow->id;
		at->unsync = shadow->unsync;
		if (!(at->value & PTE_P) || spte_is_leaf(level, at->value))
			return;
		shadow = shadow_child(vcpu->mmu, shadow, index);
	}
}

int umbra_view(struct umbra_vcpu *vcpu, uint64_t gva, struct umbra_view *view)
{
	struct umbra_mmu *mmu = vcpu->mmu;
	bool nested = mmu->config.nested;

	if (nested ? gva >> shadow_shift(mmu->config.nested + 1) != 0
		   : !mode_is_canonical(vcpu->mode, gva))
		return UMBRA_EINVAL;
	*view = (struct umbra_view){
	    .mode = (uint8_t)vcpu->mode, .cr3 = vcpu->paging.cr3, .nested = mmu->config.nested};
	port_lock(&mmu->lock);
	if (!nested)
		view_guest(vcpu, gva, view);
	view_shadow(vcpu, gva, view);
	port_unlock(&mmu->lock);
	return 0;
}
