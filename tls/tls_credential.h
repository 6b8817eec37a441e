/*
 * tls_credential.h - what we present: a key, its certificate, and the issuers above it
 *
 * Read once, does not change, counted references. Read at start and at reload: a mistake in the
 * files is told in words, with the way out, before any session could stumble over it.
 */
#ifndef RINGPOST_TLS_CREDENTIAL_H
#define RINGPOST_TLS_CREDENTIAL_H

#include "core/slice.h"
#include "tls/tls_boringssl.h"
#include "tls/tls_certificate.h"
#include "tls/tls_roots.h"
#include "tls/tls_text.h"
#include "tls/tls_verify.h"

enum {
    TLS_CREDENTIAL_FILE_BYTES_MAX = 1 << 20,
    TLS_PIN_BASE64_BYTES = 45,
    TLS_TLSA_BYTES = sizeof("3 1 1 ") + 2 * TLS_DIGEST_BYTES,
};

struct tls_credential;

/* For `ringpost cert show`. All of it is printable; "" is what is not known. */
struct tls_credential_text {
    char names[1'024]; /* dNSNames, "a.example, *.b.example and 3 more" */
    char subject[TLS_SUBJECT_MAX];
    char issuer[TLS_SUBJECT_MAX];
    char root[TLS_SUBJECT_MAX]; /* when roots were given and the chain reaches one */
    char root_sha256[TLS_DIGEST_HEX_BYTES];
    char verdict[TLS_WHY_MAX];    /* likewise: "valid", or "untrusted: certificate 1 of ..." */
    char key[TLS_KEY_TEXT_BYTES]; /* "ECDSA P-256", "RSA 2048 bits" */
    char serial[TLS_SERIAL_MAX];
    char not_before[TLS_TEXT_DATE_BYTES];
    char not_after[TLS_TEXT_DATE_BYTES];
    char fingerprint[TLS_DIGEST_HEX_BYTES]; /* SHA-256 of the leaf */
    char pin_hex[TLS_DIGEST_HEX_BYTES];     /* SHA-256 of its SubjectPublicKeyInfo */
    char pin_base64[TLS_PIN_BASE64_BYTES];
    unsigned tlsa_count;
    char tlsa[TLS_CHAIN_MAX][TLS_TLSA_BYTES]; /* 3 1 1 of the leaf, 2 1 1 of issuers */
};

/* PEM: the leaf first, then each one's issuer; the key as PKCS#8, EC or RSA, not encrypted,
 * readable by its owner alone, who is root or us. 0, and why is "" or a warning (expired, not yet
 * valid, no names). Or with why: -EINVAL, -EACCES for a key that others may read, what reading
 * says. */
[[nodiscard]] int tls_credential_load(const char *chain_path, const char *key_path,
                                      struct tls_credential **credential,
                                      char why[static TLS_WHY_MAX]);
/* The same at another time than now. */
[[nodiscard]] int tls_credential_load_at(const char *chain_path, const char *key_path,
                                         int64_t now_seconds, struct tls_credential **credential,
                                         char why[static TLS_WHY_MAX]);
/* A chain without its key: to be described, not to be presented. */
[[nodiscard]] int tls_credential_look(const char *chain_path, struct tls_credential **credential,
                                      char why[static TLS_WHY_MAX]);
struct tls_credential *tls_credential_use(struct tls_credential *credential);
/* The last one frees it. NULL is left alone. */
void tls_credential_drop(struct tls_credential *credential);

/* The context takes references of its own. 0, or -ENOMEM. */
[[nodiscard]] int tls_credential_use_on(const struct tls_credential *credential, SSL_CTX *context);
/* The same for one connection. */
[[nodiscard]] int tls_credential_use_for(const struct tls_credential *credential, SSL *ssl);
/* Names, dates, key, digests of the leaf. */
const struct tls_certificate *tls_credential_leaf(const struct tls_credential *credential);
/* The leaf first. */
unsigned tls_credential_chain_count(const struct tls_credential *credential);
const CRYPTO_BUFFER *tls_credential_chain_at(const struct tls_credential *credential,
                                             unsigned index);
/* As whoever is shown it would: tls_verify_chain. 0, or -ENOMEM. */
[[nodiscard]] int tls_credential_verify(const struct tls_credential *credential,
                                        const struct tls_roots *roots, enum tls_purpose purpose,
                                        int64_t now_seconds, struct tls_peer *peer);
/* roots may be NULL. 0, or -ENOMEM. */
[[nodiscard]] int tls_credential_describe(const struct tls_credential *credential,
                                          const struct tls_roots *roots, int64_t now_seconds,
                                          struct tls_credential_text *text);

#endif
