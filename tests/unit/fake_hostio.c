/* SPDX-License-Identifier: BSD-2-Clause */
/* What swap.c asks of hostio.c, done at once. */
#include "fake_hostio.h"
#include "hostio.h"
#include "string.h"
#include "vm.h"

struct fake_file fake_file;
static uint8_t data[UMBRA_REQUEST_BYTES];

int hostio_init(struct vm *vm)
{
	(void)vm;
	return 0;
}

void *hostio_data(const struct vm *vm, unsigned slot)
{
	(void)vm, (void)slot;
	return data;
}

bool hostio_swap(struct host *host, enum umbra_request_kind kind, uint64_t offset, uint32_t size)
{
	bool writes = kind == UMBRA_REQUEST_WRITE;

	(void)host;
	if (offset < UMBRA_SWAP_FIRST || size > sizeof(data) || offset + size > FAKE_FILE_BYTES)
		return false;
	if (writes ? fake_file.no_writes : fake_file.no_reads)
		return false;
	if (writes)
		memcpy(fake_file.bytes + offset, data, size);
	else
		memcpy(data, fake_file.bytes + offset, size);
	fake_file.reads += !writes;
	fake_file.writes += writes;
	return true;
}
