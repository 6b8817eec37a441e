/*
 * tls_verify.h - what a presented chain is worth: one verdict, the facts, and the reason in words
 *
 * Works on what sessions have, CRYPTO_BUFFERs, after or during a handshake, on any thread. A
 * verdict decides nothing: policy reads it (levels, connectors, pins). Revocation is another fact:
 * a valid chain leaves the questions that tls_crl.h answers, again whenever somebody wants to know;
 * a client whose policy demands it makes the verdict REVOKED or REVOCATION_UNKNOWN then.
 */
#ifndef RINGPOST_TLS_VERIFY_H
#define RINGPOST_TLS_VERIFY_H

#include "tls/tls_certificate.h"
#include "tls/tls_crl.h"
#include "tls/tls_roots.h"
#include "tls/tls_text.h"

enum tls_verdict {
    TLS_VERDICT_NONE, /* nothing was presented */
    TLS_VERDICT_VALID,
    TLS_VERDICT_UNTRUSTED, /* no chain to a root, or a signature or an issuer that does not hold */
    TLS_VERDICT_EXPIRED,
    TLS_VERDICT_NOT_YET,
    TLS_VERDICT_USAGE,
    TLS_VERDICT_WEAK, /* SHA-1, RSA below 2048 bits, EC below 256: the root's own excepted */
    TLS_VERDICT_REVOKED,
    TLS_VERDICT_REVOCATION_UNKNOWN,
    TLS_VERDICT_MALFORMED, /* cannot be parsed, above a bound, or no name is usable */
    TLS_VERDICTS
};

/* Which extended key usage is demanded of each certificate below the root; ANY: one of the two. */
enum tls_purpose { TLS_PURPOSE_ANY, TLS_PURPOSE_CLIENT, TLS_PURPOSE_SERVER };

/* What tls_verify_name may look at besides names without wildcard. */
enum tls_name_allow {
    TLS_ALLOW_WILDCARD = 1,    /* "*.d.example" in the certificate */
    TLS_ALLOW_COMMON_NAME = 2, /* the CN, when there is no dNSName at all */
};

/* About 12 KiB: one for each session whose peer presented something. */
struct tls_peer {
    enum tls_verdict verdict;
    char
        reason[TLS_WHY_MAX]; /* "certificate 1 of 3 (CN=a.example) expired 2026-03-01"; valid: "" */
    bool has_key;            /* leaf.spki is set, whatever the verdict */
    uint8_t count;           /* presented, as far as digests go */
    uint8_t digests[TLS_CHAIN_MAX][TLS_DIGEST_BYTES]; /* SHA-256 of each, in order */
    struct tls_certificate leaf;                      /* as far as it could be read */
    char root[TLS_SUBJECT_MAX];                       /* "" when the chain does not reach one */
    uint8_t root_digest[TLS_DIGEST_BYTES];
    struct tls_crl_questions questions; /* of a VALID chain, about its revocation */
};

/* "valid", "not-yet", "revocation-unknown", ...: for logs, metrics and replies. */
const char *tls_verdict_name(enum tls_verdict verdict);

/* Fills peer. chain NULL or empty: NONE. roots NULL: nothing is trusted. 0, or -ENOMEM: peer holds
 * UNTRUSTED and the facts found so far. */
[[nodiscard]] int tls_verify_chain(const STACK_OF(CRYPTO_BUFFER) * chain,
                                   const struct tls_roots *roots, enum tls_purpose purpose,
                                   int64_t now_seconds, struct tls_peer *peer);

/* The same by certificates that are trusted whoever signed them: an authority below a root, or the
 * leaf itself. */
[[nodiscard]] int tls_verify_anchored(const STACK_OF(CRYPTO_BUFFER) * chain, X509_STORE *anchors,
                                      enum tls_purpose purpose, int64_t now_seconds,
                                      struct tls_peer *peer);
/* Builds the path once more and hands out where the lists of those below the root are, one pointer
 * each, to be freed. 0, or -ENOMEM; a chain that is not valid has none. */
[[nodiscard]] int tls_verify_pointers(const STACK_OF(CRYPTO_BUFFER) * chain,
                                      const struct tls_roots *roots, int64_t now_seconds,
                                      void (*found)(void *owner, struct tls_crl_pointer *pointer),
                                      void *owner);

/* Does the leaf bear a name that one of the patterns wants; allow is of enum tls_name_allow. Looks
 * at no verdict. matched is a part of peer. False: why tells what is presented, and what was
 * wanted. */
[[nodiscard]] bool tls_verify_name(const struct tls_peer *peer, const struct slice *patterns,
                                   size_t patterns_count, unsigned allow, struct slice *matched,
                                   char why[static TLS_WHY_MAX]);
/* Index of the pin that the leaf's key has, or -ENOENT. Looks at no verdict. */
[[nodiscard]] int tls_verify_pin(const struct tls_peer *peer,
                                 const uint8_t (*pins)[TLS_DIGEST_BYTES], size_t pins_count);

#endif
