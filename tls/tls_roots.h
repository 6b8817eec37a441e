/*
 * tls_roots.h - a bundle of trust anchors, read once and shared by all threads
 *
 * Does not change after it is made; a reload makes another. Counted references: whoever holds one
 * may verify with it, on any thread.
 */
#ifndef RINGPOST_TLS_ROOTS_H
#define RINGPOST_TLS_ROOTS_H

#include "core/slice.h"
#include "tls/tls_boringssl.h"
#include "tls/tls_certificate.h"
#include "tls/tls_text.h"

enum {
    TLS_ROOTS_MAX = 1'024,
    TLS_ROOTS_FILE_BYTES_MAX = 4 << 20,
};

struct tls_roots;

/* PEM from a file; path NULL: the system's bundle, where systems have it. Certificates that cannot
 * be read are skipped and counted, and why names them; else why is "".
 * 0, or with why: -ENOENT and what else reading says, -EFBIG above a bound, -EBADMSG: none is left.
 */
[[nodiscard]] int tls_roots_load(const char *path, struct tls_roots **roots,
                                 char why[static TLS_WHY_MAX]);
/* The same from memory; called is what why calls it. */
[[nodiscard]] int tls_roots_of(struct slice pem, const char *called, struct tls_roots **roots,
                               char why[static TLS_WHY_MAX]);
struct tls_roots *tls_roots_use(struct tls_roots *roots);
/* The last one frees it. NULL is left alone. */
void tls_roots_drop(struct tls_roots *roots);

/* For X509_STORE_CTX_init, which takes it without const. */
X509_STORE *tls_roots_store(const struct tls_roots *roots);
unsigned tls_roots_count(const struct tls_roots *roots);
/* Certificates that could not be read. */
unsigned tls_roots_broken(const struct tls_roots *roots);
/* SHA-256 over the sorted SHA-256 digests of the certificates, in hex: the same set, the same text.
 */
const char *tls_roots_digest(const struct tls_roots *roots);
/* Certificate number index, of count, in no order; the bundle's own. */
X509 *tls_roots_at(const struct tls_roots *roots, unsigned index);
/* The one with this SHA-256, to be freed; NULL: it is not in there. */
X509 *tls_roots_find(const struct tls_roots *roots, const uint8_t digest[static TLS_DIGEST_BYTES]);
/* The file it came from, or what it is called. */
const char *tls_roots_path(const struct tls_roots *roots);

#endif
