/*
 * tls_key.h - a private key from a file, read as what it is: a secret
 *
 * For configuration: at start and at reload, never on a message's way.
 */
#ifndef RINGPOST_TLS_KEY_H
#define RINGPOST_TLS_KEY_H

#include "tls/tls_boringssl.h"
#include "tls/tls_text.h"

enum { TLS_KEY_FILE_BYTES_MAX = 1 << 20 };

/* The first key of a PEM file, as PKCS#8, EC or RSA, not encrypted, readable by its owner alone,
 * who is root or us. wanted: kinds of keys, for the words about one that cannot be read. 0; or with
 * why: -EINVAL, -EACCES for a key that others may read, -ENOMEM, what reading says. */
[[nodiscard]] int tls_key_load(const char *path, const char *wanted, EVP_PKEY **key,
                               char why[static TLS_WHY_MAX]);

#endif
