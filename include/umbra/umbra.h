/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libumbra: a shadow-paging MMU.
 *
 * This header is all that an embedder reads. umbra keeps, for every guest address
 * space, a set of shadow page tables that the hardware can walk in place of the guest's
 * own (AMD64 APM vol. 2 §15.17 "shadow page tables"), and a reverse map that finds every
 * shadow entry of a guest page.
 *
 *     gva  guest-virtual address       what the guest's code uses
 *     gpa  guest-physical address      what the guest's page tables hold; gfn = gpa >> 12
 *     hpa  host-physical address       what the hardware uses;            pfn = hpa >> 12
 *     spte shadow page table entry     gva -> hpa, built by umbra
 *     slot a range of gfns that the host backs with frames
 *
 * How to embed it, in order:
 *   1. fill in a struct umbra_host, umbra_mmu_create(), umbra_slot_add(), umbra_vcpu_create()
 *   2. umbra_vcpu_set_paging() with the guest's CR0, CR3, CR4 and EFER
 *   3. before each guest entry: umbra_vcpu_root() names the table for the hardware's CR3
 *   4. run the guest with #PF, MOV CR0/CR3/CR4, INVLPG and WRMSR EFER intercepted.
 *      #PF -> umbra_fault(), and do what the verdict says; CR and EFER writes ->
 *      umbra_vcpu_set_paging(); INVLPG -> umbra_invlpg()
 *   5. after every write to guest memory that the guest's own stores did not make (emulated
 *      instructions, devices, loaders) -> umbra_guest_write()
 *   6. to take a page back: umbra_drop() or umbra_remap()
 *
 * Hardware settings that the embedder keeps while the guest runs: CR0.WP = CR0.PG = 1,
 * CR4.PAE = 1, CR4.PCIDE = 0, EFER.NXE = 1, EFER.LMA and CR4.LA57 as struct umbra_root says;
 * CR4.SMEP and CR4.SMAP as the guest has them, but 0 while its paging is off; CR4.PKE and CR4.PKS
 * as the guest has them, but 0 unless it is in long mode; and the guest's own PKRU, IA32_PKRS and
 * PAT (sptes carry its protection keys and PAT, PCD and PWT bits). LA57, PKU and PKS can be offered
 * to guests where the hardware has them; PCID and INVPCID always.
 *
 * With nested paging (struct umbra_config .nested) the hardware walks the guest's tables itself:
 * step 4's registers and INVLPG, and 5 fall away; a nested page fault goes to umbra_fault()
 * with the gpa in place of the gva. Reverse maps and host operations are the same. An instruction
 * emulator tells the registers (step 2) before it asks umbra_translate(), which walks the guest's
 * tables as ever.
 *
 * Locks. One lock per MMU; umbra takes it, the embedder never sees it.
 *
 *   function                                           the MMU's lock
 *   -------------------------------------------------  ----------------------------------
 *   umbra_mmu_create                                   not taken
 *   umbra_mmu_destroy                                  taken and released; no other call may
 *                                                      run or come
 *   umbra_drop, umbra_remap, umbra_slot_delete, _move, taken; given up and taken again after
 *   umbra_write_protect, umbra_split,                  every 1024 mappings or so
 *   umbra_invalidate_begin, _gather, umbra_watch
 *   umbra_age, umbra_log_start, umbra_log_collect,     the same, and after every 2 MiB
 *   umbra_log_collect_word, umbra_slot_flags_set
 *   every other umbra_* function                       taken and released; may be called
 *                                                      from any thread; a vcpu's functions
 *                                                      by one thread at a time
 *   host.alloc, host.free                              not held
 *   host.frame_get, .frame_va, .frame_move, .flush,    held: these must not call umbra_*
 *   host.input, .touched
 *
 * Errors: 0 or a negative UMBRA_E*; on an error nothing has changed and out-parameters are
 * untouched. Nothing that a guest writes can make a function fail in another way than its
 * comment says.
 */
#ifndef UMBRA_UMBRA_H
#define UMBRA_UMBRA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define UMBRA_VERSION_MAJOR 0
#define UMBRA_VERSION_MINOR 1

enum umbra_error {
	UMBRA_EINVAL = -1, /* an argument is outside the range its comment gives */
	UMBRA_ENOMEM = -2, /* host.alloc (or .frame_get) had nothing left */
	UMBRA_EEXIST = -3, /* overlaps, or the name is taken */
	UMBRA_ENOENT = -4, /* no such slot, vcpu, gfn or frame */
	UMBRA_EAGAIN = -5, /* the host asks to try again later */
	UMBRA_EPDPTE = -6, /* a PDPTE has a reserved bit set: the guest is due a #GP(0) */
};

/* Page frame numbers: address >> 12. Distinct types, so that they cannot be mixed up. */
typedef struct {
	uint64_t n;
} umbra_gfn;

typedef struct {
	uint64_t n;
} umbra_pfn;

#define UMBRA_PAGE_SHIFT 12
#define UMBRA_PAGE_SIZE  4096u

struct umbra_mmu;  /* one guest's memory: slots, shadow pages, reverse maps */
struct umbra_vcpu; /* one virtual processor's paging state */

/* ------------------------------------------------------------------ the host */

/* A block of host memory: where the library reads and writes it, and where the hardware does. */
struct umbra_memory {
	void *va;
	uint64_t hpa;
};

/* What backs a gfn. */
struct umbra_frame {
	umbra_pfn pfn; /* below 2^40: addresses have 52 bits */
	bool writable; /* false: sptes of this frame never get the W bit; answered to
			  UMBRA_WANT_WRITE, the access is UMBRA_MMIO (memory that stays so belongs
			  into a UMBRA_SLOT_READONLY slot) */
	uint8_t level; /* 0 or 1: this frame. 2, 3: the whole aligned 2 MiB or 1 GiB around the
			  gfn is there, in frames side by side, aligned alike, and .writable holds
			  for all of it (asked with UMBRA_WANT_WRITE: may be written unasked) */
};

/* host.frame_get: how the frame is wanted. */
enum umbra_want {
	UMBRA_WANT_PEEK,  /* only if it is there now: no allocation, no waiting */
	UMBRA_WANT_READ,  /* make it present */
	UMBRA_WANT_WRITE, /* make it present and private to this guest */
};

/*
 * What TLBs must forget. @vcpus is a bit mask of vcpu numbers. With @pages == 0 everything
 * those vcpus cached of this guest goes; otherwise only @pages pages from @gva on.
 */
struct umbra_flush {
	uint64_t vcpus;
	uint64_t gva;
	uint64_t pages;
};

/* host.input: what was read, or set. */
enum umbra_input {
	UMBRA_INPUT_WORD4, /* 4 bytes of a guest's table; the key is their gpa */
	UMBRA_INPUT_WORD8, /* 8 bytes */
	UMBRA_INPUT_AGE, /* did the hardware use a shadow page (1) or not (0); the key is its number
			  */
	UMBRA_INPUT_SET4,  /* the library has just set bits in a word that it had read: 4 bytes */
	UMBRA_INPUT_SET8,  /* 8 bytes */
	UMBRA_INPUT_DIRTY, /* did the hardware set D in an spte of a page that a log by D bits does
			      not know as dirty (1) or not (0); the key is the page's gfn */
};

/* Kinds of access to a page, or-ed. */
enum umbra_watch {
	UMBRA_WATCH_R = 1, /* any access at all: what may write or execute may read */
	UMBRA_WATCH_W = 2,
	UMBRA_WATCH_X = 4,
};

/* host.touched: an access to a watched page that is about to be made. */
struct umbra_touch {
	umbra_gfn gfn;
	uint64_t gva; /* with nested paging: the gpa, unless it is umbra_translate() that asks */
	uint64_t gpa;
	uint32_t vcpu;   /* number */
	uint32_t kind;   /* enum umbra_watch, or-ed: what was armed and is not any more */
	uint32_t access; /* what it does: UMBRA_PF_W, _U, _I, or-ed */
};

struct umbra_host {
	/*
	 * @size bytes of zeroed memory, contiguous for the hardware too, aligned to 4096. hpa
	 * is below 2^52, and below 2^32 when @low is set (the root of a guest without long
	 * mode: its CR3 has 32 bits). Returns 0 or UMBRA_ENOMEM.
	 */
	int (*alloc)(void *ctx, size_t size, bool low, struct umbra_memory *memory);
	void (*free)(void *ctx, size_t size, struct umbra_memory memory);

	/*
	 * The frame behind @gfn, which lies in a slot. Returns 0; UMBRA_ENOENT (peek: not
	 * there now); UMBRA_ENOMEM (umbra_fault then says UMBRA_NOMEM); UMBRA_EAGAIN
	 * (umbra_fault then says UMBRA_RETRY). The answer for a gfn may change only inside
	 * frame_move, or after umbra_drop() of that gfn and before the next call for it; .writable
	 * may become false after umbra_write_protect() of it, too.
	 */
	int (*frame_get)(void *ctx, umbra_gfn gfn, enum umbra_want want, struct umbra_frame *frame);

	/* Where the library may read and write that frame: 4096 bytes, until it is dropped. */
	void *(*frame_va)(void *ctx, umbra_pfn pfn);

	/*
	 * umbra_remap() reached the moment when no spte and no TLB leads to @gfn's frame any
	 * more. Copy the contents to @to->pfn, if they are not there already (a merged page, a page
	 * that stays where it is), answer *@to in frame_get from now on; the old frame is yours
	 * again. May be NULL if umbra_remap() is never called.
	 */
	void (*frame_move)(void *ctx, umbra_gfn gfn, const struct umbra_frame *to);

	/*
	 * Make the named vcpus forget before returning: those that run leave the guest, flush,
	 * and ask umbra_vcpu_root() before they enter again; for the calling vcpu and those that do
	 * not run, a flush at the next entry is enough. Called at most once per operation, save
	 * that an operation which first had to reclaim shadow pages, or to write-protect a table
	 * before reading it, flushes for that too.
	 */
	void (*flush)(void *ctx, const struct umbra_flush *flush);

	/*
	 * May be NULL. The library read @value from what guest or hardware writes by themselves,
	 * and goes on with what this returns; or has just set accessed or dirty bits in a guest's
	 * word, which is @value now. A recorder notes @value and returns it. A replayer returns
	 * what was noted, and has it in its guest memory at @key then. With what the functions here
	 * were asked and what frame_get answered, that is all that the MMU's state depends on.
	 */
	uint64_t (*input)(void *ctx, enum umbra_input kind, uint64_t key, uint64_t value);

	/*
	 * The guest touches a page that umbra_watch() was called for, in a way that was armed; it
	 * is armed no more. May be NULL if umbra_watch() is never called.
	 */
	void (*touched)(void *ctx, const struct umbra_touch *touch);
};

/* ------------------------------------------------------------------ the MMU */

#define UMBRA_VCPUS_MAX 64u
#define UMBRA_QUOTA_MAX (1u << 21)

/*
 * With so many shadow pages a vcpu gets on, whatever its guest executes: an instruction touches at
 * most 12 pages (a far call through a gate: code, operand, gate, code segment descriptor, task
 * state segment and new stack, each across a page's border), each by 4 tables of its own below
 * one root, and a fault wants 5 shadow pages at hand. With less, those that the instruction's last
 * page needs could push out those of its first, for ever. Several vcpus are sure to get on with
 * so many for each; with less they may have to wait for one another.
 */
#define UMBRA_QUOTA_MIN 54u

struct umbra_config {
	uint32_t shadow_quota; /* shadow pages (4 KiB each, + 2 KiB of back-references) in use
				  at most: UMBRA_QUOTA_MIN..UMBRA_QUOTA_MAX */
	uint32_t prefetch;     /* neighbours mapped along with a faulting page: 0..64 */
	uint8_t maxphyaddr;    /* guest-physical address bits: 32..52 */
	uint8_t nested; /* 0: shadow paging. 4 or 5: nested paging (AMD64 APM vol. 2 §15.25), with
			   tables of so many levels; 4: maxphyaddr is 48 at most */
	uint16_t without; /* enum umbra_without, or-ed: to compare; 0 in use */
	uint32_t cpu;     /* enum umbra_cpu, or-ed: what the guest's processor is like */
};

/* What an MMU can do without. */
enum umbra_without {
	UMBRA_WITHOUT_UNSYNC = 1,   /* every write to a guest's table is UMBRA_EMULATE */
	UMBRA_WITHOUT_ACCESSED = 2, /* hardware sets no accessed bits: umbra_age() */
};

/* Where processors differ. */
enum umbra_cpu {
	UMBRA_CPU_AMD =
	    1, /* bit 8 of PML5E, PML4E and of a PDPE that leads to a table is reserved */
	UMBRA_CPU_NO_1G = 2,    /* CPUID has no 1 GiB pages: bit 7 of a PDPE is reserved */
	UMBRA_CPU_NO_PSE36 = 4, /* CPUID has no PSE-36: bits 21:13 of a 4 MiB PDE are reserved */
};

/*
 * Make an MMU without slots and vcpus. @host is copied; @ctx is passed to its functions.
 * UMBRA_EINVAL: @config out of range or a host function missing. UMBRA_ENOMEM.
 */
int umbra_mmu_create(const struct umbra_host *host, void *ctx, const struct umbra_config *config,
		     struct umbra_mmu **mmu);

/* Return all memory to the host. No vcpu of it may run; its vcpus go with it. */
void umbra_mmu_destroy(struct umbra_mmu *mmu);

/*
 * Change the quota to @pages (range as in struct umbra_config). Shadow pages beyond it are
 * reclaimed, least recently used first, before the function returns; pages that a vcpu's
 * root needs stay. UMBRA_EINVAL. UMBRA_ENOMEM: only where @pages is more than ever before.
 */
int umbra_quota_set(struct umbra_mmu *mmu, uint32_t pages);

/* ------------------------------------------------------------------ slots */

#define UMBRA_SLOTS_MAX 64u

enum umbra_slot_flags {
	UMBRA_SLOT_READONLY = 1, /* guest writes there are UMBRA_MMIO */
};

struct umbra_slot {
	uint32_t id; /* the embedder's name for it */
	uint32_t flags;
	umbra_gfn first;
	uint64_t pages; /* 1..2^28 (1 TiB) */
};

/*
 * From now on gfns first..first+pages-1 are memory. UMBRA_EINVAL: range empty, beyond
 * maxphyaddr, unknown flag. UMBRA_EEXIST: overlaps a slot, id taken, or UMBRA_SLOTS_MAX are
 * there. UMBRA_ENOMEM.
 */
int umbra_slot_add(struct umbra_mmu *mmu, const struct umbra_slot *slot);

/*
 * Slot @id has @flags from now on. What is mapped stays mapped, but for the right to write where
 * that is gone: no other slot is touched, and nothing faults that need not. The lock is given up
 * now and then, as in umbra_write_protect(). UMBRA_ENOENT: no such slot. UMBRA_EINVAL: unknown
 * flag.
 */
int umbra_slot_flags_set(struct umbra_mmu *mmu, uint32_t id, uint32_t flags);

/*
 * Drop every mapping of the slot, zap what it backed, flush once, forget it. Other slots stay as
 * they are. The lock is given up now and then; meanwhile nobody else finds the slot by @id, and
 * faults there are UMBRA_RETRY. UMBRA_ENOENT.
 */
int umbra_slot_delete(struct umbra_mmu *mmu, uint32_t id);

/*
 * Slot @id begins at @first from now on, and is no memory any more where it was: a device's memory
 * that the guest moves (a PCI BAR). What maps it goes, and what shadows tables in its old and new
 * place, with one flush; other slots stay as they are. host.frame_get is asked by the new gfns. The
 * dirty log's bits move along, watches go. The places may overlap. The lock is given up as in
 * umbra_slot_delete(). UMBRA_ENOENT: no such slot. UMBRA_EINVAL: beyond maxphyaddr. UMBRA_EEXIST:
 * another slot is there. UMBRA_ENOMEM.
 */
int umbra_slot_move(struct umbra_mmu *mmu, uint32_t id, umbra_gfn first);

/* ------------------------------------------------------------------ vcpus */

/* Make a vcpu, paging off, CR3 = 0. @number: 0..UMBRA_VCPUS_MAX-1. UMBRA_EINVAL, _EEXIST, _ENOMEM.
 */
int umbra_vcpu_create(struct umbra_mmu *mmu, uint32_t number, struct umbra_vcpu **vcpu);

/* It must not run. */
void umbra_vcpu_destroy(struct umbra_vcpu *vcpu);

/* The guest's own control registers (AMD64 APM vol. 2 §3.1), not the hardware's. */
struct umbra_paging {
	uint64_t cr0;
	uint64_t cr3; /* as the guest wrote it: bit 63, with CR4.PCIDE, is "flush nothing" */
	uint64_t cr4;
	uint64_t efer;
};

/*
 * The guest wrote CR3 (the same value too: that flushes), or changed a bit of CR0, CR4 or EFER
 * that paging depends on: PG, WP; PSE, PAE, PGE, SMEP, SMAP, LA57, PCIDE, PKE, PKS; LME, LMA, NXE.
 * The guest's page tables are synchronised as a TLB flush demands (APM vol. 2 §5.5.2; Intel SDM
 * vol. 3 §4.10.4.1 for PCIDs), and the vcpu's TLB is named for flushing.
 *
 * Every mode: paging off, 32-bit (with and without PSE), PAE, 4 and 5 levels. With PAE paging the
 * four PDPTEs are loaded where the processor would (SDM vol. 3 §4.4.1): when nothing but CR3 was
 * written, or when CR0.PG or CR4.PAE, PGE, PSE or SMEP changed.
 *
 * UMBRA_EPDPTE: one of them is bad; inject #GP(0). UMBRA_EAGAIN, UMBRA_ENOMEM: their frame cannot
 * be had now. UMBRA_EINVAL: the registers contradict one another (with PG: LMA without LME or PAE,
 * LME without LMA; PCIDE outside of long mode). Reserved bits of the registers are the
 * embedder's to refuse (#GP) before.
 */
int umbra_vcpu_set_paging(struct umbra_vcpu *vcpu, const struct umbra_paging *paging);

/*
 * The guest's protection key registers (SDM vol. 3 §4.6.2), which it changes without an exit: to be
 * told before umbra_fault() and umbra_translate() while CR4.PKE or CR4.PKS is set. 0 at first.
 */
void umbra_vcpu_set_keys(struct umbra_vcpu *vcpu, uint32_t pkru, uint32_t pkrs);

/* What the hardware needs to know to run the vcpu. */
struct umbra_root {
	uint64_t hpa;    /* for CR3 (nested paging: for nCR3); bits 11:0 clear */
	unsigned levels; /* 4, 5: of the tables; EFER.LME = LMA = 1, and CR4.LA57 for 5. 3: the
			    guest is not in long mode; a PAE root below 4 GiB, EFER.LME = LMA = 0 */
};

/*
 * The root to enter the guest with; ask before each entry, since any call may have recycled
 * the last one. From asking until its next exit a vcpu counts as running: check, with interrupts
 * off, that host.flush has not named it since, else ask again. Fast when nothing changed.
 * UMBRA_ENOMEM: no memory for a root page.
 */
int umbra_vcpu_root(struct umbra_vcpu *vcpu, struct umbra_root *root);

/* Page-fault error code bits (AMD64 APM vol. 2 §8.4.2), and one of umbra's. */
enum umbra_pf {
	UMBRA_PF_P = 1u << 0, /* the translation was present: a rights violation */
	UMBRA_PF_W = 1u << 1,
	UMBRA_PF_U = 1u << 2,    /* CPL 3 */
	UMBRA_PF_RSVD = 1u << 3, /* a reserved bit was set */
	UMBRA_PF_I = 1u << 4,    /* instruction fetch */
	UMBRA_PF_PK = 1u << 5,   /* a protection key forbids it */
	UMBRA_PF_AC = 1u << 31,  /* input only: EFLAGS.AC was 1 (SMAP, APM vol. 2 §5.6.6) */
};

enum umbra_verdict {
	UMBRA_RESUME,  /* mapped: enter the guest again, same instruction */
	UMBRA_INJECT,  /* the guest's own fault: inject #PF with .error_code, CR2 = the gva */
	UMBRA_MMIO,    /* .gpa lies in no slot (or: a write to a read-only one): emulate it */
	UMBRA_EMULATE, /* a write that must not go through by itself, to a tracked guest table
			  at .gpa (or, with CR0.WP = 0, one that hardware with WP = 1 cannot be
			  made to let pass: to a read-only user page under SMAP or protection keys,
			  or against a key's WD): emulate the instruction, then
			  umbra_guest_write(); or, for a table, umbra_unprotect() and enter again */
	UMBRA_RETRY,   /* the host said UMBRA_EAGAIN, or is taking the page away at this moment:
			  enter again later */
	UMBRA_NOMEM,   /* memory is short: free some, then enter again */
};

struct umbra_answer {
	enum umbra_verdict verdict;
	uint32_t error_code; /* UMBRA_INJECT */
	uint64_t gpa;        /* UMBRA_MMIO, UMBRA_EMULATE; umbra_translate: also on UMBRA_RESUME */
	bool own_table;      /* UMBRA_EMULATE: the write goes through the table that it writes to,
				so it would be back after umbra_unprotect() */
};

/*
 * The hardware raised #PF at @gva. Of @error_code only W, U, I and UMBRA_PF_AC are used: P
 * and RSVD describe the shadow tables and are worked out anew from the guest's. Never fails:
 * trouble is a verdict. Sets accessed and dirty bits in the guest's tables as the processor
 * would (APM vol. 2 §5.4.2). A non-canonical @gva does not page-fault in hardware; if given,
 * it is answered by UMBRA_INJECT.
 */
struct umbra_answer umbra_fault(struct umbra_vcpu *vcpu, uint64_t gva, uint32_t error_code);

/*
 * Translate @gva for an access of the kind @error_code (W, U, I, UMBRA_PF_AC) as the guest's
 * processor would, accessed and dirty bits included, without touching shadow tables: for
 * instruction emulators. UMBRA_RESUME: .gpa is in a slot; UMBRA_INJECT; UMBRA_MMIO; or, when
 * the frame of a guest table cannot be had now, UMBRA_RETRY or UMBRA_NOMEM.
 */
struct umbra_answer umbra_translate(struct umbra_vcpu *vcpu, uint64_t gva, uint32_t error_code);

/*
 * @len bytes at @gpa were written on the guest's behalf (they are in memory already; @len
 * 0..4096, not crossing a page). Shadow pages of that guest table follow. Cheap for pages
 * that are not tables. UMBRA_EINVAL: @len.
 */
int umbra_guest_write(struct umbra_mmu *mmu, uint64_t gpa, size_t len);

/*
 * Stop shadowing the guest table at @gfn, so that the guest may write it directly: the way
 * out when an instruction cannot be emulated. Returns the number of shadow pages zapped; 0
 * means that writes to @gfn are not tracked (and entering again will not help). Nor will it, though
 * pages are zapped each time, where the instruction itself needs the table: an upper table on the
 * way to the address it writes (umbra_answer.own_table says so: tables that map themselves, and any
 * write to the root in use), to its code, its stack or another operand. Such an instruction must be
 * emulated, or the guest given up; the same UMBRA_EMULATE at the same instruction tells it.
 */
size_t umbra_unprotect(struct umbra_mmu *mmu, umbra_gfn gfn);

/* The guest executed INVLPG @gva (APM vol. 2 §5.5.2). */
void umbra_invlpg(struct umbra_vcpu *vcpu, uint64_t gva);

/* Types of INVPCID (SDM vol. 2, INVPCID). */
enum umbra_invpcid {
	UMBRA_INVPCID_ADDRESS,
	UMBRA_INVPCID_PCID,
	UMBRA_INVPCID_ALL_GLOBAL, /* global translations too */
	UMBRA_INVPCID_ALL,
};

/*
 * The guest executed INVPCID. @pcid and @gva are of the descriptor; what the type does not use is
 * ignored. UMBRA_EINVAL: unknown type; @pcid above 4095, whatever the type; @gva not canonical; a
 * @pcid other than 0 without CR4.PCIDE. Then the instruction raises #GP(0).
 */
int umbra_invpcid(struct umbra_vcpu *vcpu, enum umbra_invpcid type, uint16_t pcid, uint64_t gva);

/* ------------------------------------------------------------------ host operations */

/* What was taken away. */
struct umbra_dropped {
	uint64_t sptes; /* mappings */
	bool accessed;  /* some of them may have been used */
	bool dirty;     /* some of them may have been written through */
};

/*
 * Take away every mapping of @pages pages from @first on, then flush once. On return nothing
 * reaches their frames; the guest's next access faults and asks host.frame_get again. If their
 * contents will not come back as they were, say so with umbra_guest_write(): one of them may
 * be a guest table. gfns outside slots are skipped. The lock is given up now and then, however
 * many mappings there are; faults on the range are UMBRA_RETRY until the function returns.
 * @dropped may be NULL. UMBRA_EINVAL: the range wraps around.
 */
int umbra_drop(struct umbra_mmu *mmu, umbra_gfn first, uint64_t pages,
	       struct umbra_dropped *dropped);

/* gfns first..first+pages-1. */
struct umbra_range {
	umbra_gfn first;
	uint64_t pages;
};

/*
 * The same in pieces, for an embedder that has other things to do in between: take away about
 * @budget mappings (at least one, at most 29 more than asked for), flush, and set *@range to
 * what is left; .pages == 0: all done. What is left may still be mapped in part, and what is done
 * may be mapped anew unless host.frame_get answers UMBRA_EAGAIN for it. @dropped (may be NULL)
 * tells of this piece. UMBRA_EINVAL: @budget is 0 or the range wraps around.
 */
int umbra_drop_some(struct umbra_mmu *mmu, struct umbra_range *range, uint64_t budget,
		    struct umbra_dropped *dropped);

/*
 * Take the right to write from every mapping of @pages pages from @first on, then flush once. On
 * return nothing writes to them unnoticed: the guest's next write faults, and host.frame_get is
 * asked with UMBRA_WANT_WRITE. (For a log of dirty pages; or to share a frame, which host.frame_get
 * may call not writable from now on.) gfns outside slots are skipped. @sptes (may be NULL): how
 * many were writable. The lock is given up now and then; faults on the range are UMBRA_RETRY until
 * the function returns. UMBRA_EINVAL: the range wraps around.
 */
int umbra_write_protect(struct umbra_mmu *mmu, umbra_gfn first, uint64_t pages, uint64_t *sptes);

/*
 * Take away every mapping that maps some of @pages pages from @first on by more than 4 KiB, then
 * flush once. (What stood around the range in such a mapping goes with it.) Faults map in 4 KiB
 * where host.frame_get answers level 1 from now on; else they may map large again. *@sptes (may be
 * NULL): how many went. The lock is given up now and then; faults on the range are UMBRA_RETRY
 * until the function returns. gfns outside slots are skipped. UMBRA_EINVAL: the range wraps around.
 */
int umbra_split(struct umbra_mmu *mmu, umbra_gfn first, uint64_t pages, uint64_t *sptes);

/* A range that the host is changing: memory of the embedder's, of which only umbra makes sense. */
struct umbra_invalidation {
	uint64_t opaque[4];
};

/*
 * umbra_drop() in two halves, for a host whose change takes a while (a page is swapped out, a file
 * truncated): from the first to the second, nothing reaches @pages pages from @first on, and faults
 * there are UMBRA_RETRY, so none can map what is about to be void. @invalidation is umbra's in
 * between, and must stay where it is. Ranges may overlap; both must have ended. @dropped may be
 * NULL. UMBRA_EINVAL: the range wraps around; then nothing has begun.
 */
int umbra_invalidate_begin(struct umbra_mmu *mmu, umbra_gfn first, uint64_t pages,
			   struct umbra_invalidation *invalidation, struct umbra_dropped *dropped);
void umbra_invalidate_end(struct umbra_mmu *mmu, struct umbra_invalidation *invalidation);

/*
 * umbra_invalidate_begin() for several ranges with one flush between them: on return the range's
 * mappings are gone and faults there are UMBRA_RETRY, but TLBs may still lead to its frames until
 * umbra_flush() (or any flush of everything on every vcpu) returns: only then change, copy or reuse
 * them. umbra_invalidate_end() flushes if nobody has.
 */
int umbra_invalidate_gather(struct umbra_mmu *mmu, umbra_gfn first, uint64_t pages,
			    struct umbra_invalidation *invalidation, struct umbra_dropped *dropped);

/* Flush what was gathered, once; nothing was: host.flush is not called. */
void umbra_flush(struct umbra_mmu *mmu);

/*
 * Give @gfn another frame: drop every mapping of it in one pass, flush once, let host.frame_move
 * take *@to over. To migrate a page @to->writable is true; to merge it with others of the same
 * contents, false. @to->level 0 or 1: one page. 2: the 512 pages from @gfn on come to lie side by
 * side from @to->pfn on, both multiples of 512, and frame_move is called for each (@to->pfn its
 * own); where guests map 2 MiB, so do we then (a collapse). As with umbra_drop, faults there are
 * UMBRA_RETRY until all is done, the lock is given up now and then, and @dropped may be NULL.
 * UMBRA_ENOENT: not all of it is in one slot, or its slot went meanwhile (then the first pages of a
 * collapse may have moved). UMBRA_EINVAL: no host.frame_move, @to->pfn is not
 * below 2^40, another level, or not aligned to it.
 */
int umbra_remap(struct umbra_mmu *mmu, umbra_gfn gfn, const struct umbra_frame *to,
		struct umbra_dropped *dropped);

enum umbra_log {
	UMBRA_LOG_SPLIT =
	    1, /* large mappings are broken up at once; else each when it is written */
	UMBRA_LOG_DIRTY_BITS = 2, /* by the D bits that hardware sets in sptes, in place of
				     write-protecting: writes do not fault, collecting looks at
				     every writable mapping of the range */
};

/*
 * Log which pages of slot @id are written from when this returns. Its pages are write-protected; a
 * write then faults once (host.frame_get with UMBRA_WANT_WRITE), and is mapped in 4 KiB. With
 * UMBRA_LOG_DIRTY_BITS pages of 4 KiB stay writable and lose their D bits instead. What the
 * embedder writes counts if it tells (umbra_guest_write). Nothing is dirty at first. The lock is
 * given up after every 1024 mappings or so. UMBRA_ENOENT: no such slot, or it is going.
 * UMBRA_EEXIST: it is logged. UMBRA_ENOMEM. UMBRA_EINVAL: unknown flag; UMBRA_LOG_DIRTY_BITS with
 * UMBRA_WITHOUT_ACCESSED, where hardware sets no such bits.
 */
int umbra_log_start(struct umbra_mmu *mmu, uint32_t id, unsigned flags);

/*
 * Which of @pages pages from @first on were written since they were last collected? Bit i % 64 of
 * @dirty[i / 64] is set for first + i, or cleared. On return their next write will be seen. Pages
 * of slots that are not logged are clean. The lock is given up every 2 MiB and
 * after 1024 mappings or so; a page whose mappings are more than that is held (UMBRA_RETRY) until
 * done. UMBRA_EINVAL: the range wraps around.
 */
int umbra_log_collect(struct umbra_mmu *mmu, umbra_gfn first, uint64_t pages, uint64_t *dirty);

/*
 * The same for those of the 64 pages from @first on that @mask names: one word, one flush.
 * UMBRA_ENOENT: @first is in no logged slot. UMBRA_EINVAL: it is no multiple of 64 pages behind the
 * slot's first.
 */
int umbra_log_collect_word(struct umbra_mmu *mmu, umbra_gfn first, uint64_t mask, uint64_t *dirty);

/* Log no more; what is write-protected becomes writable as it is written. UMBRA_ENOENT: not logged.
 */
int umbra_log_stop(struct umbra_mmu *mmu, uint32_t id);

enum umbra_age {
	UMBRA_AGE_TEST = 1, /* leave what is found as it is */
};

/*
 * Which of @pages pages from @first on did the guest use since they were last asked about? Bit i %
 * 64 of
 * @young[i / 64] is set for first + i, or cleared. A large mapping is used as a whole, and is asked
 * once for all of its pages in the range. Without UMBRA_AGE_TEST (@flags) the question is answered
 * anew next time: accessed bits are cleared, by reverse map; TLBs are not flushed, so a page that
 * is used through one all the time may look idle for a while. With UMBRA_WITHOUT_ACCESSED there are
 * no such bits to go by: what is mapped was used, and asking takes the mappings away and flushes.
 * What is not mapped any more, because the guest or the quota took its tables, counts as idle until
 * it faults again. The lock is given up as in umbra_log_collect(). gfns outside slots are idle.
 * UMBRA_EINVAL: the range wraps around, unknown flag.
 */
int umbra_age(struct umbra_mmu *mmu, umbra_gfn first, uint64_t pages, unsigned flags,
	      uint64_t *young);

#define UMBRA_WATCHES_MAX 1024u

/*
 * Tell host.touched of the guest's first access to @gfn of each kind in @kinds (enum umbra_watch,
 * or-ed) from now on; kinds that are not in it are not watched any more, 0: none is. A kind is told
 * once, then the access goes on, and umbra_watch() arms it anew. Accesses are those that
 * umbra_fault() lets through or has emulated (UMBRA_RESUME, UMBRA_EMULATE) and those of
 * umbra_translate(): not the processor's walks of page tables, nor what the embedder does by itself
 * (umbra_guest_write). A write touches W and R, a fetch X and R. Neighbours of the page are mapped
 * in 4 KiB while it is watched; nothing else gets slower. A watch goes with its slot, when that is
 * deleted or moves away.
 *
 * UMBRA_ENOENT: @gfn is in no slot. UMBRA_EINVAL: unknown kind, no host.touched. UMBRA_ENOMEM:
 * there are UMBRA_WATCHES_MAX pages with watches.
 */
int umbra_watch(struct umbra_mmu *mmu, umbra_gfn gfn, unsigned kinds);

/* Zap every shadow page, flush once. Everything comes back by faults. */
void umbra_zap_all(struct umbra_mmu *mmu);

/* ------------------------------------------------------------------ looking in */

/* How many sptes map @gfn, over all page sizes; O(1). UMBRA_ENOENT: in no slot. */
int umbra_rmap_count(struct umbra_mmu *mmu, umbra_gfn gfn, uint64_t *sptes);

/* One way from a root to an spte. */
struct umbra_mapping {
	umbra_gfn gfn;    /* the first one that the spte maps */
	uint64_t gva;     /* of its first byte; with nested paging: the gpa */
	uint64_t root;    /* the address space: gpa of the table that CR3 leads to; 0: paging is off
			     or nested; UMBRA_NO_ROOT: no root leads here now */
	uint64_t spte;    /* its value: P, W, U, NX, PS as hardware reads them */
	uint32_t table;   /* number of the shadow page it stands in, */
	uint16_t index;   /*   and which of its 512 */
	uint8_t level;    /* 1: 4 KiB, 2: 2 MiB, 3: 1 GiB */
	uint8_t gva_bits; /* so many of .gva's low bits are known: fewer than an address has only
			     with UMBRA_NO_ROOT */
};
#define UMBRA_NO_ROOT UINT64_MAX

/*
 * Call @each for every spte that maps @gfn, large ones too, and each gva that it is at: more than
 * umbra_rmap_count() says where a table is shared (and once for each vcpu, with PAE paging). @each
 * is called with the lock held (it must not call umbra_*), and returns false when it has seen
 * enough. UMBRA_ENOENT: @gfn is in no slot.
 */
int umbra_rmap_visit(struct umbra_mmu *mmu, umbra_gfn gfn,
		     bool (*each)(void *ctx, const struct umbra_mapping *mapping), void *ctx);

/* The slots there are, by their first gfn, into @slots; returns how many. */
size_t umbra_slots_get(struct umbra_mmu *mmu, struct umbra_slot slots[UMBRA_SLOTS_MAX]);

/* The guest's paging modes, as shadow pages differ by them. */
enum umbra_mode {
	UMBRA_MODE_OFF,
	UMBRA_MODE_32,  /* CR4.PSE = 0 */
	UMBRA_MODE_PSE, /* the same with 4 MiB pages */
	UMBRA_MODE_PAE,
	UMBRA_MODE_4,
	UMBRA_MODE_5,
};

/* A shadow page. */
struct umbra_table {
	uint32_t number;
	uint32_t role; /* all that tells it from others of its gfn; bits as in core/mmu.h */
	umbra_gfn gfn; /* the guest's table behind it; .direct: what it maps first */
	uint64_t hpa;
	uint8_t level;    /* 1..5 */
	uint8_t mode;     /* enum umbra_mode */
	uint8_t quadrant; /* which part of a 32-bit table */
	uint8_t access;   /* what the levels above leave: 1 write, 2 user, 4 execute */
	bool direct;
	bool unsync;      /* the guest may be writing its table now */
	uint16_t roots;   /* vcpus that have it as their root */
	uint16_t sptes;   /* present */
	uint64_t parents; /* entries that lead to it */
};

/* Call @each for every shadow page in use, as umbra_rmap_visit() does. */
void umbra_tables_visit(struct umbra_mmu *mmu,
			bool (*each)(void *ctx, const struct umbra_table *table), void *ctx);

/* An entry of a table, on the way to a gva. */
struct umbra_view_entry {
	uint64_t address; /* gpa of the guest's, hpa of ours */
	uint64_t value;
	uint32_t table; /* ours: number of its shadow page */
	bool missing;   /* the guest's: not in memory that can be read now */
	bool unsync;    /* ours */
};

/* What stands in the tables for one gva; entries by level, from .._top down to .._end. */
struct umbra_view {
	uint8_t mode; /* enum umbra_mode */
	uint8_t nested;
	uint8_t guest_top, guest_end;   /* 0: no tables (paging is off; nested paging) */
	uint8_t shadow_top, shadow_end; /* .shadow_end 0: there is no root now */
	uint64_t cr3;
	struct umbra_view_entry guest[6], shadow[6];
};

/*
 * Look at the guest's tables and ours for @gva (nested paging: ours only, for a gpa), under the
 * vcpu's registers; changes nothing. UMBRA_EINVAL: @gva is not canonical.
 */
int umbra_view(struct umbra_vcpu *vcpu, uint64_t gva, struct umbra_view *view);

#define UMBRA_HISTOGRAM 32u

struct umbra_stats {
	uint64_t faults;       /* umbra_fault calls, */
	uint64_t verdicts[6];  /*   by enum umbra_verdict */
	uint64_t shadow_pages; /* in use now */
	uint64_t shadow_pages_peak;
	uint64_t shadow_pages_unsync;
	uint64_t shadow_created;
	uint64_t shadow_zapped;
	uint64_t shadow_reclaimed; /* of these, by the quota */
	uint64_t shadow_flooded;   /* of these, by too many writes */
	uint64_t sptes;            /* leaf sptes present now, */
	uint64_t sptes_large[2];   /*   of these, of 2 MiB and of 1 GiB */
	uint64_t sptes_added;
	uint64_t sptes_removed; /* one by one */
	uint64_t sptes_dropped; /* by whole chains */
	uint64_t prefetched;
	uint64_t mmio_cached;   /* faults told from a cached MMIO spte */
	uint64_t longest_chain; /* ever */
	uint64_t descs;         /* rmap descriptors in use now, in units of 64 bytes */
	uint64_t guest_writes;  /* umbra_guest_write calls that hit a table */
	uint64_t unsyncs;
	uint64_t syncs;      /* tables synchronised */
	uint64_t root_loads; /* umbra_vcpu_set_paging calls */
	uint64_t root_kept;  /*   of these, that had nothing to synchronise: a cached PCID */
	uint64_t invlpgs;
	uint64_t remaps;
	uint64_t flushes; /* host.flush calls */
	uint64_t zap_alls;
	/*
	 * Chains of gfns by length now: [0] counts length 1, [k] lengths 2^k..2^(k+1)-1.
	 * Counted by walking all heads: umbra_stats_get is not for hot paths.
	 */
	uint64_t rmap_histogram[UMBRA_HISTOGRAM];
};

void umbra_stats_get(struct umbra_mmu *mmu, struct umbra_stats *stats);

/*
 * A number for the whole state: what every shadow page is and maps, the lengths of all chains,
 * slots, vcpus and counters. Two MMUs that were asked the same and were answered the same, host
 * addresses included, have the same one, whatever compiler made them; accessed and dirty bits that
 * hardware set do not count. Slow, like the audit.
 */
uint64_t umbra_state_hash(struct umbra_mmu *mmu);

struct umbra_audit {
	uint64_t checks;     /* entries, pages and chains looked at */
	uint64_t violations; /* 0, or umbra has a bug */
	uint32_t invariant; /* of the first violation: its number in docs/architecture.md; else 0 */
	uint64_t gfn;       /* where */
	uint64_t spte;      /* what stood there */
	const char *what;   /* one sentence, or NULL; static */
};

/*
 * Check every invariant against a full walk. Slow. Not while a write to a guest table waits to be
 * told by umbra_guest_write(): table and shadow differ until then. Returns report->violations.
 */
uint64_t umbra_audit(struct umbra_mmu *mmu, struct umbra_audit *report);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
