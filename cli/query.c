/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `umbra rmap` and `umbra walk`: who maps a guest page, and what the tables say of an address; of a
 * trace's MMU at some event, or of a running machine.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "ctl.h"
#include "number.h"
#include "playback.h"
#include "show.h"

struct query {
	bool json, quiet;
	uint64_t at, vcpu;
	char *words[2]; /* "rmap", its argument: as umbra ctl sends them */
	const char *path;
	const char *guest; /* a number; NULL: none was given */
	uint64_t number;   /* the argument */
};

static const char rmap_help[] =
    "usage: umbra rmap [OPTION...] FILE GFN\n"
    "\n"
    "Every spte that maps the guest page GFN (hexadecimal): its address space, virtual address "
    "and\n"
    "rights. FILE is a trace, or the control socket of a running machine.\n"
    "\n";
static const char walk_help[] =
    "usage: umbra walk [OPTION...] FILE GVA\n"
    "\n"
    "The guest's tables and the shadow tables for the address GVA (hexadecimal), level by level.\n"
    "FILE is a trace, or the control socket of a running machine.\n"
    "\n";
static const char common_help[] =
    "  --at EVENT   of a trace: before that event; without it, at its end\n"
    "  --guest N    of a running machine: of that guest (0)\n"
    "  --json       as JSON\n"
    "  --quiet      print no progress\n";

enum {
	OPTION_AT = 1,
	OPTION_VCPU,
	OPTION_GUEST,
	OPTION_JSON,
	OPTION_QUIET,
	OPTION_HELP,
};

static const struct option table[] = {
    {"at", required_argument, NULL, OPTION_AT},
    {"vcpu", required_argument, NULL, OPTION_VCPU},
    {"guest", required_argument, NULL, OPTION_GUEST},
    {"json", no_argument, NULL, OPTION_JSON},
    {"quiet", no_argument, NULL, OPTION_QUIET},
    {"help", no_argument, NULL, OPTION_HELP},
    {NULL, 0, NULL, 0},
};

static enum status parse(int argc, char **argv, const char *help, struct query *q, bool *done)
{
	int option;

	optind = 1;
	q->at = UINT64_MAX;
	while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
		if (option == OPTION_HELP) {
			fputs(help, stdout);
			fputs(common_help, stdout);
			if (help == walk_help)
				puts("  --vcpu N     under that vcpu's registers (0)");
			*done = true;
			return STATUS_OK;
		}
		if (option == OPTION_AT && !number_parse(optarg, &q->at))
			return complain(STATUS_USAGE, "--at %s: give an event's number", optarg);
		if (option == OPTION_VCPU && !number_parse(optarg, &q->vcpu))
			return complain(STATUS_USAGE, "--vcpu %s: give a vcpu's number", optarg);
		if (option == OPTION_GUEST)
			q->guest = optarg;
		if (option == '?')
			return STATUS_USAGE;
		q->json |= option == OPTION_JSON;
		q->quiet |= option == OPTION_QUIET;
	}
	if (optind != argc - 2)
		return complain(STATUS_USAGE, "%s: give a file and an address; --help helps",
				argv[0]);
	q->path = argv[optind];
	q->words[0] = argv[0];
	q->words[1] = argv[optind + 1];
	if (q->guest && !ctl_is_socket(q->path))
		return complain(STATUS_USAGE, "%s is no socket: --guest is for running machines",
				q->path);
	if (!number_parse_hex(q->words[1], &q->number))
		return complain(STATUS_USAGE,
				"%s: \"%s\" is no number: give a file, then %s, hexadecimal",
				argv[0], q->words[1], help == rmap_help ? "a gfn" : "a gva");
	return STATUS_OK;
}

static enum status ask_machine(const struct query *q)
{
	if (q->at != UINT64_MAX || q->vcpu)
		return complain(STATUS_USAGE,
				"%s is a running machine: --at and --vcpu are for traces", q->path);
	return ctl_ask(q->path, q->json, q->guest, q->words, 2);
}

static enum status print_json(json_t *json)
{
	int failed = !json || json_dumpf(json, stdout, JSON_INDENT(2));

	putchar('\n');
	json_decref(json);
	return failed ? complain(STATUS_ERROR, "cannot print JSON") : STATUS_OK;
}

/* ------------------------------------------------------------------ rmap */

struct list {
	struct umbra_mapping *mapping;
	size_t count, room;
	bool failed;
};

static bool keep(void *ctx, const struct umbra_mapping *mapping)
{
	struct list *list = ctx;

	if (list->count == list->room) {
		size_t room = 2 * list->room + 64;
		struct umbra_mapping *more = realloc(list->mapping, room * sizeof(*more));

		list->failed = !more;
		if (!more)
			return false;
		list->mapping = more;
		list->room = room;
	}
	list->mapping[list->count++] = *mapping;
	return true;
}

static enum status print_mappings(const struct query *q, const struct list *list)
{
	json_t *array;

	if (!q->json) {
		show_mappings(stdout, q->words[1], list->mapping, list->count);
		return STATUS_OK;
	}
	array = json_array();
	for (size_t i = 0; i < list->count; i++)
		json_array_append_new(array, show_mapping_json(&list->mapping[i]));
	return print_json(array);
}

static enum status rmap(const struct query *q, struct playback *play)
{
	struct list list = {0};
	enum status status;
	int error = umbra_rmap_visit(replay_mmu(play->replay), (umbra_gfn){q->number}, keep, &list);

	if (error)
		status = complain(STATUS_NO_SUCH, "gfn %" PRIx64 " is no memory of this guest's",
				  q->number);
	else if (list.failed)
		status = complain(STATUS_NOMEM, "no memory for %zu mappings", list.count);
	else
		status = print_mappings(q, &list);
	free(list.mapping);
	return status;
}

/* ------------------------------------------------------------------ walk */

static bool is_known(void *ctx, uint64_t gpa, unsigned size)
{
	return replay_knows(ctx, gpa, size);
}

static enum status walk(const struct query *q, struct playback *play)
{
	struct umbra_vcpu *vcpu = replay_vcpu(play->replay, (unsigned)q->vcpu);
	struct umbra_view view;

	if (!vcpu)
		return complain(STATUS_NO_SUCH, "there is no vcpu %" PRIu64 " at that event",
				q->vcpu);
	if (replay_view(play->replay, vcpu, q->number, &view))
		return complain(STATUS_NO_SUCH,
				"gva %" PRIx64 " is not canonical in the mode that the guest is in",
				q->number);
	if (q->json)
		return print_json(show_view_json(&view, q->number, is_known, play->replay));
	show_view(stdout, &view, q->number, is_known, play->replay);
	return STATUS_OK;
}

/* ------------------------------------------------------------------ both */

static int query(int argc, char **argv, const char *help,
		 enum status (*answer)(const struct query *q, struct playback *play))
{
	struct playback play = {0};
	struct query q = {0};
	bool done = false;
	enum status status = parse(argc, argv, help, &q, &done);

	if (status != STATUS_OK || done)
		return (int)status;
	if (ctl_is_socket(q.path))
		return (int)ask_machine(&q);
	status = playback_at(&play, q.path, q.at, q.quiet);
	if (status == STATUS_OK)
		status = answer(&q, &play);
	playback_close(&play);
	return (int)status;
}

int rmap_command(int argc, char **argv)
{
	return query(argc, argv, rmap_help, rmap);
}

int walk_command(int argc, char **argv)
{
	return query(argc, argv, walk_help, walk);
}
