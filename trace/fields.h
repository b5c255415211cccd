/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the words of a record mean, as a table: for those who print, count or export records
 * without knowing each kind. docs/trace-format.md has it in prose.
 */
#ifndef TRACE_FIELDS_H
#define TRACE_FIELDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <umbra/trace.h>
#include <umbra/umbra.h>

enum trace_field {
	FIELD_GVA,
	FIELD_GPA,
	FIELD_GFN, /* the first one of .pages */
	FIELD_PAGES,
	FIELD_PFN,
	FIELD_RIP,
	FIELD_ERROR_CODE, /* enum umbra_pf */
	FIELD_VERDICT,    /* enum umbra_verdict */
	FIELD_INJECTED,   /* the error code that the guest got; of others 0 */
	FIELD_SPTES,      /* that an operation took away or changed; at the end: that are there */
	FIELD_TABLES,     /* shadow pages, the same */
	FIELD_BYTES,
	FIELD_VALUE, /* a word of a guest's table; of the log */
	FIELD_SLOT,  /* its id */
	FIELD_FLAGS, /* enum umbra_slot_flags, _age, _log, _watch; of a remap: 1, not writable */
	FIELD_CR0,
	FIELD_CR3,
	FIELD_CR4,
	FIELD_EFER,
	FIELD_PKRU,
	FIELD_PKRS,
	FIELD_LEVELS,
	FIELD_TYPE, /* of INVPCID */
	FIELD_PCID,
	FIELD_RESULT, /* 0 or enum umbra_error */
	FIELD_CODE,   /* of a mark: enum umbra_ctl; of the end: enum umbra_end */
	FIELD_ARGUMENT,
	FIELD_SPTE, /* of KVM's */
	FIELD_LEVEL,
	FIELD_ROLE, /* as KVM has it */
	FIELD_ROOTS,
	FIELD_CREATED, /* 0: found */
	FIELD_UNSYNC,
	FIELD_HVA, /* of the host's */
	FIELD_HVA_END,
	FIELD_REASON, /* of an exit */
	FIELD_FOUND,  /* pages that were young, or dirty */
	FIELDS,
};

/* Where in a record of a kind a field stands. */
struct trace_place {
	uint8_t kind, field; /* enum umbra_trace_kind, enum trace_field */
	uint8_t word;        /* 0, 1, 2: a, b, c */
	uint8_t shift, bits;
	bool is_signed;
};

/* "fault", "gva", "resume". NULL: there is none of that number. */
const char *trace_kind_name(unsigned kind);
const char *trace_field_name(unsigned field);
const char *trace_verdict_name(unsigned verdict);

/* The places of @kind's fields: the first one; *@count is 0 for a kind without. */
const struct trace_place *trace_places(unsigned kind, size_t *count);

/* What stands there. */
int64_t trace_field_of(const struct umbra_record *record, const struct trace_place *place);

#endif
