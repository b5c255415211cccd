/* SPDX-License-Identifier: BSD-2-Clause */
/* Why the hypervisor did not do what a verb asked for, in words. See refusal.c. */
#ifndef CLI_REFUSAL_H
#define CLI_REFUSAL_H

struct control;

/* Reply to the request under way that the hypervisor refused with @error (UMBRA_E*). */
void refusal_tell(struct control *control, int error);

#endif
