/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The user-space machine: simulated processors that run on umbra's shadow tables as hardware
 * would, and that believe nothing.
 *
 *     op (random.c, hostile.c ...) -> sim_access() -> sim_cpu.c: TLB, paging-structure cache,
 *                                          |           shadow tables in the arena
 *                                          v
 *                                     sim_check.c: was that access allowed to pass?
 *                                          |       asks ref/ about the *mirror*
 *                                          v
 *                                     sim.c: umbra_fault() and what its verdict asks for;
 *                                            slots, devices, host operations
 *
 * The mirror is a second copy of guest memory, kept by following each store's guest-physical
 * address. The oracle reads the mirror, never the arena: a store that went to a wrong frame, a
 * page that was lost when it moved, an A bit that umbra set without need, all show as a
 * difference between the two.
 *
 * Stale translations. The caches of a processor lose what a flush callback names, never
 * more. What they let through must be right now, or could have been right at some time since
 * the guest last flushed that address on that processor: sim_check.c keeps every value that
 * a guest word had since then, and walks over all combinations (real processors mix old
 * upper entries with new lower ones). The same holds for the memory type and the protection key
 * that the hardware used. What the *host* took away may never be seen again: an entry is only good
 * while its frame is that gfn's frame; and no store may reach a page that umbra_write_protect()
 * was called for until umbra asked the host for it with UMBRA_WANT_WRITE.
 *
 * What the guest flushes (SDM vol. 3 §4.10.4.1) is kept by PCID; random guests use 0 to 3. The
 * judge is stricter than the manual: MOV CR3 and INVPCID flush global pages too, and changes of
 * CR0, CR4 and EFER flush everything. Switching to a PCID without a flush makes old values of
 * words visible, but never a root that the PCID was used with before.
 *
 * With nested paging (options.config.nested) guest addresses are guest-physical ones: a gva here is
 * a gpa, and the oracle says that it leads to itself.
 *
 * Any violation prints the seed, the step and the last operations, and ends the program: exit(1),
 * or abort() where the options ask for it.
 */
#ifndef SIM_H
#define SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <umbra/umbra.h>

#include "arena.h"
#include "cover.h"
#include "failing.h"
#include "ref.h"

#define SIM_CPUS    3u
#define SIM_SLOTS   8u
#define SIM_TLB     256u
#define SIM_WAYS    4u
#define SIM_CACHE   64u
#define SIM_INVLPGS 64u
#define SIM_PCIDS   4u
#define SIM_OPS     48u

struct sim_tlb_entry {
	uint64_t gva; /* of the page */
	uint64_t size;
	uint64_t hpa;
	uint64_t gfn; /* whose frame that was when the entry was made */
	uint8_t key, type;
	bool valid, writable, user, no_execute, dirty;
};

/* A cached upper-level entry: the table that translates @gva's region at @level. */
struct sim_cache_entry {
	uint64_t gva;
	uint64_t table; /* hpa */
	unsigned level; /* of the table */
	bool valid, writable, user, no_execute;
};

struct sim_cpu {
	struct sim *sim;
	struct umbra_vcpu *vcpu;
	unsigned number;
	struct umbra_paging paging;
	bool ac;
	uint32_t pkru, pkrs;
	uint64_t pdpte[4];      /* the guest's: PAE paging, as loaded */
	struct umbra_root root; /* of the current entry */
	uint64_t root_pdpte[4]; /* of a PAE root, as hardware loaded them then */

	struct sim_tlb_entry tlb[SIM_TLB];
	struct sim_cache_entry cache[SIM_CACHE];

	/* What the guest flushed, and when: its own CR writes, its last INVLPGs. */
	uint64_t flushed_all;
	uint64_t flushed_pcid[SIM_PCIDS];
	struct {
		uint64_t gva, when;
		unsigned pcid;
		bool global; /* INVLPG flushes global pages under every PCID */
	} invlpg[SIM_INVLPGS];
	unsigned invlpgs;
};

struct sim_slot {
	bool present;
	uint32_t flags;
	uint64_t first, pages;
	bool logged, by_d;
};

/* A guest word that changed: it was @old until @when. */
struct sim_change {
	uint64_t gpa, old, when;
};

struct sim_options {
	const char *name; /* of the test, for messages */
	uint64_t seed;
	uint64_t gfns;
	struct umbra_config config;
	unsigned large; /* percentage of the 2 MiB areas that the host backs in one piece, */
	unsigned huge;  /*   and of the 1 GiB ones */
	bool abort_on_violation; /* what a fuzzer calls a crash */
};

/* What umbra is asked about. */
struct sim_access_due {
	struct sim_cpu *cpu; /* NULL: nothing that reaches memory */
	uint64_t gva, gpa;
	struct ref_access access;
};

struct sim {
	struct sim_options options;
	uint64_t random;
	struct arena *arena;
	struct failing failing;
	struct umbra_mmu *mmu;
	struct sim_cpu cpu[SIM_CPUS];
	struct sim_slot slot[SIM_SLOTS]; /* the index is the id */
	uint64_t *mirror;                /* gfns * 512 words */
	unsigned char *touched;          /* gfns: pages of the mirror that were ever written, */
	uint32_t *touched_gfn;           /*   and a list of them */
	uint64_t touched_count;
	unsigned char *changed; /* gfns: pages that changed since they were collected, */
	unsigned char *aimed;   /*   or that somebody set out to write */

	unsigned char *watched; /* gfns: what is armed */
	struct sim_access_due due;

	uint64_t now;
	struct sim_change *change;
	size_t changes, changes_room;

	/* Sabotage, to show that violations are seen: each n-th one is ignored. 0: none. */
	unsigned break_flush;
	unsigned break_write; /* umbra_guest_write() calls */
	uint64_t broken;
	uint64_t flush_calls, write_calls;
	int expect_violation; /* leave with status 0 at a violation */

	bool shortage; /* the host may fail: NOMEM and RETRY are fine */

	uint64_t step;
	struct {
		const char *what;
		uint64_t a, b, c;
	} op[SIM_OPS];
	uint64_t ops;
	struct {
		uint64_t hits, walks, faults, stale, checks, injected, mmio, emulated, stores,
		    large; /* walks that ended in a large page */
	} count;
	uint64_t cover[COVER_FEATURES];
	uint64_t large_leaves[2]; /* cover_step() */
};

enum sim_outcome {
	SIM_DONE,   /* the access was made */
	SIM_FAULT,  /* the guest got a #PF */
	SIM_MMIO,   /* no memory there */
	SIM_STARVED /* the host had no memory (sim->shortage) */
};

/* ---- sim.c ---- */

struct sim *sim_create(const struct sim_options *options);

/* Also checks that nothing leaked. */
void sim_destroy(struct sim *sim);

uint64_t sim_random(struct sim *sim, uint64_t below);
void sim_op(struct sim *sim, const char *what, uint64_t a, uint64_t b, uint64_t c);
_Noreturn void sim_fail(struct sim *sim, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

struct sim_slot *sim_slot_of(struct sim *sim, uint64_t gpa);
int sim_slot_add(struct sim *sim, uint32_t id, uint64_t first, uint64_t pages, uint32_t flags);
void sim_slot_delete(struct sim *sim, uint32_t id);
void sim_slot_flags_set(struct sim *sim, uint32_t id, uint32_t flags);

/* Put bytes into arena and mirror, and tell nobody. */
void sim_store(struct sim *sim, uint64_t gpa, const void *bytes, size_t len);

/* A device or loader writes @len bytes that do not cross a page; then umbra_guest_write(). */
void sim_device_write(struct sim *sim, uint64_t gpa, const void *bytes, size_t len);

/* Read guest memory; all ones where there is none. */
uint64_t sim_word(struct sim *sim, uint64_t gpa);

/* The guest's MOV to CR and WRMSR EFER; UMBRA_EPDPTE is compared with the oracle. INVLPG. INVPCID.
 */
int sim_paging_set(struct sim_cpu *cpu, const struct umbra_paging *paging);
void sim_invlpg(struct sim_cpu *cpu, uint64_t gva);
void sim_invpcid(struct sim_cpu *cpu, enum umbra_invpcid type, unsigned pcid, uint64_t gva);

/* WRPKRU, WRMSR IA32_PKRS: no exit, umbra is not told. */
void sim_keys_set(struct sim_cpu *cpu, uint32_t pkru, uint32_t pkrs);

/* @gva cut to what the guest's mode can use: 32 bits, or canonical; a gpa with nested paging. */
uint64_t sim_fit(const struct sim_cpu *cpu, uint64_t gva);
bool sim_is_long_mode(const struct sim_cpu *cpu);
bool sim_is_pae(const struct sim_cpu *cpu);
unsigned sim_pcid(const struct sim_cpu *cpu); /* the current one */

/*
 * One aligned 8-byte access of the guest: *word is stored, or loaded. *code: of the #PF.
 * umbra's answers are compared with the oracle's on the way.
 */
enum sim_outcome sim_access(struct sim_cpu *cpu, uint64_t gva, struct ref_access access,
			    uint64_t *word, uint32_t *code);

/* umbra_translate(), compared with the oracle. */
void sim_translate(struct sim_cpu *cpu, uint64_t gva, struct ref_access access);

enum sim_drop {
	SIM_KEEP,    /* only the mappings go */
	SIM_SWAP,    /* the contents move to another frame */
	SIM_DISCARD, /* the contents are lost */
};
void sim_drop(struct sim *sim, uint64_t first, uint64_t pages, enum sim_drop how);
void sim_remap(struct sim *sim, uint64_t gfn);
void sim_write_protect(struct sim *sim, uint64_t first, uint64_t pages);

/* The host puts the frames of the 2 MiB area around @gfn side by side again. */
void sim_gather(struct sim *sim, uint64_t gfn);

/* ---- sim_cpu.c ---- */

/* umbra's flush callback; @ctx is the sim. */
void sim_flush(void *ctx, const struct umbra_flush *flush);

/* Where an access went, and what of the leaf matters beyond its rights. */
struct sim_pass {
	uint64_t hpa, size; /* of the page */
	uint8_t key, type;
	bool user;
};

/* Translate as hardware does; false: #PF with *code. */
bool sim_cpu_translate(struct sim_cpu *cpu, uint64_t gva, struct ref_access access,
		       struct sim_pass *pass, uint32_t *code);

/* A processor may fill its TLB at any time. */
void sim_cpu_speculate(struct sim_cpu *cpu, uint64_t gva);

/* Enter the guest: ask for the root and look at it. UMBRA_ENOMEM. */
int sim_cpu_enter(struct sim_cpu *cpu);

/* ---- sim_check.c ---- */

struct ref_cpu sim_ref_cpu(const struct sim_cpu *cpu);

/* Load PDPTEs as the oracle sees memory; false: #GP. */
bool sim_ref_pdptes(struct sim_cpu *cpu, const struct umbra_paging *paging, uint64_t pdpte[4]);
struct ref_result sim_ref(struct sim_cpu *cpu, uint64_t gva, struct ref_access access);

/* Change a guest word in the mirror, and remember the old value. */
void sim_mirror_write(struct sim *sim, uint64_t gpa, uint64_t word);

/* The words of gfns first..first+pages-1 can no longer be seen stale. */
void sim_mirror_forget(struct sim *sim, uint64_t first, uint64_t pages);

/* The access passed: returns the gpa, or fails. */
uint64_t sim_check_access(struct sim_cpu *cpu, uint64_t gva, struct ref_access access,
			  const struct sim_pass *pass);

/* umbra answered: take over the accessed and dirty bits that were due (and no others). */
void sim_check_bits(struct sim *sim, const struct ref_result *due, bool must);

/* No TLB entry leads to gfns first..first+pages-1; or none that lets writes pass. */
void sim_check_revoked(struct sim *sim, uint64_t first, uint64_t pages, bool writes);

void sim_check_tlbs(struct sim *sim); /* each entry's frame is still its gfn's */
/* Arena and mirror are the same: part @part of @parts. */
void sim_check_mirror(struct sim *sim, unsigned part, unsigned parts);
void sim_check_tables(struct sim *sim); /* no leaf leads outside slots */
void sim_check_audit(struct sim *sim);

/* What the shadow tables would let pass at @gva now, on every cpu, is right. */
void sim_check_gva(struct sim *sim, uint64_t gva);

/* ---- sim_host.c ---- */

void sim_split(struct sim *sim, uint64_t first, uint64_t pages);

/* Pages @first[i] and the next, of three at most, are away for a while; one flush. */
void sim_invalidate(struct sim *sim, const uint64_t first[], unsigned ranges);

void sim_slot_move(struct sim *sim, uint32_t id, uint64_t first);

/* ---- sim_watch.c ---- */

void sim_watch_init(struct sim *sim, struct umbra_host *host);
void sim_watch_ask(struct sim_cpu *cpu, uint64_t gva, struct ref_access access,
		   const struct ref_result *ref);
void sim_watch_answered(struct sim *sim, enum umbra_verdict verdict, bool fault);
void sim_watch_pass(struct sim_cpu *cpu, uint64_t gva, uint64_t gfn, struct ref_access access);
void sim_watch(struct sim *sim, uint64_t gfn, unsigned kinds);
void sim_watch_forget(struct sim *sim, uint64_t first, uint64_t pages);

/* ---- sim_log.c ---- */

void sim_log_start(struct sim *sim, uint32_t id, unsigned flags);
void sim_log_stop(struct sim *sim, uint32_t id);

/* umbra_log_collect() of 1024 pages at most, and what it says is true. */
void sim_log_collect(struct sim *sim, uint64_t first, uint64_t pages);

/* ---- sim_age.c ---- */

/* umbra_age() of 1024 pages at most, and what it says is true. @test: bits stay. */
void sim_age(struct sim *sim, uint64_t first, uint64_t pages, bool test);

/* ---- sim_look.c ---- */

/* What umbra shows of @gva, and of the gfn there, is what is there. */
void sim_check_look(struct sim *sim, uint64_t gva);

#endif
