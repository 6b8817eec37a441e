/*
 * tls_certificate.h - what one certificate says, in bounds and in printable words
 *
 * Nothing here judges a chain: tls_verify does, and tls_credential for our own. An X509 is made
 * when somebody asks; what is kept of a certificate is the CRYPTO_BUFFER with its DER.
 */
#ifndef RINGPOST_TLS_CERTIFICATE_H
#define RINGPOST_TLS_CERTIFICATE_H

#include "core/slice.h"
#include "tls/tls_boringssl.h"
#include "tls/tls_name.h"

enum {
    TLS_CHAIN_MAX = 8, /* certificates that a peer or we may present */
    TLS_CHAIN_BYTES_MAX = 64 << 10,
    TLS_DIGEST_BYTES = SHA256_DIGEST_LENGTH,
    TLS_DIGEST_HEX_BYTES = 2 * TLS_DIGEST_BYTES + 1,
    TLS_SUBJECT_MAX = 192, /* of a subject or an issuer in words, with its terminator */
    TLS_SERIAL_MAX = 48,
    TLS_RSA_BITS_MIN = 2'048,
    TLS_RSA_BITS_MAX = 8'192,
    TLS_EC_BITS_MIN = 256,
    TLS_KEY_TEXT_BYTES = 24,
};

enum tls_key { TLS_KEY_OTHER, TLS_KEY_RSA, TLS_KEY_EC, TLS_KEY_ED25519 };

/* Of the extended key usage. No such extension: CLIENT and SERVER, with UNLIMITED. */
enum tls_usage {
    TLS_USAGE_CLIENT = 1,
    TLS_USAGE_SERVER = 2,
    TLS_USAGE_ANY = 4, /* anyExtendedKeyUsage */
    TLS_USAGE_UNLIMITED = 8,
};

struct tls_certificate {
    uint8_t digest[TLS_DIGEST_BYTES]; /* SHA-256 of the DER */
    uint8_t spki[TLS_DIGEST_BYTES];   /* SHA-256 of the SubjectPublicKeyInfo: what a pin holds */
    char subject[TLS_SUBJECT_MAX];
    char issuer[TLS_SUBJECT_MAX];
    char serial[TLS_SERIAL_MAX];
    char common_name[TLS_NAME_MAX + 3]; /* the last one of the subject; escaped, "": none */
    int64_t not_before;                 /* unix seconds */
    int64_t not_after;
    enum tls_key key;
    unsigned key_bits;
    unsigned usage; /* of enum tls_usage */
    struct tls_names names;
};

/* SubjectPublicKeyInfo, by a walk over the DER that looks at nothing else. 0, or -EBADMSG. */
[[nodiscard]] int tls_certificate_spki(struct slice der, struct slice *spki);
/* SHA-256 of the DER, and of its SPKI. 0, or -EBADMSG: no SPKI, and zeros in its place. */
[[nodiscard]] int tls_certificate_digests(struct slice der, struct tls_certificate *certificate);
/* All but the digests. 0, or -EBADMSG with why. */
[[nodiscard]] int tls_certificate_read(X509 *x509, struct tls_certificate *certificate,
                                       const char **why);

/* Both, and frees what it parsed: for looking at. 0, or -EBADMSG with why. */
[[nodiscard]] int tls_certificate_look(struct slice der, struct tls_certificate *certificate,
                                       const char **why);
/* "ECDSA P-256", "RSA 2048 bits". */
void tls_certificate_key_text(enum tls_key key, unsigned bits,
                              char text[static TLS_KEY_TEXT_BYTES]);

static inline struct slice tls_certificate_der(const CRYPTO_BUFFER *buffer)
{
    return slice_of(CRYPTO_BUFFER_data(buffer), CRYPTO_BUFFER_len(buffer));
}

/* Parses all of der. NULL: not a certificate. To be freed. */
X509 *tls_certificate_parse(struct slice der);
/* The subject or issuer, the most telling part first: "CN=a.example,O=...". */
void tls_certificate_name(const X509_NAME *name, char text[static TLS_SUBJECT_MAX]);
/* Unix seconds. 0, or -EBADMSG; may leave an error in BoringSSL's queue. */
[[nodiscard]] int tls_certificate_time(const ASN1_TIME *from, int64_t *unix_seconds);
/* 0, or -EBADMSG. */
[[nodiscard]] int tls_certificate_dates(const X509 *x509, int64_t *not_before, int64_t *not_after);
/* 0, or -EBADMSG: the key cannot be read. */
[[nodiscard]] int tls_certificate_key(X509 *x509, enum tls_key *key, unsigned *bits);
unsigned tls_certificate_usage(X509 *x509);
/* NULL, or what is weak about the key: "its RSA key is shorter than 2048 bits". */
const char *tls_certificate_weak_key(enum tls_key key, unsigned bits);
/* The same about the signature on it. */
const char *tls_certificate_weak_signature(const X509 *x509);
/* The same of a signature that is not on a certificate. */
const char *tls_certificate_weak_algorithm(const X509_ALGOR *algorithm);

#endif
