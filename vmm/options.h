/* SPDX-License-Identifier: BSD-2-Clause */
/* The image's command line. */
#ifndef VMM_OPTIONS_H
#define VMM_OPTIONS_H

#include "vm.h"

/*
 * Read "name=number" words (decimal) from @line. Unknown names, bad numbers and values out of
 * range end the machine with UMBRA_END_IMAGE and a message that names the word.
 */
void options_parse(const char *line, struct options *options);

#endif
