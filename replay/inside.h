/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The replayer from inside, for its own files:
 *
 *     replay.c   records, and the events of vcpus
 *     operate.c  the other events
 *     backing.c  the host that the library sees
 *     loose.c    the host of a trace that was cut
 *     watch.c    --tlb: processors that make the guest's accesses, and what they must not find
 *     oracle.c   where each of these accesses leads, by the reference walker
 *     guest.c    the guest's frames and pages of tables
 *     tlb.c      one such processor's TLB
 */
#ifndef REPLAY_INSIDE_H
#define REPLAY_INSIDE_H

#include "guest.h"
#include "ref.h"
#include "replay.h"
#include "tlb.h"

#define HISTORY   4096u        /* events that are remembered */
#define FIRST_HPA (1ull << 44) /* above all frames */
#define LOW_PAGES 1024u
#define LOW_END   ((LOW_PAGES + 1ull) << UMBRA_PAGE_SHIFT)

#define LARGE_PAGES 512u /* of 2 MiB */
#define OPEN_MAX    256u /* ranges that the host changes at a time */

#define LL(n) ((unsigned long long)(n))

/* An event that is remembered; of a fault, also what it mapped. */
struct past {
	struct umbra_record record;
	uint64_t gfn;   /* NOWHERE: not known */
	uint32_t table; /* number of the shadow page; 0: none */
};

#define NOWHERE UINT64_MAX

/* What went wrong: a guest's address, or a guest's page, and the shadow page. NOWHERE, 0: not that.
 */
struct subject {
	uint64_t gva; /* >> 12 */
	uint64_t gfn;
	uint32_t table;
};

/* A range that the host is changing. */
struct open {
	struct umbra_invalidation umbra;
	uint64_t first, pages;
	struct open *next;
};

/* What an event takes away: mappings of gfns first .. first + pages - 1; or the right to write. */
struct taken {
	uint64_t first, pages; /* .pages 0: nothing */
	uint64_t mask;         /* not 0: only the i-th ones whose bit i is set */
	bool writable;         /* only the right to write, */
	bool logged;           /*   and only where a log is on */
};

/* What tells of a slot's writes. */
enum slot_log {
	LOG_NONE,
	LOG_FAULTS,
	LOG_D_BITS,
};

struct replay {
	struct replay_options options;
	struct umbra_mmu *mmu;
	struct umbra_vcpu *vcpu[UMBRA_VCPUS_MAX];
	struct guest guest;

	struct umbra_slot slots[UMBRA_SLOTS_MAX];
	uint8_t log[UMBRA_SLOTS_MAX]; /* enum slot_log */
	unsigned slot_count;
	struct open *open;
	unsigned open_count;
	uint64_t asked;   /* the gfn whose frame was wanted last */
	uint64_t made_up; /* frames that loose replay invented */

	const struct umbra_record *input, *inputs_end; /* the queue: of the event at hand */
	struct umbra_record *kept; /* inputs whose event comes with the next records */
	size_t count, room;
	bool quiet; /* the audit reads */

	uint64_t hpa, low; /* the next ones */

	/* With options.tlb. */
	struct tlb tlb[UMBRA_VCPUS_MAX];
	struct ref_cpu cpu[UMBRA_VCPUS_MAX];
	void **tables; /* where the hardware finds what was allocated at FIRST_HPA + 4096 i */
	size_t tables_room;
	void *low_tables[LOW_PAGES];
	struct umbra_record pending; /* a fault that the guest is about to retry; kind 0: none */
	struct taken taken;          /* by the event at hand */

	struct past *history;
	struct subject subject;
	struct replay_counts counts;
	char why[256];
	enum replay_status trouble;
	unsigned wrong; /* REPLAY_VIOLATION: replay_wrong() */
};

/* Something went wrong; the first time counts. Returns the status that stands. */
enum replay_status replay_trouble(struct replay *r, enum replay_status status, const char *format,
				  ...) __attribute__((format(printf, 3, 4)));

/* REPLAY_VIOLATION, of the kind @wrong: an invariant's number, or enum replay_wrong. */
void replay_violation(struct replay *r, unsigned wrong, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* @got is what the library answered now, @recorded what it did then. */
void replay_compare(struct replay *r, const char *what, uint64_t recorded, uint64_t got);

extern const struct umbra_host replay_host;

/* An event that is no vcpu's. False: the library refused it. */
bool operate(struct replay *r, const struct umbra_record *e);
void operate_free(struct replay *r);

/* The slot of that name, or its place behind all. */
unsigned replay_slot_by_id(const struct replay *r, uint64_t id);

/* The slot that @gfn lies in; NULL: none. */
const struct umbra_slot *replay_slot(const struct replay *r, uint64_t gfn);

/* All inputs of the event that comes, at once. */
void loose_apply(struct replay *r);

/* host.frame_get. */
int loose_frame(struct replay *r, uint64_t gfn, enum umbra_want want, struct umbra_frame *frame);

/*
 * What @gfn is moved to that was moved to *@to. False: it cannot be: some of the frames side by
 * side are others'.
 */
bool loose_target(struct replay *r, uint64_t gfn, struct umbra_frame *to);

/* Remember that the hardware finds @va at @hpa, @room bytes. False: out of memory. */
bool watch_note(struct replay *r, bool low, uint64_t hpa, char *va, uint64_t room);

/* Before an event: what will it take away? */
void watch_before(struct replay *r, const struct umbra_record *e);

/* The event was a root: the guest tries again what faulted. */
void watch_retry(struct replay *r, const struct umbra_record *e, const struct umbra_root *root);

/* Behind an event: does a TLB hold what must be forgotten by now? */
void watch_behind(struct replay *r, const struct umbra_record *e);

/* A vcpu was made; its registers were loaded. */
void oracle_vcpu(struct replay *r, unsigned vcpu);
void oracle_paging(struct replay *r, unsigned vcpu, const struct umbra_paging *paging);

/* The access that faulted got through, and found *@hit: is that right? @hit->gfn is set. */
void oracle_check(struct replay *r, const struct umbra_record *fault, struct tlb_hit *hit);

#endif
