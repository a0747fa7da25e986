/* What the test programs share. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>

#include "writeflush.h"

/* Ends the program with the line, and what the library said last, unless it holds. */
#define CHECK(what)                                                                   \
  do {                                                                                \
    if (!(what)) {                                                                    \
      char why[512];                                                                  \
      wf_last_error(why, sizeof why);                                                 \
      fprintf(stderr, "%s:%d: %s (%s)\n", __FILE__, __LINE__, #what, why);            \
      exit(1);                                                                        \
    }                                                                                 \
  } while (0)

#endif
