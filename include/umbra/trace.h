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
				  error << 32 (as 32 bits): what host.frame_get answered */

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
	UMBRA_TRACE_REMAP,     /* a: gfn; b: pfn; c: sptes */
	UMBRA_TRACE_ZAP_ALL,
	UMBRA_TRACE_QUOTA, /* a: pages */
	UMBRA_TRACE_MARK,  /* nothing was called. a: enum umbra_ctl of a guest's report; b: argument
			    */
	UMBRA_TRACE_END,   /* a: enum umbra_end; b: sptes; c: shadow pages, both at the end */
	UMBRA_TRACE_KINDS,
};

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
