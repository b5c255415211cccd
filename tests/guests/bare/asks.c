/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a guest asks of the hypervisor by the control ports, and where it is refused or put off. The
 * command line says how matters stand: "alone"; "several" guests; "outside", where somebody begins
 * and ends to watch or to log the guest while it runs.
 */
#include <umbra/machine.h>

#include "bare.h"

#define REFUSED UINT32_MAX
#define FIRST   0x2000u /* a gfn: 32 MiB */
#define PAGES   64u
#define WHILE   3000000000ull /* ticks */

extern uint32_t boot_information; /* start.S: Multiboot's */

static const uint32_t operations[] = {
    UMBRA_CTL_RANGE_DROP,     UMBRA_CTL_RANGE_DROP_EACH, UMBRA_CTL_RANGE_PROTECT,
    UMBRA_CTL_RANGE_REMAP,    UMBRA_CTL_RANGE_RENEW,     UMBRA_CTL_RANGE_INVALIDATE,
    UMBRA_CTL_RANGE_AGE,      UMBRA_CTL_RANGE_LOG_START, UMBRA_CTL_RANGE_LOG_COLLECT,
    UMBRA_CTL_RANGE_LOG_STOP, UMBRA_CTL_RANGE_LOG_WORDS, UMBRA_CTL_RANGE_MERGE,
    UMBRA_CTL_RANGE_COLLAPSE, UMBRA_CTL_RANGE_SWAP_OUT,
};

#define COUNT (sizeof(operations) / sizeof(operations[0]))

static bool is_told(const char *word)
{
	const uint32_t *information = (const uint32_t *)(uint64_t)boot_information;
	const char *line = (const char *)(uint64_t)information[4];

	for (; information[0] & 4 && *line; line++) {
		unsigned i = 0;

		while (word[i] && line[i] == word[i])
			i++;
		if (!word[i])
			return true;
	}
	return false;
}

static uint32_t control(uint32_t operation, uint32_t argument)
{
	outl(UMBRA_CTL_ARG, argument);
	outl(UMBRA_CTL, operation);
	return inl(UMBRA_CTL_ARG);
}

/* Every operation on @pages pages from @first on is refused, and leaves what it holds. */
static void refused(uint32_t first, uint32_t pages, const char *why)
{
	control(UMBRA_CTL_RANGE_FIRST, first);
	control(UMBRA_CTL_RANGE_PAGES, pages);
	for (unsigned i = 0; i < COUNT; i++) {
		uint32_t result = control(operations[i], 0);

		EXPECT(result == REFUSED, "%s: operation %u on gfns %x, %u of them: %u", why,
		       (uint64_t)operations[i], (uint64_t)first, (uint64_t)pages, (uint64_t)result);
	}
}

/* Is the guest allowed to operate on itself? All of them, or none. */
static bool is_allowed(void)
{
	control(UMBRA_CTL_RANGE_FIRST, FIRST);
	control(UMBRA_CTL_RANGE_PAGES, PAGES);
	return control(UMBRA_CTL_RANGE_DROP, 0) != REFUSED;
}

#define AUDITS control(UMBRA_CTL_PEEK, offsetof(struct umbra_machine, audits))

/* All the time: others are to have theirs, too. */
static void audits(void)
{
	uint32_t before = AUDITS, asked = 0, done;
	uint64_t begun = rdtsc();

	for (; rdtsc() - begun < WHILE; asked++)
		EXPECT(control(UMBRA_CTL_AUDIT, 0) == 0, "an audit found something");
	done = AUDITS - before;
	say("guest: %u audits for the asking %u times\r\n", (uint64_t)done, (uint64_t)asked);
	EXPECT(done && asked / 10 > done, "so many audits are others' time");
	while (rdtsc() - begun < 2 * WHILE) /* nobody is alone meanwhile */
		;
}

static void alone(void)
{
	uint32_t before = AUDITS;

	for (unsigned i = 0; i < 5; i++)
		EXPECT(control(UMBRA_CTL_AUDIT, 0) == 0, "an audit found something");
	EXPECT(AUDITS - before == 5, "a guest alone has fewer audits than it asks for");
	for (unsigned i = 0; i < PAGES; i++)
		WORD((FIRST + i) * 4096ull) = i;
	EXPECT(is_allowed(), "a guest alone may not");
	EXPECT(control(UMBRA_CTL_RANGE_PROTECT, 0) != REFUSED, "nor write-protect");
	EXPECT(control(UMBRA_CTL_RANGE_REMAP, 0) != REFUSED, "nor migrate");
	EXPECT(control(UMBRA_CTL_RANGE_RENEW, 0) != REFUSED, "nor renew a slot");
	refused(0xa0000u, 1, "in no slot");
	refused(0x3ff0u, 17, "beyond the end of 64 MiB");
	refused(FIRST, UINT32_MAX, "beyond any end");
	refused(UINT32_MAX, UINT32_MAX, "wraps around in 32 bits");
	EXPECT(is_allowed(), "a guest alone may not any more");
	for (unsigned i = 0; i < PAGES; i++)
		EXPECT(WORD((FIRST + i) * 4096ull) == i, "page %u has changed", (uint64_t)i);
}

static void outside(void)
{
	for (unsigned turn = 0; turn < 4; turn++) { /* twice begun, and ended */
		bool allowed = turn % 2 == 0;

		while (is_allowed() != allowed)
			;
		if (!allowed) {
			refused(FIRST, PAGES, "somebody outside is at it");
			EXPECT(control(UMBRA_CTL_READ_ONLY, FIRST) == 1, "its slot is renewed");
		}
		say("guest: %s, turn %u\r\n", allowed ? "allowed" : "refused", (uint64_t)turn);
	}
	while (!is_allowed())
		;
}

int main(void)
{
	EXPECT(inl(UMBRA_CTL) == UMBRA_CTL_ID, "not this hypervisor");
	if (is_told("alone"))
		alone();
	if (is_told("several")) {
		refused(FIRST, PAGES, "another guest is there");
		audits();
	}
	if (is_told("outside"))
		outside();
	say("guest: asked\r\n");
	finish(0);
}
