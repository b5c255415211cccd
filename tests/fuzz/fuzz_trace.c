/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Traces that nobody recorded. The first byte says which of two:
 *
 *     0, 1   the rest is a file: it is opened, read to its end, and read again from some places on
 *     else   the rest is a guest: a configuration, and records in a short form. They are written to
 *            a file, which must give them back; then they are replayed strictly and loosely, with
 *            TLBs and audits
 *
 * Neither may crash, hang or leak. A strict replay may say what it likes. A loose one may not find
 * a violation: what it does to the library is within its contract, whatever the records are.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "input.h"
#include "replay.h"
#include "trace.h"

#define RECORDS 512u

static int file = -1;
static char path[64];

/* ------------------------------------------------------------------ a file */

static enum trace_status read_on(struct trace_reader *reader, uint64_t *records)
{
	struct umbra_record record;
	struct trace_error error;
	enum trace_status status;

	for (*records = 0; !(status = trace_next(reader, &record, &error)); ++*records)
		;
	return status;
}

static void read_file(struct input *input)
{
	struct trace_header header;
	enum trace_status status;
	struct trace_error error;
	struct trace_reader *reader;
	uint8_t places[4];
	uint64_t records, more;
	size_t size;

	for (unsigned i = 0; i < sizeof(places); i++)
		places[i] = input_u8(input);
	size = (size_t)(input->end - input->at);
	check(!ftruncate(file, 0) && pwrite(file, input->at, size, 0) == (ssize_t)size, "no file");
	reader = trace_open(path, &header, &error);
	if (!reader) {
		check(error.text[0] && error.status != TRACE_OK && error.status != TRACE_END,
		      "no reason");
		return;
	}
	status = read_on(reader, &records);
	for (unsigned i = 0; i < sizeof(places); i++) {
		uint64_t place =
		    i < 3 ? places[i] * records / 255 : places[i] * 0x0101010101010101ull;

		if (trace_seek(reader, place, &error) != TRACE_OK)
			continue;
		check(place < records, "there is no such record");
		check(read_on(reader, &more) == status && more == records - place,
		      "another end from another place");
	}
	trace_reader_close(reader);
}

/* ------------------------------------------------------------------ records */

/* An address or number that may well mean something. */
static uint64_t number(struct input *input)
{
	uint8_t shape = input_u8(input);

	switch (shape >> 5) {
	case 0:
		return shape; /* a small one */
	case 1:               /* a table of the guest's, or a word of it */
		return (shape & 31u) << 12 | (input_u8(input) * 8u & 4095);
	case 2:
		return shape & 31u ? 1ull << (shape & 31u) * 2 : 0;
	case 3:
		return ~0ull << (shape & 31u) * 2;
	case 4: /* a gva of many levels */
		return (shape & 1 ? ~0ull << 47 : 0) | (uint64_t)(shape >> 1 & 15) << 39 |
		       (uint64_t)input_u16(input) << 12;
	case 5: /* registers that turn paging on */
		return 0x80010033u | (shape & 31u ? 0x20ull << 32 : 0) |
		       (uint64_t)input_u16(input) << 36;
	case 6: /* an entry */
		return (uint64_t)input_u8(input) << 12 | (shape & 31u) * 33u | 1;
	default:
		return input_u64(input);
	}
}

static struct umbra_record record(struct input *input)
{
	uint8_t what = input_u8(input);
	struct umbra_record r = {.kind = what % (UMBRA_TRACE_KINDS + 1)};

	r.vcpu = what >= 224 ? input_u8(input) : 0;
	r.a = number(input);
	r.b = number(input);
	r.c = number(input);
	if (r.kind >= UMBRA_TRACE_INPUTS && r.kind < UMBRA_TRACE_EVENTS)
		r.kind = UMBRA_TRACE_WORD8;
	return r;
}

static struct trace_header header_of(struct input *input)
{
	static const uint8_t bits[] = {40, 32, 36, 48, 52, 31, 53, 0};
	static const uint32_t quotas[] = {54, 64, 100, 500, 53, 0, 4096, (1u << 21) + 1};
	uint8_t how = input_u8(input), more = input_u8(input);

	return (struct trace_header){
	    .memory = 1 << 20,
	    .config = {.shadow_quota = quotas[how & 7],
		       .prefetch = how >> 3 & 3 ? (1u << (how >> 3 & 3) * 3) : 0,
		       .maxphyaddr = bits[more & 7],
		       .nested = more >> 3 & 4 ? 4 + (more >> 6 & 1) : 0,
		       .cpu = how >> 5}};
}

/* What was written is what is read. */
static void write_and_read(const struct trace_header *header, const struct umbra_record *records,
			   size_t count)
{
	struct trace_header got;
	struct trace_error error;
	struct umbra_record back;
	struct trace_writer *writer;
	struct trace_reader *reader;

	check(!ftruncate(file, 0), "no file");
	writer = trace_create(path, header, &error);
	check(writer && trace_write(writer, records, count, &error) && trace_close(writer, &error),
	      "cannot be written");
	reader = trace_open(path, &got, &error);
	check(reader && !memcmp(&got.config, &header->config, sizeof(got.config)), "not a trace");
	for (size_t i = 0; i < count; i++)
		check(!trace_next(reader, &back, &error) &&
			  !memcmp(&back, &records[i], sizeof(back)),
		      "another record");
	check(trace_next(reader, &back, &error) == TRACE_END, "no end");
	trace_reader_close(reader);
}

static void show(void *ctx, const char *line)
{
	(void)ctx;
	fprintf(stderr, "  %s\n", line);
}

static void replay(const struct replay_options *options, const struct umbra_record *records,
		   size_t count)
{
	int error;
	struct replay *r = replay_new(options, &error);
	enum replay_status status = REPLAY_OK;

	if (!r)
		return; /* a configuration that the library refuses */
	for (size_t i = 0; i < count && !status; i++)
		status = replay_record(r, &records[i]);
	if (status == REPLAY_OK || status == REPLAY_ENDED)
		status = replay_audit(r);
	check(status == REPLAY_OK || status == REPLAY_ENDED || *replay_why(r), "no reason");
	if (options->loose && status == REPLAY_VIOLATION) {
		fprintf(stderr, "%s\n", replay_why(r));
		replay_history(r, show, NULL);
		check(false, "a loose replay does what is forbidden, or the library is broken");
	}
	replay_free(r);
}

static void replay_made(struct input *input)
{
	static struct umbra_record records[RECORDS];
	struct trace_header header = header_of(input);
	struct replay_options options = {.config = header.config, .tlb = true};
	size_t count = 0;

	options.audit = 1 + input_u8(input) % 8;
	while (count < RECORDS && !input_is_empty(input))
		records[count++] = record(input);
	write_and_read(&header, records, count);
	replay(&options, records, count);
	options.loose = true;
	replay(&options, records, count);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct input input = {bytes, bytes + size};

	if (file < 0) {
		file = memfd_create("fuzz.utr", MFD_CLOEXEC);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	}
	if (input_u8(&input) < 2)
		read_file(&input);
	else
		replay_made(&input);
	return 0;
}
