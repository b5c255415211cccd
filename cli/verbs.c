/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a running machine can be asked (control.c brings the request and takes the reply back).
 *
 * A verb is a row of a table: what it checks and asks of the hypervisor (begin), and what it says
 * when the hypervisor is done (end).
 */
#include "verbs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <umbra/machine.h>

#include "control.h"
#include "number.h"
#include "qemu.h"
#include "record.h"
#include "report.h"
#include "show.h"

/* @json, which is used up. */
static void reply_json(struct control *c, json_t *json)
{
	char *text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;

	json_decref(json);
	if (text)
		control_reply(c, STATUS_OK, "%s\n", text);
	else
		control_reply(c, STATUS_ERROR, "out of memory");
	free(text);
}

static void ask(struct control *c, enum umbra_command command, uint64_t first, uint64_t second)
{
	struct umbra_machine *page = c->ram->page;

	page->argument[0] = first;
	page->argument[1] = second;
	__atomic_store_n(&page->command, command, __ATOMIC_RELEASE);
	c->asked = true;
}

/* Where the machine puts its answers. NULL: it named a place that it does not have. */
static const void *answer(struct control *c)
{
	uint64_t address = c->ram->page->answer;
	void *map;

	if (c->answer)
		return c->answer;
	if (!address || address % 4096 || address > c->ram->bytes - UMBRA_ANSWER_BYTES)
		return NULL;
	map = mmap(NULL, UMBRA_ANSWER_BYTES, PROT_READ, MAP_SHARED, c->ram->fd, (off_t)address);
	c->answer = map == MAP_FAILED ? NULL : map;
	return c->answer;
}

/* Those whom the request is for: one guest, or all. */
static const struct ram *first_of(const struct control *c, unsigned *count)
{
	*count = c->everybody ? c->guests : 1;
	return c->everybody ? c->rams : c->ram;
}

static bool listens(const struct umbra_machine *page)
{
	return page->magic == UMBRA_MACHINE_MAGIC && page->phase != UMBRA_PHASE_ENDED;
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
	const struct umbra_machine *pages[UMBRA_GUESTS_MAX];
	unsigned count;
	const struct ram *ram = first_of(c, &count);
	char *text = NULL;
	size_t size;
	FILE *out;

	for (unsigned i = 0; i < count; i++) {
		pages[i] = ram[i].page;
		if (listens(pages[i]) &&
		    __atomic_load_n(&pages[i]->command, __ATOMIC_ACQUIRE) == UMBRA_COMMAND_STATS) {
			c->asked = true; /* not yet */
			return;
		}
	}
	if (c->json) {
		reply_json(c, report_all_json(pages, count));
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
	ask(c, UMBRA_COMMAND_RMAP, gfn, c->skip);
}

static bool keep_mappings(struct control *c, const struct umbra_mapping *from, size_t count)
{
	struct umbra_mapping *more =
	    realloc(c->mappings, (c->mapping_count + count + 1) * sizeof(*more));

	if (!more)
		return false;
	c->mappings = more;
	memcpy(more + c->mapping_count, from, count * sizeof(*more));
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
		reply_json(c, list);
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
	size_t count = page->answers;

	if (page->result == UMBRA_ENOENT)
		control_reply(c, STATUS_NO_SUCH, "gfn %s is no memory of this guest's",
			      c->words[0]);
	else if (page->result || count > room || !answer(c) || !keep_mappings(c, answer(c), count))
		control_reply(c, STATUS_ERROR, "the machine does not answer as it should");
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
		ask(c, UMBRA_COMMAND_VIEW, gva, 0);
	else
		control_reply(c, STATUS_USAGE, "walk %s: give a gva, hexadecimal", c->words[0]);
}

static void end_walk(struct control *c)
{
	const struct umbra_machine *page = c->ram->page;
	const struct umbra_view *view = answer(c);
	char *text = NULL;
	uint64_t gva;
	size_t size;
	FILE *out;

	number_parse_hex(c->words[0], &gva);
	if (page->result || !view) {
		control_reply(c, STATUS_NO_SUCH,
			      "gva %s is not canonical in the mode that the guest is in",
			      c->words[0]);
		return;
	}
	if (c->json) {
		reply_json(c, show_view_json(view, gva, NULL, NULL));
		return;
	}
	out = open_memstream(&text, &size);
	if (out) {
		show_view(out, view, gva, NULL, NULL);
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
		control_reply(c, STATUS_TRACE, "a recording is on; record-end ends it");
		return;
	}
	if (c->words[0][0] != '/') {
		control_reply(c, STATUS_USAGE, "record %s: give a path that begins with /",
			      c->words[0]);
		return;
	}
	status = record_open(c->recording, c->words[0], why, sizeof(why));
	if (status == STATUS_OK)
		status = record_start(c->recording, c->ram);
	if (status != STATUS_OK)
		control_reply(c, status, "record: %s", why);
	else
		ask(c, UMBRA_COMMAND_RECORD, 0, 0);
}

static void end_record(struct control *c)
{
	int result = c->ram->page->result;

	if (!result) {
		control_reply(c, STATUS_OK, "%s", "");
		return;
	}
	record_discard(c->recording);
	control_reply(c, STATUS_TRACE,
		      "the machine cannot begin to record now (error %d); try again", result);
}

static void begin_record_end(struct control *c)
{
	if (c->recording->recorder)
		ask(c, UMBRA_COMMAND_RECORD_END, 0, 0);
	else
		control_reply(c, STATUS_TRACE, "no recording is on");
}

static void end_record_end(struct control *c)
{
	enum status status = record_close(c->recording);

	control_reply(c, status, "%s",
		      status ? "the trace ends early: see what the machine's side says" : "");
}

static void begin_stop(struct control *c)
{
	unsigned count;
	const struct ram *ram = first_of(c, &count);

	control_reply(c, STATUS_OK, "%s", "");
	for (unsigned i = 0; i < count; i++)
		if (listens(ram[i].page))
			__atomic_store_n(&ram[i].page->command, UMBRA_COMMAND_STOP,
					 __ATOMIC_RELEASE);
}

static const struct verb verbs[] = {
    {"stats", "", 0, "what the MMU did so far", begin_stats, end_stats},
    {"rmap", "GFN", 1, "every spte of a guest page: address space, gva, rights", begin_rmap,
     end_rmap},
    {"walk", "GVA", 1, "the guest's and the shadow tables for an address, side by side", begin_walk,
     end_walk},
    {"record", "FILE", 1, "record from now on; the MMU starts anew", begin_record, end_record},
    {"record-end", "", 0, "end the recording", begin_record_end, end_record_end},
    {"stop", "", 0, "stop the machine, or that guest", begin_stop, NULL},
};

#define VERBS (sizeof(verbs) / sizeof(verbs[0]))

const struct verb *verb_find(const char *name)
{
	for (size_t i = 0; i < VERBS; i++)
		if (strcmp(verbs[i].name, name) == 0)
			return &verbs[i];
	return NULL;
}

bool verb_is_of_all(const struct verb *verb)
{
	return verb->begin == begin_stats || verb->begin == begin_stop;
}

void control_help(void)
{
	for (size_t i = 0; i < VERBS; i++)
		printf("  %-11s%-6s %s\n", verbs[i].name, verbs[i].arguments, verbs[i].what);
}
