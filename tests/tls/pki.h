/*
 * pki.h - a small certificate authority for tests: whatever chain a test wants, made on the spot
 *
 * Certificates are valid from ten years before PKI_NOW until ten years after, unless said
 * otherwise: the tests of verdicts verify at PKI_NOW, real sessions by the clock. What cannot be
 * made aborts.
 */
#ifndef RINGPOST_TESTS_TLS_PKI_H
#define RINGPOST_TESTS_TLS_PKI_H

#include "core/slice.h"
#include "tls/tls_boringssl.h"
#include "tls/tls_roots.h"

enum {
    PKI_NAMES_MAX = 8,
    PKI_PATH_BYTES = 128,
    PKI_NOW = 1'900'000'000, /* 2030-03-17 */
    PKI_DAY = 86'400,
};

enum pki_key {
    PKI_P256,
    PKI_P224,
    PKI_P384,
    PKI_P521,
    PKI_RSA_1024,
    PKI_RSA_2048,
    PKI_RSA_HUGE, /* a key that nobody can sign with, of more than 8192 bits */
    PKI_KEYS
};

enum pki_usage { PKI_CLIENT = 1, PKI_SERVER = 2, PKI_ANY = 4, PKI_EMAIL = 8 };

/* All zero: a leaf with P-256 and SHA-256, without names, usage or basic constraints. */
struct pki_options {
    const char *cn; /* NULL: an empty subject */
    struct slice names[PKI_NAMES_MAX];
    unsigned names_many; /* that many more names, "n0.many.example" and so on */
    int64_t not_before;  /* unix seconds; 0: the default */
    int64_t not_after;
    enum pki_key key;
    bool sha1;
    bool pss; /* the signature, by an issuer with RSA */
    bool is_ca;
    bool is_not_ca;            /* basic constraints that say so */
    int path_length_plus_1;    /* 0: none */
    unsigned usage;            /* of enum pki_usage; 0: no extended key usage */
    bool has_broken_names;     /* a subjectAltName that is no DER */
    bool has_unknown_critical; /* an extension that nobody knows */
    const char *permitted;     /* name constraints: only names below this domain */
    const char *crls[2];       /* URLs of distribution points, one each */
    bool has_other_points;     /* two that are of no use: with reasons, and ldap */
    bool no_crl_sign;          /* a key usage without it */
};

struct pki {
    X509 *x509;
    EVP_PKEY *key;
    CRYPTO_BUFFER *buffer;
};

/* Issuer NULL: self-signed. Freed by pki_free. */
struct pki *pki_make(const struct pki *issuer, struct pki_options options);
void pki_free(struct pki *pki);

/* Up to NULL. To be freed with sk_CRYPTO_BUFFER_pop_free(..., CRYPTO_BUFFER_free). */
STACK_OF(CRYPTO_BUFFER) * pki_chain(const struct pki *first, ...) __attribute__((sentinel));
/* Up to NULL. */
struct tls_roots *pki_roots(const struct pki *first, ...) __attribute__((sentinel));

enum pki_key_form { PKI_PKCS8, PKI_TRADITIONAL };

/* A directory of its own below the temporary one; pki_directory_remove takes files in it along. */
void pki_directory_make(char path[static PKI_PATH_BYTES]);
void pki_directory_remove(const char *path);
/* Text into a new file, with that mode; returns its path in a static buffer that four calls share.
 */
const char *pki_file(const char *directory, const char *name, const char *text, unsigned mode);
/* Appends PEM to a string. */
void pki_pem_certificate(const struct pki *pki, char *text, size_t capacity);
void pki_pem_key(const struct pki *pki, enum pki_key_form form, char *text, size_t capacity);

#endif
