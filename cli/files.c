/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * umbra's own files. The command lies in <build>/cli/ or <prefix>/bin/, and finds the rest from
 * there: an installed tree can be moved as a whole.
 */
#include "files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The directory above the one in which our executable lies. */
static bool find_top(char path[PATH_MAX])
{
	ssize_t length = readlink("/proc/self/exe", path, PATH_MAX - 1);

	if (length <= 0)
		return false;
	path[length] = '\0';
	for (int i = 0; i < 2; i++) {
		char *slash = strrchr(path, '/');
		if (!slash)
			return false;
		*slash = '\0';
	}
	return true;
}

static bool join(char path[PATH_MAX], const char *top, const char *rest)
{
	return snprintf(path, PATH_MAX, "%s/%s", top, rest) < PATH_MAX;
}

static bool is_built(const char *top)
{
	char path[PATH_MAX];

	return join(path, top, "cli/fetch-kernel") && access(path, F_OK) == 0;
}

bool files_find(const char *built, const char *installed, char path[PATH_MAX])
{
	char top[PATH_MAX], relative[PATH_MAX];

	path[0] = '\0';
	if (!find_top(top))
		return false;
	if (is_built(top))
		return join(path, top, built) && access(path, R_OK) == 0;
	return snprintf(relative, sizeof(relative), "share/umbra/%s", installed) < PATH_MAX &&
	       join(path, top, relative) && access(path, R_OK) == 0;
}

bool files_cache(char path[PATH_MAX])
{
	const char *named = getenv("UMBRA_CACHE");
	const char *xdg = getenv("XDG_CACHE_HOME");
	const char *home = getenv("HOME");
	char top[PATH_MAX];

	if (named && *named)
		return snprintf(path, PATH_MAX, "%s", named) < PATH_MAX;
	if (find_top(top) && is_built(top))
		return join(path, top, "cache");
	if (xdg && *xdg == '/')
		return join(path, xdg, "umbra");
	return home && *home && join(path, home, ".cache/umbra");
}
