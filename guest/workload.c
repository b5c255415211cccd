/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The workload's controller: forks the children, asks the hypervisor for one disturbance after the
 * other, and after each has every child verify its data. It never touches the region after
 * it has filled it; what must be there at the end it computes from the pattern.
 *
 * Words: umbra.children, umbra.mib, umbra.passes (migrations of the whole region),
 * umbra.migrations (keep migrating until so many), umbra.minutes (and so long), umbra.zaps,
 * umbra.small-quota, umbra.storm, umbra.fill (MiB of its own, in fill.c).
 */
#include "workload.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <limits.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "control.h"
#include "fill.h"
#include "words.h"

#define POLL_NS      5000000L
#define PROGRESS_S   3.0
#define PAGEMAP_PFN  ((1ull << 55) - 1)
#define PAGEMAP_HERE (1ull << 63)

struct settings {
	unsigned long passes;
	unsigned long migrations;
	unsigned long minutes;
	unsigned long zaps;
	unsigned long small_quota;
	unsigned long storm;
	unsigned long fill;
};

static double started;

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	printf("umbra-workload: ");
	vprintf(format, args);
	printf("\n");
	va_end(args);
}

static void failed(struct workload *work, const char *what)
{
	atomic_fetch_add(&work->shared->failures, 1);
	say("FAILED: %s", what);
}

static void nap(void)
{
	nanosleep(&(struct timespec){.tv_nsec = POLL_NS}, NULL);
}

/* A child that ends before it is told to took a signal: its mappings led it astray. */
static bool all_alive(struct workload *work)
{
	int status;
	pid_t pid = waitpid(-1, &status, WNOHANG);

	if (pid <= 0)
		return true;
	if (WIFSIGNALED(status))
		say("child process %d was killed by signal %d", (int)pid, WTERMSIG(status));
	failed(work, "a child died");
	return false;
}

static unsigned count_done(const struct workload *work, unsigned epoch)
{
	unsigned done = 0;

	for (unsigned i = 0; i < work->children; i++)
		done += atomic_load(&work->shared->done[i]) == epoch;
	return done;
}

static unsigned give_order(struct workload *work, enum order order)
{
	atomic_store(&work->shared->order, order);
	unsigned epoch = atomic_fetch_add(&work->shared->epoch, 1) + 1;
	syscall(SYS_futex, &work->shared->epoch, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
	return epoch;
}

/* Have every child carry @order out. False if one of them died. */
static bool order_all(struct workload *work, enum order order, const char *what)
{
	double start = now(), said = start;
	unsigned epoch, done;

	atomic_store(&work->shared->waiting, true);
	epoch = give_order(work, order);

	while ((done = count_done(work, epoch)) < work->children) {
		if (!all_alive(work))
			return false;
		nap();
		if (now() - said > PROGRESS_S) {
			said = now();
			say("  %s: %u of %u children, %.0f s", what, done, work->children,
			    said - start);
		}
	}
	return true;
}

/* Tell the hypervisor which guest frames the region is. They are ours to ask for: we are root. */
static void register_region(struct workload *work)
{
	uint64_t entries[PAGE_WORDS];
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	off_t at = (off_t)((uintptr_t)work->region / 4096 * sizeof(entries[0]));

	if (fd < 0) {
		failed(work, "cannot read /proc/self/pagemap");
		return;
	}
	control_call(UMBRA_CTL_REGION_CLEAR, 0);
	for (uint64_t page = 0; page < work->pages;) {
		ssize_t got = pread(fd, entries, sizeof(entries), at + (off_t)(page * 8));
		if (got < 8) {
			failed(work, "/proc/self/pagemap ends early");
			break;
		}
		for (ssize_t i = 0; i < got / 8 && page < work->pages; i++, page++) {
			if (entries[i] & PAGEMAP_HERE)
				control_call(UMBRA_CTL_REGION_ADD, entries[i] & PAGEMAP_PFN);
			else
				failed(work, "a page of the region is not in memory");
		}
	}
	close(fd);
}

static void audit(struct workload *work, const char *phase)
{
	uint32_t violations = control_call(UMBRA_CTL_AUDIT, 0);
	uint32_t longest = control_call(UMBRA_CTL_LONGEST, 0);
	struct workload_shared *shared = work->shared;

	if (violations)
		failed(work, "the audit found violations");
	if (!fill_check())
		failed(work, "memory of our own is not what we wrote there");
	if (control_present())
		say("%4.0f s: %s: %lu rounds, %lu checks, %u failures; audit: %u violations; "
		    "longest chain %u; %u migrations",
		    now() - started, phase, atomic_load(&shared->rounds),
		    atomic_load(&shared->checks), atomic_load(&shared->failures), violations,
		    longest, control_call(UMBRA_CTL_STORM_COUNT, 0));
	else
		say("%4.0f s: %s: %lu rounds, %lu checks, %u failures", now() - started, phase,
		    atomic_load(&shared->rounds), atomic_load(&shared->checks),
		    atomic_load(&shared->failures));
}

/*
 * Every child has read the hottest pages a moment ago: all must stand in their chains. (With nested
 * paging one spte is all that a page has. Where others take mappings away, too, none need be left.)
 */
static void check_longest(struct workload *work)
{
	uint32_t longest = control_call(UMBRA_CTL_LONGEST, 0);
	bool nested = control_call(UMBRA_CTL_PEEK, offsetof(struct umbra_machine, nested));

	if (control_present() && !work->others && longest < (nested ? 1 : work->children)) {
		say("longest chain %u, children %u", longest, work->children);
		failed(work, "a page is mapped less often than it is in use");
	}
}

static bool verify(struct workload *work, const char *phase)
{
	bool alive = order_all(work, ORDER_VERIFY, phase);

	audit(work, phase);
	return alive;
}

/* Move every page of the region while the children go on. */
static bool migrate(struct workload *work)
{
	uint32_t left;
	double said = now();

	register_region(work);
	if (control_call(UMBRA_CTL_MIGRATE, 0) != 0) {
		failed(work, "a migration was under way already");
		return false;
	}
	while ((left = control_call(UMBRA_CTL_MIGRATE_LEFT, 0)) != 0) {
		if (!all_alive(work))
			return false;
		nap();
		if (now() - said > PROGRESS_S) {
			said = now();
			say("  migrate: %u pages to go", left);
		}
	}
	return verify(work, "migrate");
}

static bool phase_migrate(struct workload *work, const struct settings *set)
{
	for (unsigned long pass = 0; pass < set->passes; pass++)
		if (!migrate(work))
			return false;
	return true;
}

static bool phase_zap(struct workload *work, const struct settings *set)
{
	for (unsigned long i = 0; i < set->zaps; i++) {
		control_call(UMBRA_CTL_ZAP_ALL, 0);
		for (int j = 0; j < 20; j++)
			nap();
	}
	return verify(work, "zap all");
}

static bool phase_quota(struct workload *work, const struct settings *set)
{
	control_call(UMBRA_CTL_QUOTA, (uint32_t)set->small_quota);
	if (!verify(work, "small quota"))
		return false;
	control_call(UMBRA_CTL_QUOTA, 0);
	if (!verify(work, "full quota again"))
		return false;
	check_longest(work);
	return true;
}

static bool phase_until(struct workload *work, const struct settings *set)
{
	while (control_present() && (control_call(UMBRA_CTL_STORM_COUNT, 0) < set->migrations ||
				     now() - started < (double)set->minutes * 60))
		if (!migrate(work))
			return false;
	return true;
}

/* The children stand still; what each page must add up to follows from their rounds. */
static bool phase_sum(struct workload *work)
{
	struct workload_shared *shared = work->shared;

	if (!order_all(work, ORDER_PAUSE, "pause"))
		return false;
	for (uint64_t page = 0; page < work->pages; page++) {
		uint64_t sum = 0;
		for (unsigned word = 0; word < PAGE_WORDS; word++) {
			uint64_t round = 0;
			if (word < work->children)
				round =
				    pattern_last(page, word, atomic_load(&shared->completed[word]));
			sum += pattern_word(page, word, round);
		}
		shared->sums[page] = sum;
	}
	if (!order_all(work, ORDER_SUM, "checksum"))
		return false;
	check_longest(work);
	audit(work, "checksum");
	return true;
}

static bool phases(struct workload *work, const struct settings *set)
{
	if (!order_all(work, ORDER_TOUCH, "touch"))
		return false;
	register_region(work);
	audit(work, "touch");
	check_longest(work);
	return phase_migrate(work, set) && phase_zap(work, set) && phase_quota(work, set) &&
	       phase_until(work, set) && phase_sum(work);
}

static bool map_memory(struct workload *work)
{
	size_t shared_size = sizeof(*work->shared) + work->pages * sizeof(work->shared->sums[0]);

	work->shared =
	    mmap(NULL, shared_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	work->region = mmap(NULL, work->pages * 4096, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (work->shared == MAP_FAILED || (void *)work->region == MAP_FAILED)
		return false;
	for (uint64_t page = 0; page < work->pages; page++)
		for (unsigned word = 0; word < PAGE_WORDS; word++)
			atomic_store_explicit(&work->region[page * PAGE_WORDS + word],
					      pattern_word(page, word, 0), memory_order_relaxed);
	return true;
}

/* Fork the children; returns how many there are. */
static unsigned fork_children(struct workload *work)
{
	unsigned made = 0;

	for (; made < work->children; made++) {
		pid_t pid = fork();
		if (pid == 0) {
			control_close();
			setpriority(PRIO_PROCESS, 0, 10);
			int status = child_run(work, made);
			fflush(stdout);
			_exit(status);
		}
		if (pid < 0)
			break;
	}
	return made;
}

static void reap(struct workload *work)
{
	int status;

	while (waitpid(-1, &status, 0) > 0)
		if (status != 0 && atomic_load(&work->shared->failures) == 0)
			failed(work, "a child ended badly");
}

bool workload_run(void)
{
	struct workload work = {
	    .children = (unsigned)words_number("children", 256, 2, CHILDREN_MAX),
	    .pages = words_number("mib", 16, 1, 1024) * 256,
	    .others = words_number("minutes", 0, 0, 100000) != 0,
	};
	struct settings set = {
	    .passes = words_number("passes", 2, 0, 1000),
	    .migrations = words_number("migrations", 10000, 0, UINT_MAX),
	    .minutes = words_number("minutes", 0, 0, 100000),
	    .zaps = words_number("zaps", 3, 0, 1000),
	    .small_quota = words_number("small-quota", 600, UMBRA_QUOTA_MIN, UMBRA_QUOTA_MAX),
	    .storm = words_number("storm", 0, 0, 1000000),
	    .fill = words_number("fill", 0, 0, 1u << 20),
	};
	bool ok;

	if (words_refused()) {
		say("FAILED: not started, since words were refused");
		return false;
	}
	started = now();
	say("%u children share %lu MiB%s", work.children, (unsigned long)(work.pages / 256),
	    control_present() ? "" : "; no umbra here: nothing will disturb them");
	if (!map_memory(&work)) {
		say("FAILED: no memory for the region");
		return false;
	}
	if (!fill_begin(set.fill)) {
		say("FAILED: no memory to fill");
		return false;
	}
	if (set.storm)
		control_call(UMBRA_CTL_STORM, (uint32_t)set.storm);
	unsigned wanted = work.children;
	work.children = fork_children(&work);
	if (work.children < wanted) {
		failed(&work, "fork");
		ok = false;
	} else {
		ok = phases(&work, &set);
	}
	give_order(&work, ORDER_STOP);
	if (ok)
		reap(&work); /* if one died the rest may never answer; the machine stops anyway */
	unsigned failures = atomic_load(&work.shared->failures);
	ok = ok && failures == 0;
	say("%s: %lu rounds, %lu checks, %u failures in %.1f s", ok ? "ok" : "FAILED",
	    atomic_load(&work.shared->rounds), atomic_load(&work.shared->checks), failures,
	    now() - started);
	return ok;
}
