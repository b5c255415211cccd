/* SPDX-License-Identifier: BSD-2-Clause */
/* Much memory of the controller's own, looked after all the time. See fill.c. */
#ifndef GUEST_FILL_H
#define GUEST_FILL_H

#include <stdbool.h>

/* Have @mib of it, 0: none. False: there is not so much. */
bool fill_begin(unsigned long mib);

/* Is all of it what it was? From then on a part of it is something else. */
bool fill_check(void);

#endif
