/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The `umbra` command: finds the subcommand in a table and hands over. A new subcommand is a
 * file, a line in commands.h and a line here.
 */
#include <stdio.h>
#include <string.h>

#include <umbra/umbra.h>

#include "commands.h"
#include "status.h"

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *what;
} commands[] = {
    {"run", run_command, "boot a guest on shadow page tables"},
    {"ctl", ctl_command, "ask or tell a running machine something"},
    {"replay", replay_command, "replay a recorded guest, without the guest"},
    {"export", export_command, "a trace as an SQLite database, or for Perfetto"},
    {"rmap", rmap_command, "who maps a guest page: of a trace, or of a running machine"},
    {"walk", walk_command, "what the tables say of an address, the same"},
    {"shrink", shrink_command, "cut a recording to what shows a fault"},
    {"import", import_command, "make what Linux KVM recorded a trace"},
};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void print_help(FILE *to)
{
	fprintf(to, "usage: umbra COMMAND [OPTION...]\n\ncommands:\n");
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].what);
	fprintf(to, "\n`umbra COMMAND --help` says more; umbra(1) says it all.\n");
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		print_help(stderr);
		return STATUS_USAGE;
	}
	for (size_t i = 0; i < COMMANDS; i++)
		if (strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1);
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0 ||
	    strcmp(argv[1], "-h") == 0) {
		print_help(stdout);
		return STATUS_OK;
	}
	if (strcmp(argv[1], "--version") == 0) {
		printf("umbra %d.%d\n", UMBRA_VERSION_MAJOR, UMBRA_VERSION_MINOR);
		return STATUS_OK;
	}
	return complain(STATUS_USAGE, "no command \"%s\"; `umbra --help` lists them", argv[1]);
}
