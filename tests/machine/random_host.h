/* SPDX-License-Identifier: BSD-2-Clause */
/* The host of a random guest. See random_host.c. */
#ifndef TEST_RANDOM_HOST_H
#define TEST_RANDOM_HOST_H

#include "guest.h"

/* Forget what was done to an earlier guest. */
void random_host_reset(void);

/* Do something to a guest of that taste. */
void random_host(struct sim *sim, const struct guest_taste *taste);

#endif
