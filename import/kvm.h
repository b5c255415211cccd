/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tracepoints of Linux KVM to records. Kernels differ in what fields an event has and where they
 * are, so a trace brings its own description, and fields are found in it by name: once for each
 * event, after which a record is made by copying bytes.
 */
#ifndef IMPORT_KVM_H
#define IMPORT_KVM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <umbra/trace.h>

#define KVM_PIECES 8 /* of a record, at most; one more for its vcpu */

struct kvm_place {
	uint32_t offset, size; /* size 0: this kernel's event lacks it */
};

/* An event, bound to where a trace has its fields. */
struct kvm_event {
	const struct kvm_rule *rule;
	struct kvm_place pieces[KVM_PIECES], vcpu;
};

enum kvm_bound {
	KVM_BOUND,
	KVM_UNKNOWN, /* no record is made of such an event */
	KVM_FOREIGN, /* one would be, but it lacks a field that it cannot do without */
};

/* Where @field is, in *@place; false: there is none. */
typedef bool kvm_lookup_fn(void *ctx, const char *field, struct kvm_place *place);

enum kvm_bound kvm_bind(struct kvm_event *event, const char *system, const char *name,
			kvm_lookup_fn *lookup, void *ctx);

/*
 * Make *@record of @size bytes of an event that happened on processor @cpu; @swap: they are of the
 * other endianness. record->time is the caller's. False: it is too short for its fields.
 */
bool kvm_convert(const struct kvm_event *event, const void *bytes, size_t size, bool swap,
		 unsigned cpu, struct umbra_record *record);

/* What a record of @kind is of, as KVM calls it ("kvm_mmu_set_spte"); NULL: no such kind. */
const char *kvm_kind(unsigned kind);

#endif
