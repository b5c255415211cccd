/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sizes for tests: everything as small as it can be. See tuning/normal.
 */
#ifndef UMBRA_TUNING_H
#define UMBRA_TUNING_H

#define TUNING_DESC_HANDLES     3
#define TUNING_CHUNK_SHIFT      2
#define TUNING_DESC_CHUNK       8
#define TUNING_HASH_SIZE(quota) ((quota) / 64) /* many a bucket */
#define TUNING_FLOOD_WRITES     3
#define TUNING_CLEAN_SYNCS      1
#define TUNING_BUDGET           4

#endif
