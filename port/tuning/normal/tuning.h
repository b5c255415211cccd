/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sizes of the library's structures. Tests compile the core with tuning/small instead, so
 * that chains, chunks and hash buckets get deep after a handful of operations.
 */
#ifndef UMBRA_TUNING_H
#define UMBRA_TUNING_H

#define TUNING_DESC_HANDLES     14          /* sptes a descriptor holds: it fills one cache line */
#define TUNING_CHUNK_SHIFT      9           /* log2 of shadow pages a chunk: 2 MiB of tables */
#define TUNING_DESC_CHUNK       1024        /* descriptors a block of them */
#define TUNING_HASH_SIZE(quota) ((quota)*2) /* hash buckets for so many shadow pages */
#define TUNING_FLOOD_WRITES     16   /* writes to a table, unused in between, until it is zapped */
#define TUNING_CLEAN_SYNCS      4    /* a table found unchanged so often is write-protected again */
#define TUNING_BUDGET           1024 /* sptes cleared until others may have the lock */

#endif
