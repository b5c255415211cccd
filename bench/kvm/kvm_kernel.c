/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The host's kernel, by its files: what its threads cost, which pages it swapped out, how long one
 * of its functions took. For kvm_host.c.
 */
#include "kvm_kernel.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TRACING "/sys/kernel/tracing/"
#define SWAPPED (1ull << 62) /* in a word of pagemap */

bool kernel_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	ssize_t size = (ssize_t)strlen(text);
	bool done = fd >= 0 && write(fd, text, (size_t)size) == size;

	if (fd >= 0)
		close(fd);
	return done;
}

static bool read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? -1 : read(fd, text, size - 1);

	if (fd >= 0)
		close(fd);
	text[got > 0 ? got : 0] = '\0';
	return got > 0;
}

uint64_t kernel_number(const char *path)
{
	char text[32];

	return read_text(path, text, sizeof(text)) ? strtoull(text, NULL, 10) : 0;
}

uint64_t kernel_thread_ns(const char *name)
{
	DIR *all = opendir("/proc");
	uint64_t ns = 0;

	for (struct dirent *one; all && (one = readdir(all));) {
		char path[300], text[64];

		snprintf(path, sizeof(path), "/proc/%s/comm", one->d_name);
		if (!read_text(path, text, sizeof(text)) ||
		    strncmp(text, name, strlen(name)) != 0 || text[strlen(name)] != '\n')
			continue;
		snprintf(path, sizeof(path), "/proc/%s/schedstat", one->d_name);
		ns = kernel_number(path);
		break;
	}
	if (all)
		closedir(all);
	return ns;
}

uint64_t kernel_swapped(const void *at, uint64_t pages)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t count = 0;

	for (uint64_t i = 0; fd >= 0 && i < pages; i++) {
		uint64_t word = 0;

		if (pread(fd, &word, sizeof(word), (off_t)(((uintptr_t)at >> 12) + i) * 8) ==
		    sizeof(word))
			count += (word & SWAPPED) != 0;
	}
	if (fd >= 0)
		close(fd);
	return count;
}

uint64_t kernel_ticks(uint64_t ns)
{
	static uint64_t ticks_first, ns_first;
	struct timespec now;
	uint64_t ticks, passed;

	clock_gettime(CLOCK_MONOTONIC_RAW, &now);
	ticks = ticks_now();
	passed = (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
	if (!ns_first) {
		ns_first = passed;
		ticks_first = ticks;
		return 0;
	}
	return (uint64_t)((double)ns * (double)(ticks - ticks_first) / (double)(passed - ns_first));
}

bool kernel_trace_begin(const char *name)
{
	return kernel_write(TRACING "set_ftrace_filter", name) &&
	       kernel_write(TRACING "current_tracer", "function_graph") &&
	       kernel_write(TRACING "trace", "\n") && kernel_write(TRACING "tracing_on", "1");
}

/* A line: "0)   4.512 us    |  name();", with a mark before the number where it is large. */
uint64_t kernel_trace_end(uint64_t *calls)
{
	char line[256];
	double us = 0;
	FILE *file;

	kernel_write(TRACING "tracing_on", "0");
	file = fopen(TRACING "trace", "re");
	*calls = 0;
	while (file && fgets(line, sizeof(line), file)) {
		char *unit = strstr(line, " us "), *from = unit;

		if (!unit)
			continue;
		while (from > line && (from[-1] == '.' || (from[-1] >= '0' && from[-1] <= '9')))
			from--;
		us += strtod(from, NULL);
		++*calls;
	}
	if (file)
		fclose(file);
	kernel_write(TRACING "current_tracer", "nop");
	return (uint64_t)(us * 1000);
}
