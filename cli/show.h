/* SPDX-License-Identifier: BSD-2-Clause */
/* Mappings and walks in words, and as JSON: of a trace's MMU or of a machine's. See show.c. */
#ifndef CLI_SHOW_H
#define CLI_SHOW_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <umbra/umbra.h>

/* What a guest's word means, where a trace tells only of some. NULL: all are known. */
typedef bool show_knows(void *ctx, uint64_t gpa, unsigned size);

/* A line for all of them, and one each. */
void show_mappings(FILE *out, const char *gfn, const struct umbra_mapping *list, size_t count);

/* The two walks for @gva, side by side. */
void show_view(FILE *out, const struct umbra_view *view, uint64_t gva, show_knows *knows,
	       void *ctx);

json_t *show_mapping_json(const struct umbra_mapping *mapping);
json_t *show_view_json(const struct umbra_view *view, uint64_t gva, show_knows *knows, void *ctx);

/* "4-level". */
const char *show_mode(unsigned mode);

#endif
