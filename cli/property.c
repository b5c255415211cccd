/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A candidate is a file in memory, which the command finds under /proc: nothing is left of it,
 * however we end. The command gets a process group of its own, so that all of it can be ended.
 */
#include "property.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

bool property_init(struct property *p)
{
	p->file = memfd_create("umbra-shrink.utr", MFD_CLOEXEC);
	if (p->file < 0) {
		complain(STATUS_ERROR, "cannot make a file in memory: %s", strerror(errno));
		return false;
	}
	snprintf(p->path, sizeof(p->path), "/proc/%d/fd/%d", (int)getpid(), p->file);
	return true;
}

void property_end(struct property *p)
{
	close(p->file);
}

static bool candidate_write(struct property *p, const struct umbra_record *records, size_t count)
{
	struct trace_error error;
	struct trace_writer *writer = trace_create(p->path, &p->header, &error);

	if (writer) {
		bool wrote = trace_write(writer, records, count, &error);

		if (trace_close(writer, wrote ? &error : &(struct trace_error){0}) && wrote)
			return true;
	}
	p->trouble = complain(STATUS_ERROR, "%s", error.text);
	return false;
}

static _Noreturn void child(const struct property *p, bool aloud)
{
	static const int signals[] = {SIGHUP, SIGINT, SIGTERM};
	int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setpgid(0, 0);
	for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		signal(signals[i], SIG_DFL);
	if (nowhere >= 0) {
		dup2(nowhere, STDIN_FILENO);
		dup2(nowhere, STDOUT_FILENO);
		if (!aloud)
			dup2(nowhere, STDERR_FILENO);
	}
	execl("/bin/sh", "sh", "-c", p->command, "umbra-shrink", p->path, (char *)NULL);
	_exit(127);
}

/* Its wait status. False: it could not be run, or we are to stop. */
static bool command_run(struct property *p, bool aloud, int *status)
{
	pid_t pid;

	fflush(NULL);
	pid = *p->stop ? -1 : fork();
	if (pid == 0)
		child(p, aloud);
	if (pid < 0) {
		if (!*p->stop)
			p->trouble =
			    complain(STATUS_ERROR, "cannot start /bin/sh: %s", strerror(errno));
		return false;
	}
	while (waitpid(pid, status, 0) < 0 && errno == EINTR)
		if (*p->stop && kill(-pid, SIGKILL))
			kill(pid, SIGKILL); /* it has no group yet */
	return !*p->stop;
}

enum shrink_answer property_test(void *ctx, const struct umbra_record *records, size_t count)
{
	struct property *p = ctx;
	int status;

	if (!candidate_write(p, records, count) || !command_run(p, false, &status))
		return SHRINK_STOP;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? SHRINK_YES : SHRINK_NO;
}

/* 0: none. A shell's status says it too. */
static int ending_signal(int status)
{
	if (WIFSIGNALED(status))
		return WTERMSIG(status);
	return WEXITSTATUS(status) > 128 && WEXITSTATUS(status) < 128 + SIGRTMAX
		   ? WEXITSTATUS(status) - 128
		   : 0;
}

enum status property_try(struct property *p, const struct umbra_record *records, size_t count)
{
	int status;

	if (!candidate_write(p, records, count) || !command_run(p, true, &status))
		return p->trouble;
	if (ending_signal(status))
		return complain(STATUS_ERROR, "--property: signal %d (%s) ended the command \"%s\"",
				ending_signal(status), strsignal(ending_signal(status)),
				p->command);
	if (WEXITSTATUS(status) == 126 || WEXITSTATUS(status) == 127)
		return complain(STATUS_USAGE,
				"--property: /bin/sh cannot run \"%s\"; the trace is its $1",
				p->command);
	if (WEXITSTATUS(status))
		return complain(STATUS_ABSENT,
				"the trace does not have the property: \"%s\" says %d, not 0",
				p->command, WEXITSTATUS(status));
	return STATUS_OK;
}
