/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The failing host: stands between umbra and any other host, counts the calls and lets some
 * of them fail on purpose. A test that runs the same scenario with the 1st, 2nd, 3rd ...
 * call failing, until it passes, has seen every way to run out of memory.
 *
 * The struct is the caller's; set the rules while nobody calls. Calls may come from several
 * threads: which of them is the @at-th is then a matter of luck, but one is.
 */
#ifndef FAILING_H
#define FAILING_H

#include <stdatomic.h>
#include <stdint.h>

#include <umbra/umbra.h>

/* Which calls fail: the @at-th from now on (1 = the next one), and every @every-th; 0: none. */
struct failing_rule {
	uint64_t at;
	uint64_t every;
	int error;              /* what the call returns then */
	_Atomic uint64_t seen;  /* calls since failing_rule_set() */
	_Atomic uint64_t fired; /* of these, made to fail */
};

struct failing {
	struct umbra_host inner;
	void *inner_ctx;
	struct failing_rule alloc;
	struct failing_rule frame_get; /* UMBRA_WANT_PEEK fails with UMBRA_ENOENT */
	_Atomic uint64_t allocs;       /* calls that succeeded */
	_Atomic uint64_t frees;
	_Atomic uint64_t flushes;
	_Atomic uint64_t moves;
};

/* Put @failing before @inner; fills in *@host, whose ctx is @failing. No rule is set. */
void failing_init(struct failing *failing, const struct umbra_host *inner, void *inner_ctx,
		  struct umbra_host *host);

void failing_rule_set(struct failing_rule *rule, uint64_t at, uint64_t every, int error);

#endif
