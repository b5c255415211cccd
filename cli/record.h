/* SPDX-License-Identifier: BSD-2-Clause */
/* `umbra run --record`: the hypervisor's ring into a trace file. See record.c. */
#ifndef CLI_RECORD_H
#define CLI_RECORD_H

#include "status.h"

struct ram;
struct recorder;

/* Make the trace @path; of a guest called @guest with @memory bytes. */
enum status record_open(struct recorder **recorder, const char *path, const char *guest,
			unsigned long long memory);

/* Drain the ring of the machine in @ram from now on, in a thread. */
enum status record_start(struct recorder *recorder, const struct ram *ram);

/* The machine has ended, or is to be left: take what is there, close the trace. NULL is fine. */
enum status record_close(struct recorder *recorder);

#endif
