/*
 * tls_secret.h - memory for keys: not swapped, not in a core dump, not in a child of fork
 *
 * A mapping of its own between two pages that nobody may touch. A child of fork finds zeroes, so
 * what is zero must mean "empty" there. That it could not be locked (RLIMIT_MEMLOCK) is a fact for
 * a metric and one line in the log, not an error: keys in swap are worse than none in swap, and
 * better than no TLS.
 */
#ifndef RINGPOST_TLS_SECRET_H
#define RINGPOST_TLS_SECRET_H

#include "core/compiler.h"

struct tls_secret {
    uint8_t *data; /* zeroed, aligned to a page */
    size_t size;   /* bytes, whole pages */
    bool is_locked;
};

enum { TLS_SECRET_BYTES_MAX = 1 << 28 };

/* 0, -EINVAL for a size over the bound, or what mmap and its friends say. */
[[nodiscard]] int tls_secret_make(struct tls_secret *secret, size_t size);
/* Wipes it first. Harmless when there is none. */
void tls_secret_free(struct tls_secret *secret);

#endif
