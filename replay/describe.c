/* SPDX-License-Identifier: BSD-2-Clause */
/* Records in words; and what happened before. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "fields.h"
#include "inside.h"

#define SHOWN 12u /* events about a page, and of the last ones */

const char *replay_kind(unsigned kind)
{
	const char *name = trace_kind_name(kind);

	return name ? name : "unknown";
}

static void describe_access(const struct umbra_record *e, char *text, size_t size)
{
	unsigned verdict = e->c >> 32 & 0xff;

	snprintf(text, size, "gva %" PRIx64 " %s%s%s at rip %" PRIx64 ": %s", e->a,
		 e->c & UMBRA_PF_U ? "user " : "",
		 e->c & UMBRA_PF_I   ? "fetch"
		 : e->c & UMBRA_PF_W ? "write"
				     : "read",
		 e->c & UMBRA_PF_AC ? " (AC)" : "", e->b,
		 trace_verdict_name(verdict) ? trace_verdict_name(verdict) : "?");
}

void replay_describe(const struct umbra_record *e, uint64_t number, char *text, size_t size)
{
	int used = snprintf(text, size, "%" PRIu64 " %s ", number, replay_kind(e->kind));

	if (used < 0 || (size_t)used >= size)
		return;
	text += used;
	size -= (size_t)used;
	if (e->kind == UMBRA_TRACE_FAULT || e->kind == UMBRA_TRACE_TRANSLATE)
		describe_access(e, text, size);
	else if (e->kind == UMBRA_TRACE_PAGING)
		snprintf(text, size, "cr0 %" PRIx64 " cr3 %" PRIx64 " cr4 %" PRIx64 " efer %x",
			 e->a & UINT32_MAX, e->b, e->a >> 32, (uint32_t)e->c);
	else
		snprintf(text, size, "%" PRIx64 " %" PRIx64 " %" PRIx64, e->a, e->b, e->c);
}

/* ------------------------------------------------------------------ what happened before */

static bool is_about(const struct past *past, const struct subject *subject)
{
	const struct umbra_record *e = &past->record;

	if ((past->gfn != NOWHERE && past->gfn == subject->gfn) ||
	    (past->table && past->table == subject->table))
		return true;
	switch (e->kind) {
	case UMBRA_TRACE_UNPROTECT:
	case UMBRA_TRACE_WATCH:
		return e->a == subject->gfn;
	case UMBRA_TRACE_REMAP:
		return subject->gfn - e->a < ((e->c >> 56 & 3) == 2 ? LARGE_PAGES : 1);
	case UMBRA_TRACE_LOG_WORD:
		return subject->gfn - e->a < 64;
	case UMBRA_TRACE_DROP:
	case UMBRA_TRACE_PROTECT:
	case UMBRA_TRACE_INVALIDATE_BEGIN:
	case UMBRA_TRACE_INVALIDATE_GATHER:
	case UMBRA_TRACE_INVALIDATE_END:
	case UMBRA_TRACE_SPLIT:
	case UMBRA_TRACE_LOG_COLLECT:
		return subject->gfn - e->a < e->b;
	case UMBRA_TRACE_WRITE:
		return e->a >> UMBRA_PAGE_SHIFT == subject->gfn;
	case UMBRA_TRACE_FAULT:
	case UMBRA_TRACE_TRANSLATE:
	case UMBRA_TRACE_INVLPG:
		return e->a >> UMBRA_PAGE_SHIFT == subject->gva;
	default:
		return false;
	}
}

static void describe_past(const struct past *past, uint64_t number, char *text, size_t size)
{
	size_t used;

	replay_describe(&past->record, number, text, size);
	used = strlen(text);
	if (past->gfn != NOWHERE)
		used += (size_t)snprintf(text + used, size - used, ", gfn %" PRIx64, past->gfn);
	if (past->table && used < size)
		snprintf(text + used, size - used, ", shadow page %u", past->table);
}

void replay_history(const struct replay *r, void (*line)(void *ctx, const char *text), void *ctx)
{
	uint64_t end = r->counts.events, first = end > HISTORY ? end - HISTORY : 0;
	unsigned about = 0, skip;
	char text[256];

	for (uint64_t i = first; i < end; i++)
		about += is_about(&r->history[i % HISTORY], &r->subject);
	skip = about > SHOWN ? about - SHOWN : 0;
	for (uint64_t i = first; i < end; i++) {
		const struct past *past = &r->history[i % HISTORY];

		if (is_about(past, &r->subject) ? skip && skip-- : i + SHOWN < end)
			continue;
		describe_past(past, i, text, sizeof(text));
		line(ctx, text);
	}
}
