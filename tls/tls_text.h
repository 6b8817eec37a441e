/*
 * tls_text.h - bounded, printable texts of what others sent us in certificates
 *
 * Whatever leaves here is printable ASCII with a terminator, and fits: it goes into logs, replies
 * and metrics. What does not fit is cut.
 */
#ifndef RINGPOST_TLS_TEXT_H
#define RINGPOST_TLS_TEXT_H

#include <stdarg.h>

#include "core/slice.h"

enum {
    TLS_WHY_MAX = 512,       /* a reason in words, with its terminator */
    TLS_TEXT_DATE_BYTES = 24 /* "2026-03-01", or a year that is none of ours */
};

/* Writes a reason. What is passed for %s has been through tls_text_escape, or is ours. */
void tls_why(char why[static TLS_WHY_MAX], const char *format, ...) PRINTF_LIKE(2, 3);
/* Appends to a text of capacity bytes, as far as it fits. The length of all of it. */
size_t tls_text_append(char *text, size_t capacity, size_t used, const char *format, ...)
    PRINTF_LIKE(4, 5);

/* Octets outside of printable ASCII, and the backslash, become \xHH. The length. */
size_t tls_text_escape(struct slice from, char *text, size_t capacity);
/* Lower-case hex digits, as many octets as fit. The length. */
size_t tls_text_hex(struct slice from, char *text, size_t capacity);
/* The day, in UTC. */
void tls_text_date(int64_t unix_seconds, char text[static TLS_TEXT_DATE_BYTES]);

#endif
