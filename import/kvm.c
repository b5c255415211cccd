/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One table: from the events of KVM to records, field by field. A field goes to bits of a, b or c;
 * one that a kernel's event lacks leaves zeros there, unless the record would be worth nothing
 * without it. A further event is a line here and a kind in umbra/trace.h.
 */
#include "kvm.h"

#include <string.h>

enum to {
	TO_A,
	TO_B,
	TO_C
};

struct piece {
	const char *field;
	uint8_t to, shift, bits;
	bool needed;
};

struct kvm_rule {
	const char *system, *name;
	uint8_t kind;
	struct piece pieces[KVM_PIECES];
};

#define NEED(field, to, shift, bits)         \
	{                                    \
		field, to, shift, bits, true \
	}
#define TAKE(field, to, shift, bits)          \
	{                                     \
		field, to, shift, bits, false \
	}

#define PAGE_PIECES                                                                            \
	NEED("gfn", TO_A, 0, 64), NEED("role", TO_B, 0, 32), TAKE("root_count", TO_B, 32, 32), \
	    TAKE("created", TO_C, 0, 1), TAKE("unsync", TO_C, 1, 1),                           \
	    TAKE("mmu_valid_gen", TO_C, 8, 32)

static const struct kvm_rule rules[] = {
    {"kvm",
     "kvm_page_fault",
     UMBRA_TRACE_KVM_FAULT,
     {NEED("fault_address", TO_A, 0, 64), TAKE("guest_rip", TO_B, 0, 64),
      TAKE("error_code", TO_C, 0, 64)}},
    {"kvmmmu",
     "fast_page_fault",
     UMBRA_TRACE_KVM_FAST_FAULT,
     {NEED("cr2_or_gpa", TO_A, 0, 64), TAKE("new_spte", TO_B, 0, 64),
      TAKE("error_code", TO_C, 0, 32), TAKE("ret", TO_C, 32, 32)}},
    {"kvmmmu",
     "kvm_mmu_pagetable_walk",
     UMBRA_TRACE_KVM_WALK,
     {NEED("addr", TO_A, 0, 64), TAKE("pferr", TO_C, 0, 32)}},
    {"kvmmmu",
     "kvm_mmu_paging_element",
     UMBRA_TRACE_KVM_WORD,
     {NEED("pte", TO_A, 0, 64), NEED("level", TO_B, 0, 32)}},
    {"kvmmmu", "kvm_mmu_walker_error", UMBRA_TRACE_KVM_WALK_ERROR, {NEED("pferr", TO_C, 0, 32)}},
    {"kvmmmu", "kvm_mmu_set_accessed_bit", UMBRA_TRACE_KVM_ACCESSED, {NEED("gpa", TO_A, 0, 64)}},
    {"kvmmmu", "kvm_mmu_set_dirty_bit", UMBRA_TRACE_KVM_DIRTY, {NEED("gpa", TO_A, 0, 64)}},
    {"kvmmmu",
     "kvm_mmu_spte_requested",
     UMBRA_TRACE_KVM_REQUEST,
     {NEED("gfn", TO_A, 0, 64), NEED("pfn", TO_B, 0, 64), TAKE("level", TO_C, 0, 8)}},
    {"kvmmmu",
     "kvm_mmu_set_spte",
     UMBRA_TRACE_KVM_SPTE,
     {NEED("gfn", TO_A, 0, 64), NEED("spte", TO_B, 0, 64), TAKE("level", TO_C, 0, 8),
      TAKE("r", TO_C, 8, 1), TAKE("x", TO_C, 9, 1), TAKE("u", TO_C, 10, 1),
      TAKE("sptep", TO_C, 16, 48)}},
    {"kvmmmu",
     "kvm_tdp_mmu_spte_changed",
     UMBRA_TRACE_KVM_TDP_SPTE,
     {NEED("gfn", TO_A, 0, 56), TAKE("level", TO_A, 56, 8), NEED("old_spte", TO_B, 0, 64),
      NEED("new_spte", TO_C, 0, 64)}},
    {"kvmmmu",
     "kvm_mmu_split_huge_page",
     UMBRA_TRACE_KVM_SPLIT,
     {NEED("gfn", TO_A, 0, 64), TAKE("spte", TO_B, 0, 64), TAKE("level", TO_C, 0, 32),
      TAKE("errno", TO_C, 32, 32)}},
    {"kvmmmu", "kvm_mmu_get_page", UMBRA_TRACE_KVM_PAGE, {PAGE_PIECES}},
    {"kvmmmu", "kvm_mmu_prepare_zap_page", UMBRA_TRACE_KVM_ZAP, {PAGE_PIECES}},
    {"kvmmmu", "kvm_mmu_sync_page", UMBRA_TRACE_KVM_SYNC, {PAGE_PIECES}},
    {"kvmmmu", "kvm_mmu_unsync_page", UMBRA_TRACE_KVM_UNSYNC, {PAGE_PIECES}},
    {"kvmmmu",
     "kvm_mmu_zap_all_fast",
     UMBRA_TRACE_KVM_ZAP_ALL,
     {TAKE("mmu_valid_gen", TO_A, 0, 64), TAKE("mmu_used_pages", TO_B, 0, 64)}},
    {"kvm",
     "kvm_unmap_hva_range",
     UMBRA_TRACE_KVM_UNMAP,
     {NEED("start", TO_A, 0, 64), NEED("end", TO_B, 0, 64)}},
    {"kvm", "kvm_set_spte_hva", UMBRA_TRACE_KVM_REMAP, {NEED("hva", TO_A, 0, 64)}},
    {"kvm",
     "kvm_age_hva",
     UMBRA_TRACE_KVM_AGE,
     {NEED("start", TO_A, 0, 64), NEED("end", TO_B, 0, 64)}},
    {"kvm", "kvm_test_age_hva", UMBRA_TRACE_KVM_TEST_AGE, {NEED("hva", TO_A, 0, 64)}},
    {"kvmmmu",
     "mark_mmio_spte",
     UMBRA_TRACE_KVM_MMIO_MARK,
     {NEED("gfn", TO_A, 0, 64), TAKE("sptep", TO_B, 0, 64), TAKE("access", TO_C, 0, 32),
      TAKE("gen", TO_C, 32, 32)}},
    {"kvmmmu",
     "handle_mmio_page_fault",
     UMBRA_TRACE_KVM_MMIO_FAULT,
     {NEED("addr", TO_A, 0, 64), TAKE("gfn", TO_B, 0, 64), TAKE("access", TO_C, 0, 32)}},
    {"kvmmmu",
     "check_mmio_spte",
     UMBRA_TRACE_KVM_MMIO_CHECK,
     {NEED("spte", TO_A, 0, 64), TAKE("spte_gen", TO_B, 0, 64), TAKE("kvm_gen", TO_C, 0, 64)}},
    {"kvm",
     "kvm_mmio",
     UMBRA_TRACE_KVM_MMIO,
     {NEED("gpa", TO_A, 0, 64), TAKE("val", TO_B, 0, 64), TAKE("len", TO_C, 0, 32),
      TAKE("type", TO_C, 32, 32)}},
    {"kvm", "kvm_entry", UMBRA_TRACE_KVM_ENTRY, {TAKE("rip", TO_A, 0, 64)}},
    {"kvm",
     "kvm_exit",
     UMBRA_TRACE_KVM_EXIT,
     {TAKE("guest_rip", TO_A, 0, 64), NEED("exit_reason", TO_B, 0, 32), TAKE("isa", TO_B, 32, 32),
      TAKE("info1", TO_C, 0, 64)}},
    {"kvm",
     "kvm_cr",
     UMBRA_TRACE_KVM_CR,
     {NEED("cr", TO_A, 0, 64), NEED("val", TO_B, 0, 64), TAKE("rw", TO_C, 0, 1)}},
    {"kvm",
     "kvm_msr",
     UMBRA_TRACE_KVM_MSR,
     {NEED("ecx", TO_A, 0, 64), NEED("data", TO_B, 0, 64), TAKE("write", TO_C, 0, 1),
      TAKE("exception", TO_C, 1, 1)}},
    {"kvm",
     "kvm_invlpga",
     UMBRA_TRACE_KVM_INVLPGA,
     {NEED("address", TO_A, 0, 64), TAKE("rip", TO_B, 0, 64), TAKE("asid", TO_C, 0, 64)}},
    {"kvm",
     "kvm_emulate_insn",
     UMBRA_TRACE_KVM_EMULATE,
     {NEED("rip", TO_A, 0, 64), TAKE("insn", TO_B, 0, 64), TAKE("len", TO_C, 0, 8),
      TAKE("failed", TO_C, 8, 1)}},
};

#define RULES (sizeof(rules) / sizeof(rules[0]))

enum kvm_bound kvm_bind(struct kvm_event *event, const char *system, const char *name,
			kvm_lookup_fn *lookup, void *ctx)
{
	const struct kvm_rule *rule = rules;

	while (rule < rules + RULES && (strcmp(rule->name, name) || strcmp(rule->system, system)))
		rule++;
	memset(event, 0, sizeof(*event));
	if (rule == rules + RULES)
		return KVM_UNKNOWN;
	event->rule = rule;
	for (size_t i = 0; i < KVM_PIECES && rule->pieces[i].field; i++)
		if (!lookup(ctx, rule->pieces[i].field, &event->pieces[i])) {
			event->pieces[i].size = 0;
			if (rule->pieces[i].needed)
				return KVM_FOREIGN;
		}
	if (!lookup(ctx, "vcpu_id", &event->vcpu))
		event->vcpu.size = 0;
	return KVM_BOUND;
}

/* The first 8 bytes of a field, as a number. False: it lies outside. */
static bool fetch(const struct kvm_place *place, const uint8_t *bytes, size_t size, bool swap,
		  uint64_t *value)
{
	uint32_t count = place->size < 8 ? place->size : 8;

	*value = 0;
	if (place->offset > size || size - place->offset < count)
		return false;
	for (uint32_t i = 0; i < count; i++)
		*value |= (uint64_t)bytes[place->offset + i] << 8 * (swap ? count - 1 - i : i);
	return true;
}

bool kvm_convert(const struct kvm_event *event, const void *bytes, size_t size, bool swap,
		 unsigned cpu, struct umbra_record *record)
{
	const struct kvm_rule *rule = event->rule;
	uint64_t to[3] = {0}, value;

	for (size_t i = 0; i < KVM_PIECES && rule->pieces[i].field; i++) {
		const struct piece *p = &rule->pieces[i];

		if (!fetch(&event->pieces[i], bytes, size, swap, &value))
			return false;
		if (p->bits < 64)
			value &= (1ull << p->bits) - 1;
		to[p->to] |= value << p->shift;
	}
	if (!fetch(&event->vcpu, bytes, size, swap, &value))
		return false;
	*record = (struct umbra_record){.kind = rule->kind,
					.vcpu = (uint8_t)(event->vcpu.size ? value : cpu),
					.a = to[TO_A],
					.b = to[TO_B],
					.c = to[TO_C]};
	return true;
}

const char *kvm_kind(unsigned kind)
{
	if (kind == UMBRA_TRACE_KVM_LOST)
		return "lost";
	for (size_t i = 0; i < RULES; i++)
		if (rules[i].kind == kind)
			return rules[i].name;
	return NULL;
}
