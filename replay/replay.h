/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A recorded guest, replayed on libumbra without the guest: the events of a trace are carried out
 * one by one, and what the library asks for meanwhile is what the recorder saw. See replay.c.
 */
#ifndef REPLAY_H
#define REPLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <umbra/trace.h>
#include <umbra/umbra.h>

struct replay;

enum replay_status {
	REPLAY_OK,
	REPLAY_ENDED,     /* that was UMBRA_TRACE_END */
	REPLAY_UNTIL,     /* so many events have been carried out */
	REPLAY_DIVERGED,  /* the library did or asked something else than when it was recorded */
	REPLAY_VIOLATION, /* an audit or a TLB found one */
	REPLAY_DAMAGED,   /* the record makes no sense */
	REPLAY_NOMEM,
};

struct replay_options {
	struct umbra_config config;
	uint64_t audit; /* events between audits; 0: none */
	bool brief;     /* nothing is noted for replay_history() but the events themselves */
	bool tlb;       /* processors with TLBs that forget nothing watch, and the oracle */
	bool lenient;   /* @config is not the recorded one: as .loose, and its quota stays */
	bool loose;     /* the trace was cut: loose.c */
};

struct replay_counts {
	uint64_t records, events;
	uint64_t by_kind[UMBRA_TRACE_KINDS];
	uint64_t differences; /* answers that were not the recorded ones (lenient, loose) */
	uint64_t skipped;     /* events that could not be carried out (loose) */
	uint64_t audits;
	uint64_t accesses; /* by the tables, for TLBs */
	uint64_t pages;    /* of guest tables that are kept */
};

/* NULL: *@error is UMBRA_ENOMEM, or UMBRA_EINVAL for a configuration that the library refuses. */
struct replay *replay_new(const struct replay_options *options, int *error);

/*
 * Carry the next @count records of the trace out, in all no more than @until events: the one that
 * would be the next is not, nor is anything behind it. On anything but REPLAY_OK, _ENDED and
 * _UNTIL: replay_why().
 */
enum replay_status replay_records(struct replay *replay, const struct umbra_record *records,
				  size_t count, uint64_t until);

/* The next one. */
enum replay_status replay_record(struct replay *replay, const struct umbra_record *record);

/* Did the trace tell what the @size (4, 8) bytes of guest memory at @gpa are? */
bool replay_knows(struct replay *replay, uint64_t gpa, unsigned size);

/* An audit now. REPLAY_OK, or REPLAY_VIOLATION, with which the replay has ended. */
enum replay_status replay_audit(struct replay *replay);

/*
 * Of REPLAY_VIOLATION: what was violated. An invariant's number (docs/architecture.md), of which
 * TLBs see number 7; or one of these.
 */
enum replay_wrong {
	REPLAY_WRONG_TLB = 7,
	REPLAY_WRONG_UNMAPPED = 64, /* what was to be mapped, is not */
	REPLAY_WRONG_FRAME,         /* an access leads elsewhere than the oracle says */
	REPLAY_WRONG_RIGHTS,        /* one passes that the oracle forbids */
};

unsigned replay_wrong(const struct replay *replay);

/* A sentence about what went wrong. */
const char *replay_why(const struct replay *replay);

/* The last events that touched the gfn, gva or shadow page that went wrong, and the last of all. */
void replay_history(const struct replay *replay, void (*line)(void *ctx, const char *text),
		    void *ctx);

const struct replay_counts *replay_counts(const struct replay *replay);
struct umbra_mmu *replay_mmu(struct replay *replay);

/* NULL: there is none of that number now. */
struct umbra_vcpu *replay_vcpu(struct replay *replay, unsigned number);
void replay_free(struct replay *replay);

/* umbra_view() of @vcpu, which changes nothing of the replay either. */
int replay_view(struct replay *replay, struct umbra_vcpu *vcpu, uint64_t gva,
		struct umbra_view *view);

/* "fault". */
const char *replay_kind(unsigned kind);

/* One record in words, as replay_history() prints it. */
void replay_describe(const struct umbra_record *record, uint64_t number, char *text, size_t size);

#endif
