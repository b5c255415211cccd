/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The MMU's functions as the hypervisor calls them. While a recording is on, each call goes into
 * the ring (umbra/trace.h), behind the inputs that it had. See record.c, calls.c.
 */
#ifndef VMM_RECORD_H
#define VMM_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <umbra/trace.h>
#include <umbra/umbra.h>

struct vcpu;
struct vm;
struct known_word;

/* A range that the host is changing. */
struct mmu_invalidation {
	struct umbra_invalidation umbra;
	umbra_gfn first;
	uint64_t pages;
};

struct recording {
	bool on;
	bool quiet;      /* what is read now is for nobody's sake: an audit */
	bool since_root; /* events since the last one of UMBRA_TRACE_ROOT */
	struct umbra_record *ring;
	struct known_word *words; /* what a replayer knows of the guest's tables */
	uint32_t *told;           /*   and of the frame of each page of guest memory; 0: nothing */
	uint64_t begun;           /* TSC */
	uint32_t open;            /* invalidations that have begun, */
	uint32_t logs;            /*   and logs that are on */
};

/* A recording begins: all that the MMU is asked from its making on. UMBRA_ENOMEM. */
int record_begin(struct vm *vm);

/* It ends where it is, as if it had not begun. */
void record_give_up(struct vm *vm);

/* While a recording is on: an event, with the time. */
void record_event(struct vm *vm, enum umbra_trace_kind kind, uint64_t a, uint64_t b, uint64_t c);

/* host.frame_get answered, for page @index of the guest's memory. */
void record_frame(struct vm *vm, uint64_t index, umbra_gfn gfn, enum umbra_want want, int error,
		  const struct umbra_frame *frame);

/* host.frame_move was called, for page @index. */
void record_frame_moved(struct vm *vm, uint64_t index, const struct umbra_frame *to);

/* Pages [@index, @index + @pages) are asked for by other gfns from now on. */
void record_frames_forget(struct vm *vm, uint64_t index, uint64_t pages);

/* Is there something that another MMU in this one's place would not know of? */
bool record_is_amid(const struct vm *vm);

/* host.input */
uint64_t record_input(void *ctx, enum umbra_input kind, uint64_t key, uint64_t value);

/* The guest reported something (enum umbra_ctl); the machine ends. */
void record_mark(struct vm *vm, uint32_t operation, uint32_t argument);
void record_end(struct vm *vm, uint32_t end);

int mmu_slot_add(struct vm *vm, const struct umbra_slot *slot);
int mmu_slot_delete(struct vm *vm, uint32_t id);
int mmu_slot_move(struct vm *vm, uint32_t id, umbra_gfn first);
int mmu_slot_flags_set(struct vm *vm, uint32_t id, uint32_t flags);
int mmu_vcpu_create(struct vcpu *vcpu);
int mmu_set_paging(struct vcpu *vcpu, const struct umbra_paging *paging);
void mmu_set_keys(struct vcpu *vcpu, uint32_t pkru, uint32_t pkrs);
int mmu_root(struct vcpu *vcpu, struct umbra_root *root);
struct umbra_answer mmu_fault(struct vcpu *vcpu, uint64_t gva, uint32_t error_code);
struct umbra_answer mmu_translate(struct vcpu *vcpu, uint64_t gva, uint32_t error_code);
void mmu_guest_write(struct vm *vm, uint64_t gpa, size_t size);
void mmu_unprotect(struct vm *vm, umbra_gfn gfn);
void mmu_invlpg(struct vcpu *vcpu, uint64_t gva);
int mmu_invpcid(struct vcpu *vcpu, enum umbra_invpcid type, uint16_t pcid, uint64_t gva);
int mmu_drop(struct vm *vm, umbra_gfn first, uint64_t pages, struct umbra_dropped *dropped);
int mmu_write_protect(struct vm *vm, umbra_gfn first, uint64_t pages, uint64_t *sptes);
int mmu_remap(struct vm *vm, umbra_gfn gfn, const struct umbra_frame *to,
	      struct umbra_dropped *dropped);
int mmu_invalidate_begin(struct vm *vm, umbra_gfn first, uint64_t pages,
			 struct mmu_invalidation *invalidation, struct umbra_dropped *dropped);
int mmu_invalidate_gather(struct vm *vm, umbra_gfn first, uint64_t pages,
			  struct mmu_invalidation *invalidation, struct umbra_dropped *dropped);
void mmu_flush(struct vm *vm);
void mmu_invalidate_end(struct vm *vm, struct mmu_invalidation *invalidation);
int mmu_split(struct vm *vm, umbra_gfn first, uint64_t pages, uint64_t *sptes);
int mmu_watch(struct vm *vm, umbra_gfn gfn, unsigned kinds);
/* How many of the first @count bits are set; those behind them in the last word are not. */
uint64_t mmu_bits_count(const uint64_t *bits, uint64_t count);
int mmu_age(struct vm *vm, umbra_gfn first, uint64_t pages, unsigned flags, uint64_t *young);
int mmu_log_start(struct vm *vm, uint32_t id, unsigned flags);
int mmu_log_collect(struct vm *vm, umbra_gfn first, uint64_t pages, uint64_t *dirty);
int mmu_log_collect_word(struct vm *vm, umbra_gfn first, uint64_t mask, uint64_t *dirty);
int mmu_log_stop(struct vm *vm, uint32_t id);
void mmu_zap_all(struct vm *vm);
int mmu_quota_set(struct vm *vm, uint32_t pages);
uint64_t mmu_audit(struct vm *vm, struct umbra_audit *report);

#endif
