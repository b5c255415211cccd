/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a running machine can be asked (control.c brings the request and takes the reply back).
 *
 * A verb is a row of a table: what it checks and asks of the hypervisor (begin), and what it says
 * when the hypervisor is done (end). Most do both with ask.c's.
 */
#include "verbs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <umbra/machine.h>

#include "ask.h"
#include "control.h"
#include "number.h"
#include "qemu.h"
#include "record.h"
#include "refusal.h"
#include "report.h"
#include "show.h"
#include "survey.h"

#define MAPPINGS_MOST (1u << 20)

/* Those whom the request is for: one guest, or all. */
static const struct ram *first_of(const struct control *c, unsigned *count)
{
	*count = c->everybody ? c->guests : 1;
	return c->everybody ? c->rams : c->ram;
}

static bool listens(const struct umbra_machine *page)
{
	return __atomic_load_n(&page->magic, __ATOMIC_ACQUIRE) == UMBRA_MACHINE_MAGIC &&
	       __atomic_load_n(&page->phase, __ATOMIC_ACQUIRE) != UMBRA_PHASE_ENDED;
}

static void begin_stats(struct control *c)
{
	unsigned count;
	const struct ram *ram = first_of(c, &count);
	uint32_t none;

	for (unsigned i = 0; i < count; i++) {
		none =
		    UMBRA_COMMAND_NONE; /* a guest that has another one to do goes on with that */
		if (listens(ram[i].page))
			__atomic_compare_exchange_n(&ram[i].page->command, &none,
						    UMBRA_COMMAND_STATS, false, __ATOMIC_ACQ_REL,
						    __ATOMIC_RELAXED);
	}
	c->asked = true;
}

static void end_stats(struct control *c)
{
	static struct umbra_machine seen[UMBRA_GUESTS_MAX]; /* the pages go on changing */
	const struct umbra_machine *pages[UMBRA_GUESTS_MAX];
	unsigned count;
	const struct ram *ram = first_of(c, &count);
	char *text = NULL;
	size_t size;
	FILE *out;

	for (unsigned i = 0; i < count; i++) {
		const struct umbra_machine *page = ram[i].page;

		if (listens(page) &&
		    __atomic_load_n(&page->command, __ATOMIC_ACQUIRE) == UMBRA_COMMAND_STATS) {
			c->asked = true; /* not yet */
			return;
		}
	}
	for (unsigned i = 0; i < count; i++) {
		ask_copy(&seen[i], ram[i].page, sizeof(seen[i]));
		pages[i] = &seen[i];
	}
	if (c->json) {
		ask_reply_json(c, report_all_json(pages, count));
		return;
	}
	out = open_memstream(&text, &size);
	if (out) {
		report_all(out, pages, count);
		fclose(out);
	}
	control_reply(c, text ? STATUS_OK : STATUS_ERROR, "%s", text ? text : "out of memory");
	free(text);
}

static void begin_rmap(struct control *c)
{
	uint64_t gfn;

	if (!number_parse_hex(c->words[0], &gfn)) {
		control_reply(c, STATUS_USAGE, "rmap %s: give a gfn, hexadecimal", c->words[0]);
		return;
	}
	ask_command(c, UMBRA_COMMAND_RMAP, gfn, c->skip);
}

static bool keep_mappings(struct control *c, const struct umbra_mapping *from, size_t count)
{
	if (c->mapping_room <= c->mapping_count + count) {
		size_t room = 2 * c->mapping_room + count + 1;
		struct umbra_mapping *more = realloc(c->mappings, room * sizeof(*more));

		if (!more)
			return false;
		c->mappings = more;
		c->mapping_room = room;
	}
	ask_copy(c->mappings + c->mapping_count, from, count * sizeof(*from));
	c->mapping_count += count;
	return true;
}

static void say_mappings(struct control *c)
{
	char *text = NULL;
	size_t size;
	FILE *out;

	if (c->json) {
		json_t *list = json_array();

		for (size_t i = 0; i < c->mapping_count; i++)
			json_array_append_new(list, show_mapping_json(&c->mappings[i]));
		ask_reply_json(c, list);
		return;
	}
	out = open_memstream(&text, &size);
	if (out) {
		show_mappings(out, c->words[0], c->mappings, c->mapping_count);
		fclose(out);
	}
	control_reply(c, text ? STATUS_OK : STATUS_ERROR, "%s", text ? text : "out of memory");
	free(text);
}

static void end_rmap(struct control *c)
{
	const struct umbra_machine *page = c->ram->page;
	const size_t room = UMBRA_ANSWER_BYTES / sizeof(struct umbra_mapping);
	size_t count = __atomic_load_n(&page->answers, __ATOMIC_RELAXED);
	int result = __atomic_load_n(&page->result, __ATOMIC_RELAXED);

	if (result == UMBRA_ENOENT)
		control_reply(c, STATUS_NO_SUCH,
			      "gfn %s is no memory of this guest's; umbra ctl SOCKET slots lists "
			      "what is",
			      c->words[0]);
	else if (result || count > room || !ask_answer(c) ||
		 !keep_mappings(c, ask_answer(c), count))
		control_reply(c, STATUS_ERROR, "the machine does not answer as it should");
	else if (c->mapping_count > MAPPINGS_MOST)
		control_reply(c, STATUS_ERROR,
			      "gfn %s has more than %u mappings, or the machine "
			      "does not answer as it should",
			      c->words[0], MAPPINGS_MOST);
	else if (count == room) {
		c->skip += count;
		begin_rmap(c);
	} else
		say_mappings(c);
}

static void begin_walk(struct control *c)
{
	uint64_t gva;

	if (number_parse_hex(c->words[0], &gva))
		ask_command(c, UMBRA_COMMAND_VIEW, gva, 0);
	else
		control_reply(c, STATUS_USAGE, "walk %s: give a gva, hexadecimal", c->words[0]);
}

static void end_walk(struct control *c)
{
	const struct umbra_machine *page = c->ram->page;
	const struct umbra_view *there = ask_answer(c);
	struct umbra_view view;
	char *text = NULL;
	uint64_t gva;
	size_t size;
	FILE *out;

	number_parse_hex(c->words[0], &gva);
	if (__atomic_load_n(&page->result, __ATOMIC_RELAXED) || !there) {
		control_reply(c, STATUS_NO_SUCH,
			      "gva %s is not canonical in the mode that the guest is in",
			      c->words[0]);
		return;
	}
	ask_copy(&view, there, sizeof(view));
	if (view.guest_top > 5 || view.guest_end > 5 || view.shadow_top > 5 ||
	    view.shadow_end > 5) {
		control_reply(c, STATUS_ERROR, "the machine does not answer as it should");
		return;
	}
	if (c->json) {
		ask_reply_json(c, show_view_json(&view, gva, NULL, NULL));
		return;
	}
	out = open_memstream(&text, &size);
	if (out) {
		show_view(out, &view, gva, NULL, NULL);
		fclose(out);
	}
	control_reply(c, text ? STATUS_OK : STATUS_ERROR, "%s", text ? text : "out of memory");
	free(text);
}

static void begin_record(struct control *c)
{
	char why[512];
	enum status status;

	if (c->recording->recorder) {
		control_reply(c, STATUS_TRACE, "record %s: a recording is on; record-end ends it",
			      c->words[0]);
		return;
	}
	if (c->words[0][0] != '/') {
		control_reply(c, STATUS_USAGE, "record %s: give a path that begins with /",
			      c->words[0]);
		return;
	}
	status = record_open(c->recording, c->words[0], why, sizeof(why));
	if (status == STATUS_OK)
		status = record_start(c->recording, c->ram, why, sizeof(why));
	if (status != STATUS_OK)
		control_reply(c, status, "record: %s", why);
	else
		ask_command(c, UMBRA_COMMAND_RECORD, 0, 0);
}

static void end_record(struct control *c)
{
	int result = __atomic_load_n(&c->ram->page->result, __ATOMIC_RELAXED);

	if (!result) {
		ask_done(c);
		return;
	}
	record_discard(c->recording);
	if (result == UMBRA_EAGAIN)
		control_reply(
		    c, STATUS_TRACE,
		    "a log of writes is on, of which a recording would not know: log-stop "
		    "ends it");
	else
		control_reply(c, STATUS_TRACE,
			      "the machine cannot begin to record now (error %d); try again",
			      result);
}

static void end_record_end(struct control *c)
{
	enum status status = record_close(c->recording);

	if (status == STATUS_OK)
		ask_done(c);
	else
		control_reply(c, status, "the trace ends early: see what the machine's side says");
}

/* Of whichever guest it is, which may have ended, as may the one that was asked. */
static void begin_record_end(struct control *c)
{
	if (!c->recording->recorder) {
		control_reply(c, STATUS_TRACE, "no recording is on; record FILE begins one");
		return;
	}
	if (c->ram != c->recording->ram)
		control_turn(c, c->recording->ram); /* and again, once that one listens */
	else if (listens(c->ram->page))
		ask_command(c, UMBRA_COMMAND_RECORD_END, 0, 0);
	else
		end_record_end(c);
}

static void begin_stop(struct control *c)
{
	unsigned count;
	const struct ram *ram = first_of(c, &count);

	ask_done(c);
	for (unsigned i = 0; i < count; i++)
		if (listens(ram[i].page))
			__atomic_store_n(&ram[i].page->command, UMBRA_COMMAND_STOP,
					 __ATOMIC_RELEASE);
}

static void begin_watch(struct control *c)
{
	static const char letters[] = "rwx"; /* bits of enum umbra_watch, in order */
	uint64_t gfn, kinds = 0;
	const char *at = c->words[1];

	for (; *at && strchr(letters, *at); at++)
		kinds |= UINT64_C(1) << (strchr(letters, *at) - letters);
	if (!number_parse_hex(c->words[0], &gfn) || !kinds || *at)
		control_reply(c, STATUS_USAGE,
			      "watch %s %s: give a gfn, hexadecimal, and some of r, w and x",
			      c->words[0], c->words[1]);
	else
		ask_command(c, UMBRA_COMMAND_WATCH, gfn, kinds);
}

#define NUMBERS ask_numbers, ask_tell

static const struct verb verbs[] = {
    {"stats", "", 0, "what the MMU did so far", begin_stats, end_stats, 0,
     "mmu drop exits merge compact guests"},
    {"rmap", "GFN", 1, "every spte of a guest page: address space, gva, rights", begin_rmap,
     end_rmap, 0, "gfn gva gva_bits root level rights spte table index"},
    {"walk", "GVA", 1, "the guest's and the shadow tables for an address, side by side", begin_walk,
     end_walk, 0, "gva mode nested cr3 guest shadow"},
    {"working-set", "SECONDS", 1, "how many pages the guest uses in that time, an hour at most",
     survey_begin, survey_end, 0, "seconds used resident pages"},
    {"dirty-rate", "SECONDS [HOW]", 2,
     "how many pages the guest writes in that time, an hour at most", survey_begin, survey_end, 0,
     "seconds written kib_per_second"},
    {"drop", "GFN PAGES", 2, "take every mapping away; it comes back by faults", NUMBERS,
     UMBRA_COMMAND_DROP, "sptes accessed dirty"},
    {"protect", "GFN PAGES", 2, "take the right to write away; it comes back by faults", NUMBERS,
     UMBRA_COMMAND_PROTECT, "sptes"},
    {"split", "GFN PAGES", 2, "take mappings of more than 4 KiB away", NUMBERS, UMBRA_COMMAND_SPLIT,
     "sptes"},
    {"migrate", "PAGES", 1, "move so many random pages to other frames", NUMBERS,
     UMBRA_COMMAND_MIGRATE, "moved sptes"},
    {"storm", "RATE", 1, "move so many random pages a second from now on; 0: none", NUMBERS,
     UMBRA_COMMAND_STORM, ""},
    {"compact", "RATE", 1, "move so many frames a second, to map 2 MiB at once; 0: no more",
     NUMBERS, UMBRA_COMMAND_COMPACT, "blocks_built frames_moved collapsed broken"},
    {"merge", "RATE", 1, "look at so many pages a second, to be shared; 0: no more", NUMBERS,
     UMBRA_COMMAND_MERGE, "saved_pages shared_frames sharers"},
    {"zap", "", 0, "take all shadow tables down", NUMBERS, UMBRA_COMMAND_ZAP, ""},
    {"quota", "PAGES", 1, "so many shadow pages at most; 0: what --quota said", NUMBERS,
     UMBRA_COMMAND_QUOTA, ""},
    {"audit", "", 0, "check every invariant", NUMBERS, UMBRA_COMMAND_AUDIT, "violations"},
    {"log-start", "[HOW]", 1, "log which pages are written; HOW: protect or dirty-bits, and ,split",
     survey_log, ask_tell, 0, ""},
    {"log-collect", "", 0, "how many were, since the last time", NUMBERS, UMBRA_COMMAND_LOG_COLLECT,
     "written"},
    {"log-stop", "", 0, "log no more", NUMBERS, UMBRA_COMMAND_LOG_STOP, ""},
    {"slots", "", 0, "the guest's pieces of memory", ask_numbers, ask_tell_list,
     UMBRA_COMMAND_SLOTS, "id gfn pages read_only present"},
    {"slot-delete", "ID", 1, "there is no memory any more; a guest that needs it ends", NUMBERS,
     UMBRA_COMMAND_SLOT_DELETE, ""},
    {"slot-add", "ID", 1, "there is again, with what was in it", NUMBERS, UMBRA_COMMAND_SLOT_ADD,
     ""},
    {"slot-renew", "ID", 1, "both at once, under the running guest", NUMBERS,
     UMBRA_COMMAND_SLOT_RENEW, ""},
    {"slot-flags", "ID FLAGS", 2, "1: it is only read from now on; 0: written, too", NUMBERS,
     UMBRA_COMMAND_SLOT_FLAGS, ""},
    {"watch", "GFN KINDS", 2, "see who touches a page: r any access, w writes, x runs code",
     begin_watch, ask_tell, 0, ""},
    {"unwatch", "GFN", 1, "no more", NUMBERS, UMBRA_COMMAND_WATCH, ""},
    {"unwatch-all", "", 0, "watch no page any more", NUMBERS, UMBRA_COMMAND_WATCH_CLEAR, ""},
    {"watches", "", 0, "what is watched, and how often it was touched", ask_numbers, ask_tell_list,
     UMBRA_COMMAND_WATCHES, "gfn kinds reads writes fetches"},
    {"touches", "", 0, "the last touches: when, and by which instruction", ask_numbers,
     ask_tell_list, UMBRA_COMMAND_TOUCHES, "microseconds gfn kinds rip gva"},
    {"swap", "", 0, "what became of cold pages, in pages and microseconds", NUMBERS,
     UMBRA_COMMAND_SWAP,
     "slots used frames free out zeros in ahead faults waits failed out_us in_us faults_us "
     "longest_us mean_us"},
    {"reclaim", "PAGES", 1, "swap so many cold pages out now, of all guests", NUMBERS,
     UMBRA_COMMAND_RECLAIM, "freed zeros free"},
    {"record", "FILE", 1, "record from now on; the MMU starts anew", begin_record, end_record, 0,
     ""},
    {"record-end", "", 0, "end the recording", begin_record_end, end_record_end, 0, ""},
    {"stop", "", 0, "stop the machine, or that guest", begin_stop, NULL, 0, ""},
};

#define VERBS (sizeof(verbs) / sizeof(verbs[0]))

const struct verb *verb_find(const char *name)
{
	for (size_t i = 0; i < VERBS; i++)
		if (strcmp(verbs[i].name, name) == 0)
			return &verbs[i];
	return NULL;
}

unsigned verb_least(const struct verb *verb)
{
	unsigned optional = 0;

	for (const char *at = verb->arguments; (at = strchr(at, '[')); at++)
		optional++;
	return verb->count - optional;
}

bool verb_is_of_all(const struct verb *verb)
{
	return verb->begin == begin_stats || verb->begin == begin_stop ||
	       verb->begin == begin_record_end;
}

void control_help(void)
{
	for (size_t i = 0; i < VERBS; i++)
		printf("  %-12s%-15s %s\n", verbs[i].name, verbs[i].arguments, verbs[i].what);
}

bool control_help_about(const char *name)
{
	const struct verb *verb = verb_find(name);

	if (!verb)
		return false;
	printf("umbra ctl SOCKET %s%s%s\n  %s\n", verb->name, verb->count ? " " : "",
	       verb->arguments, verb->what);
	if (*verb->fields)
		printf("answers: %s\n", verb->fields);
	return true;
}
