/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Words of the kernel command line. Owns one copy of it, read once.
 */
#include "words.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PREFIX "umbra."

static char line[4096];
static unsigned refused;

void words_read(void)
{
	int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? 0 : read(fd, line, sizeof(line) - 1);

	line[got > 0 ? got : 0] = '\0';
	if (fd >= 0)
		close(fd);
}

/* The value of the last word @prefix@name and its length; NULL where there is none. */
static const char *find(const char *prefix, const char *name, size_t *length)
{
	size_t prefix_length = strlen(prefix), name_length = strlen(name);
	const char *found = NULL;

	for (const char *word = line; *word; word += strcspn(word, " \n")) {
		word += strspn(word, " \n");
		if (strncmp(word, prefix, prefix_length) != 0)
			continue;
		const char *rest = word + prefix_length;
		if (strncmp(rest, name, name_length) == 0 && rest[name_length] == '=') {
			found = rest + name_length + 1;
			*length = strcspn(found, " \n");
		}
	}
	return found;
}

static void string(const char *prefix, const char *name, const char *fallback, char *value,
		   size_t size)
{
	size_t length = strlen(fallback);
	const char *found = find(prefix, name, &length);

	snprintf(value, size, "%.*s", (int)length, found ? found : fallback);
}

void words_string(const char *name, const char *fallback, char *value, size_t size)
{
	string(PREFIX, name, fallback, value, size);
}

void words_kernel(const char *name, const char *fallback, char *value, size_t size)
{
	string("", name, fallback, value, size);
}

unsigned long words_number(const char *name, unsigned long fallback, unsigned long low,
			   unsigned long high)
{
	size_t length;
	const char *found = find(PREFIX, name, &length);
	char *end;
	unsigned long number;

	if (!found)
		return fallback;
	number = strtoul(found, &end, 10);
	if (length && end == found + length && number >= low && number <= high)
		return number;
	printf("umbra-init: " PREFIX "%s=%.*s: give a number from %lu to %lu\n", name, (int)length,
	       found, low, high);
	refused++;
	return fallback;
}

unsigned words_refused(void)
{
	return refused;
}
