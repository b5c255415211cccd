/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `umbra run`: judges what it was given, boots the guest, says what came of it. The order is the
 * story: options, guest's files, host's memory, (comparison), the machine, the verdict.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <umbra/machine.h>

#include "clock.h"
#include "commands.h"
#include "console.h"
#include "control.h"
#include "disk.h"
#include "files.h"
#include "guest.h"
#include "options.h"
#include "qemu.h"
#include "record.h"
#include "report.h"
#include "session.h"
#include "status.h"

#define COMPARE_LIMIT 120.0 /* seconds that plain QEMU may take to boot */

struct run {
	struct options options;
	struct guest guest;
	struct ram ram;
	struct disk disk;
	struct recording recording;
	struct control control;
	struct qemu qemu;
	struct console console;
	int vmm_fd;
	bool shell;
	double plain_seconds;
};

static uint64_t read_limit(const char *path, const char *key)
{
	char line[128];
	unsigned long long value = UINT64_MAX;
	FILE *file = fopen(path, "re");

	while (file && fgets(line, sizeof(line), file))
		if (strncmp(line, key, strlen(key)) == 0)
			sscanf(line + strlen(key), "%llu", &value);
	if (file)
		fclose(file);
	return value;
}

static enum status check_host_memory(uint64_t memory)
{
	uint64_t available = read_limit("/proc/meminfo", "MemAvailable:");
	uint64_t limit = read_limit("/sys/fs/cgroup/memory.max", "");
	uint64_t needed = qemu_machine_bytes(memory);

	if (available != UINT64_MAX)
		available *= 1024;
	if (limit < available)
		available = limit;
	if (needed <= available)
		return STATUS_OK;
	return complain(STATUS_MEMORY,
			"a guest of %" PRIu64 " MiB needs %" PRIu64 " MiB, the host has %" PRIu64
			" MiB available; give less with --memory",
			memory >> 20, needed >> 20, available >> 20);
}

static enum status open_vmm(struct run *run)
{
	const char *named = getenv("UMBRA_VMM");
	char path[PATH_MAX];

	if (named && *named)
		snprintf(path, sizeof(path), "%s", named);
	else
		files_find("vmm/umbra-vmm.elf", "umbra-vmm.elf", path);
	run->vmm_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (run->vmm_fd < 0)
		return complain(STATUS_VMM_MISSING,
				"hypervisor image %s: %s; build or install again, or set UMBRA_VMM",
				path, strerror(errno));
	return STATUS_OK;
}

/* How a session ended before its time; STATUS_OK if it did not. */
static enum status interruption(const struct session *session, enum session_end end)
{
	switch (end) {
	case SESSION_SIGNAL:
		return complain((enum status)(STATUS_SIGNAL + session->signal),
				"stopped by signal %d (%s)", session->signal,
				strsignal(session->signal));
	case SESSION_NO_READER:
		return complain(STATUS_ERROR, "stopped: nobody reads standard output");
	case SESSION_USER:
		return complain(STATUS_ENDED, "ended by Ctrl-A x");
	default:
		return STATUS_OK;
	}
}

/* What QEMU said before it ended badly, as a reason. */
static const char *reason(const struct qemu *qemu)
{
	return qemu->said[0] ? qemu->said : "it said nothing";
}

static enum status judge_vanished(const struct qemu *qemu)
{
	char how[64] = "";

	if (strstr(qemu->said, "invalid accelerator") || strstr(qemu->said, "No accelerator"))
		return complain(
		    STATUS_QEMU_NO_SVM,
		    "this QEMU has no TCG; install Debian's qemu-system-x86. It said: %s",
		    qemu->said);
	if (WIFSIGNALED(qemu->wait_status))
		snprintf(how, sizeof(how), "was killed by signal %d", WTERMSIG(qemu->wait_status));
	else
		snprintf(how, sizeof(how), "exited with status %d", WEXITSTATUS(qemu->wait_status));
	return complain(STATUS_VANISHED, "the hypervisor vanished: QEMU %s; %s", how, reason(qemu));
}

/* Boot the same guest on plain QEMU until its init speaks. */
static enum status compare(struct run *run)
{
	struct session session = {
	    .qemu = &run->qemu,
	    .console = &run->console,
	    .deadline = clock_now() + COMPARE_LIMIT,
	    .until_marker = true,
	};

	fprintf(stderr, "umbra: plain QEMU boots the same guest for comparison\n");
	enum status status = qemu_start_plain(&run->qemu, &run->options, &run->guest);
	if (status != STATUS_OK)
		return status;
	double started = run->qemu.started;
	console_open(&run->console, false, false);
	enum session_end end = session_run(&session);
	console_close(&run->console);
	if (end == SESSION_MARKER) {
		run->plain_seconds = run->console.ready_at - started;
		fprintf(stderr, "umbra: plain QEMU: init after %.2f s\n", run->plain_seconds);
		return STATUS_OK;
	}
	status = interruption(&session, end);
	if (status == STATUS_OK)
		fprintf(stderr,
			"umbra: no comparison: the guest did not say \"%s\" on plain QEMU%s%s\n",
			CONSOLE_MARKER, run->qemu.said[0] ? ": " : "", run->qemu.said);
	return status;
}

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
    [UMBRA_END_NOMEM] = {STATUS_NOMEM, "nomem",
			 "the machine ran out of memory; give less --quota or more --memory"},
    [UMBRA_END_AUDIT] = {STATUS_AUDIT, "audit", "an audit found a violation: a bug in umbra"},
    [UMBRA_END_IMAGE] = {STATUS_IMAGE, "image", "the hypervisor cannot load the guest"},
    [UMBRA_END_NO_SVM] = {STATUS_QEMU_NO_SVM, "no_svm",
			  "this QEMU offers no SVM; install Debian's qemu-system-x86"},
    [UMBRA_END_PANIC] = {STATUS_PANIC, "panic", "the hypervisor failed: a bug in umbra"},
    [UMBRA_END_GUEST] = {STATUS_OK, "guest_exit", ""},
    [UMBRA_END_BREACH] = {STATUS_BREACH, "breach",
			  "memory that is not the guest's was written: a bug in umbra"},
    [UMBRA_END_COMMAND] = {STATUS_ENDED, "interrupted", "the machine was told to stop"},
};

static enum status judge_end(struct run *run, struct report *report)
{
	struct umbra_machine *page = &report->page;

	page->message[sizeof(page->message) - 1] = '\0';
	if (page->magic != UMBRA_MACHINE_MAGIC || page->phase != UMBRA_PHASE_ENDED ||
	    page->end == UMBRA_END_NONE || page->end >= sizeof(ends) / sizeof(ends[0])) {
		report->exit = "vanished";
		return judge_vanished(&run->qemu);
	}
	report->exit = ends[page->end].name;
	enum status status = ends[page->end].status;
	if (status != STATUS_OK)
		return complain(status, "%s%s%s", ends[page->end].hint,
				page->message[0] ? ": " : "", page->message);
	if (page->end == UMBRA_END_GUEST && run->options.exit_code)
		return (enum status)(page->guest_status & 0xff);
	if (page->end == UMBRA_END_GUEST && page->guest_status != 1)
		return complain(STATUS_WORKLOAD, "the guest exited with status %u (port 0xf4)",
				page->guest_status & 0xff);
	if (page->audit_violations)
		return complain(STATUS_AUDIT, "audits found %" PRIu64 " violations",
				page->audit_violations);
	if (page->workload == 2)
		return complain(STATUS_WORKLOAD,
				"the guest's workload failed; its lines above say where");
	if (run->guest.expect_workload && page->workload != 1)
		return complain(STATUS_WORKLOAD, "the guest powered off before its workload ended");
	return STATUS_OK;
}

static enum status judge(struct run *run, const struct session *session, enum session_end end,
			 struct report *report)
{
	if (end == SESSION_EXITED)
		return judge_end(run, report);
	if (end == SESSION_UNTIL) {
		report->exit = "until";
		return STATUS_OK;
	}
	if (end == SESSION_TIMEOUT) {
		report->exit = "timeout";
		return complain(STATUS_TIMEOUT, "the guest did not end within %g s (--timeout)",
				run->options.timeout);
	}
	report->exit = "interrupted";
	return interruption(session, end);
}

static enum status boot(struct run *run)
{
	struct report report = {.kernel = run->guest.name, .memory = run->options.memory};
	struct session session = {
	    .qemu = &run->qemu,
	    .console = &run->console,
	    .page = run->ram.page,
	    .disk = run->disk.fd >= 0 ? &run->disk : NULL,
	    .control = run->control.listener >= 0 ? &run->control : NULL,
	    .ram = &run->ram,
	};

	run->control.ram = &run->ram;
	run->control.recording = &run->recording;
	fflush(stdout);
	enum status status = qemu_start_umbra(&run->qemu, &run->options, &run->guest, &run->ram,
					      &run->disk, run->vmm_fd);
	if (status != STATUS_OK)
		return status;
	if (run->recording.recorder)
		status = record_start(&run->recording, &run->ram);
	if (status != STATUS_OK) {
		qemu_stop(&run->qemu);
		record_discard(&run->recording);
		return status;
	}
	double started = run->qemu.started;
	if (run->options.timeout > 0)
		session.deadline = started + run->options.timeout;
	console_open(&run->console, true, run->shell);
	run->console.until = run->options.until;
	enum session_end end = session_run(&session);
	console_close(&run->console);

	enum status recorded = record_close(&run->recording);
	report.page = *run->ram.page;
	report.total_seconds = clock_now() - started;
	report.plain_seconds = run->plain_seconds;
	if (run->console.ready)
		report.boot_seconds = run->console.ready_at - started;
	status = judge(run, &session, end, &report);
	if (report.page.magic == UMBRA_MACHINE_MAGIC)
		report_table(&report);
	if (run->options.stats && !report_write(&report, run->options.stats) && status == STATUS_OK)
		status = STATUS_ERROR;
	return status == STATUS_OK ? recorded : status;
}

static enum status prepare(struct run *run)
{
	enum status status = check_host_memory(run->options.memory);

	run->shell = !run->options.batch && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
	if (status == STATUS_OK)
		status = guest_open(&run->guest, &run->options, run->shell);
	if (status == STATUS_OK)
		status = open_vmm(run);
	if (status == STATUS_OK && run->options.disk)
		status = disk_open(&run->disk, run->options.disk, run->options.disk_ro);
	run->recording.guest = run->guest.name;
	run->recording.memory = run->options.memory;
	if (status == STATUS_OK && run->options.control)
		status = control_open(&run->control, run->options.control);
	if (status == STATUS_OK && run->options.record) {
		char why[512];

		status = record_open(&run->recording, run->options.record, why, sizeof(why));
		if (status != STATUS_OK)
			complain(status, "--record: %s", why);
	}
	return status;
}

int run_command(int argc, char **argv)
{
	struct run run = {.guest = {.kernel_fd = -1, .initrd_fd = -1},
			  .ram = {.fd = -1},
			  .disk = DISK_NONE,
			  .control = CONTROL_NONE,
			  .vmm_fd = -1};
	bool done;
	enum status status = options_parse(argc, argv, &run.options, &done);

	if (status != STATUS_OK || done)
		return (int)status;
	status = prepare(&run);
	if (status == STATUS_OK) {
		session_block_signals();
		if (run.options.compare)
			status = compare(&run);
		if (status == STATUS_OK)
			status = ram_open(&run.ram, run.options.memory);
		if (status == STATUS_OK)
			status = boot(&run);
	}
	record_discard(&run.recording);
	control_close(&run.control);
	disk_close(&run.disk);
	ram_close(&run.ram);
	guest_close(&run.guest);
	if (run.vmm_fd >= 0)
		close(run.vmm_fd);
	return (int)status;
}
