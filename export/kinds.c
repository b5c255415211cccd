/* SPDX-License-Identifier: BSD-2-Clause */
/* What a trace can be exported as; the first one where a name tells nothing. */
#include "export.h"

const struct export_kind export_kinds[] = {
    {"SQLite", ".db", "SQLite format 3", sqlite_sink_open},
    {"Trace Event", ".json", "{\"traceEvents\":[", trace_event_sink_open},
};

const size_t export_kind_count = sizeof(export_kinds) / sizeof(export_kinds[0]);
