/*
 * dkim_sign.h - DKIM signatures (RFC 6376, RFC 8463) for mail that we make ourselves
 *
 * relaxed/relaxed, over the whole body, rsa-sha256 or ed25519-sha256, as the key is. Pure, but for
 * the file of a key.
 */
#ifndef RINGPOST_MTA_DKIM_SIGN_H
#define RINGPOST_MTA_DKIM_SIGN_H

#include "core/slice.h"
#include "tls/tls_boringssl.h"
#include "tls/tls_text.h"

enum {
    DKIM_HASH_BYTES = 32,
    DKIM_RSA_BITS_MIN = 1'024, /* RFC 8301 3.2; from 2048 bits on without a warning */
    DKIM_RSA_BITS_WANTED = 2'048,
    DKIM_RSA_BITS_MAX = 4'096,
    DKIM_FIELD_BYTES_MAX = 2'048, /* DKIM-Signature, with its CRLF and a terminator */
};

/* One key, with the place of its public half: SELECTOR._domainkey.DOMAIN. */
struct dkim_key {
    const char *domain;
    const char *selector;
    EVP_PKEY *key;
};

/* 0, and why is "" or a warning; or with why: as tls_key_load, -EINVAL for other kinds of keys. */
[[nodiscard]] int dkim_key_load(const char *path, EVP_PKEY **key, char why[static TLS_WHY_MAX]);

/* Section 3.4.4: of a body, lines that end in CRLF. */
void dkim_body_hash(struct slice body, uint8_t hash[static DKIM_HASH_BYTES]);
/* Section 3.7: of those fields of the header that names lists ("from:to:from"; of a name that is
 * listed again the next one, from the bottom up), and of signature: a DKIM-Signature field whose b=
 * is empty, without CRLF at its end. */
void dkim_header_hash(struct slice header, struct slice names, struct slice signature,
                      uint8_t hash[static DKIM_HASH_BYTES]);

/* Writes the field that is to stand above the header. names as above. 0, -EMSGSIZE: names,
 * selector and domain are too long; -EIO: the key does not sign. */
[[nodiscard]] int dkim_sign(const struct dkim_key *key, struct slice header, struct slice body,
                            const char *names, int64_t now_s,
                            char field[static DKIM_FIELD_BYTES_MAX]);

#endif
