/*
 * tls_make.h - a new key, and a certificate that it signs for itself
 *
 * For a first look, for tests, and for hosts that pin or publish what they present (TLSA 3 1 1):
 * nobody else has a reason to trust it.
 */
#ifndef RINGPOST_TLS_MAKE_H
#define RINGPOST_TLS_MAKE_H

#include "core/slice.h"
#include "tls/tls_text.h"

enum {
    TLS_MAKE_NAMES_MAX = 32,
    TLS_MAKE_CERTIFICATE_BYTES_MAX = 16 << 10, /* PEM, with its terminator */
    TLS_MAKE_KEY_BYTES_MAX = 4 << 10,
};

struct tls_make_options {
    const struct slice *names; /* dNSNames, usable ones (tls_name.h); the first is the CN too */
    unsigned names_count;      /* 1 to TLS_MAKE_NAMES_MAX */
    int64_t not_before;        /* unix seconds */
    int64_t not_after;
    bool is_rsa; /* RSA 2048; else ECDSA P-256 */
};

/* To be erased after use: tls_make_erase. */
struct tls_made {
    char certificate[TLS_MAKE_CERTIFICATE_BYTES_MAX];
    char key[TLS_MAKE_KEY_BYTES_MAX]; /* PKCS#8 */
};

/* 0, -EINVAL with why, or -ENOMEM. */
[[nodiscard]] int tls_make_self_signed(const struct tls_make_options *options,
                                       struct tls_made *made, char why[static TLS_WHY_MAX]);
void tls_make_erase(struct tls_made *made);

#endif
