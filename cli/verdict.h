/* SPDX-License-Identifier: BSD-2-Clause */
/* What a guest's end, as its machine page tells it, means for the command. See verdict.c. */
#ifndef CLI_VERDICT_H
#define CLI_VERDICT_H

#include <stdbool.h>

#include <umbra/machine.h>

#include "status.h"

struct verdict_rules {
	bool exit_code;       /* the guest's own status counts, as it is */
	const char *swap;     /* the swap file's name, or NULL */
	bool expect_workload; /* it is to report the workload's end */
};

/* The name of the end, for reports. NULL: the guest has not ended. */
const char *verdict_name(const struct umbra_machine *page);

/* Judge, and complain: @who, "" or "guest 1: ", goes before. The guest has ended. */
enum status verdict(const struct umbra_machine *page, const struct verdict_rules *rules,
		    const char *who);

#endif
