/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * dump-trace FILE [KIND]: the records of a trace, or those of one kind, a line each: kind, vcpu,
 * time, a, b, c in hexadecimal. Exit status 1: it cannot be read to its end.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "trace.h"

int main(int argc, char **argv)
{
	unsigned long only = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
	struct trace_header header;
	struct trace_error error;
	enum trace_status status;
	struct umbra_record r;
	struct trace_reader *reader;

	if (argc < 2)
		return 2;
	reader = trace_open(argv[1], &header, &error);
	if (!reader) {
		fprintf(stderr, "%s\n", error.text);
		return 1;
	}
	while ((status = trace_next(reader, &r, &error)) == TRACE_OK)
		if (!only || r.kind == only)
			printf("%u %u %u %" PRIx64 " %" PRIx64 " %" PRIx64 "\n", r.kind, r.vcpu,
			       r.time, r.a, r.b, r.c);
	if (status != TRACE_END)
		fprintf(stderr, "%s\n", error.text);
	trace_reader_close(reader);
	return status != TRACE_END;
}
