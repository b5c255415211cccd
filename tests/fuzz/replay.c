/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A fuzz target without a fuzzer: runs it once over each file named, or in each directory named.
 * Any compiler builds it; `make test` runs it over the committed inputs.
 */
#define _DEFAULT_SOURCE
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "input.h"

#define INPUT_MAX (1u << 16)

static int run_file(const char *path)
{
	/* Of the input's size exactly, so that a read beyond it is seen. */
	static unsigned char bytes[INPUT_MAX];
	FILE *file = fopen(path, "rb");
	unsigned char *exact;
	size_t size;

	if (!file) {
		perror(path);
		return 1;
	}
	size = fread(bytes, 1, sizeof(bytes), file);
	fclose(file);
	exact = malloc(size + !size);
	if (!exact)
		abort();
	memcpy(exact, bytes, size);
	if (getenv("FUZZ_VERBOSE"))
		fprintf(stderr, "%s\n", path);
	LLVMFuzzerTestOneInput(exact, size);
	free(exact);
	return 0;
}

/* Returns the inputs that ran, -1 if one could not be read. */
static int run(const char *path)
{
	DIR *dir = opendir(path);
	const struct dirent *entry;
	int count = 0;

	if (!dir)
		return run_file(path) ? -1 : 1;
	while ((entry = readdir(dir))) {
		char name[4096];

		if (entry->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
		if (run_file(name)) {
			closedir(dir);
			return -1;
		}
		count++;
	}
	closedir(dir);
	return count;
}

int main(int argc, char **argv)
{
	int count = 0;

	for (int i = 1; i < argc; i++) {
		int more = run(argv[i]);

		if (more < 0)
			return 1;
		count += more;
	}
	printf("%d inputs\n", count);
	return count ? 0 : 1;
}
