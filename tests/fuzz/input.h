/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The bytes of a fuzzer's input, taken one after the other. Past the end all are 0: what 0 means
 * should be the harmless choice, so that a short input is a plain one.
 */
#ifndef INPUT_H
#define INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct input {
	const uint8_t *at, *end;
};

static inline bool input_is_empty(const struct input *input)
{
	return input->at == input->end;
}

static inline uint8_t input_u8(struct input *input)
{
	return input_is_empty(input) ? 0 : *input->at++;
}

static inline uint16_t input_u16(struct input *input)
{
	uint16_t low = input_u8(input);

	return (uint16_t)(low | input_u8(input) << 8);
}

static inline uint64_t input_u64(struct input *input)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < 8; i++)
		value |= (uint64_t)input_u8(input) << 8 * i;
	return value;
}

/* The fuzzer's entry: an engine calls it, or replay.c. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

#endif
