/* SPDX-License-Identifier: BSD-2-Clause */
/* What is wrong with the files that options name. See foresee.c. */
#ifndef CLI_FORESEE_H
#define CLI_FORESEE_H

#include "options.h"
#include "status.h"

/* STATUS_OK; or the status that using them would end with, after a complaint. Makes nothing. */
enum status foresee(const struct options *options);

#endif
