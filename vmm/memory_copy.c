/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Bytes into and out of guest-physical memory, for loaders and devices: a page at a time, each by
 * memory_page(), which sees to it that it is there. Owns nothing. Addresses come from guests: what
 * is no memory is refused before anything is copied.
 *
 * => outside of the MMU's lock
 */
#include "memory.h"
#include "record.h"
#include "string.h"

bool memory_write(struct vm *vm, uint64_t gpa, const void *from, uint64_t size)
{
	const uint8_t *at = from;

	while (size) {
		uint64_t offset = gpa & (UMBRA_PAGE_SIZE - 1);
		uint64_t piece = UMBRA_PAGE_SIZE - offset;
		uint8_t *page = memory_page(vm, gpa >> UMBRA_PAGE_SHIFT);

		if (!page)
			return false;
		if (piece > size)
			piece = size;
		memcpy(page + offset, at, piece);
		gpa += piece;
		at += piece;
		size -= piece;
	}
	return true;
}

/* Do the @size bytes from @gpa on, which a device was told of, lie in memory, with frames? */
static bool is_memory(struct vm *vm, uint64_t gpa, uint64_t size)
{
	uint64_t last = gpa + size - 1;

	if (size && last < gpa)
		return false;
	for (uint64_t gfn = gpa >> UMBRA_PAGE_SHIFT; size && gfn <= last >> UMBRA_PAGE_SHIFT; gfn++)
		if (!memory_page_read(vm, gfn))
			return false;
	return true;
}

bool memory_guest_write(struct vm *vm, uint64_t gpa, const void *from, uint64_t size)
{
	const uint8_t *at = from;

	if (!is_memory(vm, gpa, size))
		return false;
	while (size) {
		uint64_t piece = UMBRA_PAGE_SIZE - (gpa & (UMBRA_PAGE_SIZE - 1));

		piece = piece < size ? piece : size;
		if (memory_is_read_only(vm, gpa >> UMBRA_PAGE_SHIFT) ||
		    !memory_write(vm, gpa, at, piece))
			return false;
		mmu_guest_write(vm, gpa & ~(uint64_t)(UMBRA_PAGE_SIZE - 1), UMBRA_PAGE_SIZE);
		gpa += piece;
		at += piece;
		size -= piece;
	}
	return true;
}

bool memory_guest_read(struct vm *vm, uint64_t gpa, void *to, uint64_t size)
{
	uint8_t *at = to;

	if (!is_memory(vm, gpa, size))
		return false;
	while (size) {
		uint64_t offset = gpa & (UMBRA_PAGE_SIZE - 1);
		uint64_t piece = UMBRA_PAGE_SIZE - offset;
		const uint8_t *page = memory_page_read(vm, gpa >> UMBRA_PAGE_SHIFT);

		if (!page)
			return false;
		if (piece > size)
			piece = size;
		memcpy(at, page + offset, piece);
		gpa += piece;
		at += piece;
		size -= piece;
	}
	return true;
}
