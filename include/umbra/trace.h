/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Traces: everything that an MMU was asked, and everything that its answers depended on, as a
 * sequence of records of 32 bytes, little-endian. The hypervisor writes them into a ring in the
 * machine's memory; `umbra run --record` keeps them in a file (docs/trace-format.md).
 *
 * Records come in groups: inputs (kinds below UMBRA_TRACE_EVENTS), in the order in which the
 * library asked for them, then the event (a call of the library) that asked. An input that says
 * what a replayer knows already is left out.
 */
#ifndef UMBRA_TRACE_H
#define UMBRA_TRACE_H

#include <stdint.h>

enum umbra_trace_kind {
	/* Inputs. */
	UMBRA_TRACE_WORD4 = 1, /* a: gpa; b: 4 bytes of a guest's table, read or written there */
	UMBRA_TRACE_WORD8,     /* the same, 8 bytes */
	UMBRA_TRACE_AGE,       /* a: number of a shadow page; b: did the hardware use it */
	UMBRA_TRACE_FRAME,     /* a: gfn; b: pfn; c: enum umbra_want | writable << 8 | level << 16 |
				  error << 32 (as 32 bits): what host.frame_get answered. Level 2
				  tells of all 512 pages around */
	UMBRA_TRACE_DIRTY, /* a: gfn; b: did the hardware write it, in a slot logged by D bits */

	UMBRA_TRACE_INPUTS, /* kinds of inputs: those below */

	/* Events: the functions of umbra.h. */
	UMBRA_TRACE_EVENTS = 16,
	UMBRA_TRACE_SLOT_ADD = 16, /* a: first gfn; b: pages; c: id | flags << 32 */
	UMBRA_TRACE_SLOT_DELETE,   /* a: id */
	UMBRA_TRACE_VCPU,          /* umbra_vcpu_create */
	UMBRA_TRACE_PAGING, /* a: CR0 | CR4 << 32; b: CR3; c: EFER | result << 32 (as 32 bits) */
	UMBRA_TRACE_KEYS,   /* a: PKRU | PKRS << 32 */
	UMBRA_TRACE_ROOT,   /* a: levels */
	UMBRA_TRACE_FAULT,  /* a: gva; b: RIP; c: error code | verdict << 32 | injected one << 40 */
	UMBRA_TRACE_TRANSLATE, /* the same */
	UMBRA_TRACE_WRITE,     /* umbra_guest_write. a: gpa; b: bytes */
	UMBRA_TRACE_UNPROTECT, /* a: gfn; b: pages zapped */
	UMBRA_TRACE_INVLPG,    /* a: gva */
	UMBRA_TRACE_INVPCID,   /* a: gva; b: type | PCID << 16 */
	UMBRA_TRACE_DROP,      /* a: first gfn; b: pages; c: sptes */
	UMBRA_TRACE_PROTECT,   /* umbra_write_protect, the same */
	UMBRA_TRACE_REMAP,     /* a: gfn; b: pfn; c: sptes | level << 56 | UMBRA_TRACE_READONLY */
	UMBRA_TRACE_ZAP_ALL,
	UMBRA_TRACE_QUOTA, /* a: pages */
	UMBRA_TRACE_MARK,  /* nothing was called. a: enum umbra_ctl of a guest's report; b: argument
			    */
	UMBRA_TRACE_END,   /* a: enum umbra_end; b: sptes; c: shadow pages, both at the end */
	UMBRA_TRACE_SLOT_FLAGS,       /* a: id; b: flags */
	UMBRA_TRACE_INVALIDATE_BEGIN, /* a: first gfn; b: pages; c: sptes */
	UMBRA_TRACE_INVALIDATE_END,   /* a, b: as the one that it ends */
	UMBRA_TRACE_AGE_RANGE, /* umbra_age. a: first gfn; b: pages; c: young ones | flags << 32 */
	UMBRA_TRACE_LOG_START, /* a: slot's id; b: flags */
	UMBRA_TRACE_LOG_COLLECT,       /* a: first gfn; b: pages; c: dirty ones */
	UMBRA_TRACE_LOG_WORD,          /* umbra_log_collect_word. a: first gfn; b: mask; c: dirty */
	UMBRA_TRACE_LOG_STOP,          /* a: slot's id */
	UMBRA_TRACE_SPLIT,             /* a: first gfn; b: pages; c: sptes */
	UMBRA_TRACE_INVALIDATE_GATHER, /* as UMBRA_TRACE_INVALIDATE_BEGIN */
	UMBRA_TRACE_FLUSH,
	UMBRA_TRACE_WATCH,     /* a: gfn; b: enum umbra_watch, or-ed */
	UMBRA_TRACE_SLOT_MOVE, /* a: id; b: first gfn from now on */
	UMBRA_TRACE_KINDS,

	/*
	 * What Linux KVM itself recorded, made records by `umbra import`. A trace holds either
	 * these or those above. docs/trace-format.md says more.
	 */
	UMBRA_TRACE_KVM = 64,
	UMBRA_TRACE_KVM_LOST = 64,  /* a: events that the host's ring had no room for */
	UMBRA_TRACE_KVM_FAULT,      /* a: gva, or gpa; b: RIP; c: error code */
	UMBRA_TRACE_KVM_FAST_FAULT, /* a: gva, or gpa; b: new spte; c: error code | result << 32 */
	UMBRA_TRACE_KVM_WALK,       /* a: gva; c: error code of the access */
	UMBRA_TRACE_KVM_WORD,       /* a: a word of a guest's table; b: level */
	UMBRA_TRACE_KVM_WALK_ERROR, /* c: error code for the guest */
	UMBRA_TRACE_KVM_ACCESSED,   /* a: gpa of the word that got its A */
	UMBRA_TRACE_KVM_DIRTY,      /* the same, D */
	UMBRA_TRACE_KVM_REQUEST,    /* a: gfn; b: pfn; c: level */
	UMBRA_TRACE_KVM_SPTE,       /* a: gfn; b: spte; c: level | rights << 8 | place << 16 */
	UMBRA_TRACE_KVM_TDP_SPTE,   /* a: gfn | level << 56; b: old spte; c: new one */
	UMBRA_TRACE_KVM_SPLIT,      /* a: gfn; b: spte; c: level | error << 32 */
	UMBRA_TRACE_KVM_PAGE,       /* a: gfn; b: role | roots << 32; c: bits | generation << 8 */
	UMBRA_TRACE_KVM_ZAP,        /* the same */
	UMBRA_TRACE_KVM_SYNC,       /* the same */
	UMBRA_TRACE_KVM_UNSYNC,     /* the same */
	UMBRA_TRACE_KVM_ZAP_ALL,    /* a: generation; b: shadow pages in use */
	UMBRA_TRACE_KVM_UNMAP,      /* a: hva; b: hva behind the last */
	UMBRA_TRACE_KVM_REMAP,      /* a: hva */
	UMBRA_TRACE_KVM_AGE,        /* a: hva; b: hva behind the last */
	UMBRA_TRACE_KVM_TEST_AGE,   /* a: hva */
	UMBRA_TRACE_KVM_MMIO_MARK,  /* a: gfn; b: address of the spte; c: access | generation << 32
				     */
	UMBRA_TRACE_KVM_MMIO_FAULT, /* a: address; b: gfn; c: access */
	UMBRA_TRACE_KVM_MMIO_CHECK, /* a: spte; b: its generation; c: the present one */
	UMBRA_TRACE_KVM_MMIO,       /* a: gpa; b: value; c: bytes | type << 32 */
	UMBRA_TRACE_KVM_ENTRY,      /* a: RIP */
	UMBRA_TRACE_KVM_EXIT,    /* a: RIP; b: reason | (1: VMX, 2: SVM) << 32; c: its first word */
	UMBRA_TRACE_KVM_CR,      /* a: which; b: value; c: 1: written */
	UMBRA_TRACE_KVM_MSR,     /* a: which; b: value; c: 1: written | 2: it raised #GP */
	UMBRA_TRACE_KVM_INVLPGA, /* a: gva; b: RIP; c: ASID */
	UMBRA_TRACE_KVM_EMULATE, /* a: RIP; b: first 8 bytes; c: length | failed << 8 */
	UMBRA_TRACE_KVM_KINDS,
};

/* In .c of UMBRA_TRACE_REMAP: to a frame that is not writable. */
#define UMBRA_TRACE_READONLY (1ull << 63)

/* Bits of UMBRA_TRACE_KVM_PAGE and its like. */
#define UMBRA_KVM_CREATED 1u /* of UMBRA_TRACE_KVM_PAGE; else it was found */
#define UMBRA_KVM_UNSYNC  2u

/* Rights of UMBRA_TRACE_KVM_SPTE. Writable is a bit of the spte. */
#define UMBRA_KVM_READ 1u
#define UMBRA_KVM_EXEC 2u
#define UMBRA_KVM_USER 4u

struct umbra_record {
	uint8_t kind;
	uint8_t vcpu; /* of events that are a vcpu's */
	uint16_t reserved;
	uint32_t time; /* of events: microseconds since the recording began, modulo 2^32 */
	uint64_t a, b, c;
};

/*
 * The ring. The machine's memory holds @capacity records from machine-physical @address on. Both
 * counters only grow; record number n is at n modulo capacity. A full ring makes the writer wait.
 */
struct umbra_ring {
	uint64_t address;  /* writer; 0: nothing is recorded */
	uint64_t capacity; /* writer */
	uint64_t written;  /* writer */
	uint64_t read;     /* reader */
};

#endif
