/*
 * tls_dane.h - TLSA records of a host, and whether what it presents fits them (RFC 6698, 7671,
 * 7672)
 *
 * Of SMTP's usages: 3 (DANE-EE) is the host's own certificate or key, whatever name or date it has
 * and whoever signed it; 2 (DANE-TA) an authority of its own, which signs a valid chain to a
 * certificate with one of the names wanted. 0 and 1 lean on public authorities and are of no use
 * here. Whether the records were validated by DNSSEC is the caller's to know.
 *
 * Works on what sessions have, CRYPTO_BUFFERs, on any thread. Bounds: TLS_DANE_*; what is above
 * them is left out and counted.
 */
#ifndef RINGPOST_TLS_DANE_H
#define RINGPOST_TLS_DANE_H

#include "core/slice.h"
#include "tls/tls_text.h"

enum {
    TLS_DANE_RECORDS_MAX = 32,
    TLS_DANE_BYTES_MAX = 4'096, /* of their data together: digests, seldom certificates */
    TLS_DANE_KEYS_MAX = 4,      /* usage 2 by a bare key, which is tried on each certificate */
    TLS_DANE_TEXT_MAX = 160,    /* of a record */
};

struct tls_dane_record {
    uint8_t usage, selector, matching;
    uint16_t at, size; /* in data */
};

/* All 0: empty. Records that are usable, sorted, so that the order of an answer does not count. */
struct tls_dane_set {
    uint8_t count;
    uint8_t keys;
    uint32_t bytes;
    unsigned unusable;  /* usage 0 or 1, or a kind that is not known */
    unsigned malformed; /* of a kind that is */
    unsigned left_out;  /* above a bound */
    struct tls_dane_record records[TLS_DANE_RECORDS_MAX];
    uint8_t data[TLS_DANE_BYTES_MAX]; /* at the end: the rest is small */
};

void tls_dane_add(struct tls_dane_set *set, struct slice rdata);
/* The same records, the same digest. */
void tls_dane_digest(const struct tls_dane_set *set, uint8_t digest[static 32]);
/* "3 1 1 9f86d081..." */
void tls_dane_text(const struct tls_dane_set *set, unsigned index,
                   char out[static TLS_DANE_TEXT_MAX]);

enum tls_dane_match {
    TLS_DANE_NO_MATCH,
    TLS_DANE_NO_NAME, /* by an authority of its own, but with another name */
    TLS_DANE_EE,      /* usage 3 */
    TLS_DANE_TA,      /* usage 2 */
};

struct stack_st_CRYPTO_BUFFER;

/* names: of the TLSA base domain and, for an MX, of the mail domain (RFC 7672 3.2.2). why: unless
 * it fits. */
enum tls_dane_match tls_dane_verify(const struct stack_st_CRYPTO_BUFFER *chain,
                                    const struct tls_dane_set *set, const struct slice *names,
                                    unsigned names_count, int64_t now_seconds,
                                    char why[static TLS_WHY_MAX]);
/* "none", "dane-ee", "dane-ta" */
const char *tls_dane_match_name(enum tls_dane_match match);

#endif
