/* SPDX-License-Identifier: BSD-2-Clause */
/* Which pages a guest uses or writes. See survey.c. */
#ifndef CLI_SURVEY_H
#define CLI_SURVEY_H

struct control;

/* log-start's begin. */
void survey_log(struct control *control);

/* Begin and end of working-set and dirty-rate. */
void survey_begin(struct control *control);
void survey_end(struct control *control);

#endif
