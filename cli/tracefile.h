/* SPDX-License-Identifier: BSD-2-Clause */
/* What is wrong with a trace, as an exit status. */
#ifndef CLI_TRACEFILE_H
#define CLI_TRACEFILE_H

#include "status.h"
#include "trace.h"

static inline enum status trace_exit(const struct trace_error *error)
{
	static const enum status statuses[] = {
	    [TRACE_SYSTEM] = STATUS_TRACE,
	    [TRACE_FULL] = STATUS_TRACE_FULL,
	    [TRACE_EMPTY] = STATUS_TRACE_EMPTY,
	    [TRACE_NOT] = STATUS_TRACE_NOT,
	    [TRACE_ENDIAN] = STATUS_TRACE_ENDIAN,
	    [TRACE_OTHER] = STATUS_TRACE_VERSION,
	    [TRACE_TRUNCATED] = STATUS_TRACE_TRUNCATED,
	    [TRACE_DAMAGED] = STATUS_TRACE_DAMAGED,
	};

	return statuses[error->status];
}

#endif
