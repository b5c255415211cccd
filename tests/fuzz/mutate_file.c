/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mutate-file SEED IN OUT: a copy of a file with a few things wrong: bits flipped, numbers replaced
 * by ones that are too large or too small, pieces moved, its end missing. The same seed, the same
 * faults. Most are in the first and the last bytes, where a file says what it is made of.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEAD 20000u

static uint64_t state;

static uint64_t random_below(uint64_t bound)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return bound ? state % bound : 0;
}

static size_t place(size_t size)
{
	uint64_t where = random_below(8);

	if (where < 3)
		return random_below(size < 128 ? size : 128);
	if (where < 5)
		return random_below(size < HEAD ? size : HEAD);
	if (where < 7)
		return size - 1 - random_below(size < 256 ? size : 256);
	return random_below(size);
}

static void replace(uint8_t *bytes, size_t size, size_t at)
{
	static const uint64_t values[] = {0, 1, 2, 255, 4096, INT32_MAX, UINT32_MAX, INT64_MAX};
	uint64_t value = values[random_below(sizeof(values) / sizeof(*values))];
	size_t width = (size_t)1 << random_below(4);

	for (size_t i = 0; i < width && at + i < size; i++)
		bytes[at + i] = (uint8_t)(value >> 8 * i);
}

static size_t mutate(uint8_t *bytes, size_t size)
{
	size_t at = place(size), from = place(size), length;

	switch (random_below(16)) {
	case 0:
		return at ? at : 1;
	case 1:
	case 2:
		length = random_below(64);
		if (length > size - at)
			length = size - at;
		if (length > size - from)
			length = size - from;
		memmove(bytes + at, bytes + from, length);
		break;
	case 3:
	case 4:
	case 5:
	case 6:
	case 7:
		replace(bytes, size, at);
		break;
	default:
		bytes[at] ^= (uint8_t)(1u << random_below(8));
	}
	return size;
}

int main(int argc, char **argv)
{
	FILE *in = argc == 4 ? fopen(argv[2], "rb") : NULL, *out;
	uint8_t *bytes;
	size_t size;
	uint64_t count;

	if (!in)
		return 2;
	fseek(in, 0, SEEK_END);
	size = (size_t)ftell(in);
	rewind(in);
	bytes = malloc(size + 1);
	if (!bytes || fread(bytes, 1, size, in) != size || !size)
		return 1;
	fclose(in);
	state = strtoull(argv[1], NULL, 10) * 0x9e3779b97f4a7c15u + 1;
	random_below(1);
	for (count = 1 + random_below(6); count; count--)
		size = mutate(bytes, size);
	out = fopen(argv[3], "wb");
	if (!out || fwrite(bytes, 1, size, out) != size || fclose(out))
		return 1;
	free(bytes);
	return 0;
}
