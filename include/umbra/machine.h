/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The machine page: what the hypervisor (vmm/) and the `umbra` command (cli/) say to each
 * other, and the control ports through which a guest's workload talks to the hypervisor.
 *
 * The machine's RAM is a file that the command has mapped. The hypervisor's image places a
 * struct umbra_machine for each guest at UMBRA_MACHINE_ADDRESS (machine-physical, = offset in that
 * file), UMBRA_MACHINE_STRIDE bytes apart; what is of the machine as a whole stands in the first.
 * Each field has one writer, named in its comment. All fields are little-endian.
 */
#ifndef UMBRA_MACHINE_H
#define UMBRA_MACHINE_H

#include <stdint.h>
#include <umbra/trace.h>
#include <umbra/umbra.h>

#define UMBRA_MACHINE_ADDRESS 0x200000u
#define UMBRA_MACHINE_MAGIC   0x3165676170786d75ull /* "umxpage1" */
#define UMBRA_MACHINE_VERSION 7u

enum umbra_phase {
	UMBRA_PHASE_OFF,   /* the image has not run yet */
	UMBRA_PHASE_START, /* the hypervisor sets itself up */
	UMBRA_PHASE_BOOT,  /* the guest runs, init has not said anything */
	UMBRA_PHASE_INIT,  /* init runs (UMBRA_CTL_INIT) */
	UMBRA_PHASE_ENDED, /* .end is valid; the machine stops */
};

/*
 * Why the guest, or the machine, stopped. The machine's is also the value written to the exit port
 * 0xf4 (QEMU's isa-debug-exit then exits with value * 2 + 1). The `umbra run` exit status for each
 * is in umbra(1).
 */
enum umbra_end {
	UMBRA_END_NONE = 0,
	UMBRA_END_POWEROFF = 1, /* UMBRA_CTL_POWEROFF, or HLT with interrupts off */
	UMBRA_END_REBOOT = 2,   /* the guest asked for a reset (keyboard controller, port 0xcf9) */
	UMBRA_END_TRIPLE_FAULT = 3, /* SHUTDOWN */
	UMBRA_END_UNMAPPED = 4,     /* the guest ran code where there is no memory */
	UMBRA_END_EMULATE = 5,      /* an instruction that the hypervisor cannot emulate */
	UMBRA_END_NOMEM = 6,        /* frames or shadow memory ran out */
	UMBRA_END_AUDIT = 7,        /* an audit found a violation */
	UMBRA_END_IMAGE = 8,        /* the kernel or initrd cannot be loaded */
	UMBRA_END_NO_SVM = 9,       /* the processor has no SVM */
	UMBRA_END_PANIC = 10,       /* the hypervisor's own exception or assertion */
	UMBRA_END_COMMAND = 11,     /* UMBRA_COMMAND_STOP */
	UMBRA_END_GUEST = 12,       /* the guest wrote the exit port; .guest_status */
	UMBRA_END_BREACH = 13,      /* memory that is not the guest's was written */
	UMBRA_END_SWAP = 14,        /* a page that was swapped out did not come back as it was */
};

/*
 * Requests of the command to the hypervisor (.command, with .argument). They are seen between two
 * guest entries. .result is then 0 or a UMBRA_E*, and .answers things of the named type stand at
 * .answer.
 */
enum umbra_command {
	UMBRA_COMMAND_NONE,
	UMBRA_COMMAND_STATS,  /* refresh .mmu */
	UMBRA_COMMAND_STOP,   /* end with UMBRA_END_COMMAND */
	UMBRA_COMMAND_RMAP,   /* gfn, how many to leave out: struct umbra_mapping, as many as fit */
	UMBRA_COMMAND_VIEW,   /* gva: one struct umbra_view */
	UMBRA_COMMAND_RECORD, /* from now on everything goes into .ring. The MMU starts anew: all
				 that was mapped comes back by faults */
	UMBRA_COMMAND_RECORD_END,

	/*
	 * What a host does to guest memory. Answers are 64-bit numbers, in the order given here. A
	 * range of gfns: UMBRA_EINVAL if it is empty or goes beyond UMBRA_GFN_END, UMBRA_ENOENT if
	 * none of it is memory. Rates and counts: umbra_command_most().
	 */
	UMBRA_COMMAND_DROP,    /* gfn, pages: sptes, were some accessed, dirty */
	UMBRA_COMMAND_PROTECT, /* gfn, pages: sptes */
	UMBRA_COMMAND_SPLIT,   /* gfn, pages: large sptes */
	UMBRA_COMMAND_MIGRATE, /* how many random pages: moved, sptes */
	UMBRA_COMMAND_STORM,   /* migrations of random pages a second; 0: off */
	UMBRA_COMMAND_MERGE, /* pages a second that are looked at, to be shared; 0: off: pages saved
				now, frames that are shared, pages that share them */
	UMBRA_COMMAND_COMPACT, /* frames moved a second, for blocks of 2 MiB; 0: off: blocks built,
				  frames moved, 2 MiB collapsed, broken */
	UMBRA_COMMAND_ZAP,     /* */
	UMBRA_COMMAND_QUOTA, /* shadow pages; 0: what the machine started with, which is the most */
	UMBRA_COMMAND_AUDIT, /* violations */
	UMBRA_COMMAND_AGE,   /* pages used since the last time, with a frame, in all */

	UMBRA_COMMAND_LOG_START,   /* enum umbra_log, or-ed */
	UMBRA_COMMAND_LOG_COLLECT, /* pages written since the last time. UMBRA_EAGAIN: a slot came
				      since, so that it does not tell all */
	UMBRA_COMMAND_LOG_STOP,

	UMBRA_COMMAND_SLOTS,       /* for each: id, first gfn, pages, is read-only, is there */
	UMBRA_COMMAND_SLOT_DELETE, /* id */
	UMBRA_COMMAND_SLOT_ADD,    /* id, of one that was deleted: contents are what they were */
	UMBRA_COMMAND_SLOT_RENEW,  /* id: both, one after the other */
	UMBRA_COMMAND_SLOT_FLAGS,  /* id, enum umbra_slot_flags */

	UMBRA_COMMAND_WATCH,       /* gfn, enum umbra_watch or-ed; 0: no more */
	UMBRA_COMMAND_WATCH_CLEAR, /* watch nothing */
	UMBRA_COMMAND_WATCHES,     /* for each: gfn, kinds, reads, writes, fetches that were seen */
	UMBRA_COMMAND_TOUCHES,     /* the last ones, oldest first, for each: microseconds since the
				      machine began, gfn, kinds, rip, gva */

	UMBRA_COMMAND_SWAP, /* the numbers of struct umbra_swap, in its order, but microseconds in
			       place of ticks; and how many of those a fault took on average */
	UMBRA_COMMAND_RECLAIM, /* how many cold pages to swap out now, of all guests: frames that
				  became free, of these of pages of zeros, frames that are free */
	UMBRA_COMMANDS,
};

#define UMBRA_ANSWER_BYTES (64u << 10)

/* Pages at a time, and pages or frames a second; umbra_command_most() has them by command. */
#define UMBRA_MIGRATE_MAX      65536u
#define UMBRA_RECLAIM_MAX      65536u
#define UMBRA_STORM_RATE_MAX   1000000u
#define UMBRA_MERGE_RATE_MAX   1000000u
#define UMBRA_COMPACT_RATE_MAX 1000000u

#define UMBRA_WATCHED_MAX 64u /* pages of a guest, by UMBRA_COMMAND_WATCH */

/* Guest-physical addresses have so many bits: every gfn is below UMBRA_GFN_END. */
#define UMBRA_GPA_BITS 40u
#define UMBRA_GFN_END  (1ull << (UMBRA_GPA_BITS - UMBRA_PAGE_SHIFT))

/* The most that a command's first argument may be; the hypervisor refuses more (UMBRA_EINVAL). */
static inline uint64_t umbra_command_most(uint32_t command)
{
	static const uint32_t most[UMBRA_COMMANDS] = {
	    [UMBRA_COMMAND_MIGRATE] = UMBRA_MIGRATE_MAX,
	    [UMBRA_COMMAND_STORM] = UMBRA_STORM_RATE_MAX,
	    [UMBRA_COMMAND_MERGE] = UMBRA_MERGE_RATE_MAX,
	    [UMBRA_COMMAND_COMPACT] = UMBRA_COMPACT_RATE_MAX,
	    [UMBRA_COMMAND_RECLAIM] = UMBRA_RECLAIM_MAX,
	};

	return command < UMBRA_COMMANDS && most[command] ? most[command] : UINT64_MAX;
}

#define UMBRA_GUESTS_MAX     8u
#define UMBRA_MACHINE_STRIDE 8192u /* from one guest's page to the next one's */

/*
 * The guests' disk and the swap file are files of the command's. The hypervisor fills a request in,
 * sets .state to ASKED and rings: it writes a byte to COM2. The command carries it out between the
 * file that it names and the request's piece of .data, sets .state to DONE and rings back. It opens
 * nothing and reaches nothing but these files and that piece, whatever a request says.
 */
#define UMBRA_REQUESTS      9u
#define UMBRA_REQUEST_SWAP  8u /* the one for the swap file, in the first page; others: the disk */
#define UMBRA_REQUEST_BYTES (128u << 10) /* of data, at most; piece i begins at i times this */

/* The swap file's first page is the command's: the page at place i is i + 1 pages behind its start.
 */
#define UMBRA_SWAP_FIRST 4096u

enum umbra_request_state {
	UMBRA_REQUEST_FREE,
	UMBRA_REQUEST_ASKED,
	UMBRA_REQUEST_DONE,
};

enum umbra_request_kind {
	UMBRA_REQUEST_READ,
	UMBRA_REQUEST_WRITE,
	UMBRA_REQUEST_FLUSH, /* what was written is to survive a crash of the host */
};

enum umbra_file {
	UMBRA_FILE_DISK,
	UMBRA_FILE_SWAP,
	UMBRA_FILES,
};

struct umbra_request {
	uint32_t state;  /* hypervisor: FREE, ASKED; command: DONE */
	uint32_t file;   /* hypervisor: enum umbra_file */
	uint32_t kind;   /* hypervisor: enum umbra_request_kind */
	uint32_t size;   /* hypervisor: bytes, at most UMBRA_REQUEST_BYTES */
	uint64_t offset; /* hypervisor: in the file, bytes */
	uint32_t failed; /* command: 0 done; 1 not, or not wholly */
	uint32_t reserved;
};

/* What swapping did; of the machine as a whole, in the first page. The hypervisor writes it. */
struct umbra_swap {
	uint64_t slots;             /* pages that the swap file has room for; 0: there is none */
	uint64_t used;              /*   and that are in it now */
	uint64_t frames;            /* of all guests, */
	uint64_t free;              /*   and free now */
	uint64_t out;               /* pages written to the file */
	uint64_t zeros;             /* pages that went without: nothing but zeros was in them */
	uint64_t in;                /* pages read, those that were read ahead included */
	uint64_t ahead;             /*   of these: nobody had asked for them yet */
	uint64_t faults;            /* times that somebody waited for a page in the file, */
	uint64_t waits;             /*   or for a frame to become free */
	uint64_t failed;            /* requests that the file's host refused */
	uint64_t out_tsc;           /* ticks spent waiting for the file: writing, */
	uint64_t in_tsc;            /*   reading */
	uint64_t faults_tsc;        /* ticks from wanting a page to having it: all, */
	uint64_t fault_longest_tsc; /*   the longest */
};

struct umbra_machine {
	uint64_t magic;   /* hypervisor; written last */
	uint32_t version; /* hypervisor */
	uint32_t size;    /* hypervisor: of this struct */

	uint32_t phase;    /* hypervisor: enum umbra_phase */
	uint32_t end;      /* hypervisor: enum umbra_end, when phase is ENDED */
	uint32_t workload; /* hypervisor: 0 not reported, 1 ok, 2 failed (UMBRA_CTL_RESULT) */
	uint32_t nested;   /* hypervisor: 0 shadow paging, 1 nested paging */
	char message[256]; /* hypervisor: one sentence about .end, NUL-terminated */

	uint32_t guests; /* hypervisor: of the machine, in the first page; their pages are set up */
	uint32_t stopped; /* hypervisor: in the first page: the machine's end, the worst of its
			     guests' (enum umbra_end); 0 while one of them runs */

	uint32_t command; /* command: enum umbra_command; the hypervisor sets it to 0 when done */
	uint32_t guest_status; /* hypervisor: of UMBRA_END_GUEST: (value << 1) | 1 */
	uint64_t argument[2];  /* command: of .command, before it */
	int32_t result;        /* hypervisor: of the last command */
	uint32_t answers;      /* hypervisor */
	uint64_t answer; /* hypervisor: machine-physical address of UMBRA_ANSWER_BYTES, or 0 */

	uint64_t tsc_hz;    /* hypervisor: time stamp counter ticks a second */
	uint64_t tsc_start; /* hypervisor: TSC when its image began to run */
	uint64_t tsc_entry; /* hypervisor: at the first guest entry */
	uint64_t tsc_init;  /* hypervisor: at UMBRA_CTL_INIT, else 0 */
	uint64_t tsc_end;

	uint64_t exits;    /* hypervisor: VM exits, in all */
	uint64_t exits_pf; /*   of these #PF */
	uint64_t exits_cr; /*   CR reads and writes */
	uint64_t exits_io;
	uint64_t exits_msr;
	uint64_t exits_intr;
	uint64_t exits_invlpg;
	uint64_t exits_other;
	uint64_t emulated;    /* hypervisor: instructions emulated on tracked tables */
	uint64_t unprotected; /* hypervisor: tables unprotected instead */
	uint64_t lost_writes; /* hypervisor: to where neither memory nor a device is */

	uint64_t migrations; /* hypervisor: pages moved (region and storm) */
	uint64_t migrations_region;
	uint64_t zaps; /* hypervisor: zap-alls asked for */

	/* hypervisor: same-page merging, */
	uint64_t merge_scanned; /* pages that were looked at, */
	uint64_t merges;        /*   that came to share a frame, */
	uint64_t merge_breaks;  /*   and got one of their own again, since they were written */
	uint64_t shared_frames; /* in the first page: frames that are shared now, */
	uint64_t sharers;       /*   by so many pages, of all guests; */
	uint64_t saved_peak;    /*   the most pages that were saved at a time */

	/* hypervisor: compaction, */
	uint64_t compacted;        /* frames that were moved out of a block, */
	uint64_t collapsed;        /* 2 MiB of the guest's that came to lie in one, */
	uint64_t collapses_broken; /*   and do not any more */
	uint64_t blocks_built;     /* in the first page: blocks that were emptied */

	uint64_t audits;
	uint64_t audit_violations;

	/* hypervisor: the drops of the region's migrations, timed */
	uint64_t drop_gfns;
	uint64_t drop_sptes;
	uint64_t drop_tsc;         /* ticks spent in them, copy not included */
	uint64_t drop_longest_tsc; /* the longest one */

	/* hypervisor: umbra_stats.rmap_histogram when .sptes was the highest it was seen at */
	uint64_t peak_sptes;
	uint64_t peak_histogram[UMBRA_HISTOGRAM];

	uint64_t disk_reads; /* hypervisor: requests of the guest's */
	uint64_t disk_writes;
	uint64_t broken_pages;  /* hypervisor: of UMBRA_END_BREACH */
	uint64_t device_faults; /* hypervisor: malformed rings; the device then waits for a reset */
	uint64_t data;          /* hypervisor: machine-physical address of the requests' data */
	struct umbra_request requests[UMBRA_REQUESTS];
	struct umbra_swap swap;

	struct umbra_ring ring;     /* of the recording */
	struct umbra_config config; /* hypervisor: the MMU's, before .ring.address */

	struct umbra_stats mmu; /* hypervisor: at the end, and on UMBRA_COMMAND_STATS */
};

/*
 * Control ports of the guest machine. 32-bit OUT of an operation, with its argument written to
 * UMBRA_CTL_ARG before; IN from UMBRA_CTL_ARG gives the operation's result. On a machine that is
 * not umbra's IN from UMBRA_CTL gives something else than UMBRA_CTL_ID.
 */
#define UMBRA_CTL         0x5a0
#define UMBRA_CTL_ARG     0x5a4
#define UMBRA_CTL_ID      0x61626d75u /* "umba" */
#define UMBRA_CTL_PROTECT 0x80000000u

enum umbra_ctl {
	UMBRA_CTL_INIT = 1,       /* init has begun */
	UMBRA_CTL_RESULT = 2,     /* the workload ended; argument 0 ok, else failed */
	UMBRA_CTL_POWEROFF = 3,   /* stop the machine */
	UMBRA_CTL_REGION_ADD = 4, /* argument: a gfn of the shared region */
	UMBRA_CTL_REGION_CLEAR = 5,
	UMBRA_CTL_MIGRATE = 6,      /* begin to migrate every page of the region, while the guest
				       goes on running. Result: 0, or 1 if one is under way */
	UMBRA_CTL_MIGRATE_LEFT = 7, /* result: pages still to go */
	UMBRA_CTL_ZAP_ALL = 8,
	UMBRA_CTL_QUOTA = 9,  /* argument: shadow pages; 0: what the machine started with */
	UMBRA_CTL_STORM = 10, /* argument: migrations of random pages a second; 0: off */
	UMBRA_CTL_AUDIT = 11, /* result: violations (at most 2^32 - 1). Where other guests run, too
				 soon after the last one: what that found */
	UMBRA_CTL_LONGEST = 12,     /* result: sptes of the region's most-mapped page now */
	UMBRA_CTL_STORM_COUNT = 13, /* result: migrations so far, region and storm */
	UMBRA_CTL_PEEK =
	    14, /* argument: offset of a 32-bit word in struct umbra_machine; result: it */

	/*
	 * Host operations on a range of gfns, for benchmarks. Refused to a guest that is not alone,
	 * where the range does not lie in a slot, and while somebody logs or watches from outside.
	 * Result: the time stamp counter's ticks that the MMU's part took, at most 2^32 - 2; or
	 * 2^32 - 1: refused. Afterwards UMBRA_CTL_RANGE_SPTES gives the sptes that were there
	 * before.
	 */
	UMBRA_CTL_RANGE_FIRST = 15,     /* argument: the first gfn */
	UMBRA_CTL_RANGE_PAGES = 16,     /* argument: how many */
	UMBRA_CTL_RANGE_DROP = 17,      /* drop them in one call; frames and contents stay */
	UMBRA_CTL_RANGE_DROP_EACH = 18, /* drop them one page a call */
	UMBRA_CTL_RANGE_PROTECT = 19,   /* write-protect them in one call */
	UMBRA_CTL_RANGE_REMAP = 20,     /* migrate them, one page a call; the copying not counted */
	UMBRA_CTL_RANGE_RENEW = 21,     /* delete the slot that holds the first one, add it again */
	UMBRA_CTL_RANGE_SPTES = 22,

	/*
	 * Argument: a gfn, with UMBRA_CTL_PROTECT: the slot that holds it is deleted and added
	 * again as memory that is only read, or without that bit as plain memory. Result 0, or 1.
	 */
	UMBRA_CTL_READ_ONLY = 23,

	/* More on the range. Those that look at pages count them: UMBRA_CTL_RANGE_FOUND. */
	UMBRA_CTL_RANGE_FOUND = 40,
	UMBRA_CTL_RANGE_INVALIDATE = 41,  /* a change of the host's, begun and ended */
	UMBRA_CTL_RANGE_AGE = 42,         /* finds those that were used */
	UMBRA_CTL_RANGE_LOG_START = 43,   /* of the slot that holds the first one */
	UMBRA_CTL_RANGE_LOG_COLLECT = 44, /* the whole slot; finds those that were written */
	UMBRA_CTL_RANGE_LOG_WORDS = 45,   /* the same, 64 pages a call */
	UMBRA_CTL_RANGE_LOG_STOP = 46,
	UMBRA_CTL_RANGE_MERGE = 47, /* those of the same contents; finds those that were merged */
	UMBRA_CTL_RANGE_SWAP_OUT = 48, /* finds those that went */
	UMBRA_CTL_RANGE_COLLAPSE = 49, /* to frames side by side; finds those that moved */
};

#endif
