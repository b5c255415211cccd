/* SPDX-License-Identifier: BSD-2-Clause */
/* Several guests' figures as one. See sum.c. */
#ifndef CLI_SUM_H
#define CLI_SUM_H

#include <umbra/machine.h>

/* Of @count pages, 1 or more. Only what a report shows of @all is set. */
void sum_pages(const struct umbra_machine *const *pages, unsigned count, struct umbra_machine *all);

#endif
