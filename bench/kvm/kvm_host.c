/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What Linux hosts do to guests, by Linux's own calls. Where the work is done by the call, its time
 * is that of this process, from call to return; else see the operation:
 *
 *     drop        madvise(MADV_DONTNEED), the range at once or page by page
 *     protect     switching the slot's dirty log on
 *     remap       mmap(MAP_FIXED) of a fresh page over each
 *     renew       deleting the slot and adding it again
 *     invalidate  mprotect(PROT_NONE) and back: contents stay
 *     age         madvise(MADV_PAGEOUT) of pages in use: the time of KVM's part, by ftrace
 *     log         KVM_MEM_LOG_DIRTY_PAGES; KVM_GET_DIRTY_LOG; with KVM_CLEAR_DIRTY_LOG, a word each
 *     merge       KSM: what its daemon ran, from madvise(MADV_MERGEABLE) until all are merged
 *     swap out    madvise(MADV_PAGEOUT)
 *     collapse    madvise(MADV_COLLAPSE)
 */
#include "kvm_host.h"
#include "kvm_kernel.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <umbra/machine.h>

#define KSM "/sys/kernel/mm/ksm/"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define SPARE_PAGES (SPARE_BYTES / PAGE)
#define KSM_PASSES  12 /* of ksmd over everything: two do, if nothing is in its way */

static uint64_t begun;

static uint64_t since(void)
{
	return ticks_now() - begun;
}

/* What is mapped anew may become a huge page, unless told not to; that is not timed. */
static uint64_t remap(uint8_t *first, uint64_t size)
{
	uint64_t ticks;

	for (uint8_t *at = first; at < first + size; at += PAGE)
		if (mmap(at, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
			 -1, 0) != at)
			die("mmap");
	ticks = since();
	madvise(first, size, MADV_NOHUGEPAGE);
	return ticks;
}

static bool drop_each(uint8_t *at, uint64_t size)
{
	for (uint8_t *end = at + size; at < end; at += PAGE)
		if (madvise(at, PAGE, MADV_DONTNEED))
			return false;
	return true;
}

/* ------------------------------------------------------------------ the dirty log */

static void manual(struct machine *m, bool on)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args = {on}};

	call(m->vm, KVM_ENABLE_CAP, &cap, "KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2");
}

static void log_get(struct machine *m)
{
	struct kvm_dirty_log log = {.slot = 1, .dirty_bitmap = m->dirty};

	call(m->vm, KVM_GET_DIRTY_LOG, &log, "KVM_GET_DIRTY_LOG");
}

static void log_count(struct machine *m)
{
	m->found = 0;
	for (uint64_t i = 0; i < SPARE_PAGES / 64; i++)
		m->found += (uint64_t)__builtin_popcountll(m->dirty[i]);
}

static uint64_t log_words(struct machine *m)
{
	uint64_t ticks;

	manual(m, true);
	begun = ticks_now();
	log_get(m);
	for (uint64_t i = 0; i < SPARE_PAGES / 64; i++) {
		struct kvm_clear_dirty_log clear = {
		    .slot = 1, .num_pages = 64, .first_page = i * 64, .dirty_bitmap = &m->dirty[i]};

		if (m->dirty[i])
			call(m->vm, KVM_CLEAR_DIRTY_LOG, &clear, "KVM_CLEAR_DIRTY_LOG");
	}
	ticks = since();
	manual(m, false);
	log_count(m);
	return ticks;
}

static uint64_t log_operate(struct machine *m, uint32_t operation)
{
	uint64_t ticks;

	switch (operation) {
	case UMBRA_CTL_RANGE_LOG_START:
		spare_set(m, KVM_MEM_LOG_DIRTY_PAGES, true);
		return since();
	case UMBRA_CTL_RANGE_LOG_STOP:
		spare_set(m, 0, true);
		return since();
	case UMBRA_CTL_RANGE_LOG_WORDS:
		return log_words(m);
	default:
		log_get(m);
		ticks = since();
		log_count(m);
		return ticks;
	}
}

/* ------------------------------------------------------------------ ages, merging, swapping */

/*
 * MADV_PAGEOUT keeps pages that were used, and asks KVM, page by page, for that. So done to pages
 * that were all used, it is a scan of their ages. Timed is KVM's part.
 */
static uint64_t age(struct machine *m, uint8_t *at, uint64_t size)
{
	uint64_t ns;
	bool done;

	if (!kernel_trace_begin("kvm_mmu_notifier_clear_flush_young"))
		return UINT32_MAX;
	done = madvise(at, size, MADV_PAGEOUT) == 0;
	ns = kernel_trace_end(&m->found);
	return done && m->found == size / PAGE ? kernel_ticks(ns) : UINT32_MAX;
}

static uint64_t merge(struct machine *m, uint8_t *at, uint64_t size)
{
	uint64_t ns, passes, pages = size / PAGE;

	if (madvise(at, size, MADV_MERGEABLE))
		return UINT32_MAX;
	ns = kernel_thread_ns("ksmd");
	passes = kernel_number(KSM "full_scans") + KSM_PASSES;
	kernel_write(KSM "run", "1");
	do {
		usleep(20000);
		m->found = kernel_number(KSM "pages_sharing") + kernel_number(KSM "pages_shared");
	} while (m->found < pages && kernel_number(KSM "full_scans") < passes);
	kernel_write(KSM "run", "0");
	ns = kernel_thread_ns("ksmd") - ns;
	return m->found ? kernel_ticks(ns) : UINT32_MAX;
}

/* The first time, they were used. */
static uint64_t swap_out(struct machine *m, uint8_t *at, uint64_t size)
{
	uint64_t ticks;
	bool done = madvise(at, size, MADV_PAGEOUT) == 0;

	begun = ticks_now();
	done &= madvise(at, size, MADV_PAGEOUT) == 0;
	ticks = since();
	m->found = kernel_swapped(at, size / PAGE);
	return done && m->found ? ticks : UINT32_MAX;
}

/* The range takes huge pages only now: others are to find it as they left it. */
static uint64_t collapse(struct machine *m, uint8_t *at, uint64_t size)
{
	uint64_t ticks;
	bool done;

	madvise(at, size, MADV_HUGEPAGE);
	begun = ticks_now();
	done = madvise(at, size, MADV_COLLAPSE) == 0;
	ticks = since();
	madvise(at, size, MADV_NOHUGEPAGE);
	m->found = done ? size / PAGE : 0;
	return done ? ticks : UINT32_MAX;
}

/* ------------------------------------------------------------------ all of them */

static uint64_t on_slot(struct machine *m, uint32_t operation)
{
	uint64_t ticks;

	switch (operation) {
	case UMBRA_CTL_RANGE_PROTECT:
		spare_set(m, KVM_MEM_LOG_DIRTY_PAGES, true);
		ticks = since();
		spare_set(m, 0, true);
		return ticks;
	case UMBRA_CTL_RANGE_RENEW:
		spare_set(m, 0, false);
		spare_set(m, 0, true);
		return since();
	default:
		return log_operate(m, operation);
	}
}

static uint64_t operate(struct machine *m, uint32_t operation, uint8_t *at, uint64_t size)
{
	bool done;

	switch (operation) {
	case UMBRA_CTL_RANGE_DROP:
		done = madvise(at, size, MADV_DONTNEED) == 0;
		break;
	case UMBRA_CTL_RANGE_DROP_EACH:
		done = drop_each(at, size);
		break;
	case UMBRA_CTL_RANGE_REMAP:
		return remap(at, size);
	case UMBRA_CTL_RANGE_INVALIDATE:
		done = mprotect(at, size, PROT_NONE) == 0 &&
		       mprotect(at, size, PROT_READ | PROT_WRITE) == 0;
		break;
	case UMBRA_CTL_RANGE_AGE:
		return age(m, at, size);
	case UMBRA_CTL_RANGE_MERGE:
		return merge(m, at, size);
	case UMBRA_CTL_RANGE_SWAP_OUT:
		return swap_out(m, at, size);
	case UMBRA_CTL_RANGE_COLLAPSE:
		return collapse(m, at, size);
	default:
		return on_slot(m, operation);
	}
	return done ? since() : UINT32_MAX;
}

uint32_t host_operate(struct machine *m, uint32_t operation)
{
	uint64_t offset = m->first * PAGE - SPARE_GPA, ticks;

	if (offset > SPARE_BYTES || m->pages > (SPARE_BYTES - offset) / PAGE)
		return UINT32_MAX;
	m->found = 0;
	kernel_ticks(0);
	begun = ticks_now();
	ticks = operate(m, operation, m->spare + offset, m->pages * PAGE);
	return ticks < UINT32_MAX ? (uint32_t)ticks : UINT32_MAX;
}
