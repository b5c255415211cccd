/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What guests do often and shadow paging makes dear. Each operation is one function that does a
 * round of them and says how long it took. Anonymous memory is kept from becoming huge pages,
 * so that an operation a page is one.
 */
#include "ops.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE    4096ul
#define PAGES   1024ul /* of most operations on memory */
#define BUSYBOX "/bin/busybox"

static unsigned long children = 200, shared_pages = 64ul << 8;

void ops_configure(unsigned long wanted, unsigned long mib)
{
	children = wanted;
	shared_pages = mib << 8;
}

static _Noreturn void fail(const char *what)
{
	perror(what);
	exit(1);
}

static char *map(unsigned long pages, int flags)
{
	char *memory =
	    mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | flags, -1, 0);

	if (memory == MAP_FAILED)
		fail("mmap");
	madvise(memory, pages * PAGE, MADV_NOHUGEPAGE);
	return memory;
}

static void touch(char *memory, unsigned long pages)
{
	for (unsigned long i = 0; i < pages; i++)
		*(volatile char *)(memory + i * PAGE) = 1;
}

static unsigned look(const char *memory, unsigned long pages)
{
	unsigned sum = 0;

	for (unsigned long i = 0; i < pages; i++)
		sum += *(const volatile unsigned char *)(memory + i * PAGE);
	return sum;
}

/* ------------------------------------------------------------------ the processor */

static struct sample round_cpu(void)
{
	uint64_t begun = ticks_now(), count = 1000;

	for (uint64_t i = 0; i < count * 1000; i++)
		__asm__ volatile("" : "+r"(i));
	return (struct sample){ticks_now() - begun, count};
}

static struct sample round_cpuid(void)
{
	uint64_t begun = ticks_now(), count = 1000;

	for (uint64_t i = 0; i < count; i++) {
		uint32_t a = 0, b, c = 0, d;

		__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	}
	return (struct sample){ticks_now() - begun, count};
}

static struct sample round_getppid(void)
{
	uint64_t begun = ticks_now(), count = 2000;

	for (uint64_t i = 0; i < count; i++)
		syscall(SYS_getppid);
	return (struct sample){ticks_now() - begun, count};
}

/* ------------------------------------------------------------------ processes */

static int to_child[2], from_child[2];
static pid_t echo_pid;

static void prepare_pipe(void)
{
	char byte;

	if (pipe(to_child) || pipe(from_child))
		fail("pipe");
	echo_pid = fork();
	if (echo_pid < 0)
		fail("fork");
	if (echo_pid > 0)
		return;
	close(to_child[1]);
	close(from_child[0]);
	while (read(to_child[0], &byte, 1) == 1)
		if (write(from_child[1], &byte, 1) != 1)
			break;
	_exit(0);
}

static struct sample round_pipe(void)
{
	uint64_t begun = ticks_now(), count = 200;
	char byte = 0;

	for (uint64_t i = 0; i < count; i++)
		if (write(to_child[1], &byte, 1) != 1 || read(from_child[0], &byte, 1) != 1)
			fail("pipe");
	return (struct sample){ticks_now() - begun, count};
}

static void finish_pipe(void)
{
	for (int i = 0; i < 2; i++) {
		close(to_child[i]);
		close(from_child[i]);
	}
	waitpid(echo_pid, NULL, 0);
}

static struct sample round_fork(void)
{
	uint64_t begun = ticks_now(), count = 20;

	for (uint64_t i = 0; i < count; i++) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(0);
		if (pid < 0 || waitpid(pid, NULL, 0) != pid)
			fail("fork");
	}
	return (struct sample){ticks_now() - begun, count};
}

static struct sample round_exec(void)
{
	uint64_t begun = ticks_now(), count = 10;
	int status = 0;

	for (uint64_t i = 0; i < count; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			execl(BUSYBOX, "true", (char *)NULL);
			_exit(127);
		}
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
			fail("exec");
	}
	return (struct sample){ticks_now() - begun, count};
}

/* ------------------------------------------------------------------ memory */

static struct sample round_mmap(void)
{
	uint64_t begun = ticks_now();
	char *memory = map(PAGES, MAP_PRIVATE);

	touch(memory, PAGES);
	munmap(memory, PAGES * PAGE);
	return (struct sample){ticks_now() - begun, PAGES};
}

static struct sample round_first(void)
{
	char *memory = map(PAGES, MAP_PRIVATE);
	uint64_t begun = ticks_now(), took;

	touch(memory, PAGES);
	took = ticks_now() - begun;
	munmap(memory, PAGES * PAGE);
	return (struct sample){took, PAGES};
}

static char *region;

static void prepare_region(void)
{
	region = map(PAGES, MAP_PRIVATE);
	touch(region, PAGES);
}

static void finish_region(void)
{
	munmap(region, PAGES * PAGE);
}

/* The guest took the pages away itself, its tables stay: touch them again. */
static struct sample round_refault(void)
{
	uint64_t begun, took;

	madvise(region, PAGES * PAGE, MADV_DONTNEED);
	begun = ticks_now();
	touch(region, PAGES);
	took = ticks_now() - begun;
	return (struct sample){took, PAGES};
}

static struct sample round_mprotect(void)
{
	uint64_t begun = ticks_now();

	mprotect(region, PAGES * PAGE, PROT_READ);
	look(region, PAGES);
	mprotect(region, PAGES * PAGE, PROT_READ | PROT_WRITE);
	touch(region, PAGES);
	return (struct sample){ticks_now() - begun, PAGES};
}

/* ------------------------------------------------------------------ many children, one region */

static char *shared;
static int turn[2], gate[2];
static pid_t *crowd;

static void prepare_shared(void)
{
	shared = map(shared_pages, MAP_SHARED);
	touch(shared, shared_pages);
	crowd = calloc(children, sizeof(*crowd));
	if (!crowd || pipe(turn) || pipe(gate))
		fail("shared");
}

static _Noreturn void crowd_member(void)
{
	uint64_t begun = ticks_now(), took;
	char byte;

	look(shared, shared_pages);
	took = ticks_now() - begun;
	close(gate[1]);
	if (write(turn[1], &took, sizeof(took)) != sizeof(took))
		_exit(1);
	if (read(gate[0], &byte, 1) != 0) /* the parent closes it */
		_exit(1);
	_exit(0);
}

/* One after the other touches all of it, and stays. */
static struct sample round_shared(void)
{
	struct sample sample = {0, children * shared_pages};

	for (unsigned long i = 0; i < children; i++) {
		uint64_t took;

		crowd[i] = fork();
		if (crowd[i] == 0)
			crowd_member();
		if (crowd[i] < 0 || read(turn[0], &took, sizeof(took)) != sizeof(took))
			fail("shared");
		sample.ticks += took;
		if (i % 50 == 49)
			printf("info progress shared %lu/%lu\n", i + 1, children);
	}
	return sample;
}

static struct sample round_shared_exit(void)
{
	uint64_t begun = ticks_now();

	close(gate[1]);
	for (unsigned long i = 0; i < children; i++)
		if (waitpid(crowd[i], NULL, 0) != crowd[i])
			fail("shared_exit");
	return (struct sample){ticks_now() - begun, children};
}

static void finish_shared(void)
{
	close(gate[0]);
	close(turn[0]);
	close(turn[1]);
	munmap(shared, shared_pages * PAGE);
	free(crowd);
}

/* shared_exit ends what shared began: who asks for one asks for both. */
const struct op ops[] = {
    {.name = "cpu", .round = round_cpu},
    {.name = "cpuid", .round = round_cpuid},
    {.name = "getppid", .round = round_getppid},
    {.name = "pipe", .prepare = prepare_pipe, .round = round_pipe, .finish = finish_pipe},
    {.name = "fork", .round = round_fork},
    {.name = "exec", .round = round_exec},
    {.name = "mmap", .round = round_mmap},
    {.name = "first_touch", .round = round_first},
    {.name = "refault", .prepare = prepare_region, .round = round_refault, .finish = finish_region},
    {.name = "mprotect",
     .prepare = prepare_region,
     .round = round_mprotect,
     .finish = finish_region},
    {.name = "shared", .prepare = prepare_shared, .round = round_shared, .once = true},
    {.name = "shared_exit", .round = round_shared_exit, .finish = finish_shared, .once = true},
    {.name = NULL},
};
