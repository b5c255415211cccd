/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Page-table entries for people. Bits by their names in the AMD64 APM vol. 2 §5.4.1; one that is
 * clear is a dash, so that columns stay columns.
 */
#include "show.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define BIT(n)  (UINT64_C(1) << (n))
#define PRESENT BIT(0)
#define LARGE   BIT(7)
#define ADDRESS UINT64_C(0xffffffffff000)
#define KEYS(e) ((unsigned)((e) >> 59 & 15))

const char *show_mode(unsigned mode)
{
	static const char *const names[] = {
	    [UMBRA_MODE_OFF] = "no paging",  [UMBRA_MODE_32] = "32-bit",
	    [UMBRA_MODE_PSE] = "32-bit PSE", [UMBRA_MODE_PAE] = "PAE",
	    [UMBRA_MODE_4] = "4-level",      [UMBRA_MODE_5] = "5-level",
	};

	return mode < sizeof(names) / sizeof(names[0]) ? names[mode] : "unknown";
}

static const char *size_of(unsigned level)
{
	static const char *const sizes[] = {"?", "4K", "2M", "1G"};

	return sizes[level < 4 ? level : 0];
}

struct bit {
	char name[4];
	unsigned number;
};
static const struct bit bits[] = {{"P", 0}, {"W", 1}, {"U", 2},  {"PWT", 3}, {"PCD", 4},
				  {"A", 5}, {"D", 6}, {"PS", 7}, {"G", 8},   {"NX", 63}};
#define BITS (sizeof(bits) / sizeof(bits[0]))

static void decode(uint64_t entry, char text[64])
{
	size_t used = 0;

	for (size_t i = 0; i < BITS; i++)
		used += (size_t)snprintf(
		    text + used, 64 - used, "%s%s", i ? " " : "",
		    entry & BIT(bits[i].number) ? bits[i].name : &"---"[3 - strlen(bits[i].name)]);
	if (KEYS(entry))
		snprintf(text + used, 64 - used, " key %u", KEYS(entry));
}

/* ------------------------------------------------------------------ mappings */

static void heading(FILE *out)
{
	fprintf(out, "  %-16s  %-18s  %-4s  %-6s  %-16s  %s\n", "address space", "gva", "size",
		"rights", "spte", "stands in");
}

static void rights(uint64_t spte, char text[4])
{
	text[0] = spte & BIT(1) ? 'w' : '-';
	text[1] = spte & BIT(2) ? 'u' : '-';
	text[2] = spte & BIT(63) ? '-' : 'x';
	text[3] = 0;
}

static void show_mapping(FILE *out, const struct umbra_mapping *m)
{
	char space[32], may[4];

	if (m->root == UMBRA_NO_ROOT)
		snprintf(space, sizeof(space), "none now");
	else if (!m->root)
		snprintf(space, sizeof(space), "physical");
	else
		snprintf(space, sizeof(space), "cr3 %" PRIx64, m->root);
	rights(m->spte, may);
	fprintf(out,
		"  %-16s  %s%-16" PRIx64 "  %-4s  %-6s  %016" PRIx64 "  shadow page %u entry %u\n",
		space, m->root == UMBRA_NO_ROOT ? "?+" : "  ", m->gva, size_of(m->level), may,
		m->spte, m->table, m->index);
}

void show_mappings(FILE *out, const char *gfn, const struct umbra_mapping *list, size_t count)
{
	fprintf(out, "gfn %s: %zu mappings\n", gfn, count);
	if (count)
		heading(out);
	for (size_t i = 0; i < count; i++)
		show_mapping(out, &list[i]);
}

json_t *show_mapping_json(const struct umbra_mapping *m)
{
	char gva[24], root[24], spte[24], may[4];

	snprintf(gva, sizeof(gva), "%" PRIx64, m->gva);
	snprintf(root, sizeof(root), "%" PRIx64, m->root);
	snprintf(spte, sizeof(spte), "%" PRIx64, m->spte);
	rights(m->spte, may);
	return json_pack("{s:I, s:s, s:i, s:s?, s:i, s:s, s:s, s:i, s:i}", "gfn",
			 (json_int_t)m->gfn.n, "gva", gva, "gva_bits", m->gva_bits, "root",
			 m->root == UMBRA_NO_ROOT ? NULL : root, "level", m->level, "rights", may,
			 "spte", spte, "table", (int)m->table, "index", m->index);
}

/* ------------------------------------------------------------------ walks */

static bool is_known(const struct umbra_view *view, unsigned level, show_knows *knows, void *ctx)
{
	bool small = view->mode == UMBRA_MODE_32 || view->mode == UMBRA_MODE_PSE;

	if (view->mode == UMBRA_MODE_PAE && level == 3)
		return true; /* registers */
	return !knows || knows(ctx, view->guest[level].address, small ? 4 : 8);
}

/* What the two walks lead to, of @gva. @end: the level where they end. */
static void conclude(FILE *out, const char *whose, const char *what, uint64_t entry, unsigned end,
		     uint64_t gva, bool small)
{
	unsigned shift = small && end == 2 ? 22 : 12 + 9 * (end - 1);
	uint64_t offset = BIT(shift) - 1;

	if (!(entry & PRESENT))
		fprintf(out, "  %s: not present at level %u\n", whose, end);
	else
		fprintf(out, "  %s: %s %" PRIx64 "\n", whose, what,
			(entry & ADDRESS & ~offset) | (gva & offset));
}

static void show_guest(FILE *out, const struct umbra_view *view, uint64_t gva, show_knows *knows,
		       void *ctx)
{
	const struct umbra_view_entry *last = &view->guest[view->guest_end];
	bool small = view->mode == UMBRA_MODE_32 || view->mode == UMBRA_MODE_PSE;

	if (!view->guest_top)
		fprintf(out, "  guest: %s: gpa = gva\n",
			view->nested ? "nested paging" : "no paging");
	else if (last->missing)
		fprintf(out, "  guest: no memory that can be read at level %u\n", view->guest_end);
	else if (!is_known(view, view->guest_end, knows, ctx))
		fprintf(out, "  guest: the trace does not tell of level %u\n", view->guest_end);
	else
		conclude(out, "guest", "gpa", last->value, view->guest_end, gva, small);
}

static void show_entry(FILE *out, const char *whose, const struct umbra_view_entry *at, bool known)
{
	char text[64];

	decode(at->value, text);
	if (at->missing || !known)
		fprintf(out, "%s %12" PRIx64 "  %s", whose, at->address,
			at->missing ? "no memory" : "not recorded");
	else
		fprintf(out, "%s %12" PRIx64 "  %016" PRIx64 "  %s", whose, at->address, at->value,
			text);
}

void show_view(FILE *out, const struct umbra_view *view, uint64_t gva, show_knows *knows, void *ctx)
{
	unsigned top = view->guest_top > view->shadow_top ? view->guest_top : view->shadow_top;

	fprintf(out, "gva %" PRIx64 ", %s%s, cr3 %" PRIx64 "\n", gva, show_mode(view->mode),
		view->nested ? " below nested paging" : "", view->cr3);
	for (unsigned level = top; level; level--) {
		bool guest =
		    view->guest_end && level <= view->guest_top && level >= view->guest_end;
		bool shadow =
		    view->shadow_end && level <= view->shadow_top && level >= view->shadow_end;

		if (!guest && !shadow)
			continue;
		fprintf(out, "  level %u\n", level);
		if (guest) {
			show_entry(out, "    guest  gpa", &view->guest[level],
				   is_known(view, level, knows, ctx));
			fputc('\n', out);
		}
		if (shadow) {
			show_entry(out, "    shadow hpa", &view->shadow[level], true);
			fprintf(out, "  shadow page %u%s\n", view->shadow[level].table,
				view->shadow[level].unsync ? ", unsync" : "");
		}
	}
	show_guest(out, view, gva, knows, ctx);
	if (!view->shadow_end)
		fprintf(out, "  shadow: there is no root\n");
	else
		conclude(out, "shadow", "hpa", view->shadow[view->shadow_end].value,
			 view->shadow_end, gva, false);
}

static json_t *entry_json(const struct umbra_view_entry *at, unsigned level, bool known)
{
	char address[24], value[24];

	snprintf(address, sizeof(address), "%" PRIx64, at->address);
	snprintf(value, sizeof(value), "%" PRIx64, at->value);
	return json_pack("{s:i, s:s, s:s?}", "level", (int)level, "address", address, "value",
			 known && !at->missing ? value : NULL);
}

json_t *show_view_json(const struct umbra_view *view, uint64_t gva, show_knows *knows, void *ctx)
{
	json_t *guest = json_array(), *shadow = json_array();
	char text[24], cr3[24];

	for (unsigned level = view->guest_top; level && level >= view->guest_end; level--)
		json_array_append_new(guest, entry_json(&view->guest[level], level,
							is_known(view, level, knows, ctx)));
	for (unsigned level = view->shadow_top;
	     view->shadow_end && level && level >= view->shadow_end; level--) {
		json_t *entry = entry_json(&view->shadow[level], level, true);

		json_object_set_new(entry, "table", json_integer(view->shadow[level].table));
		json_object_set_new(entry, "unsync", json_boolean(view->shadow[level].unsync));
		json_array_append_new(shadow, entry);
	}
	snprintf(text, sizeof(text), "%" PRIx64, gva);
	snprintf(cr3, sizeof(cr3), "%" PRIx64, view->cr3);
	return json_pack("{s:s, s:s, s:i, s:s, s:o, s:o}", "gva", text, "mode",
			 show_mode(view->mode), "nested", view->nested, "cr3", cr3, "guest", guest,
			 "shadow", shadow);
}
