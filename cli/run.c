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
#include "foresee.h"
#include "guest.h"
#include "options.h"
#include "qemu.h"
#include "record.h"
#include "report.h"
#include "serve.h"
#include "session.h"
#include "status.h"
#include "swapfile.h"
#include "verdict.h"

#define COMPARE_LIMIT 120.0 /* seconds that plain QEMU may take to boot */

struct run {
	struct options options;
	struct guest guest;
	struct ram ram[UMBRA_GUESTS_MAX];
	struct server server;
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

static enum status check_host_memory(const struct options *options)
{
	uint64_t available = read_limit("/proc/meminfo", "MemAvailable:");
	uint64_t limit = read_limit("/sys/fs/cgroup/memory.max", "");
	uint64_t needed = qemu_machine_bytes(options);

	if (available != UINT64_MAX)
		available *= 1024;
	if (limit < available)
		available = limit;
	if (needed <= available)
		return STATUS_OK;
	if (options->guests > 1)
		return complain(
		    STATUS_MEMORY,
		    "%u guests of %" PRIu64 " MiB need %" PRIu64 " MiB, the host has %" PRIu64
		    " MiB available; give less with --memory or --guests",
		    options->guests, options->memory >> 20, needed >> 20, available >> 20);
	return complain(STATUS_MEMORY,
			"a guest of %" PRIu64 " MiB needs %" PRIu64 " MiB, the host has %" PRIu64
			" MiB available; give less with --memory",
			options->memory >> 20, needed >> 20, available >> 20);
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

static bool is_machine(const struct umbra_machine *page)
{
	return page->magic == UMBRA_MACHINE_MAGIC;
}

/* It ended before it had set its guests up: what the first page says is said of all of them. */
static void spread(struct report *report)
{
	const struct umbra_machine *first = &report->guest[0].page;

	if (!is_machine(first) || first->phase != UMBRA_PHASE_ENDED || first->guests)
		return;
	for (unsigned i = 1; i < report->guests; i++)
		report->guest[i].page = *first;
}

/* Guest number @number has ended. */
static enum status judge_guest(const struct run *run, const struct report *report, unsigned number)
{
	const struct verdict_rules rules = {
	    .exit_code = run->options.exit_code,
	    .expect_workload = run->guest.expect_workload,
	    .swap = run->options.swap,
	};
	char who[32] = "";

	if (report->guests > 1)
		snprintf(who, sizeof(who), "guest %u: ", number);
	return verdict(&report->guest[number].page, &rules, who);
}

/* The machine ended by itself: how did each guest? The first that did not end well decides. */
static enum status judge_end(struct run *run, struct report *report)
{
	enum status status = STATUS_OK;
	bool vanished = false;

	spread(report);
	for (unsigned i = report->guests; i--;) {
		struct report_guest *guest = &report->guest[i];

		guest->exit = is_machine(&guest->page) ? verdict_name(&guest->page) : NULL;
		if (guest->exit)
			continue;
		guest->exit = "vanished";
		report->decided = i;
		vanished = true;
	}
	if (vanished)
		return judge_vanished(&run->qemu);
	for (unsigned i = 0; i < report->guests; i++) {
		enum status its = judge_guest(run, report, i);

		if (status == STATUS_OK && its != STATUS_OK) {
			status = its;
			report->decided = i;
		}
	}
	return status;
}

/* The session ended before the guests did, but for those that have an end of their own. */
static void cut_short(struct report *report, const char *exit)
{
	for (unsigned i = 0; i < report->guests; i++) {
		struct report_guest *guest = &report->guest[i];
		const char *own = is_machine(&guest->page) ? verdict_name(&guest->page) : NULL;

		guest->exit =
		    own && report->guests > 1 && guest->page.end != UMBRA_END_COMMAND ? own : exit;
	}
}

static enum status judge(struct run *run, const struct session *session, enum session_end end,
			 struct report *report)
{
	if (end == SESSION_EXITED)
		return judge_end(run, report);
	if (end == SESSION_UNTIL) {
		cut_short(report, "until");
		return STATUS_OK;
	}
	if (end == SESSION_TIMEOUT) {
		cut_short(report, "timeout");
		return complain(STATUS_TIMEOUT, "%s did not end within %g s (--timeout)",
				report->guests > 1 ? "the guests" : "the guest",
				run->options.timeout);
	}
	cut_short(report, "interrupted");
	return interruption(session, end);
}

/* Where everything is, now that the machine has ended. */
static void report_fill(struct run *run, struct report *report)
{
	report->total_seconds = clock_now() - run->qemu.started;
	report->plain_seconds = run->plain_seconds;
	if (run->console.ready)
		report->boot_seconds = run->console.ready_at - run->qemu.started;
	for (unsigned i = 0; i < report->guests; i++) {
		report->guest[i].page = *run->ram[i].page;
		report->guest[i].page.message[sizeof(report->guest[i].page.message) - 1] = '\0';
	}
}

/* QEMU, and the recorder. */
static enum status start(struct run *run)
{
	enum status status;
	char why[256];

	fflush(stdout);
	status = qemu_start_umbra(&run->qemu, &run->options, &run->guest, run->ram, &run->server,
				  run->vmm_fd);
	if (status != STATUS_OK)
		return status;
	if (!run->recording.recorder)
		return STATUS_OK;
	status =
	    record_start(&run->recording, &run->ram[run->options.record_guest], why, sizeof(why));
	if (status == STATUS_OK)
		return STATUS_OK;
	qemu_stop(&run->qemu);
	return complain(status, "--record: %s", why);
}

static enum status boot(struct run *run)
{
	struct report report = {.kernel = run->guest.name,
				.memory = run->options.memory,
				.guests = run->options.guests};
	struct session session = {
	    .qemu = &run->qemu,
	    .console = &run->console,
	    .ram = run->ram,
	    .guests = run->options.guests,
	    .server = run->server.bell[0] >= 0 ? &run->server : NULL,
	    .control = run->control.listener >= 0 ? &run->control : NULL,
	};

	control_machine(&run->control, run->ram, run->options.guests, &run->recording);
	enum status status = start(run);
	if (status != STATUS_OK)
		return status;
	if (run->options.timeout > 0)
		session.deadline = run->qemu.started + run->options.timeout;
	console_open(&run->console, true, run->shell);
	run->console.until = run->options.until;
	enum session_end end = session_run(&session);
	console_close(&run->console);

	enum status recorded = record_close(&run->recording);
	report_fill(run, &report);
	status = judge(run, &session, end, &report);
	if (is_machine(&report.guest[0].page))
		report_table(&report);
	if (run->options.stats && !report_write(&report, run->options.stats) && status == STATUS_OK)
		status = STATUS_ERROR;
	return status == STATUS_OK ? recorded : status;
}

static enum status prepare(struct run *run)
{
	enum status status = check_host_memory(&run->options);

	run->shell = !run->options.batch && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
	if (status == STATUS_OK)
		status = foresee(&run->options);
	if (status == STATUS_OK)
		status = open_vmm(run);
	if (status == STATUS_OK && run->options.disk)
		status = disk_open(&run->server.store[UMBRA_FILE_DISK], run->options.disk,
				   run->options.disk_ro);
	if (status == STATUS_OK && run->options.swap)
		status = swapfile_open(&run->server.store[UMBRA_FILE_SWAP], run->options.swap,
				       run->options.swap_bytes);
	if (status == STATUS_OK)
		status = guest_open(&run->guest, &run->options, run->shell);
	if (status == STATUS_OK)
		status = serve_open(&run->server);
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
			  .ram = {RAM_NONE},
			  .server = SERVER_NONE,
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
			status = ram_open(run.ram, &run.options);
		if (status == STATUS_OK)
			status = boot(&run);
	}
	record_discard(&run.recording);
	control_close(&run.control);
	disk_close(&run.server.store[UMBRA_FILE_DISK]);
	swapfile_close(&run.server.store[UMBRA_FILE_SWAP]);
	serve_close(&run.server);
	ram_close(run.ram);
	guest_close(&run.guest);
	if (run.vmm_fd >= 0)
		close(run.vmm_fd);
	return (int)status;
}
