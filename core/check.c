/*
 * check.c - the last words of a process that found itself wrong
 */
#include "core/check.h"

#include <stdio.h>
#include <stdlib.h>

void check_failed(const char *file, int line, const char *what)
{
    fprintf(stderr, "ringpost: %s:%d: CHECK failed: %s\n", file, line, what);
    abort();
}
