/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An audit costs as much as a hundred events, so they are spared: where the violation is, is found
 * by few audits of the whole trace and then by more of them between the last good one and the first
 * bad one. A candidate is audited at its end alone; a small one that fails there is replayed again
 * with an audit behind each event, so that the kind is what `umbra replay --audit 1` will say.
 */
#include "judge.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "replay.h"

#define STEPS       64u   /* audits in a span that is looked through */
#define LOOKS       3u    /* times that the whole trace is looked through */
#define SMALL       2000u /* events that are all audited */
#define LIMIT_LEAST 10u   /* seconds */

/* What a child has to say. */
struct report {
	unsigned wrong; /* 0: nothing */
	size_t events;  /* up to there */
	char why[sizeof(((struct judge *)0)->why)];
};

/* When to audit: behind each event whose number, counted from 1, is above @from and divides by
 * @step; and behind the last. */
struct plan {
	size_t from, step;
};

static void play(const struct judge *judge, const struct umbra_record *records, size_t count,
		 struct plan plan, struct report *report)
{
	const struct replay_options options = {
	    .config = judge->config, .brief = true, .tlb = true, .loose = true};
	int error;
	struct replay *replay = replay_new(&options, &error);
	enum replay_status status = REPLAY_OK;
	size_t events = 0;

	if (!replay)
		return;
	for (size_t i = 0; i < count && status == REPLAY_OK; i++) {
		status = replay_record(replay, &records[i]);
		if (records[i].kind < UMBRA_TRACE_EVENTS)
			continue;
		report->events = ++events;
		if (status != REPLAY_VIOLATION &&
		    ((events > plan.from && events % plan.step == 0) || i + 1 == count))
			status = replay_audit(replay);
	}
	if (status == REPLAY_VIOLATION) {
		report->wrong = replay_wrong(replay);
		snprintf(report->why, sizeof(report->why), "%s", replay_why(replay));
	}
}

static _Noreturn void child(const struct judge *judge, const struct umbra_record *records,
			    size_t count, struct plan plan, struct report *report)
{
	static const int signals[] = {SIGHUP, SIGINT, SIGTERM, SIGALRM};
	const struct rlimit none = {0, 0};
	int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setrlimit(RLIMIT_CORE, &none);
	for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		signal(signals[i], SIG_DFL);
	if (nowhere >= 0)
		dup2(nowhere, STDERR_FILENO); /* assertions */
	alarm(judge->limit);
	play(judge, records, count, plan, report);
	_exit(0);
}

/* False: it was not to be. */
static bool wait_for(const struct judge *judge, pid_t pid, struct report *report)
{
	int status;

	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return false;
		if (*judge->stop)
			kill(pid, SIGKILL);
	}
	if (*judge->stop)
		return false;
	if (WIFSIGNALED(status)) {
		report->wrong = JUDGE_SIGNAL + (unsigned)WTERMSIG(status);
		snprintf(report->why, sizeof(report->why), "the library was ended by signal %d",
			 WTERMSIG(status));
		report->events++; /* the one during which it happened */
	}
	return true;
}

static bool run(const struct judge *judge, const struct umbra_record *records, size_t count,
		struct plan plan, struct report *report)
{
	struct report *shared =
	    mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	bool done = false;
	pid_t pid;

	if (shared == MAP_FAILED)
		return false;
	fflush(NULL);
	pid = *judge->stop ? -1 : fork();
	if (pid == 0)
		child(judge, records, count, plan, shared);
	if (pid > 0) {
		done = wait_for(judge, pid, shared);
		*report = *shared;
	}
	munmap(shared, sizeof(*shared));
	return done;
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/*
 * The whole trace, with few audits or with more: 64, 4096, 2^18 at most. What is broken stays so
 * for a while, mostly; and TLBs miss nothing in between.
 */
static bool look(struct judge *judge, const struct umbra_record *records, size_t count,
		 size_t events, struct plan *plan, struct report *found)
{
	size_t steps = STEPS;

	for (unsigned i = 1;; i++, steps *= STEPS) {
		double began = now();

		if (judge->looking)
			judge->looking(judge->ctx, events < steps ? events : steps);
		plan->from = 0;
		plan->step = events > steps ? events / steps : 1;
		if (!run(judge, records, count, *plan, found))
			return false;
		if (found->wrong || plan->step == 1 || i == LOOKS) {
			judge->limit = LIMIT_LEAST + (unsigned)(20 * (now() - began));
			return true;
		}
	}
}

enum shrink_answer judge_locate(struct judge *judge, const struct umbra_record *records,
				size_t count, size_t *events)
{
	struct report found;
	struct plan plan;

	*events = shrink_events(records, count);
	if (!look(judge, records, count, *events, &plan, &found))
		return SHRINK_STOP;
	while (found.wrong) {
		struct report closer;

		*events = found.events;
		judge->wrong = found.wrong;
		snprintf(judge->why, sizeof(judge->why), "%s", found.why);
		if (plan.step == 1)
			return SHRINK_YES;
		plan.from = found.events > plan.step ? found.events - plan.step : 0;
		plan.step = plan.step > STEPS ? plan.step / STEPS : 1;
		count = shrink_prefix(records, count, *events);
		if (!run(judge, records, count, plan, &closer))
			return SHRINK_STOP;
		if (closer.wrong)
			found = closer;
	}
	return SHRINK_NO;
}

enum shrink_answer judge_test(void *ctx, const struct umbra_record *records, size_t count)
{
	const struct judge *judge = ctx;
	size_t events = shrink_events(records, count);
	struct report report;

	if (!run(judge, records, count, (struct plan){events, 1}, &report))
		return SHRINK_STOP;
	if (report.wrong != judge->wrong)
		return SHRINK_NO;
	if (events > SMALL)
		return SHRINK_YES;
	if (!run(judge, records, count, (struct plan){0, 1}, &report))
		return SHRINK_STOP;
	return report.wrong == judge->wrong ? SHRINK_YES : SHRINK_NO;
}
