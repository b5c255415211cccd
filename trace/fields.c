/* SPDX-License-Identifier: BSD-2-Clause */
/* The tables. */
#include "fields.h"

#define A 0
#define B 1
#define C 2

/* Kinds stand together. */
static const struct trace_place places[] = {
    {UMBRA_TRACE_WORD4, FIELD_GPA, A, 0, 64, false},
    {UMBRA_TRACE_WORD4, FIELD_VALUE, B, 0, 32, false},
    {UMBRA_TRACE_WORD8, FIELD_GPA, A, 0, 64, false},
    {UMBRA_TRACE_WORD8, FIELD_VALUE, B, 0, 64, false},
    {UMBRA_TRACE_FRAME, FIELD_GFN, A, 0, 64, false},
    {UMBRA_TRACE_FRAME, FIELD_PFN, B, 0, 64, false},
    {UMBRA_TRACE_FRAME, FIELD_RESULT, C, 32, 32, true},
    {UMBRA_TRACE_SLOT_ADD, FIELD_GFN, A, 0, 64, false},
    {UMBRA_TRACE_SLOT_ADD, FIELD_PAGES, B, 0, 64, false},
    {UMBRA_TRACE_SLOT_ADD, FIELD_SLOT, C, 0, 32, false},
    {UMBRA_TRACE_SLOT_ADD, FIELD_FLAGS, C, 32, 32, false},
    {UMBRA_TRACE_SLOT_DELETE, FIELD_SLOT, A, 0, 32, false},
    {UMBRA_TRACE_PAGING, FIELD_CR0, A, 0, 32, false},
    {UMBRA_TRACE_PAGING, FIELD_CR4, A, 32, 32, false},
    {UMBRA_TRACE_PAGING, FIELD_CR3, B, 0, 64, false},
    {UMBRA_TRACE_PAGING, FIELD_EFER, C, 0, 32, false},
    {UMBRA_TRACE_PAGING, FIELD_RESULT, C, 32, 32, true},
    {UMBRA_TRACE_KEYS, FIELD_PKRU, A, 0, 32, false},
    {UMBRA_TRACE_KEYS, FIELD_PKRS, A, 32, 32, false},
    {UMBRA_TRACE_ROOT, FIELD_LEVELS, A, 0, 8, false},
    {UMBRA_TRACE_FAULT, FIELD_GVA, A, 0, 64, false},
    {UMBRA_TRACE_FAULT, FIELD_RIP, B, 0, 64, false},
    {UMBRA_TRACE_FAULT, FIELD_ERROR_CODE, C, 0, 32, false},
    {UMBRA_TRACE_FAULT, FIELD_VERDICT, C, 32, 8, false},
    {UMBRA_TRACE_FAULT, FIELD_INJECTED, C, 40, 24, false},
    {UMBRA_TRACE_TRANSLATE, FIELD_GVA, A, 0, 64, false},
    {UMBRA_TRACE_TRANSLATE, FIELD_RIP, B, 0, 64, false},
    {UMBRA_TRACE_TRANSLATE, FIELD_ERROR_CODE, C, 0, 32, false},
    {UMBRA_TRACE_TRANSLATE, FIELD_VERDICT, C, 32, 8, false},
    {UMBRA_TRACE_TRANSLATE, FIELD_INJECTED, C, 40, 24, false},
    {UMBRA_TRACE_WRITE, FIELD_GPA, A, 0, 64, false},
    {UMBRA_TRACE_WRITE, FIELD_BYTES, B, 0, 64, false},
    {UMBRA_TRACE_UNPROTECT, FIELD_GFN, A, 0, 64, false},
    {UMBRA_TRACE_UNPROTECT, FIELD_TABLES, B, 0, 64, false},
    {UMBRA_TRACE_INVLPG, FIELD_GVA, A, 0, 64, false},
    {UMBRA_TRACE_INVPCID, FIELD_GVA, A, 0, 64, false},
    {UMBRA_TRACE_INVPCID, FIELD_TYPE, B, 0, 16, false},
    {UMBRA_TRACE_INVPCID, FIELD_PCID, B, 16, 16, false},
    {UMBRA_TRACE_DROP, FIELD_GFN, A, 0, 64, false},
    {UMBRA_TRACE_DROP, FIELD_PAGES, B, 0, 64, false},
    {UMBRA_TRACE_DROP, FIELD_SPTES, C, 0, 64, false},
    {UMBRA_TRACE_PROTECT, FIELD_GFN, A, 0, 64, false},
    {UMBRA_TRACE_PROTECT, FIELD_PAGES, B, 0, 64, false},
    {UMBRA_TRACE_PROTECT, FIELD_SPTES, C, 0, 64, false},
    {UMBRA_TRACE_REMAP, FIELD_GFN, A, 0, 64, false},
    {UMBRA_TRACE_REMAP, FIELD_PFN, B, 0, 64, false},
    {UMBRA_TRACE_REMAP, FIELD_SPTES, C, 0, 64, false},
    {UMBRA_TRACE_QUOTA, FIELD_TABLES, A, 0, 32, false},
    {UMBRA_TRACE_MARK, FIELD_CODE, A, 0, 32, false},
    {UMBRA_TRACE_MARK, FIELD_ARGUMENT, B, 0, 64, false},
    {UMBRA_TRACE_END, FIELD_CODE, A, 0, 32, false},
    {UMBRA_TRACE_END, FIELD_SPTES, B, 0, 64, false},
    {UMBRA_TRACE_END, FIELD_TABLES, C, 0, 64, false},
    {UMBRA_TRACE_KVM_LOST, FIELD_ARGUMENT, A, 0, 64, false},
    {UMBRA_TRACE_KVM_FAULT, FIELD_GVA, A, 0, 64, false},
    {UMBRA_TRACE_KVM_FAULT, FIELD_RIP, B, 0, 64, false},
    {UMBRA_TRACE_KVM_FAULT, FIELD_ERROR_CODE, C, 0, 32, false},
    {UMBRA_TRACE_KVM_FAST_FAULT, FIELD_GVA, A, 0, 64, false},
    {UMBRA_TRACE_KVM_FAST_FAULT, FIELD_SPTE, B, 0, 64, false},
    {UMBRA_TRACE_KVM_FAST_FAULT, FIELD_ERROR_CODE, C, 0, 32, false},
    {UMBRA_TRACE_KVM_FAST_FAULT, FIELD_RESULT, C, 32, 32, true},
    {UMBRA_TRACE_KVM_WALK, FIELD_GVA, A, 0, 64, false},
    {UMBRA_TRACE_KVM_WALK, FIELD_ERROR_CODE, C, 0, 32, false},
    {UMBRA_TRACE_KVM_WORD, FIELD_VALUE, A, 0, 64, false},
    {UMBRA_TRACE_KVM_WORD, FIELD_LEVEL, B, 0, 8, false},
    {UMBRA_TRACE_KVM_WALK_ERROR, FIELD_INJECTED, C, 0, 32, false},
    {UMBRA_TRACE_KVM_ACCESSED, FIELD_GPA, A, 0, 64, false},
    {UMBRA_TRACE_KVM_DIRTY, FIELD_GPA, A, 0, 64, false},
    {UMBRA_TRACE_KVM_REQUEST, FIELD_GFN, A, 0, 64, false},
    {UMBRA_TRACE_KVM_REQUEST, FIELD_PFN, B, 0, 64, false},
    {UMBRA_TRACE_KVM_REQUEST, FIELD_LEVEL, C, 0, 8, false},
    {UMBRA_TRACE_KVM_SPTE, FIELD_GFN, A, 0, 64, false},
    {UMBRA_TRACE_KVM_SPTE, FIELD_SPTE, B, 0, 64, false},
    {UMBRA_TRACE_KVM_SPTE, FIELD_LEVEL, C, 0, 8, false},
    {UMBRA_TRACE_KVM_SPTE, FIELD_FLAGS, C, 8, 3, false},
    {UMBRA_TRACE_KVM_TDP_SPTE, FIELD_GFN, A, 0, 56, false},
    {UMBRA_TRACE_KVM_TDP_SPTE, FIELD_LEVEL, A, 56, 8, false},
    {UMBRA_TRACE_KVM_TDP_SPTE, FIELD_VALUE, B, 0, 64, false},
    {UMBRA_TRACE_KVM_TDP_SPTE, FIELD_SPTE, C, 0, 64, false},
    {UMBRA_TRACE_KVM_SPLIT, FIELD_GFN, A, 0, 64, false},
    {UMBRA_TRACE_KVM_SPLIT, FIELD_SPTE, B, 0, 64, false},
    {UMBRA_TRACE_KVM_SPLIT, FIELD_LEVEL, C, 0, 8, false},
    {UMBRA_TRACE_KVM_SPLIT, FIELD_RESULT, C, 32, 32, true},
    {UMBRA_TRACE_KVM_PAGE, FIELD_GFN, A, 0, 64, false},
    {UMBRA_TRACE_KVM_PAGE, FIELD_ROLE, B, 0, 32, false},
    {UMBRA_TRACE_KVM_PAGE, FIELD_LEVEL, B, 0, 4, false},
    {UMBRA_TRACE_KVM_PAGE, FIELD_ROOTS, B, 32, 32, false},
    {UMBRA_TRACE_KVM_PAGE, FIELD_UNSYNC, C, 1, 1, false},
    {UMBRA_TRACE_KVM_PAGE, FIELD_CREATED, C, 0, 1, false},
    {UMBRA_TRACE_KVM_ZAP, FIELD_GFN, A, 0, 64, false},
    {UMBRA_TRACE_KVM_ZAP, FIELD_ROLE, B, 0, 32, false},
    {UMBRA_TRACE_KVM_ZAP, FIELD_LEVEL, B, 0, 4, false},
    {UMBRA_TRACE_KVM_ZAP, FIELD_ROOTS, B, 32, 32, false},
    {UMBRA_TRACE_KVM_ZAP, FIELD_UNSYNC, C, 1, 1, false},
    {UMBRA_TRACE_KVM_SYNC, FIELD_GFN, A, 0, 64, false},
    {UMBRA_TRACE_KVM_SYNC, FIELD_ROLE, B, 0, 32, false},
    {UMBRA_TRACE_KVM_SYNC, FIELD_LEVEL, B, 0, 4, false},
    {UMBRA_TRACE_KVM_SYNC, FIELD_ROOTS, B, 32, 32, false},
    {UMBRA_TRACE_KVM_SYNC, FIELD_UNSYNC, C, 1, 1, false},
    {UMBRA_TRACE_KVM_UNSYNC, FIELD_GFN, A, 0, 64, false},
    {UMBRA_TRACE_KVM_UNSYNC, FIELD_ROLE, B, 0, 32, false},
    {UMBRA_TRACE_KVM_UNSYNC, FIELD_LEVEL, B, 0, 4, false},
    {UMBRA_TRACE_KVM_UNSYNC, FIELD_ROOTS, B, 32, 32, false},
    {UMBRA_TRACE_KVM_UNSYNC, FIELD_UNSYNC, C, 1, 1, false},
    {UMBRA_TRACE_KVM_ZAP_ALL, FIELD_TABLES, B, 0, 64, false},
    {UMBRA_TRACE_KVM_UNMAP, FIELD_HVA, A, 0, 64, false},
    {UMBRA_TRACE_KVM_UNMAP, FIELD_HVA_END, B, 0, 64, false},
    {UMBRA_TRACE_KVM_REMAP, FIELD_HVA, A, 0, 64, false},
    {UMBRA_TRACE_KVM_AGE, FIELD_HVA, A, 0, 64, false},
    {UMBRA_TRACE_KVM_AGE, FIELD_HVA_END, B, 0, 64, false},
    {UMBRA_TRACE_KVM_TEST_AGE, FIELD_HVA, A, 0, 64, false},
    {UMBRA_TRACE_KVM_MMIO_MARK, FIELD_GFN, A, 0, 64, false},
    {UMBRA_TRACE_KVM_MMIO_FAULT, FIELD_GVA, A, 0, 64, false},
    {UMBRA_TRACE_KVM_MMIO_FAULT, FIELD_GFN, B, 0, 64, false},
    {UMBRA_TRACE_KVM_MMIO_CHECK, FIELD_SPTE, A, 0, 64, false},
    {UMBRA_TRACE_KVM_MMIO, FIELD_GPA, A, 0, 64, false},
    {UMBRA_TRACE_KVM_MMIO, FIELD_VALUE, B, 0, 64, false},
    {UMBRA_TRACE_KVM_MMIO, FIELD_BYTES, C, 0, 32, false},
    {UMBRA_TRACE_KVM_MMIO, FIELD_TYPE, C, 32, 32, false},
    {UMBRA_TRACE_KVM_ENTRY, FIELD_RIP, A, 0, 64, false},
    {UMBRA_TRACE_KVM_EXIT, FIELD_RIP, A, 0, 64, false},
    {UMBRA_TRACE_KVM_EXIT, FIELD_REASON, B, 0, 32, false},
    {UMBRA_TRACE_KVM_EXIT, FIELD_ARGUMENT, C, 0, 64, false},
    {UMBRA_TRACE_KVM_CR, FIELD_CODE, A, 0, 64, false},
    {UMBRA_TRACE_KVM_CR, FIELD_VALUE, B, 0, 64, false},
    {UMBRA_TRACE_KVM_CR, FIELD_ARGUMENT, C, 0, 1, false},
    {UMBRA_TRACE_KVM_MSR, FIELD_CODE, A, 0, 64, false},
    {UMBRA_TRACE_KVM_MSR, FIELD_VALUE, B, 0, 64, false},
    {UMBRA_TRACE_KVM_MSR, FIELD_ARGUMENT, C, 0, 2, false},
    {UMBRA_TRACE_KVM_INVLPGA, FIELD_GVA, A, 0, 64, false},
    {UMBRA_TRACE_KVM_INVLPGA, FIELD_RIP, B, 0, 64, false},
    {UMBRA_TRACE_KVM_INVLPGA, FIELD_ARGUMENT, C, 0, 64, false},
    {UMBRA_TRACE_KVM_EMULATE, FIELD_RIP, A, 0, 64, false},
    {UMBRA_TRACE_KVM_EMULATE, FIELD_VALUE, B, 0, 64, false},
    {UMBRA_TRACE_KVM_EMULATE, FIELD_BYTES, C, 0, 8, false},
    {UMBRA_TRACE_KVM_EMULATE, FIELD_RESULT, C, 8, 1, false},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const char *const kinds[] = {
    [UMBRA_TRACE_WORD4] = "word",
    [UMBRA_TRACE_WORD8] = "word",
    [UMBRA_TRACE_AGE] = "age",
    [UMBRA_TRACE_FRAME] = "frame",
    [UMBRA_TRACE_SLOT_ADD] = "slot add",
    [UMBRA_TRACE_SLOT_DELETE] = "slot delete",
    [UMBRA_TRACE_VCPU] = "vcpu",
    [UMBRA_TRACE_PAGING] = "paging",
    [UMBRA_TRACE_KEYS] = "keys",
    [UMBRA_TRACE_ROOT] = "root",
    [UMBRA_TRACE_FAULT] = "fault",
    [UMBRA_TRACE_TRANSLATE] = "translate",
    [UMBRA_TRACE_WRITE] = "write",
    [UMBRA_TRACE_UNPROTECT] = "unprotect",
    [UMBRA_TRACE_INVLPG] = "invlpg",
    [UMBRA_TRACE_INVPCID] = "invpcid",
    [UMBRA_TRACE_DROP] = "drop",
    [UMBRA_TRACE_PROTECT] = "write-protect",
    [UMBRA_TRACE_REMAP] = "remap",
    [UMBRA_TRACE_ZAP_ALL] = "zap all",
    [UMBRA_TRACE_QUOTA] = "quota",
    [UMBRA_TRACE_MARK] = "mark",
    [UMBRA_TRACE_END] = "end",
    /* By KVM's names. */
    [UMBRA_TRACE_KVM_LOST] = "lost",
    [UMBRA_TRACE_KVM_FAULT] = "kvm_page_fault",
    [UMBRA_TRACE_KVM_FAST_FAULT] = "fast_page_fault",
    [UMBRA_TRACE_KVM_WALK] = "kvm_mmu_pagetable_walk",
    [UMBRA_TRACE_KVM_WORD] = "kvm_mmu_paging_element",
    [UMBRA_TRACE_KVM_WALK_ERROR] = "kvm_mmu_walker_error",
    [UMBRA_TRACE_KVM_ACCESSED] = "kvm_mmu_set_accessed_bit",
    [UMBRA_TRACE_KVM_DIRTY] = "kvm_mmu_set_dirty_bit",
    [UMBRA_TRACE_KVM_REQUEST] = "kvm_mmu_spte_requested",
    [UMBRA_TRACE_KVM_SPTE] = "kvm_mmu_set_spte",
    [UMBRA_TRACE_KVM_TDP_SPTE] = "kvm_tdp_mmu_spte_changed",
    [UMBRA_TRACE_KVM_SPLIT] = "kvm_mmu_split_huge_page",
    [UMBRA_TRACE_KVM_PAGE] = "kvm_mmu_get_page",
    [UMBRA_TRACE_KVM_ZAP] = "kvm_mmu_prepare_zap_page",
    [UMBRA_TRACE_KVM_SYNC] = "kvm_mmu_sync_page",
    [UMBRA_TRACE_KVM_UNSYNC] = "kvm_mmu_unsync_page",
    [UMBRA_TRACE_KVM_ZAP_ALL] = "kvm_mmu_zap_all_fast",
    [UMBRA_TRACE_KVM_UNMAP] = "kvm_unmap_hva_range",
    [UMBRA_TRACE_KVM_REMAP] = "kvm_set_spte_hva",
    [UMBRA_TRACE_KVM_AGE] = "kvm_age_hva",
    [UMBRA_TRACE_KVM_TEST_AGE] = "kvm_test_age_hva",
    [UMBRA_TRACE_KVM_MMIO_MARK] = "mark_mmio_spte",
    [UMBRA_TRACE_KVM_MMIO_FAULT] = "handle_mmio_page_fault",
    [UMBRA_TRACE_KVM_MMIO_CHECK] = "check_mmio_spte",
    [UMBRA_TRACE_KVM_MMIO] = "kvm_mmio",
    [UMBRA_TRACE_KVM_ENTRY] = "kvm_entry",
    [UMBRA_TRACE_KVM_EXIT] = "kvm_exit",
    [UMBRA_TRACE_KVM_CR] = "kvm_cr",
    [UMBRA_TRACE_KVM_MSR] = "kvm_msr",
    [UMBRA_TRACE_KVM_INVLPGA] = "kvm_invlpga",
    [UMBRA_TRACE_KVM_EMULATE] = "kvm_emulate_insn",
};

static const char *const fields[FIELDS] = {
    [FIELD_GVA] = "gva",           [FIELD_GPA] = "gpa",
    [FIELD_GFN] = "gfn",           [FIELD_PAGES] = "pages",
    [FIELD_PFN] = "pfn",           [FIELD_RIP] = "rip",
    [FIELD_VERDICT] = "verdict",   [FIELD_ERROR_CODE] = "error_code",
    [FIELD_SPTES] = "sptes",       [FIELD_INJECTED] = "injected",
    [FIELD_BYTES] = "bytes",       [FIELD_TABLES] = "tables",
    [FIELD_VALUE] = "value",       [FIELD_SLOT] = "slot",
    [FIELD_FLAGS] = "flags",       [FIELD_CR0] = "cr0",
    [FIELD_CR3] = "cr3",           [FIELD_CR4] = "cr4",
    [FIELD_EFER] = "efer",         [FIELD_PKRU] = "pkru",
    [FIELD_PKRS] = "pkrs",         [FIELD_LEVELS] = "levels",
    [FIELD_TYPE] = "type",         [FIELD_PCID] = "pcid",
    [FIELD_RESULT] = "result",     [FIELD_CODE] = "code",
    [FIELD_ARGUMENT] = "argument", [FIELD_SPTE] = "spte",
    [FIELD_LEVEL] = "level",       [FIELD_ROLE] = "role",
    [FIELD_ROOTS] = "roots",       [FIELD_CREATED] = "created",
    [FIELD_UNSYNC] = "unsync",     [FIELD_HVA] = "hva",
    [FIELD_HVA_END] = "hva_end",   [FIELD_REASON] = "reason",
};

static const char *const verdicts[] = {
    [UMBRA_RESUME] = "resume",   [UMBRA_INJECT] = "inject", [UMBRA_MMIO] = "mmio",
    [UMBRA_EMULATE] = "emulate", [UMBRA_RETRY] = "retry",   [UMBRA_NOMEM] = "nomem",
};

const char *trace_kind_name(unsigned kind)
{
	return kind < COUNT(kinds) ? kinds[kind] : NULL;
}

const char *trace_field_name(unsigned field)
{
	return field < FIELDS ? fields[field] : NULL;
}

const char *trace_verdict_name(unsigned verdict)
{
	return verdict < COUNT(verdicts) ? verdicts[verdict] : NULL;
}

const struct trace_place *trace_places(unsigned kind, size_t *count)
{
	size_t first = 0;

	while (first < COUNT(places) && places[first].kind != kind)
		first++;
	for (*count = 0; first + *count < COUNT(places) && places[first + *count].kind == kind;)
		++*count;
	return &places[first < COUNT(places) ? first : 0];
}

int64_t trace_field_of(const struct umbra_record *record, const struct trace_place *place)
{
	const uint64_t words[] = {record->a, record->b, record->c};
	unsigned spare = 64 - place->bits;
	uint64_t at = words[place->word] >> place->shift << spare;

	return place->is_signed ? (int64_t)at >> spare : (int64_t)(at >> spare);
}
