/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A child of the workload. Owns its word of every shared page and a private area that came to it by
 * copy-on-write; checks both, and what the others wrote. The first thing found wrong is printed
 * with its place; the child goes on, so that the run shows how far the damage reaches.
 */
#include "workload.h"

#include <linux/futex.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PRIVATE_PAGES 8u  /* copy-on-write data of each child */
#define HOT_PAGES     16u /* read by everyone in each verification */
#define SAMPLE_PAGES  48u /* read by each child in each verification, at random */
#define CHURN_PAGES   24u
#define EXEC_EVERY    8u /* every so many-th child runs a program in each verification */
#define LEISURE_NS    400000000L
#define REPORTS_MAX   3u /* lines that one child prints */

struct child {
	const struct workload *work;
	unsigned self;
	unsigned reports;
	uint64_t rounds;
	uint64_t random;
	uint64_t private_round;
};

/* In .data of the parent: shared copy-on-write until the child writes. */
static _Alignas(4096) uint64_t private_area[PRIVATE_PAGES * PAGE_WORDS] = {1};

static uint64_t next_random(struct child *child)
{
	child->random = pattern_mix(child->random + 0x6a09e667f3bcc909ull);
	return child->random;
}

static void fail(struct child *child, const char *what, uint64_t page, uint64_t word, uint64_t got)
{
	atomic_fetch_add(&child->work->shared->failures, 1);
	if (child->reports++ < REPORTS_MAX)
		printf("umbra-workload: FAILED child %u: %s: page %lu word %lu holds %016lx\n",
		       child->self, what, (unsigned long)page, (unsigned long)word,
		       (unsigned long)got);
}

/*
 * Check a word that @owner may be writing at this moment. Rounds that were complete before we
 * read must show; rounds that had not begun after we read must not.
 */
static void check_word(struct child *child, uint64_t page, unsigned owner)
{
	struct workload_shared *shared = child->work->shared;
	uint64_t low = atomic_load(&shared->completed[owner]);
	uint64_t got = atomic_load(&child->work->region[page * PAGE_WORDS + owner]);
	uint64_t high = atomic_load(&shared->started[owner]);
	uint64_t round = pattern_last(page, owner, low);

	if (got == pattern_word(page, owner, round))
		return;
	for (round = round ? round + PATTERN_STRIDE : pattern_first(page, owner); round <= high;
	     round += PATTERN_STRIDE)
		if (got == pattern_word(page, owner, round))
			return;
	fail(child, owner == child->self ? "own word" : "another child's word", page, owner, got);
}

static void check_constant(struct child *child, uint64_t page, uint64_t word)
{
	uint64_t got = atomic_load(&child->work->region[page * PAGE_WORDS + word]);

	if (got != pattern_word(page, word, 0))
		fail(child, "constant word", page, word, got);
}

/* One turn of work: write our word of a 256th of the pages, look at some of the others'. */
static void write_round(struct child *child)
{
	struct workload_shared *shared = child->work->shared;
	uint64_t round = ++child->rounds;
	uint64_t first =
	    (2 * PATTERN_STRIDE - child->self % PATTERN_STRIDE - round % PATTERN_STRIDE) %
	    PATTERN_STRIDE;

	atomic_store(&shared->started[child->self], round);
	for (uint64_t page = first; page < child->work->pages; page += PATTERN_STRIDE) {
		check_word(child, page, child->self);
		atomic_store(&child->work->region[page * PAGE_WORDS + child->self],
			     pattern_word(page, child->self, round));
		check_word(child, page, (unsigned)(next_random(child) % child->work->children));
	}
	atomic_store(&shared->completed[child->self], round);
	atomic_fetch_add(&shared->rounds, 1);
}

static void check_page(struct child *child, uint64_t page)
{
	check_constant(child, page, child->work->children);
	check_constant(child, page, PAGE_WORDS - 1);
	check_word(child, page, child->self);
	for (unsigned i = 0; i < 4; i++)
		check_word(child, page, (unsigned)(next_random(child) % child->work->children));
	atomic_fetch_add(&child->work->shared->checks, 1);
}

static void touch_all(struct child *child)
{
	for (uint64_t page = 0; page < child->work->pages; page++)
		check_constant(child, page, PAGE_WORDS - 1);
	atomic_fetch_add(&child->work->shared->checks, child->work->pages);
}

static void private_fill(struct child *child)
{
	child->private_round++;
	for (size_t i = 0; i < sizeof(private_area) / sizeof(private_area[0]); i += 8)
		private_area[i] = pattern_word(child->self, i, child->private_round);
}

static void private_check(struct child *child)
{
	for (size_t i = 0; i < sizeof(private_area) / sizeof(private_area[0]); i += 8)
		if (private_area[i] != pattern_word(child->self, i, child->private_round))
			fail(child, "private copy", i / PAGE_WORDS, i % PAGE_WORDS,
			     private_area[i]);
}

/* Page tables come and go: map, fill, protect, check, unmap half by half. */
static void churn_mappings(struct child *child)
{
	size_t size = CHURN_PAGES * 4096u;
	uint64_t *area =
	    mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (area == MAP_FAILED) {
		fail(child, "mmap refused", 0, 0, 0);
		return;
	}
	for (uint64_t page = 0; page < CHURN_PAGES; page++)
		area[page * PAGE_WORDS] = pattern_word(page, child->self, child->rounds);
	mprotect(area, size, PROT_READ);
	munmap(area, size / 2);
	for (uint64_t page = CHURN_PAGES / 2; page < CHURN_PAGES; page++)
		if (area[page * PAGE_WORDS] != pattern_word(page, child->self, child->rounds))
			fail(child, "private mapping", page, 0, area[page * PAGE_WORDS]);
	munmap(area + size / 2 / sizeof(*area), size / 2);
}

/* A grandchild: @program runs, or (NULL) it checks and spoils its copy of our private data. */
static void churn_process(struct child *child, const char *program)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		if (program) {
			execl(program, program, "true", (char *)NULL);
			_exit(126);
		}
		unsigned before = child->reports;
		private_check(child);
		private_fill(child);
		private_check(child);
		_exit(child->reports == before ? 0 : 1);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
		fail(child, program ? "program" : "grandchild", 0, 0, (uint64_t)status);
}

static void verify(struct child *child)
{
	uint64_t pages = child->work->pages;
	uint64_t slice = pages / child->work->children;

	for (uint64_t page = 0; page < HOT_PAGES && page < pages; page++)
		check_page(child, page);
	for (uint64_t page = 0; page < slice; page++)
		check_page(child, child->self * slice + page);
	for (unsigned i = 0; i < SAMPLE_PAGES; i++)
		check_page(child, next_random(child) % pages);
	private_check(child);
	private_fill(child);
	churn_mappings(child);
	if (child->self % EXEC_EVERY == 0)
		churn_process(child, "/bin/busybox");
	else if (child->self % EXEC_EVERY == 1)
		churn_process(child, NULL);
	private_check(child);
}

/* Nobody writes: every page must add up to what the controller expects. */
static void checksum_all(struct child *child)
{
	struct workload_shared *shared = child->work->shared;

	for (uint64_t page = 0; page < child->work->pages; page++) {
		const _Atomic uint64_t *words = child->work->region + page * PAGE_WORDS;
		uint64_t sum = 0;

		for (unsigned word = 0; word < PAGE_WORDS; word++)
			sum += atomic_load_explicit(&words[word], memory_order_relaxed);
		if (sum != shared->sums[page])
			fail(child, "checksum", page, PAGE_WORDS, sum);
	}
	atomic_fetch_add(&shared->checks, child->work->pages);
}

static bool carry_out(struct child *child, enum order order)
{
	switch (order) {
	case ORDER_TOUCH:
		touch_all(child);
		break;
	case ORDER_VERIFY:
		verify(child);
		break;
	case ORDER_SUM:
		checksum_all(child);
		break;
	case ORDER_PAUSE:
		break;
	case ORDER_STOP:
		return false;
	}
	return true;
}

int child_run(const struct workload *work, unsigned self)
{
	struct child child = {.work = work, .self = self, .random = self + 1};
	struct workload_shared *shared = work->shared;
	unsigned seen = 0;
	enum order order = ORDER_PAUSE;

	private_fill(&child);
	for (;;) {
		unsigned epoch = atomic_load(&shared->epoch);

		if (epoch != seen) {
			order = (enum order)atomic_load(&shared->order);
			bool go_on = carry_out(&child, order);
			seen = epoch;
			atomic_store(&shared->done[self], epoch);
			if (!go_on)
				return child.reports ? 1 : 0;
		}
		if (order == ORDER_PAUSE || order == ORDER_SUM) {
			syscall(SYS_futex, &shared->epoch, FUTEX_WAIT, seen, NULL, NULL, 0);
			continue;
		}
		write_round(&child);
		if (atomic_load(&shared->waiting))
			nanosleep(&(struct timespec){.tv_nsec = LEISURE_NS}, NULL);
		else
			sched_yield();
	}
}
