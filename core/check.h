/*
 * check.h - assertions that stay on in release builds
 *
 * CHECK is for our own mistakes: arguments, states, lengths. What a client, a peer or a disk does
 * wrong is an error to be handled, never a CHECK.
 */
#ifndef RINGPOST_CORE_CHECK_H
#define RINGPOST_CORE_CHECK_H

#include "core/compiler.h"

/* Says what did not hold on standard error, and aborts. */
__attribute__((noreturn)) void check_failed(const char *file, int line, const char *what);

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (UNLIKELY(!(condition)))                                                                \
            check_failed(__FILE__, __LINE__, #condition);                                          \
    } while (0)

#endif
