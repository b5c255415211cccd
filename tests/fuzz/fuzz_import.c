/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What umbra import itself decides about bytes that it was given, without the library that reads
 * trace.dat. The first byte chooses:
 *
 *     even  a trace.dat: the rest; its layout is looked at, and what was cut is mended
 *     odd   an event of KVM's: which 1, processor 1, flags 1 (bit 0: other endianness), for each
 *           field asked for: there 1, offset 2, size 1; then the event's bytes
 *
 * What must hold: nothing outside the bytes is read; what the layout says is there is there; a
 * mended file is whole, and has as many bytes of events as were found.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "input.h"
#include "kvm.h"
#include "layout.h"

struct bytes {
	const uint8_t *at;
	size_t size;
};

static bool read_bytes(void *ctx, uint64_t at, void *to, size_t size)
{
	const struct bytes *b = ctx;

	check(at <= b->size && size <= b->size - at, "a read outside of the file");
	memcpy(to, b->at + at, size);
	return true;
}

static uint64_t check_layout(const struct layout *layout, uint64_t size)
{
	uint64_t all = 0;

	check(layout->cpus <= LAYOUT_CPUS, "too many processors");
	for (size_t i = 0; i < layout->cpus; i++) {
		const struct layout_cpu *cpu = &layout->cpu[i];

		check(!cpu->bytes || (cpu->offset < size && cpu->size <= size - cpu->offset),
		      "events that are not there");
		check(!layout->compressed || cpu->bytes / 4096 <= cpu->size,
		      "more events than there can be");
		all += cpu->bytes;
	}
	return all;
}

/* The copy can be read, and nothing of it is missing. */
static void check_mended(const struct layout_source *source, const struct layout *layout,
			 uint64_t events)
{
	static struct layout again;
	struct layout_error error;
	struct bytes copy = {0};
	struct layout_source mended = {.ctx = &copy, .read = read_bytes};
	int file = memfd_create("mended", MFD_CLOEXEC);
	void *map;

	check(file >= 0, "no file");
	check(layout_repair(source, layout, file), "not mended");
	mended.size = (uint64_t)lseek(file, 0, SEEK_END);
	map = mmap(NULL, mended.size, PROT_READ, MAP_PRIVATE, file, 0);
	check(map != MAP_FAILED, "no map");
	copy = (struct bytes){map, mended.size};
	/* Events may overlap what tells of them: such a copy is anything. */
	if (layout_read(&mended, &again, &error) == LAYOUT_OK && !layout->cpu[0].entry)
		check(check_layout(&again, mended.size) == events, "events were lost");
	munmap(map, mended.size);
	close(file);
}

static void try_file(struct input *input)
{
	static struct layout layout;
	struct bytes file = {input->at, (size_t)(input->end - input->at)};
	struct layout_source source = {.ctx = &file, .size = file.size, .read = read_bytes};
	struct layout_error error = {0};
	enum layout_status status = layout_read(&source, &layout, &error);
	uint64_t events;

	check(status == LAYOUT_OK || error.what, "something is wrong and nobody says what");
	check(status != LAYOUT_SYSTEM, "a read that cannot fail failed");
	check(!memchr(layout.kernel, '\n', sizeof(layout.kernel)), "a text of two lines");
	if (status != LAYOUT_OK && status != LAYOUT_CUT)
		return;
	events = check_layout(&layout, file.size);
	if (status == LAYOUT_CUT)
		check_mended(&source, &layout, events);
}

static bool lookup(void *ctx, const char *field, struct kvm_place *place)
{
	struct input *input = ctx;

	(void)field;
	if (!(input_u8(input) & 1))
		return false;
	place->offset = input_u16(input);
	place->size = input_u8(input);
	return true;
}

static void try_event(struct input *input)
{
	unsigned kind = UMBRA_TRACE_KVM + input_u8(input) % 34, cpu = input_u8(input);
	bool swap = input_u8(input) & 1;
	const char *name = kvm_kind(kind);
	struct umbra_record record;
	struct kvm_event event;
	enum kvm_bound bound;

	check((kind < UMBRA_TRACE_KVM_KINDS) == (name != NULL), "a kind without a name");
	bound = kvm_bind(&event, "kvm", name ? name : "kvm_nothing", lookup, input);
	if (bound == KVM_UNKNOWN)
		bound = kvm_bind(&event, "kvmmmu", name ? name : "kvm_nothing", lookup, input);
	check(bound != KVM_UNKNOWN || !name || kind == UMBRA_TRACE_KVM_LOST, "an unknown event");
	if (bound != KVM_BOUND ||
	    !kvm_convert(&event, input->at, (size_t)(input->end - input->at), swap, cpu, &record))
		return;
	check(record.kind == kind && !record.reserved && !record.time, "another record");
	check(event.vcpu.size || record.vcpu == cpu, "another processor");
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct input input = {bytes, bytes + size};

	if (input_u8(&input) & 1)
		try_event(&input);
	else
		try_file(&input);
	return 0;
}
