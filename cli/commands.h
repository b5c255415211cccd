/* SPDX-License-Identifier: BSD-2-Clause */
/* The subcommands: each gets its own argv ("run", ...) and returns the exit status. */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

int run_command(int argc, char **argv);
int replay_command(int argc, char **argv);
int export_command(int argc, char **argv);
int rmap_command(int argc, char **argv);
int walk_command(int argc, char **argv);
int ctl_command(int argc, char **argv);
int shrink_command(int argc, char **argv);
int import_command(int argc, char **argv);

#endif
