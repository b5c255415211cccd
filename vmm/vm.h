/* SPDX-License-Identifier: BSD-2-Clause */
/* struct vm: one guest, its memory and its devices. */
#ifndef VMM_VM_H
#define VMM_VM_H

#include <stdbool.h>
#include <stdint.h>
#include <umbra/machine.h>
#include <umbra/umbra.h>

#include "control.h"
#include "fwcfg.h"
#include "frames.h"
#include "hostio.h"
#include "ioapic.h"
#include "merge.h"
#include "pic.h"
#include "pci.h"
#include "pit.h"
#include "pit2.h"
#include "range.h"
#include "record.h"
#include "rtc.h"
#include "serial.h"
#include "testdev.h"
#include "watch.h"

struct blk;
struct cpu;
struct host;
struct vcpu;
struct virtio;

/* From the Multiboot command line. */
struct options {
	uint64_t memory;       /* bytes of guest RAM */
	uint64_t quota;        /* shadow pages */
	uint64_t storm;        /* migrations a second */
	uint64_t audit;        /* exits between audits; 0: none but those asked for */
	uint64_t prefetch;     /* as in struct umbra_config */
	uint64_t nested;       /* nested paging instead of shadow paging */
	uint64_t format;       /* enum format: of the guest's image */
	uint64_t spare;        /* bytes of memory at MEMORY_SPARE, in a slot of their own */
	uint64_t disk;         /* sectors of 512 bytes; 0: no disk */
	uint64_t disk_ro;      /* it is only to be read */
	uint64_t console;      /* 1: virtio in place of COM1 */
	uint64_t record;       /* 1: everything that the MMU is asked goes into a ring */
	uint64_t guests;       /* of the machine */
	uint64_t record_guest; /* the number of the one that .record is for */
	uint64_t compact;      /* frames moved a second, to collapse pages to 2 MiB */
	uint64_t frames; /* bytes of the machine that guests get in all; 0: what they are told */
	uint64_t swap;   /* pages that the swap file has room for; 0: there is none */
	uint64_t merge;  /* pages a second that are looked at, to be shared */
	uint64_t seal;   /* 1: look after memory that nobody should write (seal.c) */
};

#define VM_SLOTS 5

/* A piece of guest RAM. What is behind its pages: vm->entries[index ...] (memory.h). */
struct vm_slot {
	uint64_t first, pages, index;
	bool reserved; /* told to the guest as reserved */
	bool read_only;
	bool absent; /* deleted, until it is added again */
};

/* What host.frame_get could not do under the MMU's lock (memory_settle). */
struct wanted {
	enum {
		WANTED_NOTHING,
		WANTED_ROOM,    /* a free frame */
		WANTED_PRIVATE, /* .gfn alone in its frame */
		WANTED_PAGE,    /* .gfn, from the swap file */
	} what;
	uint64_t gfn;
};

/* An instruction touches at most 12 pages (UMBRA_QUOTA_MIN): theirs stay while it is emulated. */
#define VM_HANDED 16u

struct vm {
	struct host *host;
	unsigned number; /* of host->guest */
	struct umbra_mmu *mmu;
	struct umbra_machine *machine;
	struct frames *frames;
	struct cpu *cpu;
	struct vcpu *vcpu;
	struct options options;

	struct vm_slot slots[VM_SLOTS];
	unsigned slot_count;
	uint32_t *entries;
	uint64_t pages;     /* of all slots */
	unsigned ahead;     /* pages that swap.c read together the last time, */
	uint64_t ahead_end; /*   and the page behind them */
	uint64_t *recent;   /* by page: wanted since swap.c looked; NULL: it never does */
	struct wanted wanted;
	uint32_t handed[VM_HANDED]; /* ring: pages that memory_page() gave away last */
	unsigned handed_count;
	struct merge_pages merge;
	uint64_t *large;     /* compact.c: a bit for each 2 MiB that lie side by side; or NULL */
	uint64_t move_begun; /* TSC when the last frame_move was called: the drop was over */

	struct pic pic;
	struct pit pit;
	struct pit2 pit2;
	struct rtc rtc;
	struct ioapic ioapic;
	struct fwcfg fwcfg;
	struct testdev testdev;
	struct pci pci;
	struct hostio hostio;
	struct blk *blk;        /* NULL: none */
	struct virtio *console; /* NULL: COM1 */
	struct control control;
	struct range_job range;
	struct recording recording;
	struct watching watching;
	struct serial serial;
	struct umbra_stats stats_before; /* of MMUs that are gone */
	bool ended;                      /* machine_end() */
	bool uart_edge, bell_edge;       /* interrupts of shared devices, to be looked at */
};

#endif
