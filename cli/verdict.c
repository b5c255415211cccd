/* SPDX-License-Identifier: BSD-2-Clause */
/* Owns the table of ends: what each is called, and the command's status for it. */
#include "verdict.h"

#include <inttypes.h>
#include <stddef.h>

static const struct {
	enum status status;
	const char *name;
	const char *hint;
} ends[] = {
    [UMBRA_END_POWEROFF] = {STATUS_OK, "poweroff", ""},
    [UMBRA_END_REBOOT] = {STATUS_REBOOT, "reboot", "the guest asked for a reset"},
    [UMBRA_END_TRIPLE_FAULT] = {STATUS_TRIPLE_FAULT, "triple_fault", "the guest triple-faulted"},
    [UMBRA_END_UNMAPPED] = {STATUS_UNMAPPED, "unmapped", "the guest runs where there is no memory"},
    [UMBRA_END_EMULATE] = {STATUS_EMULATE, "emulation",
			   "the guest used an instruction that cannot be emulated"},
    [UMBRA_END_NOMEM] = {STATUS_NOMEM, "nomem", "the machine ran out of memory"},
    [UMBRA_END_AUDIT] = {STATUS_AUDIT, "audit", "an audit found a violation: a bug in umbra"},
    [UMBRA_END_IMAGE] = {STATUS_IMAGE, "image", "the hypervisor cannot load the guest"},
    [UMBRA_END_NO_SVM] = {STATUS_QEMU_NO_SVM, "no_svm",
			  "this QEMU offers no SVM; install Debian's qemu-system-x86"},
    [UMBRA_END_PANIC] = {STATUS_PANIC, "panic", "the hypervisor failed: a bug in umbra"},
    [UMBRA_END_GUEST] = {STATUS_OK, "guest_exit", ""},
    [UMBRA_END_BREACH] = {STATUS_BREACH, "breach",
			  "memory that is not the guest's was written: a bug in umbra"},
    [UMBRA_END_SWAP] = {STATUS_SWAP, "swap", "a page did not come back as it was swapped out"},
    [UMBRA_END_COMMAND] = {STATUS_ENDED, "interrupted", "the machine was told to stop"},
};

const char *verdict_name(const struct umbra_machine *page)
{
	if (page->phase != UMBRA_PHASE_ENDED || page->end == UMBRA_END_NONE ||
	    page->end >= sizeof(ends) / sizeof(ends[0]))
		return NULL;
	return ends[page->end].name;
}

enum status verdict(const struct umbra_machine *page, const struct verdict_rules *rules,
		    const char *who)
{
	enum status status = ends[page->end].status;

	if (page->end == UMBRA_END_SWAP)
		return complain(status, "%s%s: %s, %s", who, ends[page->end].hint, page->message,
				rules->swap ? rules->swap : "");
	if (status != STATUS_OK)
		return complain(status, "%s%s%s%s", who, ends[page->end].hint,
				page->message[0] ? ": " : "", page->message);
	if (page->end == UMBRA_END_GUEST && rules->exit_code)
		return (enum status)(page->guest_status & 0xff);
	if (page->end == UMBRA_END_GUEST && page->guest_status != 1)
		return complain(STATUS_WORKLOAD, "%sthe guest exited with status %u (port 0xf4)",
				who, page->guest_status & 0xff);
	if (page->audit_violations)
		return complain(STATUS_AUDIT, "%saudits found %" PRIu64 " violations", who,
				page->audit_violations);
	if (page->workload == 2)
		return complain(STATUS_WORKLOAD,
				"%sthe guest's workload failed; its lines above say where", who);
	if (rules->expect_workload && page->workload != 1)
		return complain(STATUS_WORKLOAD,
				"%sthe guest powered off before its workload ended", who);
	return STATUS_OK;
}
