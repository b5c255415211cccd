/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the hypervisor refused, in a sentence: the thing and the value that was given, what it may
 * be, and the way out. A table of verbs and errors; the numbers in its sentences are those that
 * the hypervisor judges by (umbra/machine.h).
 */
#include "refusal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <umbra/machine.h>

#include "control.h"
#include "qemu.h"
#include "verbs.h"

/*
 * In a sentence: $1 and $2 are the words that were given, $m the most that the first may be, $q and
 * $Q the least and the largest quota, $e the gfn behind the last one, $w how many watches there
 * can be. The first row that fits counts.
 */
static const struct refusal {
	const char *verbs; /* a space between them; "": any */
	int error;
	enum status status;
	const char *why;
} refusals[] = {
    {"drop protect split", UMBRA_EINVAL, STATUS_USAGE,
     "GFN $1, PAGES $2: out of range; give 1 page or more, of gfns below $e (hexadecimal)"},
    {"drop protect split", UMBRA_ENOENT, STATUS_NO_SUCH,
     "$2 pages from gfn $1 on: none of them is memory of this guest's; umbra ctl SOCKET slots "
     "lists what is"},
    {"migrate reclaim", UMBRA_EINVAL, STATUS_USAGE, "PAGES $1: out of range; give 0 to $m"},
    {"migrate", UMBRA_ENOMEM, STATUS_NOMEM,
     "no frame is free to move a page to; umbra run --frames gives more"},
    {"reclaim", UMBRA_ENOENT, STATUS_NO_SUCH,
     "this machine has no swap file; umbra run --swap FILE gives it one"},
    {"storm merge compact", UMBRA_EINVAL, STATUS_USAGE,
     "RATE $1: out of range; give 0 to $m a second"},
    {"merge compact", UMBRA_ENOMEM, STATUS_NOMEM,
     "the machine has no memory left for its tables; umbra run --frames or --memory gives more, "
     "and --merge 1 or --compact 1 takes it at the start"},
    {"quota", UMBRA_EINVAL, STATUS_USAGE,
     "PAGES $1: out of range; give $q to $Q, or 0 for what umbra run --quota said"},
    {"log-start dirty-rate", UMBRA_EEXIST, STATUS_NO_SUCH, "a log is on already; log-stop ends it"},
    {"log-start dirty-rate", UMBRA_ENOMEM, STATUS_NOMEM,
     "the machine has no memory left for a log; umbra run --frames or --memory gives more"},
    {"log-collect log-stop dirty-rate", UMBRA_ENOENT, STATUS_NO_SUCH,
     "no log is on; log-start begins one"},
    {"dirty-rate", UMBRA_EAGAIN, STATUS_NO_SUCH,
     "a slot came back meanwhile, and what was written there was not seen; ask again"},
    {"log-collect", UMBRA_EAGAIN, STATUS_NO_SUCH,
     "a slot came back after the log began, and what was written there is not in it; log-stop, "
     "then "
     "log-start begin anew"},
    {"slot-flags", UMBRA_EINVAL, STATUS_USAGE,
     "FLAGS $2: out of range; give 1 (only to be read) or 0"},
    {"slot-delete slot-renew slot-flags", UMBRA_ENOENT, STATUS_NO_SUCH,
     "no slot $1 is there; umbra ctl SOCKET slots lists those that are, and slot-add brings one "
     "back that was deleted"},
    {"slot-add", UMBRA_ENOENT, STATUS_NO_SUCH,
     "no slot has the id $1; umbra ctl SOCKET slots lists them"},
    {"slot-add", UMBRA_EEXIST, STATUS_NO_SUCH,
     "slot $1 is there already; slot-delete takes it away"},
    {"watch", UMBRA_ENOENT, STATUS_NO_SUCH,
     "gfn $1 is no memory of this guest's; umbra ctl SOCKET slots lists what is"},
    {"watch", UMBRA_ENOMEM, STATUS_NOMEM,
     "$w pages are watched, and no more can be; unwatch GFN ends one, unwatch-all all"},
    {"unwatch", UMBRA_ENOENT, STATUS_NO_SUCH,
     "gfn $1 is not watched; umbra ctl SOCKET watches lists those that are"},

    /* What no verb's row foresees. */
    {"", UMBRA_EINVAL, STATUS_USAGE, "what was given is out of range; umbra(1) tells the ranges"},
    {"", UMBRA_ENOMEM, STATUS_NOMEM,
     "the machine has no memory left for it; umbra run --frames or --memory gives more"},
    {"", UMBRA_EEXIST, STATUS_NO_SUCH, "it is so already"},
    {"", UMBRA_ENOENT, STATUS_NO_SUCH, "what was named is not there"},
    {"", UMBRA_EAGAIN, STATUS_ERROR, "not now; try again"},
};

static bool is_among(const char *verbs, const char *name)
{
	size_t length = strlen(name);

	if (!*verbs)
		return true;
	for (; *verbs; verbs += strspn(verbs, " ")) {
		size_t word = strcspn(verbs, " ");

		if (word == length && strncmp(verbs, name, length) == 0)
			return true;
		verbs += word;
	}
	return false;
}

static void put(FILE *out, const struct control *c, char what)
{
	const struct umbra_machine *page = c->ram->page;

	switch (what) {
	case '1':
	case '2':
		fputs((unsigned)(what - '1') < c->count ? c->words[what - '1'] : "?", out);
		return;
	case 'm':
		fprintf(out, "%" PRIu64, umbra_command_most(c->verb->command));
		return;
	case 'q':
		fprintf(out, "%u", UMBRA_QUOTA_MIN);
		return;
	case 'Q':
		fprintf(out, "%" PRIu32, page->config.shadow_quota);
		return;
	case 'e':
		fprintf(out, "%llx", UMBRA_GFN_END);
		return;
	case 'w':
		fprintf(out, "%u", UMBRA_WATCHED_MAX);
		return;
	default:
		fputc(what, out);
	}
}

static void tell(struct control *c, const struct refusal *refusal)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (out) {
		fprintf(out, "%s: ", c->verb->name);
		for (const char *at = refusal->why; *at; at++)
			if (*at == '$' && at[1])
				put(out, c, *++at);
			else
				fputc(*at, out);
		fclose(out);
	}
	control_reply(c, refusal->status, "%s", text ? text : "out of memory");
	free(text);
}

void refusal_tell(struct control *c, int error)
{
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
		if (refusals[i].error == error && is_among(refusals[i].verbs, c->verb->name)) {
			tell(c, &refusals[i]);
			return;
		}
	control_reply(c, STATUS_ERROR, "%s: the machine does not answer as it should",
		      c->verb->name);
}
