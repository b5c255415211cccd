/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A database: docs/export.md has its tables. Columns of events are the fields of trace/fields.h, so
 * that a new kind of record needs nothing here.
 */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "export.h"
#include "fields.h"

#define FIRST_FIELD 6 /* its parameter's number, in INSERT INTO events */

struct sink {
	struct export_sink base;
	sqlite3 *db;
	sqlite3_stmt *event, *drop, *word, *page, *spte;
	bool failed;
};

static bool fail(struct sink *s, const char *what)
{
	if (!s->failed)
		snprintf(s->base.why, sizeof(s->base.why), "%s: %s", what,
			 s->db ? sqlite3_errmsg(s->db) : "out of memory");
	s->failed = true;
	return false;
}

static bool run(struct sink *s, const char *sql)
{
	return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK || fail(s, "database");
}

/* Bind integers to the parameters from 1 on, carry @statement out. */
static bool put(struct sink *s, sqlite3_stmt *statement, const int64_t *values, size_t count)
{
	for (size_t i = 0; i < count; i++)
		sqlite3_bind_int64(statement, (int)i + 1, values[i]);
	if (sqlite3_step(statement) != SQLITE_DONE)
		return fail(s, "database");
	sqlite3_reset(statement);
	return true;
}

/* ------------------------------------------------------------------ tables */

static const char schema[] =
    "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA page_size = 16384;"
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value);"
    "CREATE TABLE drops (event INTEGER, time_us INTEGER, kind TEXT, first_gfn INTEGER,"
    "  pages INTEGER, sptes INTEGER);"
    "CREATE TABLE words (event INTEGER, gpa INTEGER, bytes INTEGER, value INTEGER);"
    "CREATE TABLE shadow_pages (event INTEGER, number INTEGER, gfn INTEGER, level INTEGER,"
    "  mode INTEGER, quadrant INTEGER, access INTEGER, direct INTEGER, unsync INTEGER,"
    "  roots INTEGER, parents INTEGER, sptes INTEGER, hpa INTEGER, role INTEGER);"
    "CREATE TABLE sptes (event INTEGER, gfn INTEGER, pages INTEGER, gva INTEGER,"
    "  gva_bits INTEGER, root INTEGER, level INTEGER, pfn INTEGER, writable INTEGER,"
    "  user INTEGER, executable INTEGER, spte INTEGER, shadow_page INTEGER, entry INTEGER);";

static bool make_events(struct sink *s)
{
	char sql[2048];
	size_t at = (size_t)snprintf(sql, sizeof(sql),
				     "CREATE TABLE events (event INTEGER PRIMARY KEY, time_us "
				     "INTEGER, kind TEXT, vcpu INTEGER, inputs INTEGER");

	for (unsigned i = 0; i < FIELDS; i++)
		at += (size_t)snprintf(sql + at, sizeof(sql) - at, ", %s %s", trace_field_name(i),
				       i == FIELD_VERDICT ? "TEXT" : "INTEGER");
	snprintf(sql + at, sizeof(sql) - at, ");");
	return run(s, sql);
}

static bool prepare(struct sink *s, sqlite3_stmt **statement, const char *table, unsigned columns)
{
	char sql[512];
	size_t at = (size_t)snprintf(sql, sizeof(sql), "INSERT INTO %s VALUES (?", table);

	while (--columns)
		at += (size_t)snprintf(sql + at, sizeof(sql) - at, ",?");
	snprintf(sql + at, sizeof(sql) - at, ")");
	return sqlite3_prepare_v2(s->db, sql, -1, statement, NULL) == SQLITE_OK ||
	       fail(s, "database");
}

static bool put_meta(struct sink *s, const char *name, const char *text, int64_t number)
{
	sqlite3_stmt *statement = NULL;
	bool ok = prepare(s, &statement, "meta", 2);

	if (!ok)
		return false;
	sqlite3_bind_text(statement, 1, name, -1, SQLITE_STATIC);
	if (text)
		sqlite3_bind_text(statement, 2, text, -1, SQLITE_STATIC);
	else
		sqlite3_bind_int64(statement, 2, number);
	ok = put(s, statement, NULL, 0);
	sqlite3_finalize(statement);
	return ok;
}

static bool make(struct sink *s, const struct trace_header *header)
{
	return run(s, schema) && make_events(s) && run(s, "BEGIN") &&
	       put_meta(s, "guest", header->guest, 0) &&
	       put_meta(s, "memory", NULL, (int64_t)header->memory) &&
	       put_meta(s, "quota", NULL, header->config.shadow_quota) &&
	       put_meta(s, "prefetch", NULL, header->config.prefetch) &&
	       put_meta(s, "nested", NULL, header->config.nested) &&
	       prepare(s, &s->event, "events", FIRST_FIELD - 1 + FIELDS) &&
	       prepare(s, &s->drop, "drops", 6) && prepare(s, &s->word, "words", 4) &&
	       prepare(s, &s->page, "shadow_pages", 14) && prepare(s, &s->spte, "sptes", 14);
}

/* ------------------------------------------------------------------ events */

/* What takes mappings away has a row of its own. */
static bool put_drop(struct sink *s, const struct export_event *e)
{
	const struct umbra_record *r = e->record;
	bool one = r->kind == UMBRA_TRACE_REMAP, all = r->kind == UMBRA_TRACE_ZAP_ALL;
	bool large = one && (r->c >> 56 & 3) == 2;
	const int64_t values[] = {(int64_t)e->number, (int64_t)e->time};

	if (!one && !all && r->kind != UMBRA_TRACE_DROP && r->kind != UMBRA_TRACE_PROTECT &&
	    r->kind != UMBRA_TRACE_INVALIDATE_BEGIN && r->kind != UMBRA_TRACE_INVALIDATE_GATHER &&
	    r->kind != UMBRA_TRACE_SPLIT)
		return true;
	sqlite3_clear_bindings(s->drop);
	sqlite3_bind_text(s->drop, 3, trace_kind_name(r->kind), -1, SQLITE_STATIC);
	if (!all) {
		sqlite3_bind_int64(s->drop, 4, (int64_t)r->a);
		sqlite3_bind_int64(s->drop, 5, large ? 512 : one ? 1 : (int64_t)r->b);
		sqlite3_bind_int64(s->drop, 6, one ? (uint32_t)r->c : (int64_t)r->c);
	}
	return put(s, s->drop, values, 2);
}

static bool on_event(struct export_sink *sink, const struct export_event *e)
{
	struct sink *s = (struct sink *)sink;
	const int64_t values[] = {(int64_t)e->number, (int64_t)e->time};
	const struct trace_place *place;
	size_t count;

	sqlite3_clear_bindings(s->event);
	sqlite3_bind_text(s->event, 3, trace_kind_name(e->record->kind), -1, SQLITE_STATIC);
	sqlite3_bind_int64(s->event, 4, e->record->vcpu);
	sqlite3_bind_int64(s->event, 5, (int64_t)e->inputs);
	place = trace_places(e->record->kind, &count);
	for (; count; count--, place++) {
		int64_t value = trace_field_of(e->record, place);

		if (place->field == FIELD_VERDICT)
			sqlite3_bind_text(s->event, FIRST_FIELD + place->field,
					  trace_verdict_name((unsigned)value), -1, SQLITE_STATIC);
		else
			sqlite3_bind_int64(s->event, FIRST_FIELD + place->field, value);
	}
	return put(s, s->event, values, 2) && put_drop(s, e);
}

static bool on_input(struct export_sink *sink, uint64_t event, const struct umbra_record *record)
{
	struct sink *s = (struct sink *)sink;
	bool wide = record->kind == UMBRA_TRACE_WORD8;
	const int64_t values[] = {(int64_t)event, (int64_t)record->a, wide ? 8 : 4,
				  (int64_t)record->b};

	if (!wide && record->kind != UMBRA_TRACE_WORD4)
		return true;
	return put(s, s->word, values, 4);
}

/* ------------------------------------------------------------------ snapshots */

static bool on_table(struct export_sink *sink, uint64_t event, const struct umbra_table *t)
{
	struct sink *s = (struct sink *)sink;
	const int64_t values[] = {(int64_t)event,  t->number,   (int64_t)t->gfn.n,   t->level,
				  t->mode,         t->quadrant, t->access,           t->direct,
				  t->unsync,       t->roots,    (int64_t)t->parents, t->sptes,
				  (int64_t)t->hpa, t->role};

	return put(s, s->page, values, sizeof(values) / sizeof(values[0]));
}

static bool on_mapping(struct export_sink *sink, uint64_t event, const struct umbra_mapping *m)
{
	struct sink *s = (struct sink *)sink;
	int64_t pages = (int64_t)1 << 9 * (m->level - 1);
	const int64_t values[] = {(int64_t)event,
				  (int64_t)m->gfn.n,
				  pages,
				  (int64_t)m->gva,
				  m->gva_bits,
				  m->root == UMBRA_NO_ROOT ? -1 : (int64_t)m->root,
				  m->level,
				  (int64_t)(m->spte >> 12 & 0xffffffffff),
				  m->spte >> 1 & 1,
				  m->spte >> 2 & 1,
				  !(m->spte >> 63),
				  (int64_t)m->spte,
				  m->table,
				  m->index};

	return put(s, s->spte, values, sizeof(values) / sizeof(values[0]));
}

/* ------------------------------------------------------------------ begin and end */

static void sink_free(struct export_sink *sink)
{
	struct sink *s = (struct sink *)sink;

	sqlite3_finalize(s->event);
	sqlite3_finalize(s->drop);
	sqlite3_finalize(s->word);
	sqlite3_finalize(s->page);
	sqlite3_finalize(s->spte);
	sqlite3_close(s->db);
	free(s);
}

static bool complete(struct export_sink *sink)
{
	struct sink *s = (struct sink *)sink;

	return run(s, "UPDATE sptes SET root = NULL WHERE root = -1;"
		      "CREATE INDEX events_gfn ON events(gfn) WHERE gfn IS NOT NULL;"
		      "CREATE INDEX events_kind ON events(kind);"
		      "CREATE INDEX sptes_gfn ON sptes(gfn);"
		      "COMMIT");
}

struct export_sink *sqlite_sink_open(const char *path, const struct trace_header *header)
{
	struct sink *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->base = (struct export_sink){.event = on_event,
				       .input = on_input,
				       .table = on_table,
				       .mapping = on_mapping,
				       .complete = complete,
				       .free = sink_free};
	if (sqlite3_open_v2(path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL) !=
	    SQLITE_OK)
		fail(s, path);
	else
		make(s, header);
	return &s->base;
}
