/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The failing host: each function asks its rule, then passes the call on. See failing.h.
 */
#include "failing.h"

#include <string.h>

void failing_rule_set(struct failing_rule *rule, uint64_t at, uint64_t every, int error)
{
	*rule = (struct failing_rule){.at = at, .every = every, .error = error};
}

/* Does this call fail? */
static bool fires(struct failing_rule *rule)
{
	uint64_t seen = ++rule->seen;

	if (seen != rule->at && !(rule->every && seen % rule->every == 0))
		return false;
	rule->fired++;
	return true;
}

static int failing_alloc(void *ctx, size_t size, bool low, struct umbra_memory *memory)
{
	struct failing *failing = ctx;
	int error;

	if (fires(&failing->alloc))
		return failing->alloc.error;
	error = failing->inner.alloc(failing->inner_ctx, size, low, memory);
	if (!error)
		failing->allocs++;
	return error;
}

static void failing_free(void *ctx, size_t size, struct umbra_memory memory)
{
	struct failing *failing = ctx;

	failing->frees++;
	failing->inner.free(failing->inner_ctx, size, memory);
}

static int failing_frame_get(void *ctx, umbra_gfn gfn, enum umbra_want want,
			     struct umbra_frame *frame)
{
	struct failing *failing = ctx;

	if (fires(&failing->frame_get))
		return want == UMBRA_WANT_PEEK ? UMBRA_ENOENT : failing->frame_get.error;
	return failing->inner.frame_get(failing->inner_ctx, gfn, want, frame);
}

static void *failing_frame_va(void *ctx, umbra_pfn pfn)
{
	struct failing *failing = ctx;

	return failing->inner.frame_va(failing->inner_ctx, pfn);
}

static void failing_frame_move(void *ctx, umbra_gfn gfn, const struct umbra_frame *to)
{
	struct failing *failing = ctx;

	failing->moves++;
	failing->inner.frame_move(failing->inner_ctx, gfn, to);
}

static void failing_flush(void *ctx, const struct umbra_flush *flush)
{
	struct failing *failing = ctx;

	failing->flushes++;
	failing->inner.flush(failing->inner_ctx, flush);
}

void failing_init(struct failing *failing, const struct umbra_host *inner, void *inner_ctx,
		  struct umbra_host *host)
{
	memset(failing, 0, sizeof(*failing));
	failing->inner = *inner;
	failing->inner_ctx = inner_ctx;
	*host = (struct umbra_host){
	    .alloc = failing_alloc,
	    .free = failing_free,
	    .frame_get = failing_frame_get,
	    .frame_va = failing_frame_va,
	    .frame_move = failing_frame_move,
	    .flush = failing_flush,
	};
}
