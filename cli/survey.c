/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Verbs that ask which pages a guest uses or writes, at once or over a while: log-start,
 * working-set, dirty-rate.
 */
#include "survey.h"

#include <string.h>

#include <umbra/machine.h>

#include "ask.h"
#include "clock.h"
#include "control.h"
#include "number.h"
#include "qemu.h"
#include "refusal.h"
#include "verbs.h"

/* enum umbra_log, or-ed, of a list of words. */
static bool parse_how(const char *text, uint64_t *flags)
{
	static const struct {
		const char *word;
		unsigned flag;
	} words[] = {
	    {"protect", 0}, {"dirty-bits", UMBRA_LOG_DIRTY_BITS}, {"split", UMBRA_LOG_SPLIT}};
	size_t length, i;

	for (*flags = 0;; text += length + 1) {
		length = strcspn(text, ",");
		for (i = 0; i < 3; i++)
			if (strncmp(words[i].word, text, length) == 0 && !words[i].word[length])
				break;
		if (i == 3)
			return false;
		*flags |= words[i].flag;
		if (!text[length])
			return true;
	}
}

/* Ask for a log, kept as word @i says; without it, by write protection. */
static void ask_for_log(struct control *c, unsigned i)
{
	uint64_t flags = 0;

	if (c->count > i && !parse_how(c->words[i], &flags))
		control_reply(c, STATUS_USAGE,
			      "%s: \"%s\" is no way to log writes: give protect or dirty-bits, and "
			      ",split where large pages are to be split at once",
			      c->verb->name, c->words[i]);
	else
		ask_command(c, UMBRA_COMMAND_LOG_START, flags, 0);
}

void survey_log(struct control *c)
{
	ask_for_log(c, 0);
}

/*
 * working-set and dirty-rate: begin to look, let SECONDS pass, look again. What began ends, even if
 * whoever asked has gone.
 */
void survey_begin(struct control *c)
{
	static const struct {
		const char *name;
		enum umbra_command command[3];
	} table[] = {
	    {"working-set", {UMBRA_COMMAND_AGE, UMBRA_COMMAND_AGE, UMBRA_COMMAND_NONE}},
	    {"dirty-rate",
	     {UMBRA_COMMAND_LOG_START, UMBRA_COMMAND_LOG_COLLECT, UMBRA_COMMAND_LOG_STOP}},
	};
	unsigned row = strcmp(c->verb->name, table[0].name) != 0;
	uint64_t seconds;

	if (!number_parse(c->words[0], &seconds) || !seconds || seconds > 3600) {
		control_reply(c, STATUS_USAGE, "%s %s: give 1 to 3600 seconds", c->verb->name,
			      c->words[0]);
		return;
	}
	if (table[row].command[c->stage] == UMBRA_COMMAND_LOG_START)
		ask_for_log(c, 1);
	else
		ask_command(c, table[row].command[c->stage], 0, 0);
}

static void tell_while(struct control *c, bool ages)
{
	uint64_t seconds;

	number_parse(c->words[0], &seconds);
	if (c->failed)
		refusal_tell(c, c->failure);
	else if (ages)
		ask_tell_rows(c, (uint64_t[]){seconds, c->kept[0], c->kept[1], c->kept[2]}, 1,
			      false);
	else
		ask_tell_rows(c,
			      (uint64_t[]){seconds, c->kept[0],
					   c->kept[0] * UMBRA_PAGE_SIZE / 1024 / seconds},
			      1, false);
}

void survey_end(struct control *c)
{
	const struct umbra_machine *page = c->ram->page;
	const bool ages = strcmp(c->verb->name, "working-set") == 0;
	const size_t count = ages ? 3 : 1;
	int result = __atomic_load_n(&page->result, __ATOMIC_RELAXED);
	uint64_t seconds;

	/* A log that the guest has ended by itself was ended, and what was measured stays true. */
	if (c->stage == 2 && (result == UMBRA_ENOENT || c->failed))
		result = 0;
	if (c->stage == 1 && !result &&
	    __atomic_load_n(&page->answers, __ATOMIC_RELAXED) == count && ask_answer(c)) {
		ask_copy(c->kept, ask_answer(c), count * sizeof(c->kept[0]));
	} else if (c->stage == 1) {
		c->failed = true;
		c->failure = result;
	} else if (result) {
		refusal_tell(c, result);
		return;
	}
	number_parse(c->words[0], &seconds);
	if (c->stage == 0)
		c->due = clock_now() + (double)seconds;
	if (++c->stage == (ages ? 2 : 3))
		tell_while(c, ages); /* else survey_begin() again */
}
